"""The commands that move images: import and export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from app.cli.console import ExitCode, out
from app.cli.options import (
    DEFAULT_URL,
    CollectionOption,
    KeyOption,
    UrlOption,
    connect,
)

_LACK = "lack the last bytes of their files"


def import_(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="PATH", help="Images, directories and zip files.", exists=True),
    ],
    url: UrlOption = DEFAULT_URL,
    api_key: KeyOption = "",
    collection: CollectionOption = "default",
    glob: Annotated[
        str,
        typer.Option(
            metavar="PATTERN",
            help="Import only files whose name matches, such as '*.jpg', in upper or lower case."
            " Default: all image types.",
        ),
    ] = "",
    jobs: Annotated[
        int,
        typer.Option(
            "--jobs", "-j", metavar="N", min=1, max=64, help="Number of parallel requests."
        ),
    ] = 8,
    attributes_from_folder: Annotated[
        bool,
        typer.Option(
            "--attributes-from-folder",
            help='Store the name of each image\'s folder as its attribute "folder".',
        ),
    ] = False,
    report: Annotated[
        Path,
        typer.Option(metavar="FILE", help="File for failures, one JSON object per line."),
    ] = Path("lookalike-import-errors.jsonl"),
) -> ExitCode:
    """Upload images from files, directories and zip files.

    Small images share a request. Images that the collection already has are not stored twice,
    so you can interrupt the command and run it again to resume.

    Exit codes: 0 all images were uploaded; 1 some failed, see the report; 2 the command could
    not continue; 130 interrupted.
    """
    from app.cli.importing import Importer

    with connect(url, api_key) as client:
        importer = Importer(client, collection, attributes_from_folder, jobs, report)
        outcome = importer.run(paths, glob)
    out.print(outcome.summary())
    if outcome.truncated:
        lacks = "lacks the last bytes of its file" if outcome.truncated == 1 else _LACK
        out.print(f"{outcome.truncated} of them {lacks}.")
    if outcome.failed:
        out.print(f"The failures are listed in {report}.")
    return outcome.exit_code


def export(
    directory: Annotated[
        Path,
        typer.Argument(
            metavar="DIRECTORY",
            help="Where to write the images and masters.jsonl.",
            file_okay=False,
        ),
    ],
    url: UrlOption = DEFAULT_URL,
    api_key: KeyOption = "",
    collection: CollectionOption = "default",
    jobs: Annotated[
        int,
        typer.Option(
            "--jobs", "-j", metavar="N", min=1, max=64, help="Number of parallel downloads."
        ),
    ] = 4,
) -> ExitCode:
    """Download all images of a collection.

    Writes every original file, and masters.jsonl with the metadata. You can interrupt the
    command and run it again to resume.

    Exit codes: 0 all images were written; 1 some failed; 2 the command could not continue; 130
    interrupted.
    """
    from app.cli.transfers import Exporter

    with connect(url, api_key) as client:
        outcome = Exporter(client, collection, jobs).run(directory)
    out.print(outcome.summary())
    return outcome.exit_code
