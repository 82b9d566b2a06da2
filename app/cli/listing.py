"""The command that lists the masters of a collection."""

from __future__ import annotations

import json
import re
from itertools import islice
from typing import Annotated, Any

import typer

from app.cli.console import make_table, out, print_json, show_printable
from app.cli.options import (
    DEFAULT_URL,
    CollectionOption,
    JsonOption,
    KeyOption,
    UrlOption,
    connect,
)


def list_(
    url: UrlOption = DEFAULT_URL,
    api_key: KeyOption = "",
    collection: CollectionOption = "default",
    filter: Annotated[
        str,
        typer.Option(
            metavar="JSON",
            help='List only masters that match: \'{"capture.time": {"$gte": "2024-05-01"}}\'.',
        ),
    ] = "",
    sort: Annotated[
        str,
        typer.Option(
            metavar="PATH",
            help="Sort by created_at, name, capture.time, or the path of an attribute or built-in"
            " field. A hyphen before it reverses the order.",
        ),
    ] = "-created_at",
    limit: Annotated[
        int, typer.Option(metavar="N", min=1, help="Maximum number of masters to list.")
    ] = 50,
    as_json: JsonOption = False,
) -> None:
    """List the images of a collection, newest first."""
    with connect(url, api_key) as client:
        listed = client.masters(collection, filter, sort, page=min(limit, 500))
        pairs = list(islice(listed, limit))
    masters = [master for master, _ in pairs]
    total = pairs[0][1] if pairs else 0
    if as_json:
        print_json({"masters": masters, "total": total})
        return
    if masters:
        _show(masters)
    out.print(f"{len(masters)} of {total} masters")


def _show(masters: list[dict[str, Any]]) -> None:
    from rich.text import Text

    table = make_table("bytes", right=("bytes",))
    table.add_column("master", no_wrap=True, overflow="ellipsis")
    for master in masters:
        description = Text(show_printable(master["name"]))
        if taken := _describe_capture(master.get("capture") or {}):
            description.append(f"\n{show_printable(taken)}", style="dim")
        if master["attributes"]:
            attributes = json.dumps(master["attributes"], ensure_ascii=False)
            description.append(f"\n{show_printable(attributes)}", style="dim")
        description.append(f"\n{master['id']}", style="dim")
        table.add_row(str(master["size"]), description)
    out.print(table, soft_wrap=False)


def _describe_capture(capture: dict[str, Any]) -> str:
    """Return when and with which camera a picture was taken, to the second."""
    time = re.sub(r"\.\d+", "", str(capture.get("time", "")))
    return ", ".join(filter(None, (time, str(capture.get("camera", "")))))
