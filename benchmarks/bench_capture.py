"""What reading metadata costs each decoded image, with and without metadata in the file.

    make bench-capture

Every image is decoded twice in turns, as an upload is, in this process: once with its metadata
read. Prints one JSON object last: for each kind of image, the ratio of the CPU times, with
reading to without.
"""

from __future__ import annotations

import io
import json
import statistics
import time

from PIL import ExifTags, Image
from rich.console import Console
from rich.table import Table

from benchmarks.service import make_parser, make_photographs
from models.decoding.jobs import DecodeJob, run_job
from models.transforms import CentreSquare

KINDS = {
    "small, without metadata": (448, 336, 200, False),
    "12 megapixels, without metadata": (4000, 3000, 16, False),
    "small, with metadata": (448, 336, 200, True),
    "12 megapixels, with metadata": (4000, 3000, 16, True),
}
RUNS = 9
_PACKET = b"""<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF
xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description
xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:Rating="4" xmp:CreatorTool="a program"/>
</rdf:RDF></x:xmpmeta>"""


def add_metadata(content: bytes) -> bytes:
    """Write EXIF and XMP, as a phone and a program do, into a JPEG."""
    exif = Image.Exif()
    exif[ExifTags.Base.Make], exif[ExifTags.Base.Model] = "Apple", "iPhone 12"
    exif[ExifTags.IFD.Exif] = {
        ExifTags.Base.DateTimeOriginal: "2024:05:01 10:00:00",
        ExifTags.Base.OffsetTimeOriginal: "+02:00",
        ExifTags.Base.FNumber: 1.6,
        ExifTags.Base.FocalLength: 4.2,
        ExifTags.Base.MakerNote: bytes(2000),
    }
    exif[ExifTags.IFD.GPSInfo] = {1: "N", 2: (52.0, 31.0, 12.0), 3: "E", 4: (13.0, 24.0, 36.0)}
    segments = (exif.tobytes(), b"http://ns.adobe.com/xap/1.0/\0" + _PACKET)
    written = b"".join(b"\xff\xe1" + (len(each) + 2).to_bytes(2, "big") + each for each in segments)
    return content[:2] + written + content[2:]


def measure(images: list[bytes], job: DecodeJob) -> float:
    """Decode all images; return the CPU time of one in seconds."""
    started = time.thread_time()
    for content in images:
        run_job(io.BytesIO(content), job)
    return (time.thread_time() - started) / len(images)


def main() -> None:
    make_parser(__doc__).parse_args()
    plain = DecodeJob((CentreSquare(),))
    reading = DecodeJob((CentreSquare(),), capture=True)
    table = Table(title=f"CPU time of one image, medians of {RUNS} runs in turns")
    for column in ("", "decoded", "and its metadata read", "ratio"):
        table.add_column(column, justify="right" if column else "left")
    ratios = {}
    for name, (width, height, count, has_metadata) in KINDS.items():
        images = make_photographs(count, width, height, seed=1)
        if has_metadata:
            images = [add_metadata(content) for content in images]
        pairs = []
        for run in range(RUNS + 1):  # the first run is the warm-up
            order = (plain, reading) if run % 2 else (reading, plain)
            times = {job: measure(images, job) for job in order}
            if run:
                pairs.append((times[plain], times[reading]))
        ratios[name] = statistics.median(with_ / without for without, with_ in pairs)
        without, with_ = (statistics.median(side) for side in zip(*pairs, strict=True))
        table.add_row(
            name, f"{1000 * without:.3f} ms", f"{1000 * with_:.3f} ms", f"{ratios[name]:.3f}"
        )
    Console().print(table)
    print(json.dumps({name: round(ratio, 3) for name, ratio in ratios.items()}))


if __name__ == "__main__":
    main()
