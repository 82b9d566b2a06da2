"""Resident memory of the service after some uploads and searches, and after ten times as many.

    make bench-memory
    make bench-memory OPTIONS='--few 200 --many 2000'

8 clients upload, then search, up to the smaller number of each and then up to the larger one. Every
fourth search has a filter of its own. The memory must not grow between the two, but for the
vectors: a master takes a few kilobytes. The time from the start of the process until it is ready is
measured too.
"""

from __future__ import annotations

import json

from rich.console import Console

from benchmarks.reporting import make_table, show_progress
from benchmarks.service import (
    Client,
    ServiceProcess,
    encode_form,
    make_parser,
    make_photographs,
    run_lookalike,
    time_threads,
    upload_all,
)

CLIENTS, ROUND = 8, 500  # clients; images that are made at a time


def upload(service: ServiceProcess, numbers: range) -> float:
    """Upload an image for each number; return images/s."""
    images = make_photographs(len(numbers), 448, 336, seed=numbers.start)
    return upload_all(service.port, [encode_form([("file", image)]) for image in images], CLIENTS)


def search(service: ServiceProcess, numbers: range) -> float:
    """Search with an image for each number; return searches/s."""
    images = make_photographs(len(numbers), 448, 336, seed=1_000_000 + numbers.start)
    bodies = []
    for number, image in zip(numbers, images, strict=True):
        fields = {"k": "10"}
        if number % 4 == 0:
            fields["filter"] = json.dumps({"name": {"$prefix": f"photograph{number}"}})
        bodies.append(encode_form([("sample", image)], fields))

    def work(client_number: int) -> None:
        client = Client(service.port)
        for body in bodies[client_number::CLIENTS]:
            client.post("/search", body)

    return len(bodies) / time_threads(work, CLIENTS)


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--few", type=int, default=2000, help="uploads and searches at first")
    parser.add_argument("--many", type=int, default=20_000, help="uploads and searches at the end")
    options = parser.parse_args()
    table = make_table(
        "Memory of the service", "after", "MB", "private MB", "decoders MB", "a second"
    )
    result: dict[str, float] = {}
    with show_progress() as progress, run_lookalike() as service:
        task = progress.add_task("uploads and searches", total=2 * options.many)
        done = 0
        for count in (options.few, options.many):
            for work in (upload, search):
                for start in range(done, count, ROUND):
                    numbers = range(start, min(start + ROUND, count))
                    rate = work(service, numbers)
                    progress.advance(task, len(numbers))
                name = f"{count}_{'uploads' if work is upload else 'searches'}"
                resident = service.resident_mb()
                result[f"mb_after_{name}"] = round(resident)
                shown = resident, service.resident_mb(private=True), service.decoders_mb(), rate
                table.add_row(name.replace("_", " "), *(f"{each:.0f}" for each in shown))
            done = count
        result["ready_s"] = round(service.ready_after, 2)
    Console().print(table)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
