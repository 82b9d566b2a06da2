"""How well near-identical pairs are found, and which second signal verifies them best.

    make bench-duplicates DATA='folder ...' [OPTIONS='--originals 5500 --show pairs.txt']

Originals are chosen evenly from the folders, and altered copies are made of a fifth of them. The
candidates are pairs of nearest neighbours in the space ``look``. A pair is right if it is an
original and its copy. Each signal's least value and largest distance are chosen on the pairs of one
half of the originals, for the highest recall at a precision of .98, and reported on the other half.
Pairs of the data that are the same photograph are not counted: ``duplicates_in_data.txt`` names
them. One JSON object is printed last.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageOps
from rich.console import Console

from benchmarks.reporting import make_table
from models.embedder import load_embedder
from models.evaluate import embed_images
from models.labelled_images import find_image_files, load_image
from models.local_features import WholeSquare, count_common_features, extract_features
from storage.cores import available_cores

KNOWN = Path(__file__).parent / "duplicates_in_data.txt"
NEIGHBOURS = 10  # of each image, that are candidates
MOST_DISTANT = 0.65  # of the candidates that are compared
PRECISION = 0.98
Pairs = list[tuple[int, int]]


def _crop(image: Image.Image) -> Image.Image:
    width, height = image.size
    edges = 0.15 * width, 0.05 * height, 0.95 * width, 0.85 * height
    return image.crop((int(edges[0]), int(edges[1]), int(edges[2]), int(edges[3])))


def _write_text(image: Image.Image) -> Image.Image:
    image = image.copy()
    at, size = (image.width // 20, image.height * 2 // 5), image.width // 5
    ImageDraw.Draw(image).text(
        at, "SAMPLE", "white", font_size=size, stroke_width=2, stroke_fill="black"
    )
    return image


ALTERATIONS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "cropped to 64 %": _crop,
    "turned by 90°": lambda image: image.transpose(Image.Transpose.ROTATE_90),
    "turned by 6°": lambda image: image.rotate(6, Image.Resampling.BICUBIC),
    "mirrored": ImageOps.mirror,
    "JPEG 30": lambda image: image,
    "grey": lambda image: ImageOps.grayscale(image).convert("RGB"),
    "blurred": lambda image: image.filter(ImageFilter.GaussianBlur(2)),
    "border of 10 %": lambda image: ImageOps.expand(image, max(image.size) // 10, "white"),
    "half the size": lambda image: image.reduce(2),
    "text over it": _write_text,
}


def make_copies(originals: list[Path], folder: Path) -> list[tuple[Path, int, str]]:
    """Write an altered copy of every fifth original; return file, original and alteration."""
    copies = []
    for number, original in enumerate(range(0, len(originals), 5)):
        name = list(ALTERATIONS)[number % len(ALTERATIONS)]
        file = folder / f"{number:05}.jpg"
        image = ALTERATIONS[name](load_image(originals[original]))
        image.save(file, "JPEG", quality=30 if name == "JPEG 30" else 85)
        copies.append((file, original, name))
    return copies


def _dct(side: int) -> NDArray[np.float32]:
    n = np.arange(side)
    return np.cos(np.pi / side * (n + 0.5) * n[:, None]).astype(np.float32)


_DCT = _dct(64)


def _hash_orientations(pixels: NDArray[np.uint8], size: int) -> NDArray[np.uint64]:
    """Return ``(8, size * size / 64)``: hashes of the signs of the lowest DCT coefficients."""
    grey = np.asarray(Image.fromarray(pixels).convert("L").resize((64, 64)), dtype=np.float32)
    lowest = (_DCT @ grey @ _DCT.T)[1 : size + 1, 1 : size + 1]
    sign = (-1.0) ** np.arange(1, size + 1)
    hashes = []
    for each in (lowest, lowest.T):
        for down in (1.0, sign[:, None]):
            for across in (1.0, sign[None, :]):
                shown = each * down * across
                hashes.append(np.packbits(shown > np.median(shown)))
    return np.array(hashes).view(np.uint64)


def _compare_hashes(a: NDArray[np.uint64], b: NDArray[np.uint64]) -> float:
    return -float(np.bitwise_count(a[:1] ^ b).sum(axis=1).min())


def _shrink(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return ``(8, 1024)``: 32 x 32 grey pixels in each orientation, of mean 0 and length 1."""
    grey = np.asarray(Image.fromarray(pixels).convert("L").resize((32, 32)), dtype=np.float32)
    shown = [np.rot90(side, turns).ravel() for side in (grey, grey.T) for turns in range(4)]
    centred = np.array(shown) - grey.mean()
    return (centred / max(1e-6, float(np.linalg.norm(centred[0])))).astype(np.float32)


