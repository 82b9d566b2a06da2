"""The weights file: one safetensors file that every engine reads, and the model version derived from it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as tensors_of

EMBEDDING_DIM = 512
FEATURE_DIM = 2048
BATCH_NORM_EPS = 1.001e-5  # the Keras network's value; a different eps is a different network
DEFAULT_WEIGHTS = Path(__file__).parent / "weights" / "resnet50-512.safetensors"


class WeightsInvalid(Exception):
    """The weights file is missing, truncated, or not one of ours. The message says which and what to do."""


@dataclass(frozen=True)
class WeightsFile:
    """Tensors under torchvision's names plus ``projection.weight (512, 2048)`` and ``projection.bias (512,)``."""

    source: str  # for messages
    version: str
    preprocessing: str
    pooling: str
    gem_p: float
    tensors: dict[str, np.ndarray]

    @classmethod
    def load(cls, path: Path) -> WeightsFile:
        """Raises WeightsInvalid."""
        try:
            return cls.parse(path.read_bytes(), str(path))
        except OSError as error:
            raise WeightsInvalid(f"cannot read the weights {path}: {error}. Put the file back or reinstall.") from error

    @classmethod
    def parse(cls, content: bytes, source: str = "the file") -> WeightsFile:
        """From a file's bytes; their hash is the version, and they name the preprocessing too. Raises WeightsInvalid."""
        try:
            tensors = tensors_of(content)
        except SafetensorError as error:
            raise WeightsInvalid(f"cannot read the weights {source}: {error}. Put the file back or reinstall.") from error
        length = int.from_bytes(content[:8], "little")  # of the header: safetensors' load() drops its metadata
        metadata: dict[str, str] = json.loads(content[8 : 8 + length]).get("__metadata__", {})
        projection = tensors.get("projection.weight")
        if "preprocessing" not in metadata or projection is None or projection.shape != (EMBEDDING_DIM, FEATURE_DIM):
            raise WeightsInvalid(f"{source} is not a Lookalike weights file (no preprocessing id or no 2048 -> 512 projection)")
        return cls(
            source=source,
            version=f"rn50-{hashlib.sha256(content).hexdigest()[:16]}",
            preprocessing=metadata["preprocessing"],
            pooling=metadata.get("pooling", "average"),
            gem_p=float(metadata.get("gem_p", "3")),
            tensors=tensors,
        )
