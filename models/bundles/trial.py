"""Runs a bundle's networks in a process of its own, which ``check_bundle`` starts.

Prints one line of JSON: what was measured, or why the bundle is invalid.
"""

from __future__ import annotations

import json
import math
import os
import resource
import string
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.bundles.archive import Bundle, read_bundle
from models.bundles.engine import BundleEmbedder
from models.bundles.graphs import translate_failures
from models.bundles.texts import BundleTextEncoder
from models.errors import BundleInvalid
from models.text_encoder import TextNotUnderstood

_SLOTS = 2  # so that an image is also embedded on several cores, as the service does
_TIMED = 3  # repetitions, of which the fastest counts
_TEXTS = ("a photo of a dog", "red bicycle", "a photo of a dog")
_LONG_TEXTS = tuple(letter * 490 for letter in string.ascii_lowercase)
_LONG_TEXT_SECONDS = 2.0  # that the tokenizer may take for one of them
_TOLERANCE = 1e-3  # of a vector's length; bf16 has three digits


def main(path: str, precision: str, memory: str, seconds: str) -> None:
    """Limit this process to ``memory`` bytes and ``seconds``, then try the bundle.

    The parent watches the time; the limit on CPU time ends a process that has lost its parent.
    """
    for limit, value in (
        (resource.RLIMIT_AS, int(memory)),
        (resource.RLIMIT_CPU, math.ceil(float(seconds) * (os.cpu_count() or 1))),
        (resource.RLIMIT_CORE, 0),
    ):
        with suppress(ValueError):  # the hard limit is lower already
            resource.setrlimit(limit, (value, value))
    try:
        answer = try_bundle(read_bundle(Path(path)), precision)
    except BundleInvalid as error:
        answer = {"invalid": str(error)}
    sys.stdout.write(f"\n{json.dumps(answer)}\n")


@dataclass(frozen=True)
class _Vectors:
    """What the networks gave; the first and the last input of each are equal."""

    images: NDArray[np.float32]
    texts: NDArray[np.float32]  # without rows if there is no text tower
    image_seconds: float
    text_seconds: float | None


def try_bundle(bundle: Bundle, precision: str) -> dict[str, object]:
    """Run the networks twice, with checks, and return what they cost. Raises BundleInvalid."""
    first = _run_networks(bundle, precision)
    peak = _read_peak_memory()
    second = _run_networks(bundle, precision)
    for kind, vectors, again in (
        ("images", first.images, second.images),
        ("texts", first.texts, second.texts),
    ):
        if len(vectors):
            _check_vectors(bundle, kind, vectors, again)
    if np.array_equal(first.images[0], first.images[1]):
        raise BundleInvalid(
            f"{bundle.path.name} yields the same vector for different images. Name another output"
            " in the manifest, or export the network again."
        )
    return {
        "image_seconds": first.image_seconds,
        "text_seconds": first.text_seconds,
        "memory_bytes": peak,
    }


def _run_networks(bundle: Bundle, precision: str) -> _Vectors:
    """Load the networks, which are freed before this returns, and embed images and texts."""
    embedder = BundleEmbedder(bundle, slots=_SLOTS, precision=precision)
    inputs = _draw_images(bundle)
    with translate_failures(bundle, bundle.manifest.image.file):
        images = embedder.embed(inputs)
        image_seconds = _time(lambda: embedder.embed(inputs[:1]))
        embedder.prepare_all_cores()
        embedder.embed(inputs[:1], all_cores=True)
    text, tower = embedder.bundle_text, bundle.manifest.text
    if text is None or tower is None:
        none = np.empty((0, embedder.dimension), np.float32)
        return _Vectors(images, none, image_seconds, None)
    with translate_failures(bundle, tower.file):
        texts = np.stack([text.embed_cleaned(each) for each in _TEXTS])
        text_seconds = _time(lambda: text.embed_cleaned(_TEXTS[0]))
        _try_long_texts(bundle, text)
    return _Vectors(images, texts, image_seconds, text_seconds)


def _try_long_texts(bundle: Bundle, text: BundleTextEncoder) -> None:
    """Check that the tokenizer splits long texts in a moment.

    Its patterns and replacements can take for ever, or fill the memory.
    """
    for long in _LONG_TEXTS:
        start = time.perf_counter()
        try:
            text.tokenize(long)
            is_fast = time.perf_counter() - start < _LONG_TEXT_SECONDS
        except TextNotUnderstood:
            is_fast = False
        if not is_fast:
            raise BundleInvalid(
                f"The tokenizer of {bundle.path.name} fails, or takes too long, with a text of"
                f" {len(long)} characters. Simplify its patterns and replacements."
            )


def _read_peak_memory() -> int:
    """Return the most bytes that this process had in memory.

    ``ru_maxrss`` counts the parent too, where the child was started with vfork.
    """
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024
    except (OSError, IndexError, ValueError):  # there is no /proc
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _draw_images(bundle: Bundle) -> NDArray[np.uint8]:
    """Return noise, a shaded, a black and a white image, and the noise again."""
    tower = bundle.manifest.image
    shape = (tower.height, tower.width, 3)
    noise = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    shade = np.broadcast_to(np.linspace(0, 255, tower.width)[:, None], shape).astype(np.uint8)
    return np.stack([noise, shade, np.zeros_like(noise), np.full_like(noise, 255), noise])


def _time(embed: Callable[[], object]) -> float:
    times = []
    for _ in range(_TIMED):
        start = time.perf_counter()
        embed()
        times.append(time.perf_counter() - start)
    return min(times)


def _check_vectors(
    bundle: Bundle, kind: str, vectors: NDArray[np.float32], again: NDArray[np.float32]
) -> None:
    """Check that vectors are finite, of length 1, and equal for equal inputs."""
    if not np.isfinite(vectors).all():
        raise BundleInvalid(
            f"{bundle.path.name} yields NaN or infinite numbers for {kind}. Export the network"
            " again; half precision may be too narrow for it."
        )
    if np.abs(np.linalg.norm(vectors.astype(np.float64), axis=1) - 1).max() > _TOLERANCE:
        raise BundleInvalid(
            f"{bundle.path.name} yields vectors of length 0 for some {kind}. Name another output"
            " in the manifest, or export the network again."
        )
    if not np.array_equal(vectors[0], vectors[-1]) or not np.array_equal(vectors, again):
        raise BundleInvalid(
            f"{bundle.path.name} yields different vectors for equal {kind}: its network draws"
            " random numbers or keeps a state. Export it for inference."
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
