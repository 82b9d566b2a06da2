"""Near-identical masters: scans of a collection, and what people decide about them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from app.http import schemas
from app.http.api_route import ApiRoute
from app.http.cursors import (
    parse_decision_cursor,
    parse_group_cursor,
    write_decision_cursor,
    write_group_cursor,
)
from app.http.dependencies import DuplicatesDep, SettingsDep
from app.http.parameters import CollectionQuery
from app.http.security import Access, requires
from app.services.collections import DEFAULT
from app.services.duplicates import SIZE
from app.services.found_groups import GroupOrder
from storage.records import LOOK

router = APIRouter(route_class=ApiRoute, tags=["duplicates"])
_CollectionName = Annotated[str, Path(description="Name of the collection.")]
_WithQuery = Annotated[
    str | None,
    Query(alias="with", description="Name of the other collection, if two are compared."),
]
_SpaceQuery = Annotated[str, Query(description="Space of the scan.")]
_CursorQuery = Annotated[str | None, Query(description="The next_cursor of the previous page.")]


@router.post("/collections/{name}/duplicates", status_code=202, summary="Look for duplicates")
@requires(Access.WRITE)
def start_scan(
    duplicates: DuplicatesDep,
    name: _CollectionName,
    new: schemas.NewDuplicateScan,
) -> schemas.DuplicateScan:
    """Starts to look for near-identical masters in a collection, or between two.

    The worker compares all masters, and later uploads as they come. Calling it again changes
    nothing, except that the scan counts as running until all masters have been visited once more.
    """
    state = duplicates.start_scan(name, new.with_, new.space, new.max_distance)
    return schemas.DuplicateScan.of(state)


@router.get(
    "/collections/{name}/duplicates",
    response_model=schemas.DuplicatePage,
    summary="List duplicates",
)
@requires(Access.READ)
def list_duplicates(
    duplicates: DuplicatesDep,
    settings: SettingsDep,
    name: _CollectionName,
    with_: _WithQuery = None,
    space: _SpaceQuery = LOOK,
    sort: Annotated[
        GroupOrder,
        Query(description="`size`: the largest groups first. `certainty`: the surest first."),
    ] = SIZE,
    limit: Annotated[int, Query(ge=1, le=100, description="Groups per page.")] = 20,
    cursor: _CursorQuery = None,
) -> Response:
    """Returns how far the scan is, and the groups that it has found so far, a page at a time.

    A page with many masters ends before it has `limit` groups.
    """
    after = parse_group_cursor(cursor, sort)
    page = duplicates.list_groups(name, with_, space, sort, limit, after)
    body = schemas.DuplicatePage.model_construct(
        scan=schemas.DuplicateScan.of(page.state),
        groups=[schemas.DuplicateGroup.of(group) for group in page.groups],
        undo_hours=settings.undo_hours,
        next_cursor=write_group_cursor(page.next_after, sort) if page.next_after else None,
    )
    return Response(body.model_dump_json(by_alias=True), media_type="application/json")


@router.delete(
    "/collections/{name}/duplicates", status_code=204, summary="Stop looking for duplicates"
)
@requires(Access.WRITE)
def end_scan(
    duplicates: DuplicatesDep,
    name: _CollectionName,
    with_: _WithQuery = None,
    space: _SpaceQuery = LOOK,
) -> None:
    """Ends a scan and forgets what it found. Masters and decisions stay."""
    duplicates.end_scan(name, with_, space)


@router.post("/duplicates/decisions", summary="Decide about duplicates")
@requires(Access.WRITE)
def save_decision(duplicates: DuplicatesDep, new: schemas.NewDecision) -> schemas.Decided:
    """Keeps every two of the masters out of all groups, until the decision is removed.

    It replaces earlier decisions about them. If one of the masters does not exist, nothing is
    saved.
    """
    return schemas.Decided(pairs=duplicates.decide(new.masters, new.decision))


@router.get("/duplicates/decisions", summary="List decisions about duplicates")
@requires(Access.READ)
def list_decisions(
    duplicates: DuplicatesDep,
    collection: CollectionQuery = DEFAULT,
    limit: Annotated[int, Query(ge=1, le=1000, description="Decisions per page.")] = 100,
    cursor: _CursorQuery = None,
) -> schemas.DecisionPage:
    """Returns what was decided about masters of a collection, a page at a time."""
    page, after = duplicates.list_decisions(collection, limit, parse_decision_cursor(cursor))
    return schemas.DecisionPage(
        decisions=[schemas.DuplicateDecision.of(each) for each in page],
        next_cursor=write_decision_cursor(after) if after else None,
    )


@router.delete("/duplicates/decisions", summary="Remove decisions about duplicates")
@requires(Access.WRITE)
def remove_decision(
    duplicates: DuplicatesDep, withdrawn: schemas.WithdrawnDecision
) -> schemas.Decided:
    """Removes what was decided about every two of the masters, so that groups have them again."""
    return schemas.Decided(pairs=duplicates.withdraw(withdrawn.masters))
