"""What a second space costs: the rate of uploads, and the memory of its encoder.

    make bench-spaces

Two services take the same uploads in turn, with 8 clients: one has the space `look` alone, the
other also has `words` with a bundle as large as CLIP's ViT-B/32. Each encoder's memory is measured
in a process of its own, from before it is loaded until it has embedded an image and a text.
"""

from __future__ import annotations

import json
import multiprocessing
import statistics
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import openvino as ov
from PIL import Image
from rich.console import Console

from app.cli.client import Client
from app.cli.model_changes import wait_until_built
from benchmarks.reporting import make_table
from benchmarks.service import (
    ServiceProcess,
    encode_form,
    make_parser,
    make_photographs,
    run_lookalike,
    upload_all,
)
from benchmarks.vit_b32 import make_vit_b32
from models.embedder import load_embedder, read_encoder
from models.weights_file import DEFAULT_WEIGHTS, WeightsFile
from models.words.look_words import LookWords
from storage.cores import available_cores

CLIENTS, RUNS = 8, 5
LARGE, SMALL = 12, 100  # images per run
TEXT = "a red bicycle"
SIZES = ("12 megapixels", "30 kB")
Rates = dict[tuple[str, bool], list[float]]


def create_words(service: ServiceProcess, bundle: Path) -> None:
    """Create the space `words` and activate it, as `lookalike spaces` does."""
    with Client(f"http://127.0.0.1:{service.port}") as client:
        version = client.add_encoder(bundle)
        client.start_model(version, "words")
        wait_until_built(client, "words")
        if not any("active" in event for event in client.activate_model(version)):
            raise RuntimeError("The space words was not activated.")


def measure_rates(look: ServiceProcess, both: ServiceProcess) -> Rates:
    """Upload to both services in turn; return images/s by size and whether `words` is there."""
    rates: Rates = {(size, words): [] for size in SIZES for words in (False, True)}
    for run in range(RUNS + 1):  # the first run is the warm-up
        images = (
            make_photographs(LARGE, 4000, 3000, seed=run),
            make_photographs(SMALL, 448, 336, seed=1000 + run),
        )
        for size, batch in zip(SIZES, images, strict=True):
            bodies = [encode_form([("file", image)]) for image in batch]
            for words, service in ((False, look), (True, both)):
                rate = upload_all(service.port, bodies, CLIENTS)
                if run:
                    rates[size, words].append(rate)
    return rates


def measure_memory(encoder: Path | None) -> float:
    """Return the MB that an encoder takes in a process of its own; None is the built-in words."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        return pool.submit(_measure_loading, encoder).result()


def _measure_loading(encoder: Path | None) -> float:
    """Load an encoder and embed an image and a text; return by how many MB this process grew."""
    ov.Core().get_property("CPU", "FULL_DEVICE_NAME")  # loads the plugin, which all share
    slots, weights = available_cores(), WeightsFile.load(DEFAULT_WEIGHTS)
    before = _resident_mb()
    if encoder is None:
        LookWords(slots=slots).embed_text(TEXT, weights)
        return _resident_mb() - before
    embedder = load_embedder(read_encoder(encoder), slots=slots)
    pixels = embedder.preprocessing.prepare(Image.new("RGB", (448, 336)))
    embedder.embed(pixels[None])
    if embedder.text is not None:
        embedder.text.embed_text(TEXT)
    return _resident_mb() - before


def _resident_mb() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def median_ratio(slow: Sequence[float], fast: Sequence[float]) -> float:
    return statistics.median(a / b for a, b in zip(slow, fast, strict=True))


def print_rates(rates: Rates, console: Console) -> None:
    title = f"Uploads, {CLIENTS} clients, {RUNS} alternating runs, images/s"
    table = make_table(title, "", "median", "min", "max")
    for (size, words), values in rates.items():
        name = f"{size}, {'look and words' if words else 'look alone'}"
        summary = (statistics.median(values), min(values), max(values))
        table.add_row(name, *(f"{value:.1f}" for value in summary))
    console.print(table)


def print_memory(memory: dict[str, float], console: Console) -> None:
    table = make_table("Memory", "", "MB")
    for name, megabytes in memory.items():
        table.add_row(name, f"{megabytes:.0f}")
    console.print(table)


def main() -> None:
    make_parser(__doc__).parse_args()
    with tempfile.TemporaryDirectory() as directory:
        bundle = make_vit_b32(Path(directory) / "vit-b32.bundle")
        encoders = {
            "encoder of look": DEFAULT_WEIGHTS,
            "built-in words": None,
            "encoder of ViT-B/32's size": bundle,
        }
        memory = {name: measure_memory(file) for name, file in encoders.items()}
        with run_lookalike() as look, run_lookalike() as both:
            create_words(both, bundle)
            rates = measure_rates(look, both)
            memory["service with look alone, after all uploads"] = look.resident_mb()
            memory["service with look and words, after all uploads"] = both.resident_mb()
    console = Console()
    print_rates(rates, console)
    print_memory(memory, console)
    result = {
        "ratio_large": round(median_ratio(rates[SIZES[0], True], rates[SIZES[0], False]), 3),
        "ratio_small": round(median_ratio(rates[SIZES[1], True], rates[SIZES[1], False]), 3),
        "memory_mb": {name: round(value) for name, value in memory.items()},
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
