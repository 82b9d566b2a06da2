"""The weights file: one safetensors file that every engine reads, and the model version derived from it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

EMBEDDING_DIM = 512
FEATURE_DIM = 2048
BATCH_NORM_EPS = 1.001e-5  # the Keras network's value; a different eps is a different network
DEFAULT_WEIGHTS = Path(__file__).parent / "weights" / "resnet50-512.safetensors"


class WeightsInvalid(Exception):
    """The weights file is missing, truncated, or not one of ours. The message says which and what to do."""


@dataclass(frozen=True)
class WeightsFile:
    """Tensors under torchvision's names plus ``projection.weight (512, 2048)`` and ``projection.bias (512,)``."""

    version: str
    preprocessing: str
    pooling: str
    gem_p: float
    tensors: dict[str, np.ndarray]

    @classmethod
    def load(cls, path: Path) -> WeightsFile:
        """Read a file; raises WeightsInvalid. The version is the hash of the bytes, which name the preprocessing too."""
        try:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            with safe_open(path, framework="numpy") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        except (OSError, SafetensorError) as error:
            raise WeightsInvalid(f"cannot read the weights {path}: {error}. Put the file back or reinstall.") from error
        projection = tensors.get("projection.weight")
        if "preprocessing" not in metadata or projection is None or projection.shape != (EMBEDDING_DIM, FEATURE_DIM):
            raise WeightsInvalid(f"{path} is not a Lookalike weights file (no preprocessing id or no 2048 -> 512 projection)")
        return cls(
            version=f"rn50-{digest[:16]}",
            preprocessing=metadata["preprocessing"],
            pooling=metadata.get("pooling", "average"),
            gem_p=float(metadata.get("gem_p", "3")),
            tensors=tensors,
        )
