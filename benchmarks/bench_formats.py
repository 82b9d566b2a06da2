"""Measures which share of a directory of test images the service accepts.

    make bench-formats DATA=path

It reads every file whose suffix is that of a known format. Files that are not valid by the account
of their own suite are left out: bench_formats_excluded.txt names them with the reasons. Prints a
line for each refusal, and one JSON object last: how many were accepted, refused by each code, and
left out.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections import Counter
from fnmatch import fnmatch
from pathlib import Path

from models.imaging import ImageRejected, decode_image

_EXCLUDED = Path(__file__).with_name("bench_formats_excluded.txt")
_KNOWN = {
    *(".jpg", ".jpeg", ".mpo", ".png", ".apng", ".webp", ".gif", ".bmp", ".avif", ".tif", ".tiff"),
    *(".heic", ".heif", ".hif", ".jxl", ".arw", ".cr2", ".cr3", ".dng", ".nef", ".orf", ".raf"),
    ".rw2",
}


def read_excluded(path: Path) -> dict[str, str]:
    """Return the reasons by pattern: each line has a pattern of paths, two spaces and a reason."""
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return {
        pattern: reason.strip() for pattern, _, reason in (line.partition("  ") for line in lines)
    }


def decode(path: Path) -> str:
    """Return ``accepted``, or the code of the refusal."""
    try:
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            decode_image(file, min_side=224)
    except ImageRejected as error:
        print(f"{error.code:24}  {path}  {error}")
        return error.code
    return "accepted"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_formats", description=__doc__)
    parser.add_argument("directory", type=Path)
    directory = parser.parse_args().directory
    excluded = read_excluded(_EXCLUDED)
    outcomes: Counter[str] = Counter()
    for path in sorted(directory.rglob("*")):
        if path.suffix.lower() not in _KNOWN or not path.is_file():
            continue
        if any(fnmatch(str(path), pattern) for pattern in excluded):
            outcomes["left out"] += 1
        else:
            outcomes[decode(path)] += 1
    left_out, accepted = outcomes.pop("left out", 0), outcomes.pop("accepted", 0)
    files = accepted + outcomes.total()
    share = round(accepted / files, 4) if files else None
    print(
        json.dumps(
            {"accepted": accepted, "refused": dict(outcomes), "share": share, "left out": left_out}
        )
    )


if __name__ == "__main__":
    main()
