"""Resident memory of the service during 10,000 uploads with 8 clients.

    make bench-memory

The result is the memory after 5,000 and after 10,000 uploads: it must not grow between them. The
time from the start of the process until it is ready is measured too.
"""

from __future__ import annotations

import json

from rich.console import Console
from rich.table import Table

from benchmarks.service import (
    encode_form,
    make_parser,
    make_photographs,
    run_lookalike,
    upload_all,
)

ROUNDS, UPLOADS, CLIENTS = 10, 1000, 8


def main() -> None:
    make_parser(__doc__).parse_args()
    table = Table(title="Resident memory of the service")
    for column in ("uploads", "MB", "images/s"):
        table.add_column(column, justify="right")
    with run_lookalike() as service:
        resident = [service.resident_mb()]
        table.add_row("0", f"{resident[0]:.0f}", "")
        for number in range(ROUNDS):
            images = make_photographs(UPLOADS, 448, 336, seed=number)
            bodies = [encode_form([("file", image)]) for image in images]
            rate = upload_all(service.port, bodies, CLIENTS)
            resident.append(service.resident_mb())
            table.add_row(f"{(number + 1) * UPLOADS}", f"{resident[-1]:.0f}", f"{rate:.0f}")
        ready_after = service.ready_after
    Console().print(table)
    print(f"The service was ready {ready_after:.1f} s after its start.")
    result = {
        "mb_after_5000": round(resident[ROUNDS // 2]),
        "mb_after_10000": round(resident[-1]),
        "ready_s": round(ready_after, 2),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
