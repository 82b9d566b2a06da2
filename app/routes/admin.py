"""/admin: for whoever keeps the service up."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import APIRouter, File, Path, Query, UploadFile
from fastapi.responses import StreamingResponse

from app.errors import AppError
from app.http import schemas
from app.http.dependencies import ReembedDep, ScrubDep, ServicesDep, WorkerDep
from app.http.forms import FormRoute
from app.http.problems import as_app_error
from app.http.security import Access, requires
from storage.errors import StoreUnavailable

router = APIRouter(route_class=FormRoute, tags=["admin"])
VersionPath = Annotated[
    str, Path(pattern="^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", description="Model version.")
]


@router.post(
    "/admin/scrub",
    response_class=StreamingResponse,
    responses={
        200: {
            "content": {"application/x-ndjson": {}},
            "description": "One JSON object a line; the last has the report.",
        }
    },
)
@requires(Access.ADMIN)
def scrub(scrub: ScrubDep, options: schemas.ScrubOptions) -> StreamingResponse:
    """Check the stores against each other, and repair what can be. Closing the connection stops it between two batches."""
    scrub.total()  # a store that is down is said with a status, while there still is one to give
    return StreamingResponse(
        _lines(scrub.events(repair=options.repair, full=options.full)),
        media_type="application/x-ndjson",
    )


@router.get("/admin/dead-letters")
@requires(Access.ADMIN)
def list_dead_letters(
    services: ServicesDep,
    limit: Annotated[int, Query(ge=1, le=1000, description="Letters at most.")] = 100,
) -> schemas.DeadLetters:
    """Masters that could not be indexed in LOOKALIKE_INDEX_ATTEMPTS attempts, and why. They are kept, and not found."""
    metadata = services.stores.metadata
    letters = [schemas.DeadLetter.of(letter) for letter in metadata.list_dead_letters(limit)]
    return schemas.DeadLetters(dead_letters=letters, total=metadata.count_dead_letters())


@router.post("/admin/dead-letters/retry")
@requires(Access.ADMIN)
def retry_dead_letters(services: ServicesDep, worker: WorkerDep) -> schemas.Revived:
    """Have all of them tried again."""
    revived = services.stores.metadata.requeue_dead_letters()
    worker.wake()
    return schemas.Revived(revived=revived)


@router.get("/admin/models")
@requires(Access.ADMIN)
def list_models(reembed: ReembedDep) -> schemas.ModelList:
    """The model versions, how far each one's embeddings are, and which running processes have loaded it."""
    progress, replicas = reembed.status()
    return schemas.ModelList(
        models=[schemas.Model.of(each, replicas) for each in progress], processes=len(replicas)
    )


@router.post("/admin/models", status_code=201)
@requires(Access.ADMIN)
def add_weights(
    reembed: ReembedDep,
    weights: Annotated[UploadFile, File(description="A weights file of ours (safetensors).")],
) -> schemas.AddedModel:
    """Put weights where every process finds them. Nothing uses them until they are started."""
    return schemas.AddedModel(version=reembed.add(weights.file))


@router.post("/admin/models/{version}/start", status_code=202)
@requires(Access.ADMIN)
def start_model(reembed: ReembedDep, worker: WorkerDep, version: VersionPath) -> schemas.AddedModel:
    """Build it beside the active one: workers embed every master by it, uploads are embedded by both."""
    reembed.start(version)
    worker.wake()
    return schemas.AddedModel(version=version)


@router.post(
    "/admin/models/{version}/activate",
    response_class=StreamingResponse,
    responses={
        200: {
            "content": {"application/x-ndjson": {}},
            "description": "One JSON object a line; the last says what came.",
        }
    },
)
@requires(Access.ADMIN)
def activate_model(reembed: ReembedDep, version: VersionPath) -> StreamingResponse:
    """Check it and switch every search to it, as one step; the one before is kept. Also rolls back to a previous version."""
    reembed.check_started(version)
    return StreamingResponse(_lines(reembed.activate(version)), media_type="application/x-ndjson")


@router.post("/admin/models/{version}/retire", status_code=202)
@requires(Access.ADMIN)
def retire_model(
    reembed: ReembedDep, worker: WorkerDep, version: VersionPath
) -> schemas.AddedModel:
    """Give up what is being built, or the previous version: its embeddings, vectors and weights are removed."""
    reembed.retire(version)
    worker.wake()
    return schemas.AddedModel(version=version)


def _lines(events: Iterator[dict[str, Any]]) -> Iterator[str]:
    try:
        for event in events:
            yield json.dumps(event) + "\n"
    except (AppError, StoreUnavailable) as error:
        known = as_app_error(error)
        if known is not None:
            yield json.dumps({"error": {"code": known.code, "detail": known.detail}}) + "\n"
