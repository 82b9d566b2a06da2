"""Decode + embed in one process beside the obvious way (full decode_image, PyTorch eager float32, one image a call).

make bench-embedder
"""

from __future__ import annotations

import io
import json
import statistics
import time
from collections.abc import Callable, Sequence

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.naive import NaiveEmbedder
from benchmarks.service import in_threads, photographs
from models.embedder import load_embedder
from models.imaging import decode_image
from models.transforms import INPUT_SIDE, prepare_input
from storage.cores import available_cores

RUNS = 5


def main() -> None:
    naive = NaiveEmbedder()
    embedder = load_embedder(slots=available_cores())

    def one(content: bytes) -> np.ndarray:
        return embedder.embed(
            prepare_input(decode_image(io.BytesIO(content), min_side=INPUT_SIDE).image)[None]
        )[0]

    def obvious(images: Sequence[bytes]) -> None:
        for content in images:
            naive.embed(content)

    def ours(images: Sequence[bytes]) -> None:
        def work(number: int) -> None:
            for content in images[number :: available_cores()]:
                one(content)

        in_threads(work, available_cores())

    def rate(way: Callable[[Sequence[bytes]], None], images: Sequence[bytes]) -> float:
        start = time.perf_counter()
        way(images)
        return len(images) / (time.perf_counter() - start)

    sets = {"448 x 336": photographs(60, 448, 336), "4000 x 3000": photographs(12, 4000, 3000)}
    agreement = min(float(one(content) @ naive.embed(content)) for content in sets["448 x 336"])
    table = Table(title=f"Decode + embed, {RUNS} alternating runs, images/s (median)")
    for column in ("", "obvious", "lookalike", "ratio"):
        table.add_column(column, justify="left" if not column else "right")
    ratios = {}
    for name, images in sets.items():
        obvious(images[:4])
        ours(images[:4])
        pairs = [(rate(obvious, images), rate(ours, images)) for _ in range(RUNS)]
        ratios[name] = statistics.median(b / a for a, b in pairs)
        a, b = (statistics.median(values) for values in zip(*pairs, strict=True))
        table.add_row(name, f"{a:.1f}", f"{b:.1f}", f"{ratios[name]:.2f}")
    start = time.perf_counter()
    for content in sets["448 x 336"]:
        one(content)
    alone = (time.perf_counter() - start) / len(sets["448 x 336"]) * 1000
    Console().print(table)
    precision = getattr(embedder, "precision", "")
    print(
        f"One after the other: {alone:.1f} ms an image. Arithmetic: {precision}. Least cosine to PyTorch float32: {agreement:.5f}"
    )
    print(json.dumps({"ratio_vs_naive": round(ratios["448 x 336"], 2)}))


if __name__ == "__main__":
    main()
