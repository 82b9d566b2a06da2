"""What colour profiles cost: the CPU time of decoding with and without conversion.

    make bench-colour

The same file is decoded in turns with and without its profile. A file in sRGB must cost at most 3 %
more. Prints one JSON object last: the ratios, and the milliseconds until a new profile is read.
"""

from __future__ import annotations

import io
import json
import statistics
import time
from collections.abc import Callable
from functools import partial

import numpy as np
from PIL import Image
from rich.console import Console

from benchmarks.reporting import make_table
from benchmarks.service import make_parser, make_photographs
from models import colour
from models.decoding.jobs import DecodeJob, run_job
from models.transforms import CentreSquare
from tests.support.colour_profiles import (
    DISPLAY_P3,
    SRGB,
    Values,
    cmyk_profile,
    decode_srgb,
    grey_profile,
    matrix_profile,
    matrix_to_xyz,
    xyb_profile,
    xyz_to_lab,
)

CONVERTED, IGNORED = CentreSquare(), CentreSquare(converts_colours=False)
SIZES = {"448 x 336": (448, 336, 300), "4000 x 3000": (4000, 3000, 40)}  # width, height, runs


def ink_to_lab(inks: Values) -> Values:
    paper = 1 - 0.9 * inks[..., :3]
    lab: Values = xyz_to_lab(
        decode_srgb(paper * (1 - 0.85 * inks[..., 3:])) @ matrix_to_xyz(SRGB).T
    )
    return lab


# Name -> Pillow's mode and the profile. The curve of common profiles of sRGB has 1024 points.
PROFILES: dict[str, tuple[str, bytes]] = {
    "sRGB": ("RGB", matrix_profile(SRGB, decode_srgb(np.linspace(0, 1, 1024)))),
    "Display P3": ("RGB", matrix_profile(DISPLAY_P3)),
    "XYB": ("RGB", xyb_profile()),
    "grey, gamma 2.2": ("L", grey_profile(2.2)),
    "CMYK": ("CMYK", cmyk_profile(ink_to_lab, side=17)),
}


def make_file(photograph: bytes, mode: str, profile: bytes, format: str) -> bytes:
    """Save a photograph again, in another mode and with a profile."""
    output = io.BytesIO()
    with Image.open(io.BytesIO(photograph)) as image:
        image.convert(mode).save(output, format, quality=85, icc_profile=profile)
    return output.getvalue()


def time_cpu(call: Callable[[], object]) -> float:
    """Return the CPU time of a call, in seconds."""
    start = time.process_time()
    call()
    return time.process_time() - start


def measure_ratio(content: bytes, runs: int) -> tuple[float, float]:
    """Return the median CPU time without the profile, and how many times that it takes with it."""

    def decode(rule: CentreSquare) -> float:
        return time_cpu(lambda: run_job(io.BytesIO(content), DecodeJob((rule,))))

    decode(CONVERTED), decode(IGNORED)  # warm-up
    pairs = []
    for run in range(runs):
        order = (IGNORED, CONVERTED) if run % 2 else (CONVERTED, IGNORED)
        times = {rule: decode(rule) for rule in order}
        pairs.append((times[IGNORED], times[CONVERTED]))
    without, with_it = (statistics.median(side) for side in zip(*pairs, strict=True))
    return without, with_it / without


def main() -> None:
    make_parser(__doc__).parse_args()
    table = make_table("CPU time of decoding", "file", "profile", "without, ms", "with, ratio")
    ratios, reading = {}, {}
    for size, (width, height, runs) in SIZES.items():
        (photograph,) = make_photographs(1, width, height)
        for name, (mode, profile) in PROFILES.items():
            content = make_file(photograph, mode, profile, "JPEG")
            without, ratio = measure_ratio(content, runs)
            ratios[f"{name}, {size}"] = round(ratio, 3)
            table.add_row(f"JPEG {size}", name, f"{without * 1000:.2f}", f"{ratio:.3f}")
    for name, (mode, profile) in PROFILES.items():
        read = partial(colour._build_conversion, profile, mode)
        times = [time_cpu(read) for _ in range(5)]
        reading[name] = round(statistics.median(times) * 1000, 1)
    Console().print(table)
    print(json.dumps({"ratios": ratios, "milliseconds_to_read_a_profile": reading}))


if __name__ == "__main__":
    main()
