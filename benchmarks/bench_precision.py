"""Embeddings per second of one core, by precision and by what the processor is allowed to use.

    make bench-precision [WEIGHTS=int8.safetensors]

Each setting runs in a process of its own, in turns: OpenVINO's kernels (oneDNN) obey
ONEDNN_MAX_CPU_ISA, which leaves out newer instructions. Without WEIGHTS, the shipped weights are
quantized first (extra `train`). Also prints what a million images would cost by these rates. Prints
one JSON object last: images per second by limit and precision, medians.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.service import make_parser, make_photographs
from models.embedder import load_embedder
from models.imaging import decode_image
from models.quantizing import quantize_network
from models.transforms import INPUT_SIDE, prepare_input
from models.weights_file import DEFAULT_WEIGHTS, WeightsFile

LIMITS = {  # of oneDNN; the first one names what the processor has
    "all": "all instructions",
    "AVX512_CORE_VNNI": "AVX-512 with VNNI, without bf16",
    "AVX512_CORE": "AVX-512 without VNNI",
    "AVX2": "AVX2",
}
NATIVE_BF16 = ("all",)  # limits under which bf16 has instructions of its own
RUNS = 5
SECONDS = 2.0  # of one measurement
CALIBRATION = 300  # images
MACHINES = (  # kind, limit that behaves like it, dollars of a vCPU-hour on demand: an assumption
    ("AMD Zen 4 and 5", "all", 0.055),
    ("Intel Ice Lake, Cascade Lake", "AVX512_CORE_VNNI", 0.048),
    ("Intel Skylake", "AVX512_CORE", 0.048),
    ("AMD Zen 2 and 3, older Intel", "AVX2", 0.045),
)


def measure(weights: Path, precision: str) -> float:
    """Return the embeddings per second of one core."""
    embedder = load_embedder(WeightsFile.load(weights), precision=precision)
    draw = np.random.default_rng(0)
    pixels = draw.integers(0, 256, (1, INPUT_SIDE, INPUT_SIDE, 3), dtype=np.uint8)
    for _ in range(5):
        embedder.embed(pixels)
    start, used, done = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - start < SECONDS:
        embedder.embed(pixels)
        done += 1
    return done / (time.process_time() - used)


def measure_in_child(weights: Path, precision: str, limit: str) -> float:
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": limit.upper()}
    command = [sys.executable, "-m", "benchmarks.bench_precision", "--measure", precision]
    child = subprocess.run(
        [*command, "--weights", str(weights)],
        env=environment,
        capture_output=True,
        check=True,
        text=True,
    )
    return float(child.stdout.splitlines()[-1])


def write_int8(directory: Path) -> Path:
    """Quantize the shipped weights on photographs; return the file."""
    paths = []
    for number, content in enumerate(make_photographs(CALIBRATION, 448, 336)):
        paths.append(directory / f"{number}.jpg")
        paths[-1].write_bytes(content)
    target = directory / "int8.safetensors"
    quantize_network(WeightsFile.load(DEFAULT_WEIGHTS), paths, target)
    return target


def measure_decoding() -> float:
    """Return the images of 448 x 336 pixels that one core decodes per second."""
    images = make_photographs(50, 448, 336)
    used = time.process_time()
    for content in images:
        prepare_input(decode_image(io.BytesIO(content), min_side=INPUT_SIDE).image)
    return len(images) / (time.process_time() - used)


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--weights", type=Path, help="int8 weights of the shipped encoder")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        print(measure(given.weights, given.measure))
        return
    with tempfile.TemporaryDirectory(prefix="lookalike-bench-") as directory:
        int8 = given.weights or write_int8(Path(directory))
        settings = [
            (limit, name, weights, precision)
            for limit in LIMITS
            for name, weights, precision in (
                ("f32", DEFAULT_WEIGHTS, "f32"),
                ("bf16", DEFAULT_WEIGHTS, "bf16"),
                ("int8", int8, "f32" if limit not in NATIVE_BF16 else "auto"),
            )
            if name != "bf16" or limit in NATIVE_BF16  # otherwise it is emulated, or crashes
        ]
        rates: dict[tuple[str, str], list[float]] = {}
        for _ in range(RUNS):
            for limit, name, weights, precision in settings:
                rate = measure_in_child(weights, precision, limit)
                rates.setdefault((limit, name), []).append(rate)
    show({key: statistics.median(values) for key, values in rates.items()}, measure_decoding())


def show(rates: dict[tuple[str, str], float], decoding: float) -> None:
    table = Table(title="Embeddings per second of processor time on one core, medians")
    for column in ("instructions", "f32", "bf16", "int8", "int8 / best other"):
        table.add_column(column, justify="left" if column == "instructions" else "right")
    result: dict[str, float] = {}
    for limit, described in LIMITS.items():
        found = {name: rate for (at, name), rate in rates.items() if at == limit}
        best = max(rate for name, rate in found.items() if name != "int8")
        cells = [f"{found[name]:.1f}" if name in found else "" for name in ("f32", "bf16", "int8")]
        table.add_row(described, *cells, f"{found['int8'] / best:.2f}")
        result |= {f"{limit.lower()}_{name}": round(rate, 1) for name, rate in found.items()}
    Console().print(table)
    costs = Table(title="Decoding and embedding a million images")
    for column in ("machine", "precision", "images/s of a vCPU", "$ a vCPU-hour", "$ a million"):
        costs.add_column(column, justify="right" if "vCPU" in column or "$" in column else "left")
    for machine, limit, price in MACHINES:
        for (at, name), rate in rates.items():
            if at == limit:
                both = 1 / (1 / rate + 1 / decoding)
                cost = 1e6 / both / 3600 * price
                costs.add_row(machine, name, f"{both:.1f}", f"{price:.3f}", f"{cost:.2f}")
    Console().print(costs)
    print(json.dumps(result | {"decoding": round(decoding, 1)}))


if __name__ == "__main__":
    main()
