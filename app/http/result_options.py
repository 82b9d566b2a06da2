"""Reads what a search is to make of the masters that it finds, from a form or from JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from fastapi import Depends, Form

from app.errors import InvalidInput
from app.http.cursors import parse_hit_cursor
from app.http.parameters import parse_sort_text
from app.http.schemas.queries import COLLAPSE, CURSOR, FACETS, GROUP_BY, GROUP_SIZE, SORT
from app.services.queries import ResultOptions
from app.services.results import MAX_FACETS, MAX_GROUP_SIZE
from storage.filters import Path, parse_path


def make_results(
    group_by: str | None,
    group_size: int,
    collapse_duplicates: float | None,
    sort: str | None,
    facets: Sequence[str],
    cursor: str | None,
) -> ResultOptions:
    """Return the options. Raises InvalidInput."""
    return ResultOptions(
        group_by=_parse_path("group_by", group_by) if group_by else None,
        group_size=group_size,
        collapse_duplicates=collapse_duplicates,
        sort=parse_sort_text(sort) if sort else None,
        facets=tuple(dict.fromkeys(_parse_path("facets", each) for each in facets)),
        after=parse_hit_cursor(cursor),
    )


def _parse_path(name: str, text: str) -> Path:
    try:
        return parse_path(text, ValueError)
    except ValueError as error:
        detail = f"{name} takes the path of an attribute or built-in field, such as colour: {error}"
        raise InvalidInput("invalid-path", detail) from None


def _read_form(
    group_by: Annotated[str | None, Form(description=GROUP_BY)] = None,
    group_size: Annotated[int, Form(ge=1, le=MAX_GROUP_SIZE, description=GROUP_SIZE)] = 1,
    collapse_duplicates: Annotated[
        float | None, Form(ge=0, le=2, allow_inf_nan=False, description=COLLAPSE)
    ] = None,
    sort: Annotated[str | None, Form(description=SORT)] = None,
    facets: Annotated[list[str], Form(max_length=MAX_FACETS, description=FACETS)] = [],  # noqa: B006 - it is not changed
    cursor: Annotated[str | None, Form(description=CURSOR)] = None,
) -> ResultOptions:
    return make_results(group_by, group_size, collapse_duplicates, sort, facets, cursor)


ResultsDep = Annotated[ResultOptions, Depends(_read_form)]
