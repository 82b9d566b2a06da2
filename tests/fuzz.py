"""Sends damaged images to a service for a long time, and checks that none of them breaks it.

    python -m tests.fuzz MINUTES [--seed N] [--clients N]

The corpus is made of real photographs in every format and mode that the service reads. Each file is
changed at random: bytes, lengths, order, pieces of other files. Every answer must be below 500, or
503 with a code, and the process must be the one that was started. Files that break it are kept in
build/fuzz.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import itertools
import random
import struct
import tempfile
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import tifffile
from PIL import Image
from rich.console import Console

from tests.support.colour_profiles import (
    DISPLAY_P3,
    cmyk_profile,
    float_table_profile,
    grey_profile,
    matrix_profile,
    xyb_profile,
)
from tests.support.embedded import free_port, serve_interpreter
from tests.support.images import photograph
from tests.support.jpeg_xl import jpeg_xl, jpeg_xl_of_pixels, turned_jpeg_xl
from tests.support.raw_files import raw_file

_KEPT = Path("build/fuzz")
_INTERESTING = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_REPORT_EVERY = 30.0  # seconds


def make_corpus() -> list[bytes]:
    """Return small images in all formats, modes and variants."""
    source = photograph("coffee").resize((96, 64))
    modes = {mode: source.convert(mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK")}
    deep = Image.fromarray(np.asarray(modes["L"]).astype(np.uint16) * 257)
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a description"
    files = []

    def add(image: Image.Image, format: str, **options: object) -> None:
        output = io.BytesIO()
        image.save(output, format, **options)
        files.append(output.getvalue())

    for mode in ("L", "RGB", "CMYK"):
        add(modes[mode], "JPEG", quality=80, exif=exif, comment=b"comment")
        add(modes[mode], "JPEG", quality=30, progressive=True, subsampling=0)
        add(modes[mode], "JPEG", restart_marker_blocks=2, optimize=True)
    add(source, "MPO", save_all=True, append_images=[source.rotate(90)])
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA"):
        add(modes[mode], "PNG", exif=exif)
        add(modes[mode], "PNG", icc_profile=b"not a profile" * 20, transparency=_transparent(mode))
    add(deep, "PNG")
    add(source, "PNG", save_all=True, append_images=[source.rotate(90), source.rotate(180)])
    for mode in ("1", "L", "P", "RGB"):
        add(modes[mode], "BMP")
        add(modes[mode], "GIF", save_all=True, append_images=[modes[mode].rotate(90)], loop=0)
        add(modes[mode], "GIF", interlace=1, comment=b"comment")
    for mode in ("RGB", "RGBA"):
        add(modes[mode], "WEBP", lossless=True, exif=exif)
        add(modes[mode], "WEBP", quality=20, save_all=True, append_images=[source.rotate(90)])
        add(modes[mode], "AVIF", quality=20, exif=exif, speed=10)
        add(modes[mode], "AVIF", save_all=True, append_images=[modes[mode].rotate(90)], speed=10)
    for mode in ("1", "L", "P", "RGB", "RGBA", "CMYK"):
        add(modes[mode], "TIFF", exif=exif)
        add(modes[mode], "TIFF", compression="tiff_lzw")
    add(source, "TIFF", compression="jpeg")
    for mode, profile in _make_profiles():
        for kind in ("JPEG", "TIFF") if mode == "CMYK" else ("JPEG", "PNG", "TIFF"):
            add(modes[mode], kind, icc_profile=profile)
    add(source, "TIFF", save_all=True, append_images=[source.rotate(90)], big_tiff=True)
    return [*files, *_make_files_of_extras(source)]


def _make_files_of_extras(source: Image.Image) -> Iterator[bytes]:
    """Yield TIFF files that Pillow does not read, JPEG XL files and camera raw files."""
    pixels = np.asarray(source)
    deep = pixels.astype(np.uint16) * 257
    planes = np.ascontiguousarray(np.moveaxis(deep, -1, 0))
    for values, options in (
        (pixels / np.float32(255), {"photometric": "rgb", "compression": "zlib"}),
        (pixels / np.float32(255), {"photometric": "rgb", "tile": (32, 32)}),
        (planes, {"photometric": "rgb", "planarconfig": "separate", "compression": "lzw"}),
        (deep, {"photometric": "rgb", "compression": "jpegxl"}),
        (pixels, {"photometric": "rgb", "compression": "jpeg2000", "byteorder": ">"}),
    ):
        file = io.BytesIO()
        tifffile.imwrite(file, values, **options)
        yield file.getvalue()
    yield jpeg_xl(source, distance=1.0)
    yield jpeg_xl(source, lossless=True, usecontainer=True)
    yield jpeg_xl_of_pixels(np.stack([deep, deep]), lossless=True)
    yield turned_jpeg_xl(source, 6)
    preview = io.BytesIO()
    source.save(preview, "JPEG", quality=80)
    for name in ("ARW", "CR2", "CR3", "DNG", "NEF", "ORF", "RAF", "RW2"):
        yield raw_file(name, preview.getvalue(), 6)


def _make_profiles() -> Iterator[tuple[str, bytes]]:
    """Yield modes and colour profiles of every kind."""
    yield "RGB", matrix_profile(DISPLAY_P3)
    yield "RGB", xyb_profile()
    yield "RGB", float_table_profile(DISPLAY_P3, elements=3)
    yield "L", grey_profile(np.linspace(0, 1, 64) ** 1.8)
    yield "CMYK", cmyk_profile(lambda inks: inks[..., :3] * 50, side=3)


def _transparent(mode: str) -> object:
    return {"1": 0, "L": 7, "P": bytes(range(200)), "RGB": (1, 2, 3)}.get(mode)


class Mutator:
    """Changes files at random; equal seeds make equal changes."""

    def __init__(self, corpus: list[bytes], seed: int) -> None:
        self._corpus = corpus
        self._random = random.Random(seed)
        self._changes: list[Callable[[bytearray], None]] = [
            self._change_bytes,
            self._change_number,
            self._cut,
            self._repeat,
            self._insert_other,
            self._swap,
        ]

    def make(self) -> bytes:
        content = bytearray(self._random.choice(self._corpus))
        for _ in range(self._random.choice((1, 1, 1, 2, 3, 8))):
            self._random.choice(self._changes)(content)
        if self._random.random() < 0.5:
            repair_checksums(content)
        return bytes(content)

    def _range(self, content: bytearray, longest: int) -> tuple[int, int]:
        start = self._random.randrange(len(content) + 1)
        if self._random.random() < 0.5:  # headers break more than pixels do
            start = min(start, self._random.randrange(400))
        return start, min(len(content), start + self._random.randint(1, longest))

    def _change_bytes(self, content: bytearray) -> None:
        start, end = self._range(content, 8)
        content[start:end] = self._random.randbytes(end - start)

    def _change_number(self, content: bytearray) -> None:
        start, _ = self._range(content, 1)
        form = self._random.choice(("<B", "<H", ">H", "<I", ">I"))
        size = struct.calcsize(form)
        value = self._random.choice(_INTERESTING) & ((1 << 8 * size) - 1)
        content[start : start + size] = struct.pack(form, value)

    def _cut(self, content: bytearray) -> None:
        start, end = self._range(content, 2000)
        del content[start : end if self._random.random() < 0.7 else None]

    def _repeat(self, content: bytearray) -> None:
        start, end = self._range(content, 500)
        content[end:end] = bytes(content[start:end]) * self._random.choice((1, 2, 50))

    def _insert_other(self, content: bytearray) -> None:
        other = self._random.choice(self._corpus)
        start = self._random.randrange(len(other))
        at, end = self._range(content, 300)
        content[at:end] = other[start : start + self._random.randint(1, 2000)]

    def _swap(self, content: bytearray) -> None:
        first, end = self._range(content, 200)
        piece = bytes(content[first:end])
        del content[first:end]
        at, _ = self._range(content, 1)
        content[at:at] = piece


def repair_checksums(content: bytearray) -> None:
    """Give the chunks of a PNG right checksums, so that the damage gets past them."""
    position = 8
    while content.startswith(b"\x89PNG") and position + 12 <= len(content):
        length = int.from_bytes(content[position : position + 4], "big")
        end = position + 8 + length
        if end + 4 > len(content):
            return
        content[end : end + 4] = zlib.crc32(content[position + 4 : end]).to_bytes(4, "big")
        position = end + 4


class Fuzzing:
    """Clients that send damaged images, and what they were answered."""

    def __init__(self, url: str, seed: int, until: float) -> None:
        self.answers: Counter[str] = Counter()
        self.failures: list[str] = []
        self._url, self._until = url, until
        self._corpus = make_corpus()
        self._seeds = itertools.count(seed * 1000)
        self._lock = threading.Lock()

    def run_client(self) -> None:
        with self._lock:
            mutator = Mutator(self._corpus, next(self._seeds))
        with httpx.Client(base_url=self._url, timeout=120) as client:
            for number in itertools.count():
                if time.monotonic() > self._until:
                    return
                self._send(client, mutator.make(), number)

    def _send(self, client: httpx.Client, content: bytes, number: int) -> None:
        path, field = ("/masters", "file") if number % 10 == 0 else ("/search", "sample")
        try:
            response = client.post(path, files={field: ("image", content)})
        except httpx.TransportError as error:
            self._keep(content, f"{path}: {type(error).__name__}: {error}")
            time.sleep(1)
            return
        with self._lock:
            self.answers[self._outcome(response)] += 1
        if response.status_code >= 500 and response.status_code != 503:
            self._keep(content, f"{path}: {response.status_code}: {response.text[:200]}")

    def _outcome(self, response: httpx.Response) -> str:
        answer = response.json()
        return str(answer.get("code", response.status_code))

    def _keep(self, content: bytes, reason: str) -> None:
        _KEPT.mkdir(parents=True, exist_ok=True)
        name = hashlib.sha256(content).hexdigest()[:16]
        (_KEPT / name).write_bytes(content)
        with self._lock:
            self.failures.append(f"{_KEPT / name}: {reason}")


def watch(fuzzing: Fuzzing, until: float) -> Iterator[str]:
    """Yield a line of progress from time to time."""
    start = time.monotonic()
    while (now := time.monotonic()) < until:
        time.sleep(min(_REPORT_EVERY, until - now))
        sent = sum(fuzzing.answers.values())
        passed = time.monotonic() - start
        left = max(0.0, until - time.monotonic())
        rate, failures = sent / passed, len(fuzzing.failures)
        yield f"{sent} files, {rate:.0f}/s, {failures} failures, {left:.0f} s left"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("minutes", type=float)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--clients", type=int, default=4)
    options = parser.parse_args()
    console = Console()
    port = free_port()
    with tempfile.TemporaryDirectory() as directory:
        served = serve_interpreter(Path(directory), port, LOOKALIKE_LOG_LEVEL="error")
        with served as (process, client):
            until = time.monotonic() + options.minutes * 60
            fuzzing = Fuzzing(str(client.base_url), options.seed, until)
            threads = [threading.Thread(target=fuzzing.run_client) for _ in range(options.clients)]
            for thread in threads:
                thread.start()
            for line in watch(fuzzing, until):
                console.print(line)
            for thread in threads:
                thread.join()
            alive = process.poll() is None and client.get("/readyz").status_code == 200
    for outcome, count in fuzzing.answers.most_common():
        console.print(f"{count:8} {outcome}")
    for failure in fuzzing.failures:
        console.print(failure)
    console.print("the service is ready" if alive else "the service has ended")
    raise SystemExit(0 if alive and not fuzzing.failures else 1)


if __name__ == "__main__":
    main()
