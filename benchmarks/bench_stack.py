"""The service on MariaDB, SeaweedFS and Milvus, which this starts and stops.

    make bench-stack                                              all parts
    python -m benchmarks.bench_stack --only vectors --largest 300000

The bounds: uploads are compared with the embedded default in the same run, two API replicas with
one, and Milvus with exact search over the same vectors. Milvus runs with a time tick of 20 ms, as
in the tests, instead of its default 200 ms; searches at Strong consistency wait for a tick.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Callable, Sequence

from rich.console import Console

from benchmarks.milvus_scale import measure_milvus
from benchmarks.service import make_parser
from benchmarks.sizes import measure_sizes
from benchmarks.stack_uploads import compare_replicas, compare_uploads

# Each takes the console and the largest number of vectors, and returns keys of the result.
PARTS: dict[str, Callable[[Console, int], dict[str, float | None]]] = {
    "ingest": compare_uploads,
    "replicas": compare_replicas,
    "sizes": measure_sizes,
    "vectors": measure_milvus,
}
KEYS = (
    "ingest_vs_embedded",
    "two_replicas",
    "recall10_100k",
    "recall10_1m",
    "p50_ms_100k",
    "p50_ms_1m",
)


def parse_arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    def parse_parts(text: str) -> list[str]:
        chosen = text.split(",")
        if unknown := set(chosen) - PARTS.keys():
            raise argparse.ArgumentTypeError(
                f"unknown part {', '.join(sorted(unknown))}; the parts are {', '.join(PARTS)}"
            )
        return chosen

    parser = make_parser(__doc__)
    parser.add_argument(
        "--only",
        type=parse_parts,
        default=list(PARTS),
        metavar="PARTS",
        help=f"comma-separated parts to run, of {','.join(PARTS)}; default: all",
    )
    parser.add_argument(
        "--largest",
        type=int,
        default=1_000_000,
        metavar="N",
        help="largest number of vectors in Milvus; default: 1000000",
    )
    return parser.parse_args(given)


def main() -> None:
    arguments = parse_arguments()
    # An ordinary exit stops the servers and removes their directories.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    console = Console(width=None if sys.stdout.isatty() else 160)
    result: dict[str, float | None] = dict.fromkeys(KEYS)  # null for what was not measured
    for name in arguments.only:
        start = time.perf_counter()
        result |= PARTS[name](console, arguments.largest)
        seconds = time.perf_counter() - start
        console.print(f"{name} took {seconds:.0f} s.\n", highlight=False)
    sys.stdout.flush()
    print(json.dumps(result))


if __name__ == "__main__":
    main()
