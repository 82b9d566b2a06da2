"""/deletions: deletions of several masters that can be undone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Path, Query, Request, Response

from app.http import schemas
from app.http.api_route import ApiRoute
from app.http.dependencies import UndoDep
from app.http.security import Access, requires
from app.http.streams import STREAMED, streamed
from app.services.undo import UndoOutcome

router = APIRouter(route_class=ApiRoute, tags=["masters"])


@router.get("/deletions", summary="List the deletions that can be undone")
@requires(Access.READ)
def list_deletions(
    undo: UndoDep,
    collection: Annotated[
        str | None, Query(description="Name of the collection; all of them by default.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="Maximum number of deletions.")] = 100,
) -> schemas.DeletionList:
    """Returns the deletions that can be undone, the newest first."""
    found = undo.list_deletions(collection, limit)
    return schemas.DeletionList(deletions=[schemas.Deletion.of(each) for each in found])


@router.post(
    "/deletions/{deletion_id}/undo",
    responses=STREAMED,
    response_class=Response,
    summary="Undo a deletion",
)
@requires(Access.WRITE)
def undo_deletion(
    request: Request,
    undo: UndoDep,
    deletion_id: Annotated[UUID, Path(description="Id of the deletion.")],
) -> Response:
    """Brings the masters of a deletion back, under their ids.

    They can be read at once, and are found by searches once a worker has indexed them. A master
    whose bytes were uploaded again meanwhile stays deleted, and is reported.
    """
    return streamed(request, _events(undo.undo_deletion(deletion_id)))


def _events(walk: Iterator[UndoOutcome]) -> Iterator[dict[str, Any]]:
    """Yield the progress between batches, then the result."""
    for outcome in walk:
        if outcome.done < outcome.total:
            yield {"done": outcome.done, "total": outcome.total}
    yield {
        "result": {
            "restored": outcome.restored,
            "conflicts": outcome.conflicts,
            "held": outcome.held,
            "attributes_restored": outcome.attributes_restored,
            "examples": [
                {"id": str(deleted), "master": str(present)}
                for deleted, present in outcome.examples
            ],
        }
    }
