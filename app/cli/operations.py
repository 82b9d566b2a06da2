"""The commands that check an installation and repair it: scrub and dead-letters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from app.cli.console import (
    CommandError,
    ExitCode,
    err,
    make_table,
    on_interrupt,
    out,
    print_json,
    progress_bar,
    show_printable,
)
from app.cli.options import DEFAULT_URL, JsonOption, KeyOption, UrlOption, connect

_MOST_LETTERS = 1000
_EXAMPLES = 3  # shown of each kind
_NOT_REPAIRABLE = {"object-foreign", "object-unreadable"}


def scrub(
    url: UrlOption = DEFAULT_URL,
    api_key: KeyOption = "",
    repair: Annotated[
        bool, typer.Option("--repair", help="Repair what can be repaired, not only report it.")
    ] = False,
    full: Annotated[
        bool,
        typer.Option(
            "--full",
            help="Read every original. Without it, 1/30 of them are read,"
            " a different part each day.",
        ),
    ] = False,
    allow_removal: Annotated[
        bool,
        typer.Option(
            "--allow-removal",
            help="With --repair: go on even if more than ten masters and more than 1 % of them"
            " would be moved to quarantine, or if the database is empty or outdated.",
        ),
    ] = False,
    as_json: JsonOption = False,
) -> ExitCode:
    """Check that the database, the originals and the vectors agree.

    Asks the service at --url. If no service answers there, the command opens the stores that
    the settings name. It is safe while the service is in use.

    A repair moves originals that belong to no master to quarantine, see `lookalike quarantine`.
    If these are more than ten and more than 1 % of all, or if the database is empty or older than
    the catalogue in the object store, nothing is changed.

    Exit codes: 0 no problems; 1 problems were found (and repaired, with --repair); 2 the
    command could not continue; 3 the repair would have removed too much, so it was refused; 130
    interrupted.
    """
    from app.cli.client import Client
    from app.cli.service_errors import ServiceError

    options = {"repair": repair, "full": full}
    if allow_removal:
        options["allow_removal"] = True
    try:
        with Client(url, api_key) as client:
            report = _follow_scrub(client.scrub(options))
    except ServiceError as error:
        if error.code != "unreachable":
            raise
        from app import server

        err.print(f"No service answers at {url}. Opening the stores of the settings instead.")
        report = _follow_scrub(server.scrub(options))
    if as_json:
        print_json(report)
    else:
        _show_report(report)
    if report.get("refused"):  # an earlier release of the service never refuses
        return ExitCode.WOULD_REMOVE
    return ExitCode.OK if report["clean"] else ExitCode.FINDINGS


def dead_letters(
    url: UrlOption = DEFAULT_URL,
    api_key: KeyOption = "",
    retry: Annotated[
        bool, typer.Option("--retry", help="Retry all of them instead of listing them.")
    ] = False,
) -> ExitCode:
    """List the images that could not be indexed, and why.

    Exit codes: 0 there are none; 1 there are some; 2 the command could not continue.
    """
    with connect(url, api_key) as client:
        if retry:
            out.print(f"Retrying {client.retry_dead_letters()} images.")
            return ExitCode.OK
        answer = client.dead_letters(_MOST_LETTERS)
    for letter in answer["dead_letters"]:
        master = letter["master"]
        name = show_printable(f"{master['collection']}/{master['name']}")
        out.print(f"{master['id']} {name}: {letter['attempts']} attempts, {letter['failure']}")
    out.print(f"{answer['total']} dead letters." if answer["total"] else "No dead letters.")
    return ExitCode.FINDINGS if answer["total"] else ExitCode.OK


def _follow_scrub(events: Iterator[dict[str, Any]]) -> dict[str, Any]:
    """Show the progress of a scrub and return its report."""
    report: dict[str, Any] = {}
    with on_interrupt("The scrub was not finished."), progress_bar() as progress:
        task = progress.add_task("Scrubbing", total=None)
        for event in events:
            if "report" in event:
                report = event["report"]
            else:
                done = event.get("looked_at", 0)
                progress.update(task, completed=done, total=max(done, event.get("total", 0)))
    if not report:
        raise CommandError("the service stopped before the scrub was finished: run it again")
    return report


def _show_report(report: dict[str, Any]) -> None:
    out.print(
        f"Checked {report['masters']} masters, {report['objects']} objects"
        f" ({report['hashed']} read and hashed) and {report['vectors']} vectors"
        f" in {report['seconds']:.1f} s."
    )
    if report["waiting"]:
        out.print(
            f"{report['waiting']} embeddings are pending; the worker of the service makes them."
        )
    if report.get("refused"):
        err.print(report["refused"], style="red")
    if report["clean"]:
        out.print("Clean: nothing is missing, wrong or left over.", style="green")
        return
    _show_findings(report)
    repairable = set(report["found"]) - _NOT_REPAIRABLE
    if report["repaired"].get("object-unknown"):
        out.print(
            "The objects without a master are in quarantine: list them with"
            " `lookalike quarantine list`."
        )
    if not report["repair"] and repairable and not report.get("refused"):
        out.print("Nothing was changed. To repair, run the command again with --repair.")
    if report["repair"] and repairable & {"object-missing", "object-wrong"}:
        out.print(
            "A master whose bytes are lost stays hidden until the same bytes are uploaded again,"
            " or until it is deleted."
        )


def _show_findings(report: dict[str, Any]) -> None:
    from app.services.scrub_report import KINDS

    table = make_table("found", "repaired", "what", right=("found", "repaired"))
    for kind, count in report["found"].items():
        examples = [show_printable(each) for each in report["examples"].get(kind, [])[:_EXAMPLES]]
        if count > len(examples):
            examples.append(f"… and {count - len(examples)} more")
        what = "\n".join([KINDS.get(kind, kind), *examples])
        table.add_row(str(count), str(report["repaired"].get(kind, 0)), what)
    out.print(table)
