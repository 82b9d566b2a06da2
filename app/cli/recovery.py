"""The commands against the loss of the metadata database."""

from __future__ import annotations

from typing import Annotated

import typer

from app.cli.console import ExitCode
from app.cli.options import CopyJobsOption


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


def recover(
    apply: Annotated[
        bool, typer.Option("--apply", help="Recover. Without it, only report what would be done.")
    ] = False,
    allow_removal: Annotated[
        bool,
        typer.Option(
            "--allow-removal",
            help="Also delete more than ten masters and more than 1 % of an older database, if the"
            " catalogue shows that they were deleted later.",
        ),
    ] = False,
    jobs: CopyJobsOption = 8,
) -> ExitCode:
    """Recover the metadata database from the originals and the catalogue in the object store.

    The database may be empty, or restored from an earlier dump. Stop the service and the workers
    first. Every original without a row is read and hashed, and gets its row back under its ID,
    with its name and attributes if the catalogue has them. The worker then embeds the images
    again. What is known to be deleted stays deleted.

    You can interrupt the command and run it again to resume.

    Exit codes: 0 everything was recovered, or can be; 1 some images were not recovered; 2 the
    command could not continue; 3 it would delete more than ten masters and more than 1 % of the
    database, so nothing was changed; 130 interrupted.
    """
    from app.cli import recovery_runs

    return recovery_runs.recover(apply=apply, allow_removal=allow_removal, jobs=jobs)
