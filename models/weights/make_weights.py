"""Makes resnet50-512.safetensors: the ImageNet network with a half-whitened PCA projection to 512 behind its average pool.

    python models/weights/make_weights.py BASE.safetensors --grocery GROCERY/train --clothing CLOTHING/train

Needs the extra ``torch``. The projection is learned on the train splits alone, without every third coarse grocery class
(sorted), which are kept for testing.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from rich.progress import track
from safetensors import safe_open
from safetensors.numpy import save_file

from models.resnet import EmbeddingNetwork
from models.transforms import PREPROCESSING_ID, to_input
from models.weights_file import DEFAULT_WEIGHTS, EMBEDDING_DIM

WHITENING = 0.5  # exponent on the deviation: 0 is plain PCA, 1 full whitening (Jégou & Chum 2012)


def training_images(grocery: Path, clothing: Path) -> list[Path]:
    tested = set(sorted(folder.name for folder in grocery.iterdir())[2::3])
    images = [path for path in sorted(grocery.rglob("*.jpg")) if path.relative_to(grocery).parts[0] not in tested]
    return images + sorted(clothing.rglob("*.jpg"))


def pooled_features(network: EmbeddingNetwork, images: list[Path], batch: int = 16) -> NDArray[np.float32]:
    """``(n, 2048)`` float32."""
    rows = []
    with torch.inference_mode():
        for start in track(range(0, len(images), batch), description="features"):
            pixels = np.stack([to_input(Image.open(path).convert("RGB")) for path in images[start : start + batch]])
            rows.append(network.features(torch.from_numpy(pixels)).numpy())
    return np.concatenate(rows)


def fit_projection(features: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Weight ``(512, 2048)`` and bias ``(512,)`` of y = V' (x - mean) / deviation^WHITENING."""
    mean = features.mean(axis=0, dtype=np.float64)
    variances, axes = np.linalg.eigh(np.cov(features.T.astype(np.float64)))
    largest = np.argsort(-variances)[:EMBEDDING_DIM]
    weight = (axes[:, largest] * variances[largest] ** (-WHITENING / 2)).T
    return weight.astype(np.float32), (-weight @ mean).astype(np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", type=Path, help="ImageNet weights under torchvision's names")
    parser.add_argument("--grocery", type=Path, required=True)
    parser.add_argument("--clothing", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=DEFAULT_WEIGHTS)
    arguments = parser.parse_args()
    with safe_open(arguments.base, framework="numpy") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys() if not name.startswith("fc.")}  # noqa: SIM118
    network = EmbeddingNetwork().eval()
    network.backbone.load_state_dict({name: torch.from_numpy(t.astype("float32")) for name, t in tensors.items()}, strict=False)
    weight, bias = fit_projection(pooled_features(network, training_images(arguments.grocery, arguments.clothing)))
    tensors |= {"projection.weight": weight.astype(np.float16), "projection.bias": bias}
    save_file(tensors, arguments.out, metadata={"preprocessing": PREPROCESSING_ID, "pooling": "average"})
    print(f"{arguments.out}: {arguments.out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
