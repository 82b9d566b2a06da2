"""Resident memory of the service over 10 000 uploads with 8 clients.

make bench-memory
"""

from __future__ import annotations

import json

from rich.console import Console
from rich.table import Table

from benchmarks.service import form, lookalike, photographs, upload_all

ROUNDS, UPLOADS, CLIENTS = 10, 1000, 8


def main() -> None:
    table = Table(title="Resident memory")
    for column in ("uploads", "MB", "images/s"):
        table.add_column(column, justify="right")
    resident = []
    with lookalike() as service:
        resident.append(service.resident_mb())
        table.add_row("0", f"{resident[0]:.0f}", "")
        for round_ in range(ROUNDS):
            bodies = [
                form([("file", image)]) for image in photographs(UPLOADS, 448, 336, seed=round_)
            ]
            rate = upload_all(service.port, bodies, CLIENTS)
            resident.append(service.resident_mb())
            table.add_row(f"{(round_ + 1) * UPLOADS}", f"{resident[-1]:.0f}", f"{rate:.0f}")
        ready_after = service.ready_after
    Console().print(table)
    middle = ROUNDS // 2
    print(f"Ready {ready_after:.1f} s after the start.")
    print(
        json.dumps(
            {
                "mb_after_5000": round(resident[middle]),
                "mb_after_10000": round(resident[-1]),
                "ready_s": round(ready_after, 2),
            }
        )
    )


if __name__ == "__main__":
    main()
