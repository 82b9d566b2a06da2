"""The command that searches: with images, masters, words, or several of them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from app.cli.answers import TRUNCATED
from app.cli.console import CommandError, err, make_table, out, print_json, show_printable
from app.cli.options import (
    DEFAULT_URL,
    CollectionOption,
    JsonOption,
    KeyOption,
    UrlOption,
    connect,
    parse_filter,
    parse_id,
)

if TYPE_CHECKING:
    from app.cli.client import Client

_TEXT_WEIGHT = 0.5
_UNLIKE = -0.5  # the weight of what hits are to be unlike
_UNDERSTOOD = 0.5  # below it, the built-in words do not know a text
_NOT_UNDERSTOOD = (
    "The built-in words may not know this text. For free text, install an encoder:"
    " lookalike spaces create words --encoder FILE (docs/words.md says how to get one)"
)

_OPTIONS = {  # by the names that the API has for them
    "collapse_duplicates": "--collapse",
    "facets": "--facet",
    "feedback": "--feedback",
    "group_by": "--group-by",
    "k": "--k",
    "max_distance": "--max-distance",
    "min_probability": "--min-probability",
    "mirror": "--mirror",
    "offset": "--offset",
    "sort takes": "--sort takes",
    "turns": "--turns",
}
# Codes of errors about options; the messages of others may have names that the user chose.
_ABOUT_OPTIONS = ("invalid-request", "not-calibrated")
_API_OPTIONS = re.compile(rf"(?<![\w-])({'|'.join(_OPTIONS)})(?![\w-])")


def _parse_master(text: str) -> UUID:
    if Path(text).is_file():
        message = f"'{text}' is a file. To search with an image, name it without --master."
        raise typer.BadParameter(message)
    return parse_id(text)


def search(
    images: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="IMAGE",
            help="The image to search with, or several that hits are to be like.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    masters: Annotated[
        list[UUID] | None,
        typer.Option(
            "--master",
            metavar="ID",
            parser=_parse_master,
            help="A stored master that hits are to be like. Repeatable.",
        ),
    ] = None,
    unlike: Annotated[
        list[str] | None,
        typer.Option(
            metavar="IMAGE|ID",
            help="An image or a master that hits are to be unlike, beside what they are to be like;"
            " it counts half. Repeatable.",
        ),
    ] = None,
    text: Annotated[
        str,
        typer.Option("--text", metavar="WORDS", help="Words to search with, alone or with images."),
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
    turns: Annotated[
        bool,
        typer.Option(
            "--turns", help="Also search with the image turned by 90, 180 and 270 degrees."
        ),
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
            metavar="W", min=0, max=1, help="Share of the words beside images. Default: 0.5."
        ),
    ] = None,
    feedback: Annotated[
        bool,
        typer.Option(
            "--feedback", help="Search again, with the words moved towards their first hits."
        ),
    ] = False,
    group_by: Annotated[
        str,
        typer.Option(
            metavar="PATH",
            help="Show one image, the nearest, for each value of an attribute or built-in field.",
        ),
    ] = "",
    collapse: Annotated[
        float | None,
        typer.Option(
            metavar="D",
            min=0,
            max=2,
            help="Fold images that are at most this distant from a nearer hit into that one.",
        ),
    ] = None,
    sort: Annotated[
        str,
        typer.Option(
            metavar="PATH",
            help="Order of the hits that are shown: distance, created_at, name, or the path of an"
            " attribute or built-in field. A hyphen before it reverses the order.",
        ),
    ] = "distance",
    facets: Annotated[
        list[str] | None,
        typer.Option(
            "--facet",
            metavar="PATH",
            help="Count the values of an attribute or built-in field among the masters within"
            " --max-distance, or else among the nearest. Repeatable.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Find the images nearest to images, to words, or to both.

    Masters are ordered by the weighted sum of their similarities with all that is given.
    """
    like: list[Path | UUID] = [*(images or []), *(masters or [])]
    if not like and not text:
        raise CommandError(
            "nothing to search with: name an image, a master with --master, or words with --text"
        )
    if text_weight is not None and not (like and text):
        raise CommandError("--text-weight needs an image and --text")
    share = _TEXT_WEIGHT if text_weight is None else text_weight
    examples = _Examples(_parse_box(box))
    for each in like:
        examples.add(each, (1 - share) / len(like) if text else 1.0)
    if text:
        examples.parts.append({"text": text, "weight": share if like else 1.0})
    for named in unlike or []:
        examples.add(_image_or_id(named), _UNLIKE)
    query = {
        "examples": examples.parts,
        "k": k,
        "offset": offset,
        "collection": collection,
        "mirror": mirror,
        "turns": turns,
        "filter": parse_filter(filter),
        "max_distance": max_distance,
        "min_probability": min_probability,
        "space": space or None,
        "feedback": feedback,
        "group_by": group_by or None,
        "collapse_duplicates": collapse,
        "sort": sort,
        "facets": facets or [],
    }
    with connect(url, api_key) as client:
        answer = _search(client, query, examples.files)
    if as_json:
        print_json(answer)
        return
    if TRUNCATED in answer.get("warnings", []):
        err.print("An image lacks its last bytes; the search used the rest of it.")
    if answer["understood"] is not None and answer["understood"] < _UNDERSTOOD:
        err.print(_NOT_UNDERSTOOD)
    if answer["hits"]:
        _show_hits(answer["hits"])
    else:
        out.print(f"Nothing found: no master in the collection {collection} matches the search.")
    if answer.get("facets"):
        _show_facets(answer["facets"])


