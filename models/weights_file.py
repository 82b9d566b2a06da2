"""The weights file: one safetensors file that every engine reads, and the model version derived from it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as tensors_of
from safetensors.numpy import save

from models.calibration import Calibration
from models.transforms import PREPROCESSING_ID
from storage.durable_files import write_durably

EMBEDDING_DIM = 512
FEATURE_DIM = 2048
STAGES = (3, 4, 6, 3)  # bottlenecks in each stage of ResNet-50 (He et al. 2015, table 1)
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
    calibration: Calibration | None
    tensors: dict[str, np.ndarray]

    @property
    def quantised(self) -> bool:
        """int8, as the graph that OpenVINO runs: ``openvino.xml`` and ``openvino.bin``, ``(n,)`` uint8."""
        return "openvino.xml" in self.tensors

    @property
    def projected(self) -> bool:
        """False for a backbone alone, which can be fine-tuned and evaluated, and not served."""
        return self.quantised or "projection.weight" in self.tensors

    def check(self) -> None:
        """Raises WeightsInvalid unless these are finite numbers for our network, and all that it needs."""
        if self.preprocessing != PREPROCESSING_ID:
            raise WeightsInvalid(
                f"{self.source} was made for preprocessing {self.preprocessing}, this program has {PREPROCESSING_ID}:"
                " install the matching release"
            )
        if self.pooling not in ("average", "gem") or not 0.1 <= self.gem_p <= 100:
            raise WeightsInvalid(
                f"{self.source} names a pooling that is not known: {self.pooling}, p = {self.gem_p}"
            )
        if self.quantised:
            return  # the graph says for itself what it takes and gives; the engine looks
        for name, shape in _expected_shapes().items():
            tensor = self.tensors.get(name)
            if tensor is None and name.startswith("projection.") and not self.projected:
                continue
            if (
                tensor is None
                or tensor.shape != shape
                or tensor.dtype not in (np.float16, np.float32)
            ):
                found = "is not there" if tensor is None else f"is {tensor.dtype} {tensor.shape}"
                raise WeightsInvalid(
                    f"{self.source} does not hold our network: {name} {found}, not float {shape}"
                )
            if not np.isfinite(tensor).all() or (name.endswith("running_var") and tensor.min() < 0):
                raise WeightsInvalid(
                    f"{self.source} does not hold our network: {name} has values that cannot be"
                )

    @classmethod
    def load(cls, path: Path) -> WeightsFile:
        """Raises WeightsInvalid."""
        try:
            return cls.parse(path.read_bytes(), str(path))
        except OSError as error:
            raise WeightsInvalid(
                f"cannot read the weights {path}: {error}. Put the file back or reinstall."
            ) from error

    @classmethod
    def load_base(cls, path: Path) -> WeightsFile:
        """To fine-tune from: a weights file, or an ImageNet ResNet-50 under torchvision's names. Raises WeightsInvalid."""
        try:
            content = path.read_bytes()
        except OSError as error:
            raise WeightsInvalid(f"cannot read the weights {path}: {error}.") from error
        tensors, metadata = _read(content, str(path))
        if "preprocessing" in metadata:
            weights = cls.parse(content, str(path))
        else:
            weights = cls(
                str(path), version_of(content), PREPROCESSING_ID, "average", 1.0, None, tensors
            )
        weights.check()
        return weights

    @classmethod
    def parse(cls, content: bytes, source: str = "the file") -> WeightsFile:
        """From a file's bytes; their hash is the version, and they name the preprocessing too. Raises WeightsInvalid."""
        tensors, metadata = _read(content, source)
        projection = tensors.get("projection.weight")
        served = set(tensors) == {"openvino.xml", "openvino.bin"} or (
            projection is not None and projection.shape == (EMBEDDING_DIM, FEATURE_DIM)
        )
        if "preprocessing" not in metadata or not served:
            raise WeightsInvalid(
                f"{source} is not a Lookalike weights file (no preprocessing id or no 2048 -> 512 projection)"
            )
        try:
            return cls(
                source=source,
                version=version_of(content),
                preprocessing=metadata["preprocessing"],
                pooling=metadata.get("pooling", "average"),
                gem_p=float(metadata.get("gem_p", "3")),
                calibration=Calibration.from_json(metadata["calibration"])
                if "calibration" in metadata
                else None,
                tensors=tensors,
            )
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
            raise WeightsInvalid(
                f"{source} says something about itself that cannot be: {error}"
            ) from error


def _expected_shapes() -> dict[str, tuple[int, ...]]:
    """Of the network's tensors, by torchvision's names (He et al. 2015, table 1)."""
    shapes: dict[str, tuple[int, ...]] = {}

    def conv(name: str, norm: str, outputs: int, inputs: int, side: int) -> None:
        shapes[f"{name}.weight"] = (outputs, inputs, side, side)
        shapes.update(
            {
                f"{norm}.{part}": (outputs,)
                for part in ("weight", "bias", "running_mean", "running_var")
            }
        )

    conv("conv1", "bn1", 64, 3, 7)
    inputs = 64
    for stage, blocks in enumerate(STAGES, start=1):
        width = 64 * 2 ** (stage - 1)
        for block in range(blocks):
            name = f"layer{stage}.{block}"
            if block == 0:
                conv(f"{name}.downsample.0", f"{name}.downsample.1", 4 * width, inputs, 1)
            conv(f"{name}.conv1", f"{name}.bn1", width, inputs, 1)
            conv(f"{name}.conv2", f"{name}.bn2", width, width, 3)
            conv(f"{name}.conv3", f"{name}.bn3", 4 * width, width, 1)
            inputs = 4 * width
    return shapes | {
        "projection.weight": (EMBEDDING_DIM, FEATURE_DIM),
        "projection.bias": (EMBEDDING_DIM,),
    }


def save_weights(path: Path, tensors: dict[str, np.ndarray], metadata: dict[str, str]) -> str:
    """Write a weights file as a whole, or not at all; its model version. The preprocessing is this program's."""
    content = _ordered(save(tensors, metadata={"preprocessing": PREPROCESSING_ID} | metadata))
    write_durably(path, content)
    return version_of(content)


def _ordered(content: bytes) -> bytes:
    """With the header's keys in order: safetensors writes metadata in any, and equal weights are to be one version."""
    length = int.from_bytes(content[:8], "little")
    header = json.dumps(
        json.loads(content[8 : 8 + length]), sort_keys=True, separators=(",", ":")
    ).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + content[8 + length :]


def version_of(content: bytes) -> str:
    """The model version of a weights file, from its bytes."""
    return f"rn50-{hashlib.sha256(content).hexdigest()[:16]}"


def _read(content: bytes, source: str) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    try:
        tensors = tensors_of(content)
    except SafetensorError as error:
        raise WeightsInvalid(
            f"{source} is no safetensors file, or is cut short ({error})"
        ) from error
    except (KeyError, ValueError, TypeError) as error:
        raise WeightsInvalid(
            f"{source} has tensors of a kind that cannot be read ({error})"
        ) from error
    length = int.from_bytes(
        content[:8], "little"
    )  # of the header: safetensors' load() drops its metadata
    return tensors, json.loads(content[8 : 8 + length]).get("__metadata__") or {}
