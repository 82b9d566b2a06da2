"""Fine-tunes ResNet-50 for retrieval: classes apart, views of one image together, and what the base network knew kept."""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from models.calibration import Calibration, Judged, fit_calibration
from models.evaluate import Vectors, rank
from models.labelled_images import Advance, LabelledImages, UnusableData, batches, silent
from models.resnet import EmbeddingNetwork
from models.training.losses import instance_loss, kept_similarities, metric_loss
from models.training.stages import Parts, TrunkCache, Tune, digest_of
from models.weights_file import EMBEDDING_DIM, FEATURE_DIM, WeightsFile

_WHITENING = 1.0  # of what is unwanted: 0 is plain PCA, 1 full whitening
_EVEN = 1.0  # so much of all directions alike is unwanted, too: what the images do not show is whitened less
_FLATTENING = 0.4  # of what is kept
_LENGTH = 10.0  # of a projected vector before it is normalised, by which the learning rate is felt
_WARM_UP = 30  # steps
_PROJECTION_RATE = 10.0  # times the rate of the backbone
_PROXY_RATE = 100.0
_CLIP = 5.0  # norm of the gradients
_BATCH = 64
_KEPT_EVERY = 60  # seconds of training at most that an interruption costs; every check is kept, too


@dataclass(frozen=True)
class Recipe:
    """What is trained, and how. Faster rates than the default took away what the base knew of other things."""

    loss: str = "supcon"
    tune: Tune = "layer4"
    pooling: Literal["average", "gem"] = "gem"
    gem_p: float = 1.5  # where the exponent of "gem" begins; a base with a projection keeps its own, or begins at 1, the average
    norms: Literal["frozen", "tuned"] = "frozen"
    steps: int = 300
    classes: int = 16  # in a batch
    images: int = 3  # of each class in a batch, in two views each
    rate: float = 1e-5  # of the backbone; a cosine after a warm-up
    decay: float = 1e-4
    instances: float = 1.0  # weight of the loss that holds views of one image together
    kept: float = 5.0  # weight of the loss that keeps the base network's similarities
    average: float = 0.99  # of the moving average of the weights, which is what comes out
    blend: float = 1.0  # 1: the tuned weights; less: so far from the base's towards them (Wortsman et al. 2022)
    views: int = 6  # kept of each image: one as it is, the others altered
    plain: float = 0.3  # chance that the first view of an image is the one as it is
    held_out: float = 0.2  # of the classes, to stop early by and to calibrate on
    check_every: int = 100  # steps
    patience: int = 3  # checks without a better mAP
    seed: int = 0


@dataclass(frozen=True)
class Outcome:
    """``before`` and ``after`` are scores of the held-out classes, ``vectors`` and ``labels`` their embeddings after."""

    weights: Path
    version: str
    before: dict[str, float]
    after: dict[str, float]
    calibration: Calibration
    history: list[dict[str, float]]
    vectors: Vectors
    labels: list[str]


