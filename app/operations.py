"""What an operator runs on a running service, or on its stores while none runs; with progress."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.table import Table

from app.client import Client, ServiceError
from app.services.scrub import KINDS
from app.transfer import progress_bar

_errors = Console(stderr=True, highlight=False, markup=False)


def scrub(url: str, api_key: str, options: dict[str, bool], *, as_json: bool) -> int:
    """The exit code: 0 nothing found, 1 something found, 2 could not go on, 130 interrupted."""
    try:
        with Client(url, api_key) as client:
            return _watched(client.scrub(options), as_json=as_json)
    except ServiceError as error:
        if error.code != "unreachable":
            _errors.print(str(error), style="red")
            return 2
    from app.server import scrub as scrub_here

    _errors.print(f"No service answers at {url}: looking at the stores of the settings.")
    return scrub_here(options, lambda events: _watched(events, as_json=as_json))


def _watched(events: Iterator[dict[str, Any]], *, as_json: bool) -> int:
    report: dict[str, Any] = {}
    start = time.monotonic()
    try:
        with progress_bar() as progress:
            task = progress.add_task("Scrubbing", total=None, rate="")
            for event in events:
                if "report" in event:
                    report = event["report"]
                else:
                    done = event["looked_at"]
                    rate = f"{done / max(1e-3, time.monotonic() - start):.0f}/s"
                    progress.update(task, completed=done, total=max(done, event["total"]), rate=rate)
    except KeyboardInterrupt:
        _errors.print("Interrupted.")
        return 130
    if not report:
        _errors.print("The service stopped before the end.", style="red")
        return 2
    if as_json:
        sys.stdout.write(json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    else:
        _show(report)
    return 0 if report["clean"] else 1


def _show(report: dict[str, Any]) -> None:
    console = Console(highlight=False)
    console.print(
        f"Looked at {report['masters']} masters, {report['objects']} objects ({report['hashed']} read and hashed) and"
        f" {report['vectors']} vectors in {report['seconds']:.1f} s."
    )
    if report["clean"]:
        console.print("Clean: nothing is missing, wrong or left over.", style="green")
        return
    table = Table(box=None, header_style="bold")
    for column in ("found", "repaired"):
        table.add_column(column, justify="right", vertical="top")
    table.add_column("what", vertical="top")
    for kind, count in report["found"].items():
        examples = report["examples"].get(kind, [])[:3]
        more = f"\n… and {count - len(examples)} more" if count > len(examples) else ""
        table.add_row(str(count), str(report["repaired"].get(kind, 0)), f"{KINDS[kind]}\n" + "\n".join(examples) + more)
    console.print(table, markup=False)
    if not report["repair"]:
        console.print("Nothing was changed. Run it again with --repair.")
