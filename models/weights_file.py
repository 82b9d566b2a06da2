"""The weights file: a safetensors file that every engine reads.

The model version is derived from its content.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as serialize_tensors

from models.calibration import Calibration
from models.errors import EncoderInvalid
from models.transforms import PREPROCESSING_ID, PREPROCESSINGS, Preprocessing
from storage.durable_files import write_durably

EMBEDDING_DIM = 512
FEATURE_DIM = 2048
STAGES = (3, 4, 6, 3)  # bottleneck blocks per stage of ResNet-50 (He et al. 2015, table 1)
BATCH_NORM_EPS = 1.001e-5  # of the Keras network; another value changes the embeddings
RESNET_NAME = "rn50"  # the versions of weights begin with it; no bundle has this name
VERSION_PREFIX = f"{RESNET_NAME}-"
DEFAULT_WEIGHTS = Path(__file__).parent / "weights" / "resnet50-512.safetensors"


class WeightsInvalid(EncoderInvalid):
    """The weights file is missing, truncated, or does not contain this network.

    The message says which of these it is and what to do.
    """


@dataclass(frozen=True)
class WeightsFile:
    """The parsed content of a weights file.

    ``tensors`` has torchvision's names, plus ``projection.weight`` ``(512, 2048)`` and
    ``projection.bias`` ``(512,)``, in float16 or float32. A quantized file has the graph that
    OpenVINO runs instead: ``openvino.xml`` and ``openvino.bin``, ``(n,)`` uint8.
    """

    source: str  # file name or key, for error messages
    version: str
    preprocessing: str
    pooling: str  # "average" or "gem"
    gem_p: float
    calibration: Calibration | None
    tensors: dict[str, np.ndarray]

    @property
    def is_quantized(self) -> bool:
        """Whether the weights are int8, which only OpenVINO runs."""
        return "openvino.xml" in self.tensors

    @property
    def has_projection(self) -> bool:
        """False for a backbone alone, which can be fine-tuned and evaluated but not served."""
        return self.is_quantized or "projection.weight" in self.tensors

    def find_preprocessing(self) -> Preprocessing:
        """Return the preprocessing that the weights need. Raises WeightsInvalid."""
        found = PREPROCESSINGS.get(self.preprocessing)
        if found is None:
            raise WeightsInvalid(
                f"{self.source} was made for the preprocessing {self.preprocessing}, which this"
                " release does not have. Install the release that the weights belong to."
            )
        return found

    def validate(self) -> None:
        """Check preprocessing, pooling, and the name, shape and values of every tensor.

        The graph of quantized weights is checked when it is built. Raises WeightsInvalid.
        """
        self.find_preprocessing()
        if self.pooling not in ("average", "gem") or not 0.1 <= self.gem_p <= 100:
            raise WeightsInvalid(
                f"{self.source} names an unknown pooling: {self.pooling} with p = {self.gem_p}."
                " Pooling is average, or gem with p from 0.1 to 100."
            )
        if self.is_quantized:
            return
        for name, shape in _expected_shapes().items():
            if name.startswith("projection.") and not self.has_projection:
                continue
            self._validate_tensor(name, shape)

    def _validate_tensor(self, name: str, shape: tuple[int, ...]) -> None:
        mismatch = f"{self.source} does not contain a ResNet-50 for Lookalike: the tensor {name}"
        tensor = self.tensors.get(name)
        if tensor is None:
            raise WeightsInvalid(f"{mismatch} is missing.")
        if tensor.shape != shape or tensor.dtype not in (np.float16, np.float32):
            raise WeightsInvalid(
                f"{mismatch} is {tensor.dtype} {tensor.shape}, not float16 or float32 {shape}."
            )
        if not np.isfinite(tensor).all() or (name.endswith("running_var") and tensor.min() < 0):
            raise WeightsInvalid(f"{mismatch} has values that are NaN, infinite or out of range.")

    @classmethod
    def load(cls, path: Path) -> WeightsFile:
        """Read a weights file that can be served. Raises WeightsInvalid."""
        return cls.parse(_read_bytes(path), str(path))

    @classmethod
    def load_base(cls, path: Path) -> WeightsFile:
        """Read weights to fine-tune from.

        This is either a weights file, or an ImageNet ResNet-50 under torchvision's names. Raises
        WeightsInvalid.
        """
        content, source = _read_bytes(path), str(path)
        tensors, metadata = _parse_safetensors(content, source)
        if "preprocessing" in metadata:
            weights = cls.parse(content, source)
        else:
            version = compute_model_version(content)
            weights = cls(source, version, PREPROCESSING_ID, "average", 1.0, None, tensors)
        weights.validate()
        return weights

    @classmethod
    def parse(cls, content: bytes, source: str = "the file") -> WeightsFile:
        """Parse the bytes of a weights file; ``source`` names it in error messages.

        The tensors are not validated yet. Raises WeightsInvalid.
        """
        tensors, metadata = _parse_safetensors(content, source)
        projection = tensors.get("projection.weight")
        can_be_served = set(tensors) == {"openvino.xml", "openvino.bin"} or (
            projection is not None and projection.shape == (EMBEDDING_DIM, FEATURE_DIM)
        )
        if "preprocessing" not in metadata or not can_be_served:
            raise WeightsInvalid(
                f"{source} is not a Lookalike weights file: it names no preprocessing, or has no"
                f" projection from {FEATURE_DIM} to {EMBEDDING_DIM}. Make one with"
                " `lookalike finetune`."
            )
        try:
            calibration = metadata.get("calibration")
            return cls(
                source=source,
                version=compute_model_version(content),
                preprocessing=metadata["preprocessing"],
                pooling=metadata.get("pooling", "average"),
                gem_p=float(metadata.get("gem_p", "3")),
                calibration=None if calibration is None else Calibration.from_json(calibration),
                tensors=tensors,
            )
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
            raise WeightsInvalid(
                f"The metadata of {source} is invalid ({error}). Restore the file."
            ) from error


def _expected_shapes() -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor by torchvision's names (He et al. 2015, table 1)."""
    shapes: dict[str, tuple[int, ...]] = {}

    def conv(name: str, norm: str, outputs: int, inputs: int, side: int) -> None:
        shapes[f"{name}.weight"] = (outputs, inputs, side, side)
        for part in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{norm}.{part}"] = (outputs,)

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
    """Write a weights file atomically and return its model version.

    The id of this release's preprocessing is added to the metadata.
    """
    metadata = {"preprocessing": PREPROCESSING_ID} | metadata
    content = _sort_header(serialize_tensors(tensors, metadata=metadata))
    write_durably(path, content)
    return compute_model_version(content)


