"""The commands that move images and search for them: import, search and export."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli.answers import TRUNCATED
from app.cli.console import CommandError, ExitCode, err, make_table, out, print_json, show_printable
from app.cli.options import (
    DEFAULT_URL,
    CollectionOption,
    JsonOption,
    KeyOption,
    UrlOption,
    connect,
)

_LACK = "lack the last bytes of their files"
_UNDERSTOOD = 0.5  # below it, the built-in words do not know a text
_NOT_UNDERSTOOD = (
    "The built-in words may not know this text. For free text, install an encoder:"
    " lookalike spaces create words --encoder FILE (docs/words.md says how to get one)"
)


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


def search(
    image: Annotated[
        Path | None,
        typer.Argument(
            metavar="IMAGE", help="The image to search with.", exists=True, dir_okay=False
        ),
    ] = None,
    text: Annotated[
        str,
        typer.Option(
            "--text", metavar="WORDS", help="Words to search with, alone or with an image."
        ),
    ] = "",
    url: UrlOption = DEFAULT_URL,
    api_key: KeyOption = "",
    collection: CollectionOption = "default",
    k: Annotated[
        int, typer.Option("--k", "-k", metavar="N", min=1, max=1000, help="Number of hits.")
    ] = 10,
    filter: Annotated[
        str,
        typer.Option(metavar="JSON", help='Search only masters that match: \'{"colour": "red"}\'.'),
    ] = "",
    offset: Annotated[
        int, typer.Option(metavar="N", min=0, help="Number of hits to skip, for paging.")
    ] = 0,
    max_distance: Annotated[
        float | None,
        typer.Option(
            metavar="D", min=0, max=2, help="Maximum distance of a hit, from 0 (the same) to 2."
        ),
    ] = None,
    min_probability: Annotated[
        float | None,
        typer.Option(
            metavar="P", min=0, max=1, help="Minimum probability that a hit shows the same thing."
        ),
    ] = None,
    box: Annotated[
        str,
        typer.Option(
            metavar="X,Y,W,H",
            help="Search with this part of the image only, in pixels of the upright image.",
        ),
    ] = "",
    mirror: Annotated[
        bool, typer.Option("--mirror", help="Also search with the mirrored image.")
    ] = False,
    space: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Space to compare in. Default: look; for words, the space `words` if it exists.",
        ),
    ] = "",
    text_weight: Annotated[
        float | None,
        typer.Option(
            metavar="W", min=0, max=1, help="Share of the words beside an image. Default: 0.5."
        ),
    ] = None,
    feedback: Annotated[
        bool,
        typer.Option(
            "--feedback", help="Search again, with the words moved towards their first hits."
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Find the images nearest to an image, to words, or to both."""
    if image is None and not text:
        raise CommandError("nothing to search with: name an image, or words with --text")
    fields = {
        "k": k,
        "offset": offset,
        "collection": collection,
        "mirror": str(mirror).lower(),
        "filter": filter,
        "box": box,
        "max_distance": max_distance,
        "min_probability": min_probability,
        "text": text,
        "space": space,
        "text_weight": text_weight,
        "feedback": str(feedback).lower(),
    }
    given = {name: str(value) for name, value in fields.items() if value not in (None, "")}
    with connect(url, api_key) as client:
        answer = client.search(image, given)
    if as_json:
        print_json(answer)
        return
    if TRUNCATED in answer.get("warnings", []):
        err.print("The image lacks its last bytes; the search used the rest of it.")
    if answer["understood"] is not None and answer["understood"] < _UNDERSTOOD:
        err.print(_NOT_UNDERSTOOD)
    if answer["hits"]:
        _show_hits(answer["hits"])
    else:
        out.print(f"Nothing found: no master in the collection {collection} matches the search.")


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


def _show_hits(hits: list[dict[str, Any]]) -> None:
    from rich.text import Text

    calibrated = any(hit["probability"] is not None for hit in hits)
    numbers = ("score", "distance", *(["probability"] if calibrated else []))
    table = make_table(*numbers, right=numbers)
    table.add_column("master", no_wrap=True, overflow="ellipsis")
    for hit in hits:
        master = hit["master"]
        description = Text(show_printable(master["name"]))
        if master["attributes"]:
            attributes = json.dumps(master["attributes"], ensure_ascii=False)
            description.append(f"\n{show_printable(attributes)}", style="dim")
        description.append(f"\n{master['id']}", style="dim")
        distance = "same" if hit["exact"] else f"{hit['distance']:.4f}"
        probability = [f"{hit['probability']:.0%}"] if calibrated else []
        table.add_row(f"{hit['score']:.1f}", distance, *probability, description)
    out.print(table, soft_wrap=False)
