"""The losses of fine-tuning, from pytorch-metric-learning, with the settings of their papers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from pytorch_metric_learning import losses, miners
from torch import nn

from models.weights_file import EMBEDDING_DIM


class _MultiSimilarity(nn.Module):
    """The multi-similarity loss with its own miner of hard pairs (Wang et al. 2019)."""

    def __init__(self) -> None:
        super().__init__()
        self._loss = losses.MultiSimilarityLoss(alpha=2, beta=40, base=0.5)
        self._miner = miners.MultiSimilarityMiner(epsilon=0.1)

    def forward(self, embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        loss: torch.Tensor = self._loss(embeddings, labels, self._miner(embeddings, labels))
        return loss


# Name -> a function from the number of classes to the loss.
LOSSES: dict[str, Callable[[int], Any]] = {
    "multi-similarity": lambda classes: _MultiSimilarity(),
    # Kim et al. 2020
    "proxy-anchor": lambda classes: losses.ProxyAnchorLoss(
        classes, EMBEDDING_DIM, margin=0.1, alpha=32
    ),
    # Deng et al. 2019; the margin is in degrees
    "arcface": lambda classes: losses.ArcFaceLoss(classes, EMBEDDING_DIM, margin=28.6, scale=32),
    # Khosla et al. 2020
    "supcon": lambda classes: losses.SupConLoss(temperature=0.1),
}


def build_metric_loss(name: str, classes: int) -> nn.Module:
    """Build the loss that separates classes; ``name`` is a key of ``LOSSES``.

    The module maps ``(n, 512)`` embeddings and ``(n,)`` class indices to a scalar. Some losses have
    parameters of their own (proxies), which must be trained too.
    """
    loss: nn.Module = LOSSES[name](classes)
    return loss


def build_instance_loss() -> nn.Module:
    """Build the loss that treats the views of one image as a class of their own.

    Because of it, an altered copy finds its original. It maps ``(n, 512)`` embeddings and ``(n,)``
    image indices to a scalar.
    """
    loss: nn.Module = losses.SupConLoss(temperature=0.1)
    return loss


def compute_similarity_drift(
    embeddings: torch.Tensor, base_embeddings: torch.Tensor, images: torch.Tensor
) -> torch.Tensor:
    """Compute how far the cosines between different images have moved from the base network's.

    Both embeddings are ``(n, 512)`` with rows of length 1; ``images`` is ``(n,)`` image indices.
    Returns 100 times the mean squared difference (Park et al. 2019, with cosines in place of
    distances).
    """
    differ = (images[:, None] != images[None, :]).float()
    drift = embeddings @ embeddings.T - base_embeddings @ base_embeddings.T
    return (drift * differ).pow(2).mean() * 100
