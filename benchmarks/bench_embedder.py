"""Decode and embed in one process, compared with a naive implementation.

    make bench-embedder

The naive one decodes in full and runs PyTorch in float32, one image per call. The result is the
ratio of the two rates: how much faster Lookalike's decoding and embedding is on all cores.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from benchmarks.direct import embed_bytes, measure_direct_rate
from benchmarks.naive import NaiveEmbedder
from benchmarks.service import make_parser, make_photographs
from models.embedder import load_embedder
from storage.cores import available_cores

RUNS = 5


def measure_naive_rate(naive: NaiveEmbedder, images: Sequence[bytes]) -> float:
    """Embed the images one after the other; return images per second."""
    start = time.perf_counter()
    for content in images:
        naive.embed(content)
    return len(images) / (time.perf_counter() - start)


def main() -> None:
    make_parser(__doc__).parse_args()
    naive = NaiveEmbedder()
    embedder = load_embedder(slots=available_cores())
    small, large = make_photographs(60, 448, 336), make_photographs(12, 4000, 3000)
    agreement = min(float(embed_bytes(embedder, each) @ naive.embed(each)) for each in small)
    table = Table(title=f"Decode and embed, images/s, median of {RUNS} alternating runs")
    for column in ("image size", "naive", "lookalike", "ratio"):
        table.add_column(column, justify="left" if column == "image size" else "right")
    ratios = {}
    for name, images in {"448 x 336": small, "4000 x 3000": large}.items():
        measure_naive_rate(naive, images[:4])  # warm-up
        measure_direct_rate(embedder, images[:4])
        pairs = [
            (measure_naive_rate(naive, images), measure_direct_rate(embedder, images))
            for _ in range(RUNS)
        ]
        ratios[name] = statistics.median(ours / theirs for theirs, ours in pairs)
        theirs, ours = (statistics.median(values) for values in zip(*pairs, strict=True))
        table.add_row(name, f"{theirs:.1f}", f"{ours:.1f}", f"{ratios[name]:.2f}")
    start = time.perf_counter()
    for content in small:
        embed_bytes(embedder, content)
    latency = (time.perf_counter() - start) / len(small) * 1000
    Console().print(table)
    print(f"Latency of 448 x 336 images, one at a time: {latency:.1f} ms.")
    print(f"Precision: {getattr(embedder, 'precision', 'unknown')}.")
    print(f"Lowest cosine similarity to PyTorch in float32: {agreement:.5f}.")
    print(json.dumps({"ratio_vs_naive": round(ratios["448 x 336"], 2)}))


if __name__ == "__main__":
    main()