def write_restated(source: Path, target: Path) -> str:
    """Write weights with this release's preprocessing, and return their model version.

    Raises WeightsInvalid.
    """
    content = _read_bytes(source)
    WeightsFile.parse(content, str(source)).validate()
    restated = restate_preprocessing(content)
    write_durably(target, restated)
    return compute_model_version(restated)


def restate_preprocessing(content: bytes, preprocessing: str = PREPROCESSING_ID) -> bytes:
    """Return a weights file that names another preprocessing, and is so another version."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header["__metadata__"]["preprocessing"] = preprocessing
    restated = json.dumps(header).encode()
    return _sort_header(len(restated).to_bytes(8, "little") + restated + content[8 + length :])


def _sort_header(content: bytes) -> bytes:
    """Sort the keys of a safetensors header.

    safetensors writes the metadata in arbitrary order, but equal weights must get the same model
    version. The header is padded with spaces to a multiple of 8 bytes, as the format requires.
    """
    length = int.from_bytes(content[:8], "little")
    header = json.dumps(
        json.loads(content[8 : 8 + length]), sort_keys=True, separators=(",", ":")
    ).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + content[8 + length :]


def compute_model_version(content: bytes) -> str:
    """Derive the model version from the bytes of a weights file."""
    return model_version_of(hashlib.sha256(content).digest())


def model_version_of(digest: bytes) -> str:
    """Return the version of weights whose file has this SHA-256: ``rn50-`` and 16 hex digits."""
    return VERSION_PREFIX + digest.hex()[:16]


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise WeightsInvalid(
            f"The weights file {path} cannot be read ({error.strerror}). Check the path and its"
            " permissions, or reinstall Lookalike if these are the shipped weights."
        ) from error


def _parse_safetensors(content: bytes, source: str) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    try:
        tensors = load_tensors(content)
    except SafetensorError as error:
        raise WeightsInvalid(
            f"{source} is not a safetensors file, or is truncated ({error}). Copy it again."
        ) from error
    except (KeyError, ValueError, TypeError) as error:
        raise WeightsInvalid(
            f"{source} contains tensors of an unsupported type ({error}). Save them as float16 or"
            " float32."
        ) from error
    # load_tensors() drops the metadata, so the header is parsed again.
    length = int.from_bytes(content[:8], "little")
    return tensors, json.loads(content[8 : 8 + length]).get("__metadata__") or {}
