"""The command that shows why a search found a master."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer

from app.cli.console import CommandError, out, print_json
from app.cli.options import DEFAULT_URL, JsonOption, KeyOption, UrlOption, connect, parse_id


def explain(
    image: Annotated[
        Path,
        typer.Argument(
            metavar="IMAGE", help="The image searched with.", exists=True, dir_okay=False
        ),
    ],
    master: Annotated[
        UUID,
        typer.Argument(metavar="ID", parser=parse_id, help="The master that was found."),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="PNG file for both images, coloured by warmth."
        ),
    ] = None,
    url: UrlOption = DEFAULT_URL,
    api_key: KeyOption = "",
    space: Annotated[
        str, typer.Option(metavar="NAME", help="Space to compare in. Default: look.")
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """Show which places of an image and a master make the two alike.

    Writes a picture with --output, and prints the numbers with --json.
    """
    if (output is None) != as_json:
        raise CommandError("name a file with --output, or print the numbers with --json")
    fields = {"master_id": str(master)} | ({"space": space} if space else {})
    with connect(url, api_key) as client:
        if output is None:
            print_json(client.explain(image, fields))
            return
        drawn = io.BytesIO()
        client.draw_explanation(image, fields, drawn)
    try:
        output.write_bytes(drawn.getvalue())
    except OSError as error:
        raise CommandError(f"{output} cannot be written ({error.strerror})") from None
    out.print(f"Wrote {output}.")
