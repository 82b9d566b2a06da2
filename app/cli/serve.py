"""The commands that run the service: serve, worker and db upgrade."""

from __future__ import annotations

from typing import Annotated

import typer

from app.cli.console import ExitCode


def serve(
    host: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Address to listen on. Default: LOOKALIKE_HOST."),
    ] = None,
    port: Annotated[
        int | None, typer.Option(metavar="N", help="Port to listen on. Default: LOOKALIKE_PORT.")
    ] = None,
) -> ExitCode:
    """Start the service: the HTTP API and the web page.

    Settings come from environment variables that start with LOOKALIKE_, or from a file .env in
    the current directory.
    """
    from app import start

    given = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    return ExitCode.OK if start.serve(**given) else ExitCode.CANNOT_CONTINUE


def worker() -> None:
    """Run a separate indexing worker.

    Needed only when the stores are on servers. An embedded installation runs the worker inside
    `lookalike serve`.
    """
    from app import server

    server.work()


def upgrade() -> None:
    """Upgrade the schema of the metadata database.

    The database is the one that LOOKALIKE_DATABASE_URL names. Run the command once before the
    first start on a server, and after each update of Lookalike. The embedded database upgrades
    itself.

    The command logs each step. If it is interrupted, run it again: it skips the steps that are
    done. Only one process at a time upgrades a database; a second one waits.
    """
    from app import server

    server.upgrade_database()
