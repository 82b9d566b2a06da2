"""The training loop: losses, optimizer, early stopping and checkpoints."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from models.progress import ProgressCallback
from models.training.checkpoint import CheckpointFile
from models.training.losses import (
    build_instance_loss,
    build_metric_loss,
    compute_similarity_drift,
)
from models.training.recipe import Recipe
from models.training.sampling import BatchSampler
from models.training.split_network import SplitNetwork
from models.training.trunk_cache import TrunkCache

_WARM_UP = 30  # steps
# Learning rates relative to that of the backbone.
_PROJECTION_RATE = 10.0
_PROXY_RATE = 100.0
_MAX_GRADIENT_NORM = 5.0
# Seconds between checkpoints: the most training that an interruption costs. Each check of the
# held-out classes saves one too.
_SAVE_EVERY = 60


class Trainer:
    """Trains the head of a split network on cached activations."""

    def __init__(
        self,
        split: SplitNetwork,
        cache: TrunkCache,
        sampler: BatchSampler,
        recipe: Recipe,
        checkpoint: CheckpointFile,
        score_held_out: Callable[[SplitNetwork], dict[str, float]],
    ) -> None:
        """``score_held_out`` measures a network on the held-out classes, with the key ``map``."""
        self._split, self._cache, self._sampler = split, cache, sampler
        self._recipe, self._checkpoint, self._score = recipe, checkpoint, score_held_out
        self._loss = build_metric_loss(recipe.loss, sampler.class_count).to(split.device)
        self._instance_loss = build_instance_loss()
        self._optimizer = self._build_optimizer()
        self._rates = [group["lr"] for group in self._optimizer.param_groups]
        self._averaged = AveragedModel(
            split.network, multi_avg_fn=get_ema_multi_avg_fn(recipe.average), use_buffers=True
        )
        self._history: list[dict[str, float]] = []
        self._best: dict[str, Any] = {}

    def train(
        self, base_embeddings: torch.Tensor, base_map: float, progress: ProgressCallback
    ) -> list[dict[str, float]]:
        """Train, or resume from the checkpoint, and return the history of the losses.

        ``base_embeddings`` ``(n, 512)`` are those of all images before training, ``base_map`` is
        their mAP on the held-out classes. Afterwards the network has the averaged weights that
        scored best on the held-out classes; it is unchanged if none scored as well as the base.
        """
        recipe, network = self._recipe, self._split.network
        self._best = {"map": base_map, "step": 0, "network": _copy_state(network)}
        first = self._resume()
        saved_at = time.monotonic()
        if recipe.norms == "tuned":
            network.train()
        for step in range(first, recipe.steps):
            if step - self._best["step"] >= recipe.patience * recipe.check_every:
                break
            losses = self._take_step(step, base_embeddings)
            self._history.append({"step": step + 1} | losses)
            if (step + 1) % recipe.check_every == 0 or step + 1 == recipe.steps:
                self._check_held_out(step + 1)
                saved_at = -math.inf
            if time.monotonic() - saved_at > _SAVE_EVERY:
                self._save(step + 1)
                saved_at = time.monotonic()
            progress("training", step + 1, recipe.steps)
        network.load_state_dict(self._best["network"])
        network.eval()
        return self._history

    def _build_optimizer(self) -> torch.optim.Optimizer:
        network, rate = self._split.network, self._recipe.rate
        pooled = [*network.projection.parameters(), *network.pool.parameters()]
        groups = [
            {"params": self._split.tuned_parameters(), "lr": rate},
            {"params": pooled, "lr": rate * _PROJECTION_RATE},
            {"params": list(self._loss.parameters()), "lr": rate * _PROXY_RATE},
        ]
        return torch.optim.AdamW(
            [group for group in groups if group["params"]], weight_decay=self._recipe.decay
        )

    def _take_step(self, step: int, base_embeddings: torch.Tensor) -> dict[str, float]:
        """Run one optimizer step; return the total loss and its parts."""
        self._set_learning_rates(step)
        images, views = self._sampler.draw_batch(step)
        embeddings = self._split.embed_activations(self._cache.load_activations(images, views))
        device = self._split.device
        classes = torch.from_numpy(self._sampler.class_indices_of(images)).to(device)
        indices = torch.from_numpy(images).to(device)
        # The order of these terms decides how gradients are rounded, so the exact weights too.
        parts = {"classes": self._loss(embeddings, classes)}
        parts["instances"] = self._recipe.instances * self._instance_loss(embeddings, indices)
        drift = compute_similarity_drift(embeddings, base_embeddings[indices], indices)
        parts["kept"] = self._recipe.kept * drift
        total = sum(parts.values(), start=torch.zeros((), device=device))
        self._optimizer.zero_grad()
        total.backward()
        nn.utils.clip_grad_norm_(
            [each for group in self._optimizer.param_groups for each in group["params"]],
            _MAX_GRADIENT_NORM,
        )
        self._optimizer.step()
        self._averaged.update_parameters(self._split.network)
        return {"loss": total.item()} | {name: part.item() for name, part in parts.items()}

    def _set_learning_rates(self, step: int) -> None:
        """Apply a linear warm-up and a cosine decay to zero over all steps."""
        for group, rate in zip(self._optimizer.param_groups, self._rates, strict=True):
            warm_up = min(1.0, (step + 1) / _WARM_UP)
            cosine = 1 + math.cos(math.pi * step / self._recipe.steps)
            group["lr"] = rate * warm_up * 0.5 * cosine

    def _check_held_out(self, step: int) -> None:
        network = self._averaged.module.eval()
        scores = self._score(SplitNetwork(network, self._split.tune, self._split.device))
        self._history[-1] |= scores
        # Equal scores count as better: where mAP is perfect, altered views can still improve.
        if scores["map"] >= self._best["map"]:
            self._best = {"map": scores["map"], "step": step, "network": _copy_state(network)}

    def _save(self, step: int) -> None:
        self._checkpoint.save(self._stateful(), history=self._history, best=self._best, step=step)

    def _resume(self) -> int:
        """Restore the checkpoint, if there is one, and return the step to start with."""
        saved = self._checkpoint.load(self._stateful())
        if saved is None:
            return 0
        self._history, self._best = saved["history"], saved["best"]
        step: int = saved["step"]
        return step

    def _stateful(self) -> dict[str, Any]:
        return {
            "loss": self._loss,
            "network": self._split.network,
            "averaged": self._averaged,
            "optimizer": self._optimizer,
        }


def _copy_state(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
