"""What an operator runs on a running service, or on its stores while none runs; with progress."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from app.cli.client import Client, ServiceError
from app.cli.transfer import progress_bar
from app.services.scrub_report import KINDS

_errors = Console(stderr=True, highlight=False, markup=False)
_out = Console(highlight=False, markup=False, soft_wrap=True)


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
                    progress.update(
                        task, completed=done, total=max(done, event["total"]), rate=rate
                    )
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


def start_model(client: Client, model: str) -> None:
    """A weights file is uploaded first; a version the service knows is started."""
    path = Path(model)
    if not path.is_file() and (path.suffix or len(path.parts) > 1):
        raise ServiceError(f"there is no file {path}", "not-a-file")
    version = client.add_weights(path) if path.is_file() else model
    client.change_model(version, "start")
    _out.print(f"{version} is being built. Follow it with: lookalike reembed status --watch")


def watch_models(client: Client, *, watch: bool, as_json: bool) -> None:
    """Show the model versions; with ``watch``, until what is being built is complete."""
    if as_json:
        sys.stdout.write(json.dumps(client.models(), indent=2) + "\n")
        return
    if watch:
        _watch_building(client)
    _show_models(client.models())


def _watch_building(client: Client) -> None:
    with progress_bar() as progress:
        task = progress.add_task("Embedding", total=None, rate="")
        begin, start = None, time.monotonic()
        while building := next(
            (each for each in client.models()["models"] if each["state"] == "building"), None
        ):
            done, total = building["indexed"] + building["dead"], building["masters"]
            begin = done if begin is None else begin
            rate = f"{(done - begin) / max(1e-3, time.monotonic() - start):.0f}/s"
            progress.update(task, completed=done, total=max(done, total), rate=rate)
            if done >= total:
                return
            time.sleep(1.0)


def _show_models(answer: dict[str, Any]) -> None:
    table = Table(box=None, header_style="bold")
    for column in ("model version", "state"):
        table.add_column(column)
    for column in ("embedded", "dead letters", "loaded by"):
        table.add_column(column, justify="right")
    for each in answer["models"]:
        embedded = f"{each['indexed']} of {each['masters']}"
        loaded = f"{each['loaded']} of {answer['processes']} processes"
        table.add_row(each["version"], each["state"], embedded, str(each["dead"]), loaded)
    _out.print(table)
    building = next((each for each in answer["models"] if each["state"] == "building"), None)
    if building is not None and building["indexed"] >= building["masters"]:
        _out.print(
            f"{building['version']} is complete. Switch to it with: lookalike reembed activate"
        )


def activate_model(client: Client, state: str, version: str | None) -> None:
    """Switch to that version, or to the only one in that state. Raises ServiceError."""
    version = version or _the_one(client, state)
    with progress_bar() as progress:
        task = progress.add_task("Checking", total=None, rate="")
        for event in client.activate_model(version):
            if "checked" in event:
                progress.update(task, completed=event["checked"])
    _out.print(
        f"{version} is active. Every search uses it from now on; `lookalike reembed rollback` goes back."
    )


def _the_one(client: Client, state: str) -> str:
    for each in client.models()["models"]:
        if each["state"] == state:
            return str(each["version"])
    missing = "being built" if state == "building" else "kept as the previous one"
    raise ServiceError(
        f"there is no model version that is {missing}: see lookalike reembed status",
        "model-not-found",
    )


def _show(report: dict[str, Any]) -> None:
    console = Console(highlight=False)
    console.print(
        f"Looked at {report['masters']} masters, {report['objects']} objects ({report['hashed']} read and hashed) and"
        f" {report['vectors']} vectors in {report['seconds']:.1f} s."
    )
    if report["waiting"]:
        console.print(
            f"{report['waiting']} embeddings are still to be made; the worker of the running service does that."
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
        table.add_row(
            str(count),
            str(report["repaired"].get(kind, 0)),
            f"{KINDS[kind]}\n" + "\n".join(map(_printable, examples)) + more,
        )
    console.print(table, markup=False)
    mendable = set(report["found"]) - {"object-foreign", "object-unreadable"}
    if not report["repair"] and mendable:
        console.print("Nothing was changed. Run it again with --repair.")
    if report["repair"] and mendable & {"object-missing", "object-wrong"}:
        console.print(
            "A master whose bytes are lost is hidden until the same bytes are uploaded again, or it is deleted."
        )


def _printable(text: str) -> str:
    """What somebody named a file can hold control characters."""
    return "".join(letter if letter.isprintable() else "�" for letter in text)
