"""The work of a request without HTTP and storage: decoding and embedding, called directly.

This is the bound that the benchmarks compare the service with.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks.service import time_threads
from models.embedder import Embedder
from models.imaging import decode_image
from models.transforms import INPUT_SIDE, prepare_input
from storage.cores import available_cores


def embed_bytes(
    embedder: Embedder, content: bytes, *, all_cores: bool = False
) -> NDArray[np.float32]:
    """Decode an image file and embed it, on one core or on all: ``(512,)`` float32."""
    image = decode_image(io.BytesIO(content), min_side=INPUT_SIDE).image
    return embedder.embed(prepare_input(image)[None], all_cores=all_cores)[0]


def measure_direct_rate(embedder: Embedder, images: Sequence[bytes]) -> float:
    """Decode and embed all images on one thread per core; return images per second."""
    cores = available_cores()

    def work(number: int) -> None:
        for content in images[number::cores]:
            embed_bytes(embedder, content)

    return len(images) / time_threads(work, cores)
