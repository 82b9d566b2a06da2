"""The commands against the loss of the metadata database."""

from __future__ import annotations

from typing import Annotated

import typer

from app.cli.console import ExitCode


def catalogue(
    replace: Annotated[
        bool,
        typer.Option(
            "--replace",
            help="Write the catalogue even if it is not of this database. The names and attributes"
            " that only the old one has are lost.",
        ),
    ] = False,
) -> ExitCode:
    """Write the catalogue of all masters into the object store now.

    The worker does so every hour (LOOKALIKE_CATALOGUE_INTERVAL). The catalogue has the names and
    attributes of all masters, so that they are not lost with the metadata database. Only what has
    changed is written. The service may be in use.
    """
    from app.cli import recovery_runs

    return recovery_runs.write_catalogue(replace)