def _search(client: Client, query: dict[str, Any], files: dict[str, Path]) -> dict[str, Any]:
    """Search; messages about options name those of the command instead of those of the API."""
    from app.cli.service_errors import ServiceError

    try:
        return client.search(query, files)
    except ServiceError as error:
        if error.code in _ABOUT_OPTIONS:
            error.args = (_API_OPTIONS.sub(lambda found: _OPTIONS[found[0]], str(error)),)
        raise


@dataclass
class _Examples:
    """The examples of a query, and the files that they name."""

    box: list[int] | None
    parts: list[dict[str, Any]] = field(default_factory=list)
    files: dict[str, Path] = field(default_factory=dict)

    def add(self, image: Path | UUID, weight: float) -> None:
        """Add an image file or a master."""
        part: dict[str, Any] = {"weight": weight}
        if isinstance(image, UUID):
            part["master_id"] = str(image)
        else:
            part["upload"] = f"image{len(self.files)}"
            self.files[part["upload"]] = image
        if self.box is not None and weight > 0:
            if any("box" in other for other in self.parts):
                raise CommandError("--box is for a search with a single image")
            part["box"] = self.box
        self.parts.append(part)


def _image_or_id(named: str) -> Path | UUID:
    path = Path(named)
    if path.is_file():
        return path
    try:
        return UUID(named)
    except ValueError:
        raise CommandError(f"--unlike {named}: there is no such file, and it is no id") from None


def _parse_box(text: str) -> list[int] | None:
    if not text:
        return None
    try:
        numbers = [int(number) for number in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != 4:
        raise CommandError("--box takes four whole numbers: x,y,width,height")
    return numbers


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
        if hit.get("duplicates") and hit["duplicates"]["count"]:
            description.append(f"\nand {hit['duplicates']['count']} like it", style="dim")
        distance = "same" if hit["exact"] else f"{hit['distance']:.4f}"
        probability = [f"{hit['probability']:.0%}"] if calibrated else []
        table.add_row(f"{hit['score']:.1f}", distance, *probability, description)
    out.print(table, soft_wrap=False)


def _show_facets(facets: dict[str, Any]) -> None:
    for facet in facets["paths"]:
        counts = [
            f"{json.dumps(each['value'], ensure_ascii=False)} {each['count']}"
            for each in facet["values"]
        ]
        if facet["others"]:
            counts.append(f"others {facet['others']}")
        out.print(
            f"{facet['path']}: {show_printable(', '.join(counts) or 'no values')}", markup=False
        )
    if not facets["complete"]:
        out.print(f"Counted among the nearest {facets['masters']} masters; there are more.")
