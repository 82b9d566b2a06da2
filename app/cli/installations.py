"""The commands that copy an installation: copy, backup and restore."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from app.cli.console import ExitCode
from app.cli.options import CopyJobsOption


def copy(
    source: Annotated[
        Path,
        typer.Option(
            "--from",
            metavar="DIRECTORY",
            help="Data directory of the embedded installation. Stop its service first.",
            file_okay=False,
        ),
    ] = Path("lookalike-data"),
    target: Annotated[
        Path | None,
        typer.Option(
            "--to",
            metavar="FILE",
            help="File of settings (LOOKALIKE_...=... lines) that name the servers."
            " Default: the environment.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    jobs: CopyJobsOption = 8,
) -> ExitCode:
    """Copy an embedded installation to servers.

    IDs, original files and vectors stay the same, so nothing is embedded again. Every original
    and every vector is read back and compared. The source keeps its data; only deletions that
    had already begun are finished there first.

    You can interrupt the command and run it again to resume.

    Exit codes: 0 everything was copied; 1 some images were not copied; 2 the command could not
    continue; 130 interrupted.
    """
    from app.cli import installation_copies

    return installation_copies.copy(source, target, jobs)


def backup(
    directory: Annotated[
        Path,
        typer.Argument(
            metavar="DIRECTORY", help="A new directory, or an existing backup.", file_okay=False
        ),
    ],
    vectors: Annotated[
        bool,
        typer.Option(
            "--vectors",
            help="Include the vectors. Without them, a restored service embeds every image again.",
        ),
    ] = False,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify",
            help="Also read and hash the files already in the backup, and replace damaged ones.",
        ),
    ] = False,
    allow_removal: Annotated[
        bool,
        typer.Option(
            "--allow-removal",
            help="Remove any number of masters from the backup. Without it, a run that would remove"
            " more than ten and more than 1 % stops.",
        ),
    ] = False,
    keep_removed: Annotated[
        int,
        typer.Option(
            metavar="DAYS",
            min=0,
            max=100_000,
            help="How long the backup keeps in `objects/removed` what it removed.",
        ),
    ] = 30,
    jobs: CopyJobsOption = 8,
) -> ExitCode:
    """Back up the installation that the settings name. The service may keep running.

    Every original is hashed while it is copied, and read back. If you run the command again on
    the same directory, it copies new images, updates changed ones and removes deleted ones. What
    it removes is kept for 30 days. To keep older states, use several directories.

    You can interrupt the command and run it again to resume.

    Exit codes: 0 everything was copied; 1 some images were not copied; 2 the command could not
    continue; 3 it would remove more than ten masters and more than 1 %, or the database is older
    than the backup, so nothing was changed; 130 interrupted.
    """
    from app.cli import installation_copies

    options = installation_copies.BackupOptions(
        vectors=vectors, verify=verify, allow_removal=allow_removal, keep_removed=keep_removed
    )
    return installation_copies.backup(directory, jobs, options)


def restore(
    directory: Annotated[
        Path,
        typer.Argument(
            metavar="DIRECTORY", help="Directory of the backup.", exists=True, file_okay=False
        ),
    ],
    incomplete: Annotated[
        bool, typer.Option("--incomplete", help="Accept a backup that was interrupted.")
    ] = False,
    jobs: CopyJobsOption = 8,
) -> ExitCode:
    """Restore a backup into the empty stores that the settings name.

    The target is a stopped embedded installation, or servers. Every original is hashed while
    it is copied, and read back. IDs stay the same.

    You can interrupt the command and run it again to resume.

    Exit codes: 0 everything was copied; 1 some images were not copied; 2 the command could not
    continue; 130 interrupted.
    """
    from app.cli import installation_copies

    return installation_copies.restore(directory, jobs, incomplete=incomplete)