@dataclass(frozen=True)
class Signal:
    compute: Callable[[NDArray[np.uint8]], Any]
    compare: Callable[[Any, Any], float]  # higher is more alike


SIGNALS = {
    "pHash, 64 bits": Signal(lambda pixels: _hash_orientations(pixels, 8), _compare_hashes),
    "pHash, 256 bits": Signal(lambda pixels: _hash_orientations(pixels, 16), _compare_hashes),
    "32 x 32 pixels": Signal(_shrink, lambda a, b: float((b @ a[0]).max())),
    "local features": Signal(extract_features, count_common_features),
}


def find_candidates(vectors: NDArray[np.float32]) -> dict[tuple[int, int], float]:
    """Return the pairs of nearest neighbours, with their distances."""
    pairs: dict[tuple[int, int], float] = {}
    for first in range(0, len(vectors), 512):
        distances = 1 - vectors[first : first + 512] @ vectors.T
        distances[np.arange(len(distances)), np.arange(first, first + len(distances))] = 9
        nearest = np.argpartition(distances, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
        for row, others in enumerate(nearest):
            for other in others:
                if distances[row, other] <= MOST_DISTANT:
                    pair = (min(first + row, int(other)), max(first + row, int(other)))
                    pairs[pair] = float(distances[row, other])
    return pairs


def choose_limits(
    right: NDArray[np.bool_], distance: NDArray[np.float64], value: NDArray[np.float64]
) -> tuple[float, float]:
    """Return the largest distance and least value with the best recall at the precision."""
    best = (0, 0.0, np.inf)
    values = np.unique(np.quantile(value, np.linspace(0, 1, 500)))
    for limit in np.quantile(distance[right], np.linspace(0.5, 1, 40)):
        near = distance <= limit
        for least in values:
            found = near & (value >= least)
            count = int((found & right).sum())
            if count >= PRECISION * found.sum():
                best = max(best, (count, float(limit), float(least)))
                break  # a higher value finds fewer
    return best[1], best[2]


def measure(
    name: str, pairs: Pairs, distance: NDArray[np.float64], value: NDArray[np.float64], truth: Any
) -> dict[str, Any]:
    """Choose the limits on the pairs of even originals, and measure on those of odd ones."""
    right = np.array([pair in truth for pair in pairs])
    half = np.array([truth.get(pair, (pair[0], ""))[0] // 5 % 4 < 2 for pair in pairs])
    limit, least = choose_limits(right[half], distance[half], value[half])
    found = (distance <= limit) & (value >= least)
    counted = right[found & ~half]
    tested = [(pair, of) for pair, of in truth.items() if of[0] // 5 % 4 >= 2]
    shown = {pair for pair, here in zip(pairs, found, strict=True) if here}
    alterations = Counter(name for _, (_, name) in tested)
    hits = Counter(name for pair, (_, name) in tested if pair in shown)
    return {
        "signal": name,
        "largest_distance": round(limit, 4),
        "least_value": round(least, 4) if counted.size else 0.0,
        "precision": round(float(counted.mean()), 4) if counted.size else 0.0,
        "recall": round(sum(hits.values()) / len(tested), 4),
        "wrong": int((~counted).sum()),
        "recall_of": {each: round(hits[each] / alterations[each], 3) for each in ALTERATIONS},
        "wrong_pairs": [pairs[i] for i in np.nonzero(found & ~right)[0]],
    }


def _compare_all(
    signal: Signal, pixels: list[NDArray[np.uint8]], pairs: Pairs
) -> tuple[NDArray[np.float64], float, float]:
    """Return the value of every pair, and the milliseconds of an image and of a pair."""
    start = time.perf_counter()
    with ThreadPoolExecutor(available_cores()) as pool:
        computed = list(pool.map(signal.compute, pixels))
        middle = time.perf_counter()
        values = list(
            pool.map(lambda pair: signal.compare(computed[pair[0]], computed[pair[1]]), pairs)
        )
    end = time.perf_counter()
    each = 1e3 * (middle - start) / len(pixels), 1e3 * (end - middle) / len(pairs)
    return np.array(values, dtype=np.float64), *each


def _embed(files: list[Path], kept: Path | None, slots: int) -> NDArray[np.float32]:
    """Embed the files, or read what an earlier run with the same options kept."""
    if kept and kept.exists():
        vectors: NDArray[np.float32] = np.load(kept)
        return vectors
    vectors = embed_images(load_embedder(slots=slots), files, slots=slots)
    if kept:
        np.save(kept, vectors)
    return vectors


def _drop_known(
    pairs: dict[tuple[int, int], float], files: list[Path], copied: list[int]
) -> dict[tuple[int, int], float]:
    """Leave out the pairs of the data that are the same picture, and those of their copies.

    ``copied`` has the originals of the copies, which are the last files.
    """
    numbers = {"/".join(file.parts[-4:]): number for number, file in enumerate(files)}
    lines = [line for line in KNOWN.read_text().splitlines() if not line.startswith("#")]
    known = {frozenset(numbers.get(name, -1) for name in line.split("\t")) for line in lines}
    source = [*range(len(files) - len(copied)), *copied]
    return {
        pair: distance
        for pair, distance in pairs.items()
        if frozenset(source[each] for each in pair) not in known
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="+", type=Path)
    parser.add_argument("--originals", type=int, default=5500)
    parser.add_argument("--show", type=Path, help="write the pairs that local features get wrong")
    parser.add_argument("--vectors", type=Path, help="keep the vectors in this file (.npy)")
    given = parser.parse_args()
    paths = [path for folder in given.data for path in find_image_files(folder)]
    chosen = np.unique(np.linspace(0, len(paths) - 1, given.originals).astype(np.intp))
    originals = [paths[number] for number in chosen]
    slots = available_cores()
    with tempfile.TemporaryDirectory() as folder:
        copies = make_copies(originals, Path(folder))
        files = originals + [file for file, _, _ in copies]
        vectors = _embed(files, given.vectors, slots)
        rule = WholeSquare()
        with ThreadPoolExecutor(slots) as pool:
            pixels = list(pool.map(lambda file: rule.prepare(load_image(file)), files))
    truth = {
        (original, len(originals) + number): (original, name)
        for number, (_, original, name) in enumerate(copies)
    }
    candidates = _drop_known(find_candidates(vectors), files, [of for _, of, _ in copies])
    pairs = list(candidates)
    distance = np.array(list(candidates.values()))
    results = [measure("distance alone", pairs, distance, -distance, truth)]
    for name, signal in SIGNALS.items():
        value, image_ms, pair_ms = _compare_all(signal, pixels, pairs)
        result = measure(name, pairs, distance, value, truth)
        results.append(result | {"image_ms": round(image_ms, 2), "pair_ms": round(pair_ms, 3)})
        print(name, "is done", file=sys.stderr, flush=True)
    _report(results, given.show, files, len(originals), len(copies), len(pairs), truth, candidates)


def _report(
    results: list[dict[str, Any]],
    show: Path | None,
    files: list[Path],
    originals: int,
    copies: int,
    pairs: int,
    truth: Any,
    candidates: dict[tuple[int, int], float],
) -> None:
    wrong = [each.pop("wrong_pairs") for each in results]
    if show:
        lines = [
            "\t".join("/".join(files[each].parts[-4:]) for each in pair)
            for pair in sorted(wrong[-1])
        ]
        show.write_text("\n".join(lines) + "\n")
    of_candidates = len(truth.keys() & candidates.keys()) / len(truth)
    title = f"{copies} copies among {originals} originals; {of_candidates:.1%} are candidates"
    table = make_table(title, "signal", "precision", "recall", "distance", "value", "ms a pair")
    for each in results:
        values = (each[key] for key in ("precision", "recall", "largest_distance", "least_value"))
        table.add_row(
            each["signal"], *(f"{value:.3f}" for value in values), str(each.get("pair_ms"))
        )
    Console(stderr=True).print(table)
    summary = {
        "originals": originals,
        "copies": copies,
        "candidate_pairs": pairs,
        "recall_of_candidates": round(of_candidates, 4),
        "signals": results,
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
