"""The data file of the words: every array that ``make_words.py`` builds, in one safetensors file.

Matrices are stored as int8 with one float32 scale per row (the last axis is one row).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save

from storage.durable_files import write_durably

DEFAULT_WORDS = Path(__file__).parent / "words.safetensors"
Tensors = dict[str, np.ndarray]


def load_words(path: Path = DEFAULT_WORDS) -> Tensors:
    """Read the arrays of a data file. Raises OSError if it cannot be read."""
    tensors: Tensors = load_file(path)
    return tensors


def save_words(path: Path, tensors: Tensors) -> None:
    """Write a data file atomically. Equal arrays give equal bytes."""
    write_durably(path, save({name: np.ascontiguousarray(tensors[name]) for name in tensors}))


def quantize_rows(rows: NDArray[np.floating]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Round ``(..., d)`` to int8 with a scale ``(..., 1)`` float32 for each row, symmetrically."""
    scale = np.maximum(np.abs(rows).max(axis=-1, keepdims=True) / 127, 1e-12).astype(np.float32)
    return np.rint(rows / scale).astype(np.int8), scale


def restore_rows(tensors: Tensors, name: str) -> NDArray[np.float32]:
    """Return the ``(..., d)`` float32 matrix that is stored as ``name`` and ``name.scale``."""
    rows: NDArray[np.float32] = tensors[name].astype(np.float32) * tensors[f"{name}.scale"]
    return rows


def pack_lines(lines: list[str]) -> NDArray[np.uint8]:
    """Store lines as UTF-8 bytes, each followed by a line feed."""
    return np.frombuffer("".join(f"{line}\n" for line in lines).encode(), dtype=np.uint8)


def unpack_lines(tensor: NDArray[np.uint8]) -> list[str]:
    """Return the lines that ``pack_lines`` stored."""
    return tensor.tobytes().decode().splitlines()