def split_classes(
    data: LabelledImages, held_out: float, seed: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Numbers of the images to train on, and of those of the classes held out.

    Classes whose folders lie in one folder go to one side together: sister varieties would make the held-out ones known.
    Raises UnusableData if there are too few.
    """
    tops = [label.partition("/")[0] for label in data.labels]
    groups = tops if len(set(tops)) >= 4 else list(data.labels)
    names = sorted(set(groups))
    count = max(2, round(len(names) * held_out))
    several = {label for label, images in Counter(data.labels).items() if images > 1}
    judged = sorted(
        {group for group, label in zip(groups, data.labels, strict=True) if label in several}
    )
    if len(judged) < 2:
        raise UnusableData(
            "two classes or more must have two images or more: they are held out to judge by"
        )
    if len(names) < count + 2:
        raise UnusableData(
            f"{len(names)} classes are too few: two are held out to judge by, and two or more are needed to learn from"
        )
    held = set(np.random.default_rng(seed).choice(judged, min(count, len(judged)), replace=False))
    is_held = np.array([group in held for group in groups])
    return np.flatnonzero(~is_held), np.flatnonzero(is_held)


def fit_projection(
    views: list[Vectors], classes: NDArray[np.int64], head: Vectors | None = None
) -> tuple[Vectors, Vectors]:
    """Weight ``(512, 2048)``, bias ``(512,)``: learned whitening (Mikolajczyk & Matas 2007, Radenović et al. 2018), then PCA.

    ``views``: ``(n, 2048)`` pooled features of the same images, first as they are, then altered. Whitened, in part, is how images
    of one class differ and how views of one image differ. ``head``, the base network's own projection or classifier
    ``(outputs, 2048)``, says which directions tell things apart that are not among the images: without it, PCA keeps those of
    the images alone.
    """
    features = views[0].astype(np.float64)
    mean = features.mean(axis=0)
    means = np.stack([features[classes == n].mean(axis=0) for n in np.unique(classes)])
    within = features - means[np.unique(classes, return_inverse=True)[1]]
    unwanted = _shares(within.T @ within)
    if views[1:]:
        altered = np.concatenate([features - view for view in views[1:]])
        unwanted += _shares(altered.T @ altered)
    unwanted = _shares(unwanted) + np.eye(FEATURE_DIM) * _EVEN / FEATURE_DIM
    variances, axes = np.linalg.eigh(unwanted)
    whitening = (axes * variances ** (-_WHITENING / 2)) @ axes.T
    wanted = _shares(_scatter(features)) + (
        0 if head is None else _shares(_scatter(head.astype(np.float64)))
    )
    spread, axes = np.linalg.eigh(whitening @ wanted @ whitening)
    largest = np.argsort(-spread)[:EMBEDDING_DIM]
    spread = np.maximum(spread[largest], spread[largest[0]] * 1e-6)
    weight = (axes[:, largest] * spread ** (-_FLATTENING / 2)).T @ whitening
    weight *= _LENGTH / np.sqrt((((features - mean) @ weight.T) ** 2).sum(axis=1).mean())
    return weight.astype(np.float32), (-weight @ mean).astype(np.float32)


def _shares(scatter: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of a trace of 1, where it has any."""
    return scatter / max(float(np.trace(scatter)), 1e-12)


def _scatter(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    centred = rows - rows.mean(axis=0)
    product: NDArray[np.float64] = centred.T @ centred
    return product


class Finetuning:
    """One run; started again with the same arguments it goes on from its last check, to the same end."""

    def __init__(
        self,
        data: LabelledImages,
        base: WeightsFile,
        out: Path,
        recipe: Recipe,
        *,
        device: str = "auto",
    ) -> None:
        """``out`` takes the weights, and ``out/work`` what lets a run go on. Raises UnusableData."""
        if base.quantised:
            raise UnusableData(
                f"{base.source} is int8, which cannot be trained: give the weights that it was made from"
            )
        if device == "cuda" and not torch.cuda.is_available():
            raise UnusableData("PyTorch finds no CUDA device here: leave out --device")
        if out.resolve().is_relative_to(data.root.resolve()):
            raise UnusableData(
                f"{out} lies in {data.root}: its plots would be learned from the next time. Give another --out"
            )
        self._data, self._base, self._out, self._recipe = data, base, out, recipe
        self._device = (
            ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        )
        self._train, self._held = split_classes(data, recipe.held_out, recipe.seed)
        self._classes = data.class_numbers()
        self._of_class = [
            rows
            for n in np.unique(self._classes)
            if len(rows := self._train[self._classes[self._train] == n])
        ]
        torch.manual_seed(recipe.seed)
        if recipe.pooling != base.pooling:
            base = replace(
                base, pooling=recipe.pooling, gem_p=1.0 if base.projected else recipe.gem_p
            )
        self._network = EmbeddingNetwork.from_weights(base)
        self._parts = Parts(self._network, recipe.tune, self._device)
        key = f"{base.version} {recipe.tune} {base.pooling} {base.gem_p}"
        self._cache = TrunkCache(
            out / "work", data.paths, recipe.views, self._parts, recipe.seed, key
        )
        self._checkpoint = out / "work" / "checkpoint.pt"
        self._about = digest_of(data.paths, data.labels, asdict(recipe), base.version)

    def run(self, advance: Advance = silent) -> Outcome:
        self._cache.fill(advance)
        before = (
            self._scores(self._embedded(self._held, advance, "base"))
            if self._base.projected
            else None
        )
        taught = self._project(advance, "base features")
        start = self._scores(taught[self._held])
        base = {name: tensor.clone() for name, tensor in self._network.state_dict().items()}
        history = self._fit(torch.from_numpy(taught).to(self._device), start, advance)
        self._blend(base)
        if self._parts.tuned():
            vectors = self._project(advance, "tuned features")[self._held]
        else:
            vectors = self._embedded(self._held, advance, "embeddings")
        calibration = fit_calibration(Judged.of(vectors, self._labels()))
        weights = self._out / "weights.safetensors"
        recipe = json.dumps(asdict(self._recipe))
        version = self._network.save(
            weights,
            {"calibration": calibration.as_json(), "recipe": recipe, "base": self._base.version},
        )
        return Outcome(
            weights,
            version,
            before or start,
            self._scores(vectors),
            calibration,
            history,
            vectors,
            self._labels(),
        )

    def _project(self, advance: Advance, stage: str) -> Vectors:
        """Fits the projection to the backbone as it is, and embeds all images with it: ``(n, 512)`` float32 of length 1."""
        features = self._pooled(np.arange(len(self._data)), 0, advance, stage)
        altered = [
            self._pooled(self._train, view, advance, stage)
            for view in range(1, min(3, self._recipe.views))
        ]
        head = self._base.tensors.get("projection.weight", self._base.tensors.get("fc.weight"))
        weight, bias = fit_projection(
            [features[self._train], *altered], self._place(self._train), head
        )
        with torch.no_grad():
            self._network.projection.weight.copy_(torch.from_numpy(weight))
            self._network.projection.bias.copy_(torch.from_numpy(bias))
        embeddings = features @ weight.T + bias
        embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
        return embeddings

    # training

    def _fit(
        self, taught: torch.Tensor, start: dict[str, float], advance: Advance
    ) -> list[dict[str, float]]:
        """Leaves the network with the averaged weights that were best on the held-out classes."""
        recipe, network = self._recipe, self._network
        loss = metric_loss(recipe.loss, len(self._of_class)).to(self._device)
        instances = instance_loss()
        groups = [
            {"params": self._parts.tuned(), "lr": recipe.rate},
            {
                "params": [*network.projection.parameters(), *network.pool.parameters()],
                "lr": recipe.rate * _PROJECTION_RATE,
            },
            {"params": list(loss.parameters()), "lr": recipe.rate * _PROXY_RATE},
        ]
        optimizer = torch.optim.AdamW(
            [group for group in groups if group["params"]], weight_decay=recipe.decay
        )
        rates = [group["lr"] for group in optimizer.param_groups]
        averaged = AveragedModel(
            network, multi_avg_fn=get_ema_multi_avg_fn(recipe.average), use_buffers=True
        )
        history: list[dict[str, float]] = []
        best: dict[str, Any] = {"map": start["map"], "step": 0, "network": _copied(network)}
        state = {"loss": loss, "network": network, "averaged": averaged, "optimizer": optimizer}
        first = self._resumed(state, history, best)
        kept_at = time.monotonic()
        if recipe.norms == "tuned":
            network.train()
        for step in range(first, recipe.steps):
            if self._is_over(step, best):
                break
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = (
                    rate
                    * min(1.0, (step + 1) / _WARM_UP)
                    * 0.5
                    * (1 + math.cos(math.pi * step / recipe.steps))
                )
            images, views = self._batch(step)
            embeddings = self._parts.head(self._cache.get(images, views))
            classes = torch.from_numpy(self._place(images)).to(self._device)
            numbers = torch.from_numpy(images).to(self._device)
            parts = {
                "classes": loss(embeddings, classes),
                "instances": recipe.instances * instances(embeddings, numbers),
                "kept": recipe.kept * kept_similarities(embeddings, taught[numbers], numbers),
            }
            total = sum(parts.values(), start=torch.zeros((), device=self._device))
            optimizer.zero_grad()
            total.backward()
            nn.utils.clip_grad_norm_(
                [p for group in optimizer.param_groups for p in group["params"]], _CLIP
            )
            optimizer.step()
            averaged.update_parameters(network)
            history.append(
                {"step": step + 1, "loss": total.item()}
                | {name: part.item() for name, part in parts.items()}
            )
            if (step + 1) % recipe.check_every == 0 or step + 1 == recipe.steps:
                self._check(step + 1, averaged, history, best)
                kept_at = -math.inf
            if time.monotonic() - kept_at > _KEPT_EVERY:
                self._keep(state, history, best, step + 1)
                kept_at = time.monotonic()
            advance("training", step + 1, recipe.steps)
        network.load_state_dict(best["network"])
        network.eval()
        return history

    def _batch(self, step: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Numbers of images, all twice, and their views: some images of some classes, by chance that the step alone decides."""
        recipe, chance = self._recipe, np.random.default_rng([self._recipe.seed, step])
        classes = chance.choice(
            len(self._of_class), min(recipe.classes, len(self._of_class)), replace=False
        )
        rows = [self._of_class[n] for n in classes]
        images = np.concatenate(
            [chance.choice(some, recipe.images, replace=len(some) < recipe.images) for some in rows]
        )
        altered = (
            (lambda: chance.integers(1, recipe.views, len(images)))
            if recipe.views > 1
            else (lambda: np.zeros_like(images))
        )
        first = np.where(chance.random(len(images)) < recipe.plain, 0, altered())
        return np.concatenate([images, images]), np.concatenate([first, altered()])

    def _place(self, images: NDArray[np.intp]) -> NDArray[np.int64]:
        """Class numbers among those that are trained on."""
        numbers = np.unique(self._classes[self._train])
        return np.searchsorted(numbers, self._classes[images]).astype(np.int64)

    def _is_over(self, step: int, best: dict[str, Any]) -> bool:
        return bool(step - best["step"] >= self._recipe.patience * self._recipe.check_every)

    def _check(
        self,
        step: int,
        averaged: AveragedModel,
        history: list[dict[str, float]],
        best: dict[str, Any],
    ) -> None:
        network = averaged.module.eval()
        scores = self._scores(
            self._embedded(self._held, silent, "", Parts(network, self._recipe.tune, self._device))
        )
        history[-1] |= scores
        if scores["map"] >= best["map"]:  # where all is found already, views may still come closer
            best |= {"map": scores["map"], "step": step, "network": _copied(network)}

    def _keep(
        self,
        state: dict[str, Any],
        history: list[dict[str, float]],
        best: dict[str, Any],
        step: int,
    ) -> None:
        content = {name: part.state_dict() for name, part in state.items()}
        content |= {"about": self._about, "history": history, "best": best, "step": step}
        partial = self._checkpoint.with_suffix(".partial")
        try:
            torch.save(content, partial)
        except RuntimeError as error:  # of its own, where a write fails
            partial.unlink(missing_ok=True)
            raise OSError(f"cannot write {self._checkpoint}: {error}") from error
        partial.replace(self._checkpoint)

    def _resumed(
        self, state: dict[str, Any], history: list[dict[str, float]], best: dict[str, Any]
    ) -> int:
        """The step to go on from."""
        if not self._checkpoint.exists():
            return 0
        content = torch.load(self._checkpoint, map_location=self._device, weights_only=True)
        if content.get("about") != self._about:  # of other images, another base or another recipe
            return 0
        for name, part in state.items():
            part.load_state_dict(content[name])
        history += content["history"]
        best |= content["best"]
        step: int = content["step"]
        return step

    def _blend(self, base: dict[str, torch.Tensor]) -> None:
        blend = self._recipe.blend
        state = self._network.state_dict()
        for name, tensor in state.items():
            if tensor.is_floating_point():
                state[name] = torch.lerp(base[name].to(tensor), tensor, blend)
        self._network.load_state_dict(state)

    # looking at it

    def _labels(self) -> list[str]:
        return [self._data.labels[i] for i in self._held]

    def _scores(self, vectors: Vectors) -> dict[str, float]:
        """Of the held-out classes, leave one out."""
        return rank(vectors, self._labels(), vectors, self._labels(), leave_out=True).means()

    def _embedded(
        self, images: NDArray[np.intp], advance: Advance, stage: str, parts: Parts | None = None
    ) -> Vectors:
        """``(n, 512)`` float32 of the images as they are."""
        rows = []
        with torch.inference_mode():
            for some in batches(len(images), _BATCH):
                rows.append(
                    (parts or self._parts)
                    .head(self._cache.get(images[some.start : some.stop]))
                    .cpu()
                    .numpy()
                )
                advance(stage, some.stop, len(images))
        return np.concatenate(rows)

    def _pooled(self, images: NDArray[np.intp], view: int, advance: Advance, stage: str) -> Vectors:
        """``(n, 2048)`` float32 of images in one view."""
        rows = []
        with torch.inference_mode():
            for some in batches(len(images), _BATCH):
                rows.append(
                    self._parts.features(self._cache.get(images[some.start : some.stop], view))
                    .cpu()
                    .numpy()
                )
                advance(f"{stage}, view {view}", some.stop, len(images))
        return np.concatenate(rows)


def _copied(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
