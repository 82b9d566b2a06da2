"""/admin: for whoever keeps the service up."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse

from app import schemas
from app.dependencies import ScrubDep, ServicesDep, WorkerDep
from app.errors import as_app_error
from app.limits import FormRoute
from app.security import Access, requires
from storage.protocols import StoreUnavailable

router = APIRouter(route_class=FormRoute, tags=["admin"])


@router.post(
    "/admin/scrub",
    response_class=StreamingResponse,
    responses={200: {"content": {"application/x-ndjson": {}}, "description": "One JSON object a line; the last has the report."}},
)
@requires(Access.ADMIN)
def scrub(scrub: ScrubDep, options: schemas.ScrubOptions) -> StreamingResponse:
    """Check the stores against each other, and repair what can be. Closing the connection stops it between two batches."""
    scrub.total()  # a store that is down is said with a status, while there still is one to give
    return StreamingResponse(_lines(scrub.events(repair=options.repair, full=options.full)), media_type="application/x-ndjson")


@router.get("/admin/dead-letters")
@requires(Access.ADMIN)
def list_dead_letters(
    services: ServicesDep, limit: Annotated[int, Query(ge=1, le=1000, description="Letters at most.")] = 100
) -> schemas.DeadLetters:
    """Masters that could not be indexed in LOOKALIKE_INDEX_ATTEMPTS attempts, and why. They are kept, and not found."""
    metadata = services.stores.metadata
    letters = [schemas.DeadLetter.of(letter) for letter in metadata.list_dead(limit)]
    return schemas.DeadLetters(dead_letters=letters, total=metadata.count_dead())


@router.post("/admin/dead-letters/retry")
@requires(Access.ADMIN)
def retry_dead_letters(services: ServicesDep, worker: WorkerDep) -> schemas.Revived:
    """Have all of them tried again."""
    revived = services.stores.metadata.revive_dead()
    worker.wake()
    return schemas.Revived(revived=revived)


def _lines(events: Iterator[dict[str, Any]]) -> Iterator[str]:
    try:
        for event in events:
            yield json.dumps(event) + "\n"
    except StoreUnavailable as error:
        known = as_app_error(error)
        if known is not None:
            yield json.dumps({"error": {"code": known.code, "detail": known.detail}}) + "\n"
