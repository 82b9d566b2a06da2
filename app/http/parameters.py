"""The parameters that several endpoints share, and parsers of their texts."""

from __future__ import annotations

import json
from collections import Counter
from typing import Annotated, Any
from uuid import UUID

from fastapi import Path, Query

from app.errors import InvalidInput
from models.imaging import Box
from storage.filter_parser import InvalidFilter, parse_filter
from storage.filters import Filter
from storage.sorting import NEWEST_FIRST, InvalidSort, Sort, parse_sort

_MOST_CHARACTERS = 60  # of the name of a member, which the client chose

ConfirmQuery = Annotated[
    str, Query(description="Repeats the collection's name, to confirm the deletion.")
]
CollectionQuery = Annotated[str, Query(description="Name of the collection.")]
MasterId = Annotated[UUID, Path(description="Id of the master.")]
FilterQuery = Annotated[
    str | None,
    Query(
        description="Filter in JSON on attributes and built-in fields, as in a search:"
        ' {"colour": "red"}.'
    ),
]


def parse_json(text: str, code: str, name: str) -> Any:
    """Parse the JSON in the parameter ``name``. Raises InvalidInput with ``code``.

    A member may not occur twice in an object.
    """
    try:
        return json.loads(text, object_pairs_hook=_make_object)
    except _MemberTwice as error:
        detail = f"{name} has the member {error} twice in one object. Send it once."
        raise InvalidInput(code, detail) from None
    except json.JSONDecodeError as error:
        reason = str(error)
    except RecursionError:
        reason = "it is nested too deeply"
    except ValueError:
        reason = "a number has too many digits"
    raise InvalidInput(code, f"{name} is not valid JSON: {reason}.")


def parse_json_body(body: bytes) -> Any:
    """Parse a body in JSON. Raises InvalidInput."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        detail = "The body is not valid JSON: it is not in UTF-8."
        raise InvalidInput("invalid-request", detail) from None
    return parse_json(text, "invalid-request", "The body")


class _MemberTwice(ValueError):
    """An object in JSON has two members of the same name. Readers differ in which one counts."""


def _make_object(members: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(members)
    if len(made) < len(members):
        (name, _), *_ = Counter(name for name, _ in members).most_common(1)
        raise _MemberTwice(json.dumps(name[:_MOST_CHARACTERS], ensure_ascii=False))
    return made


def parse_filter_text(text: str | None) -> Filter | None:
    """Parse a filter in JSON; None for an empty or missing one. Raises InvalidInput."""
    return parse_filter_json(parse_json(text, "invalid-filter", "filter")) if text else None


def parse_filter_json(value: Any) -> Filter:
    """Parse a filter from the value of its JSON. Raises InvalidInput."""
    try:
        return parse_filter(value)
    except InvalidFilter as error:
        raise InvalidInput("invalid-filter", str(error)) from None


def parse_box(text: str | None) -> Box | None:
    """Parse ``x,y,width,height`` in whole pixels; None for an empty or missing box.

    Raises InvalidInput.
    """
    if not text:
        return None
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 4 or not all(
        part.isascii() and part.isdigit() and len(part) < 10 for part in parts
    ):
        detail = (
            "box takes x,y,width,height in whole pixels of the upright image,"
            " for example 10,20,200,100."
        )
        raise InvalidInput("invalid-box", detail)
    return Box(*(int(part) for part in parts))


def parse_sort_text(text: str | None) -> Sort:
    """Parse the order of a list; newest first for an empty or missing one. Raises InvalidInput."""
    if not text:
        return NEWEST_FIRST
    try:
        return parse_sort(text)
    except InvalidSort as error:
        detail = f"sort takes a path such as name, or -name for the reverse order: {error}"
        raise InvalidInput("invalid-sort", detail) from None


def check_confirmed(collection: str, confirm: str) -> None:
    """Raise InvalidInput unless ``confirm`` repeats the name of the collection to delete."""
    if confirm != collection:
        detail = (
            "This deletes all masters of the collection:"
            " confirm it by repeating the collection's name in the parameter confirm."
        )
        raise InvalidInput("not-confirmed", detail)
