"""The losses to choose from, all of pytorch-metric-learning, with the settings of their papers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from pytorch_metric_learning import losses, miners
from torch import nn

from models.weights_file import EMBEDDING_DIM


class _MultiSimilarity(nn.Module):
    """With its own miner of hard pairs (Wang et al. 2019)."""

    def __init__(self) -> None:
        super().__init__()
        self._loss = losses.MultiSimilarityLoss(alpha=2, beta=40, base=0.5)
        self._miner = miners.MultiSimilarityMiner(epsilon=0.1)

    def forward(self, embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        loss: torch.Tensor = self._loss(embeddings, labels, self._miner(embeddings, labels))
        return loss


LOSSES: dict[str, Callable[[int], Any]] = {
    "multi-similarity": lambda classes: _MultiSimilarity(),
    "proxy-anchor": lambda classes: losses.ProxyAnchorLoss(
        classes, EMBEDDING_DIM, margin=0.1, alpha=32
    ),  # Kim et al. 2020
    "arcface": lambda classes: losses.ArcFaceLoss(
        classes, EMBEDDING_DIM, margin=28.6, scale=32
    ),  # Deng et al. 2019; degrees
    "supcon": lambda classes: losses.SupConLoss(temperature=0.1),  # Khosla et al. 2020
}


def metric_loss(name: str, classes: int) -> nn.Module:
    """``(n, 512)`` embeddings and ``(n,)`` class numbers -> the loss; its own parameters, if any, are learned along."""
    loss: nn.Module = LOSSES[name](classes)
    return loss


def instance_loss() -> nn.Module:
    """Views of one image are a class of their own: what makes altered copies find their original."""
    loss: nn.Module = losses.SupConLoss(temperature=0.1)
    return loss


def kept_similarities(
    embeddings: torch.Tensor, taught: torch.Tensor, images: torch.Tensor
) -> torch.Tensor:
    """How far the cosines between different images have gone from the base network's.

    ``embeddings`` and ``taught`` ``(n, 512)`` of length 1, ``images`` ``(n,)`` numbers; the mean square (Park et al. 2019,
    with cosines for distances), times 100.
    """
    apart = (images[:, None] != images[None, :]).float()
    return ((embeddings @ embeddings.T - taught @ taught.T) * apart).pow(2).mean() * 100
