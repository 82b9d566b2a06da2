"""The commands that find near-identical images, and that keep decisions about them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any, Literal
from uuid import UUID

import typer

from app.cli.console import (
    CommandError,
    make_table,
    on_interrupt,
    out,
    print_json,
    progress_bar,
    show_printable,
)
from app.cli.options import (
    DEFAULT_URL,
    CollectionOption,
    JsonOption,
    KeyOption,
    UrlOption,
    connect,
)

if TYPE_CHECKING:
    from app.cli.client import Client

_POLL_INTERVAL = 1.0  # seconds
_MOST = 100  # masters of one decision, and groups of a page
_WithOption = Annotated[
    str,
    typer.Option("--with", metavar="NAME", help="Compare with the images of this collection."),
]
_SpaceOption = Annotated[
    str, typer.Option(metavar="NAME", help="Space that tells which images to compare.")
]


def scan(
    url: UrlOption = DEFAULT_URL,
    api_key: KeyOption = "",
    collection: CollectionOption = "default",
    other: _WithOption = "",
    space: _SpaceOption = "look",
    max_distance: Annotated[
        float | None,
        typer.Option(
            metavar="X",
            min=0.0,
            max=2.0,
            help="Maximum distance of images that are compared. Default: that of the scan, or 0.65"
            " in the space look. A different value starts the scan over.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Look for copies of one photograph in a collection, or between two.

    Starts the scan, or has it look for new images, and shows the progress. The worker does the
    work: interrupting the command does not stop it. --json prints the state without waiting.
    """
    wanted = {"with": other or None, "space": space, "max_distance": max_distance}
    hint = "The worker continues; run the command again to see how far it is."
    with on_interrupt(hint), connect(url, api_key) as client:
        state = client.start_duplicate_scan(collection, wanted)
        if not as_json:
            state = _wait_until_complete(client, collection, _parameters(other, space), state)
    if as_json:
        return print_json(state)
    out.print(
        f"Compared {state['checked']} of {state['total']} images and found {state['pairs']} pairs."
    )
    if state["checked"] < state["total"]:
        out.print("The others cannot be compared; `lookalike dead-letters` may tell why.")
    return None


def list_(
    url: UrlOption = DEFAULT_URL,
    api_key: KeyOption = "",
    collection: CollectionOption = "default",
    other: _WithOption = "",
    space: _SpaceOption = "look",
    sort: Annotated[
        Literal["size", "certainty"],
        typer.Option(help="The largest groups first, or the surest ones."),
    ] = "size",
    limit: Annotated[
        int, typer.Option(metavar="N", min=1, help="Maximum number of groups to list.")
    ] = 20,
    as_json: JsonOption = False,
) -> None:
    """List groups of images that show one photograph, as far as a scan has found them.

    The images of a group were compared with the first one. `common` is the number of places that
    they have in common with it.
    """
    params = _parameters(other, space) | {"sort": sort, "limit": str(min(limit, _MOST))}
    with connect(url, api_key) as client:
        pages = client.duplicate_pages(collection, params)
        first = next(pages)
        groups = list(islice(_groups_of(first, pages), limit))
    state = first["scan"]
    if as_json:
        return print_json({"scan": state, "groups": groups})
    for group in groups:
        _show_group(group)
    out.print(f"{len(groups)} {'group' if len(groups) == 1 else 'groups'}")
    if state["state"] != "complete":
        out.print(f"The scan is still running: {state['checked']} of {state['total']} images.")
    return None


def end(
    url: UrlOption = DEFAULT_URL,
    api_key: KeyOption = "",
    collection: CollectionOption = "default",
    other: _WithOption = "",
    space: _SpaceOption = "look",
) -> None:
    """End a scan and forget what it found. Images and decisions stay."""
    with connect(url, api_key) as client:
        client.end_duplicate_scan(collection, _parameters(other, space))
    out.print("Ended the scan.")


def decide(
    decision: Annotated[
        Literal["different", "keep", "remove"],
        typer.Argument(
            help="different: they do not show one photograph. keep: they do, and all of them are to"
            " stay. remove: take the decision back.",
        ),
    ],
    masters: Annotated[list[str], typer.Argument(metavar="ID", help="Ids of 2 to 100 images.")],
    url: UrlOption = DEFAULT_URL,
    api_key: KeyOption = "",
    as_json: JsonOption = False,
) -> None:
    """Decide about images, so that no two of them are in a group again."""
    ids = parse_ids(masters)
    with connect(url, api_key) as client:
        if decision == "remove":
            pairs = client.withdraw_decision(ids)
        else:
            pairs = client.save_decision(ids, decision)
    if as_json:
        return print_json({"pairs": pairs})
    done = "Took back decisions" if decision == "remove" else "Decided"
    out.print(f"{done} about {pairs} {'pair' if pairs == 1 else 'pairs'} of images.")
    return None


def decisions(
    url: UrlOption = DEFAULT_URL,
    api_key: KeyOption = "",
    collection: CollectionOption = "default",
    limit: Annotated[
        int, typer.Option(metavar="N", min=1, help="Maximum number of decisions to list.")
    ] = 50,
    as_json: JsonOption = False,
) -> None:
    """List what was decided about images of a collection."""
    with connect(url, api_key) as client:
        listed = list(islice(client.decisions(collection, min(limit, 1000)), limit))
    if as_json:
        return print_json({"decisions": listed})
    if listed:
        table = make_table("decision")
        table.add_column("masters", no_wrap=True)
        for each in listed:
            table.add_row(each["decision"], "\n".join(each["masters"]))
        out.print(table, soft_wrap=False)
    out.print(f"{len(listed)} {'decision' if len(listed) == 1 else 'decisions'}")
    return None


def _parameters(other: str, space: str) -> dict[str, str]:
    return {"space": space} | ({"with": other} if other else {})


def _wait_until_complete(
    client: Client, collection: str, params: dict[str, str], state: dict[str, Any]
) -> dict[str, Any]:
    """Show progress until the scan is complete, and return its state."""
    with progress_bar() as progress:
        task = progress.add_task("Comparing", total=None)
        while state["state"] != "complete":
            progress.update(task, completed=state["checked"], total=state["total"])
            time.sleep(_POLL_INTERVAL)
            page = next(client.duplicate_pages(collection, params | {"limit": "1"}))
            state = page["scan"]
    return state


def _groups_of(first: dict[str, Any], pages: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    yield from first["groups"]
    for page in pages:
        yield from page["groups"]


def _show_group(group: dict[str, Any]) -> None:
    from rich.text import Text

    table = make_table("common", "distance", "pixels", "bytes", right=("common", "bytes"))
    table.add_column("master", no_wrap=True, overflow="ellipsis")
    for member in group["members"]:
        description = Text(show_printable(member["name"]))
        description.append(f"\n{member['id']}", style="dim")
        is_first = member["common"] is None
        table.add_row(
            "" if is_first else str(member["common"]),
            "" if is_first else f"{member['distance']:.3f}",
            f"{member['width']} x {member['height']}",
            str(member["size"]),
            description,
        )
    out.print(table, soft_wrap=False)


def parse_ids(texts: list[str]) -> list[str]:
    """Return the ids of 2 to 100 different images. Raises CommandError."""
    try:
        ids = [str(UUID(text)) for text in texts]
    except ValueError:
        raise CommandError("an ID is the id of an image, as `lookalike list` shows it") from None
    if not 2 <= len(set(ids)) <= _MOST:
        raise CommandError(f"name 2 to {_MOST} different images")
    return ids
