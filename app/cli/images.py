"""The commands that move images: import and export."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from app.cli.console import CommandError, ExitCode, out
from app.cli.options import (
    DEFAULT_URL,
    CollectionOption,
    KeyOption,
    UrlOption,
    connect,
)

_LACK = "lack the last bytes of their files"


class OnNearDuplicate(StrEnum):
    """What becomes of an image that is nearly identical to a master."""

    STORE = "store"
    REPORT = "report"
    REJECT = "reject"


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
    on_near_duplicate: Annotated[
        OnNearDuplicate,
        typer.Option(
            metavar="CHOICE",
            help="What becomes of images that are nearly identical to one in the collection: store,"
            " report (store and list them in the report), or reject (list them only).",
        ),
    ] = OnNearDuplicate.STORE,
    near_duplicate_distance: Annotated[
        float | None,
        typer.Option(
            metavar="DISTANCE",
            min=0,
            max=2,
            help="Maximum distance of near duplicates. Default: 0.65.",
            show_default=False,
        ),
    ] = None,
    report: Annotated[
        Path,
        typer.Option(
            metavar="FILE",
            help="File for failures and near duplicates, one JSON object per line.",
        ),
    ] = Path("lookalike-import-errors.jsonl"),
) -> ExitCode:
    """Upload images from files, directories and zip files.

    Small images share a request. Images that the collection already has are not stored twice,
    so you can interrupt the command and run it again to resume. Near duplicates that are uploaded
    at the same moment may go unnoticed.

    Exit codes: 0 all images were uploaded or rejected as near duplicates; 1 some failed, see the
    report; 2 the command could not continue; 130 interrupted.
    """
    from app.cli.importing import Importer

    if on_near_duplicate is OnNearDuplicate.STORE and near_duplicate_distance is not None:
        raise CommandError("--near-duplicate-distance needs --on-near-duplicate report or reject")
    fields = {"collection": collection}
    if on_near_duplicate is not OnNearDuplicate.STORE:
        fields["on_near_duplicate"] = on_near_duplicate
    if near_duplicate_distance is not None:
        fields["near_duplicate_distance"] = str(near_duplicate_distance)
    with connect(url, api_key) as client:
        importer = Importer(client, fields, attributes_from_folder, jobs, report)
        outcome = importer.run(paths, glob)
    out.print(outcome.summary())
    if outcome.truncated:
        lacks = "lacks the last bytes of its file" if outcome.truncated == 1 else _LACK
        out.print(f"{outcome.truncated} of them {lacks}.")
    if outcome.near_duplicates:
        are = "is" if outcome.near_duplicates == 1 else "are"
        out.print(f"{outcome.near_duplicates} of them {are} nearly identical to others.")
    listed = ["failures"] * bool(outcome.failed)
    listed += ["near duplicates"] * bool(outcome.near_duplicates or outcome.rejected)
    if listed:
        out.print(f"The {' and '.join(listed)} are listed in {report}.")
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
