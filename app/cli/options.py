"""Options that several commands share, and the connection they describe."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from app.cli.console import CommandError

if TYPE_CHECKING:
    from app.cli.client import Client

DEFAULT_URL = "http://127.0.0.1:8000"

UrlOption = Annotated[
    str,
    typer.Option(
        "--url", metavar="URL", envvar="LOOKALIKE_URL", help="Address of the running service."
    ),
]
KeyOption = Annotated[
    str,
    typer.Option(
        "--api-key",
        metavar="KEY",
        envvar="LOOKALIKE_API_KEY",
        help="API key, if the service requires one.",
    ),
]
CollectionOption = Annotated[
    str, typer.Option("--collection", "-c", metavar="NAME", help="Name of the collection.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
CopyJobsOption = Annotated[
    int,
    typer.Option(
        "--jobs", "-j", metavar="N", min=1, max=64, help="Number of images processed in parallel."
    ),
]


def parse_filter(text: str) -> Any:
    """Return the filter in --filter, or None without one. Raises CommandError."""
    try:
        return json.loads(text) if text else None
    except (ValueError, RecursionError) as error:
        raise CommandError(f"--filter is not valid JSON: {error}") from None


def parse_id(text: str) -> UUID:
    """Return the id that an argument is. Raises typer.BadParameter."""
    try:
        return UUID(text)
    except ValueError:
        message = f"'{text}' is not an id, such as 01a2110d-aed9-7aeb-9f6c-37a7492bdf73."
        raise typer.BadParameter(message) from None


@contextmanager
def connect(url: str, api_key: str) -> Iterator[Client]:
    """Yield a client of a service that answers. Raises ServiceError."""
    from app.cli.client import Client

    with Client(url, api_key) as client:
        yield client
