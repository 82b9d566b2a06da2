"""Fine-tunes ResNet-50 for retrieval.

Training separates classes, keeps the views of one image together, and preserves what the base
network knows about other subjects.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from models.calibration import Calibration, LabelledHits, fit_calibration
from models.evaluate import Vectors, rank_gallery
from models.labelled_images import LabelledImages, UnusableData
from models.progress import ProgressCallback, ignore_progress
from models.resnet import EmbeddingNetwork
from models.training.checkpoint import CheckpointFile
from models.training.projection import fit_projection
from models.training.recipe import Recipe
from models.training.sampling import BatchSampler, split_classes
from models.training.split_network import SplitNetwork
from models.training.trainer import Trainer
from models.training.trunk_cache import TrunkCache, fingerprint_inputs
from models.weights_file import WeightsFile

_BATCH = 64  # images per inference
_ALTERED_VIEWS = 2  # at most, that the projection is fitted to


@dataclass(frozen=True)
class FinetuningResult:
    """The outcome of a fine-tuning.

    ``before`` and ``after`` map the name of a metric to its mean on the held-out classes.
    ``history`` has one entry per training step. ``vectors`` ``(n, 512)`` float32 and ``labels`` are
    those of the held-out images after the training.
    """

    weights: Path
    version: str
    before: dict[str, float]
    after: dict[str, float]
    calibration: Calibration
    history: list[dict[str, float]]
    vectors: Vectors
    labels: list[str]


class Finetuning:
    """One fine-tuning run.

    If it is interrupted, a run with the same arguments resumes from the last checkpoint and ends
    with the same weights.
    """

    def __init__(
        self,
        data: LabelledImages,
        base: WeightsFile,
        out: Path,
        recipe: Recipe,
        *,
        device: str = "auto",
    ) -> None:
        """Check the arguments, hold out classes and open the cache.

        The weights are written to ``out``; ``out/work`` holds what a resumed run needs. ``device``
        is ``cpu``, ``cuda`` or ``auto``. Raises UnusableData.
        """
        _check_arguments(data, base, out, device)
        self._data, self._base, self._out, self._recipe = data, base, out, recipe
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self._train, self._held_out = split_classes(data, recipe.held_out, recipe.seed)
        self._sampler = BatchSampler(data.class_indices(), self._train, recipe)
        torch.manual_seed(recipe.seed)
        if recipe.pooling != base.pooling:
            gem_p = 1.0 if base.has_projection else recipe.gem_p
            base = replace(base, pooling=recipe.pooling, gem_p=gem_p)
        self._network = EmbeddingNetwork.from_weights(base)
        self._split = SplitNetwork(self._network, recipe.tune, device)
        network_key = f"{base.version} {recipe.tune} {base.pooling} {base.gem_p}"
        work = out / "work"
        self._cache = TrunkCache(
            work, data.paths, recipe.views, self._split, recipe.seed, network_key
        )
        fingerprint = fingerprint_inputs(data.paths, data.labels, asdict(recipe), base.version)
        self._checkpoint = CheckpointFile(work / "checkpoint.pt", fingerprint, device)

    def run(self, progress: ProgressCallback = ignore_progress) -> FinetuningResult:
        """Train, calibrate, and write ``weights.safetensors``."""
        self._cache.fill(progress)
        before = None
        if self._base.has_projection:
            before = self._score(self._embed_held_out(self._split, progress, "base embeddings"))
        base_embeddings = self._refit_projection(progress, "base features")
        start = self._score(base_embeddings[self._held_out])
        base_state = {name: each.clone() for name, each in self._network.state_dict().items()}
        history = self._train_head(base_embeddings, start["map"], progress)
        self._blend_with(base_state)
        if self._split.tuned_parameters():
            vectors = self._refit_projection(progress, "tuned features")[self._held_out]
        else:
            vectors = self._embed_held_out(self._split, progress, "tuned embeddings")
        calibration = fit_calibration(LabelledHits.collect(vectors, self._held_out_labels()))
        weights = self._out / "weights.safetensors"
        metadata = {
            "calibration": calibration.as_json(),
            "recipe": json.dumps(asdict(self._recipe)),
            "base": self._base.version,
        }
        return FinetuningResult(
            weights=weights,
            version=self._network.save(weights, metadata),
            before=before or start,
            after=self._score(vectors),
            calibration=calibration,
            history=history,
            vectors=vectors,
            labels=self._held_out_labels(),
        )

    def _refit_projection(self, progress: ProgressCallback, stage: str) -> Vectors:
        """Fit the projection to the current backbone.

        Returns the embeddings ``(n, 512)`` float32 of all images under it, with rows of length 1.
        """
        features = self._compute_features(np.arange(len(self._data)), 0, progress, stage)
        views = range(1, min(1 + _ALTERED_VIEWS, self._recipe.views))
        altered = [self._compute_features(self._train, view, progress, stage) for view in views]
        tensors = self._base.tensors
        head = tensors.get("projection.weight", tensors.get("fc.weight"))
        classes = self._sampler.class_indices_of(self._train)
        weight, bias = fit_projection([features[self._train], *altered], classes, head)
        with torch.no_grad():
            self._network.projection.weight.copy_(torch.from_numpy(weight))
            self._network.projection.bias.copy_(torch.from_numpy(bias))
        embeddings = features @ weight.T + bias
        embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
        return embeddings

    def _train_head(
        self, base_embeddings: Vectors, base_map: float, progress: ProgressCallback
    ) -> list[dict[str, float]]:
        trainer = Trainer(
            self._split,
            self._cache,
            self._sampler,
            self._recipe,
            self._checkpoint,
            lambda split: self._score(self._embed_held_out(split, ignore_progress, "")),
        )
        on_device = torch.from_numpy(base_embeddings).to(self._split.device)
        return trainer.train(on_device, base_map, progress)

    def _blend_with(self, base_state: dict[str, torch.Tensor]) -> None:
        """Interpolate between the base's weights and the tuned ones, as the recipe says."""
        state = self._network.state_dict()
        for name, tensor in state.items():
            if tensor.is_floating_point():
                state[name] = torch.lerp(base_state[name].to(tensor), tensor, self._recipe.blend)
        self._network.load_state_dict(state)

    def _held_out_labels(self) -> list[str]:
        return [self._data.labels[i] for i in self._held_out]

    def _score(self, vectors: Vectors) -> dict[str, float]:
        """Compute the mean metrics of the held-out images, leaving one out."""
        labels = self._held_out_labels()
        return rank_gallery(vectors, labels, vectors, labels, leave_out=True).means()

    def _embed_held_out(
        self, split: SplitNetwork, progress: ProgressCallback, stage: str
    ) -> Vectors:
        """Compute the embeddings ``(n, 512)`` float32 of the unaltered held-out images."""
        rows, total = [], len(self._held_out)
        with torch.inference_mode():
            for start in range(0, total, _BATCH):
                images = self._held_out[start : start + _BATCH]
                activations = self._cache.load_activations(images)
                rows.append(split.embed_activations(activations).cpu().numpy())
                progress(stage, start + len(images), total)
        return np.concatenate(rows)

    def _compute_features(
        self, images: NDArray[np.intp], view: int, progress: ProgressCallback, stage: str
    ) -> Vectors:
        """Compute the pooled features ``(n, 2048)`` float32 of the images in one view."""
        rows, total = [], len(images)
        with torch.inference_mode():
            for start in range(0, total, _BATCH):
                some = images[start : start + _BATCH]
                activations = self._cache.load_activations(some, view)
                rows.append(self._split.compute_features(activations).cpu().numpy())
                progress(f"{stage}, view {view}", start + len(some), total)
        return np.concatenate(rows)


def _check_arguments(data: LabelledImages, base: WeightsFile, out: Path, device: str) -> None:
    if base.is_quantized:
        raise UnusableData(
            f"{base.source} is quantized to int8, so it cannot be trained. Name the weights that"
            " it was made from."
        )
    if device == "cuda" and not torch.cuda.is_available():
        raise UnusableData("PyTorch finds no CUDA device on this machine. Omit --device.")
    if out.resolve().is_relative_to(data.root.resolve()):
        raise UnusableData(
            f"The output directory {out} lies inside the data {data.root}, so the next run would"
            " train on its plots. Choose another --out."
        )
