"""The command that shows how far the worker has read capture metadata."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.console import on_interrupt, out, print_json, progress_bar
from app.cli.options import DEFAULT_URL, JsonOption, KeyOption, UrlOption, connect

if TYPE_CHECKING:
    from app.cli.client import Client

_POLL_INTERVAL = 1.0  # seconds


def capture(
    url: UrlOption = DEFAULT_URL,
    api_key: KeyOption = "",
    reread: Annotated[
        bool,
        typer.Option(
            "--reread",
            help="Read the files of all images again, for example after LOOKALIKE_KEEP_GPS has"
            " changed.",
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show how far the worker has read the capture metadata of stored images.

    The metadata of new images is read when they are uploaded. After an upgrade from a release that
    did not read it, the worker reads all stored images. --json prints the counts without waiting.
    """
    with on_interrupt("The worker continues to read."), connect(url, api_key) as client:
        if reread:
            client.reread_captures()
        stats = client.stats() if as_json else _wait_until_read(client)
    if as_json:
        print_json({name: stats[name] for name in ("masters", "unread")})
    else:
        out.print(f"The metadata of all {stats['masters']} images has been read.")


def _wait_until_read(client: Client) -> dict[str, int]:
    """Show progress until no image is unread, and return the numbers."""
    with progress_bar() as progress:
        task = progress.add_task("Reading", total=None)
        while (stats := client.stats())["unread"]:
            total = max(stats["masters"], stats["unread"])
            progress.update(task, completed=total - stats["unread"], total=total)
            time.sleep(_POLL_INTERVAL)
    return stats
