"""PATCH and DELETE /masters: changes of all masters of a collection, or of those that match."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from app.errors import InvalidInput
from app.http import schemas
from app.http.api_route import ApiRoute
from app.http.dependencies import ChangesDep, CollectionsDep
from app.http.parameters import (
    CollectionQuery,
    FilterQuery,
    check_confirmed,
    parse_filter_json,
    parse_filter_text,
)
from app.http.schemas.times import utc_time
from app.http.security import Access, requires
from app.http.streams import STREAMED, streamed
from app.services.changes import AttributeChange, Outcome
from storage.protocols import Deletion

router = APIRouter(route_class=ApiRoute, tags=["masters"])
_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": STREAMED[200]["description"] + " A dry run returns the number alone.",
        "content": STREAMED[200]["content"]
        | {"application/json": {"schema": {"$ref": "#/components/schemas/MatchCount"}}},
    },
    409: {"description": "Another number of masters matches by now."},
}
_NO_FILTER: dict[int | str, dict[str, Any]] = {
    204: {"description": "All masters of the collection are deleted."}
}
_COUNT_AGAIN = (
    "With a filter, confirm takes the number of masters that match: send the request with"
    " dry_run=true first, and repeat the number that it returns."
)


@router.patch(
    "/masters",
    responses=_ANSWERS,
    response_class=Response,
    summary="Change the masters that match a filter",
)
@requires(Access.WRITE)
def change_masters(request: Request, changes: ChangesDep, change: schemas.FilterChange) -> Response:
    """Changes attributes of all masters of a collection that match a filter.

    With `dry_run`, it only counts them. `confirm` must repeat that number. The masters are changed
    in small batches, the newest first, each master completely or not at all. Closing the
    connection stops it after the current batch; the same request continues.
    """
    condition = parse_filter_json(change.filter)
    wanted = AttributeChange.parse(change.set, change.unset)
    if change.dry_run:
        return _count(changes.count_matching(change.collection, condition))
    if change.confirm is None:
        raise InvalidInput("not-confirmed", _COUNT_AGAIN)
    walk = changes.change_matching(change.collection, condition, wanted, change.confirm)
    return streamed(request, _events(walk, "changed"))


@router.delete(
    "/masters",
    responses=_ANSWERS | _NO_FILTER,
    response_class=Response,
    summary="Delete the masters of a collection",
)
@requires(Access.WRITE)
def delete_masters(
    request: Request,
    collections: CollectionsDep,
    changes: ChangesDep,
    collection: CollectionQuery,
    filter: FilterQuery = None,
    dry_run: Annotated[bool, Query(description="Only count what would be deleted.")] = False,
    confirm: Annotated[
        str,
        Query(
            description="Confirms the deletion. Without a filter it repeats the collection's name,"
            " and with one the number of masters that match."
        ),
    ] = "",
    permanent: Annotated[
        bool,
        Query(
            description="Delete the masters that match a filter for good. Without a filter, a"
            " deletion is always permanent."
        ),
    ] = False,
) -> Response:
    """Deletes all masters of a collection, or those that match a filter.

    The collection itself stays. With a filter, the masters are deleted in small batches, the
    newest first; closing the connection stops it after the current batch. Such a deletion can be
    undone until `undo_until`, unless it is `permanent`.
    """
    if filter == "":
        detail = "filter is empty. Leave it out to delete all masters of the collection."
        raise InvalidInput("invalid-filter", detail)
    condition = parse_filter_text(filter)
    if dry_run:
        return _count(changes.count_matching(collection, condition))
    if condition is None:
        check_confirmed(collection, confirm)
        collections.empty_collection(collection)
        return Response(status_code=204)
    if not (confirm.isascii() and confirm.isdigit() and len(confirm) < 16):
        raise InvalidInput("not-confirmed", _COUNT_AGAIN)
    walk = changes.delete_matching(collection, condition, int(confirm), permanent=permanent)
    return streamed(request, _events(walk, "deleted"))


def _count(number: int) -> Response:
    body = schemas.MatchCount(matched=number).model_dump_json()
    return Response(body, media_type="application/json")


def _events(walk: Iterator[Outcome], done: str) -> Iterator[dict[str, Any]]:
    """Yield the progress between batches, then the result; ``done`` names what was achieved."""
    for outcome in walk:
        if outcome.done < outcome.matched:
            yield {"done": outcome.done, "total": outcome.matched} | undo_of(outcome.deletion)
    result: dict[str, Any] = {"matched": outcome.matched, done: outcome.changed}
    result["skipped"] = outcome.skipped
    if done == "deleted":
        result |= undo_of(outcome.deletion)
    else:
        result["unchanged"] = outcome.unchanged
        result["refused"] = outcome.refused
        result["examples"] = [
            {"id": str(master_id), "reason": reason} for master_id, reason in outcome.examples
        ]
    yield {"result": result}


def undo_of(deletion: Deletion | None) -> dict[str, Any]:
    """Return the deletion that a client can undo, also if it does not wait for the end."""
    if deletion is None:
        return {}
    until = utc_time(deletion.undo_until).isoformat().replace("+00:00", "Z")
    return {"deletion": str(deletion.id), "undo_until": until}
