"""/livez, /readyz, /stats, /metrics: the state of the service, for whoever operates it."""

from __future__ import annotations

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST

from app.http import schemas
from app.http.dependencies import (
    CapturesDep,
    CollectionsDep,
    DeadLettersDep,
    HealthDep,
    MetricsDep,
)
from app.http.security import Access, SecuredRoute, requires
from app.services.health import OK

router = APIRouter(route_class=SecuredRoute, tags=["health"])


@router.get("/livez", response_class=Response, summary="Check that the process runs")
@requires(Access.PUBLIC)
async def livez() -> Response:
    """Answers 200 while the process runs, whatever the state of its stores."""
    return Response("ok", media_type="text/plain")


@router.get(
    "/readyz",
    responses={503: {"model": schemas.Readiness}},
    summary="Check that the process can answer requests",
)
@requires(Access.PUBLIC)
async def readyz(health: HealthDep, response: Response) -> schemas.Readiness:
    """Answers 200 when every store answers, and the active models and their vectors are loaded.

    Otherwise it answers 503, and `checks` has the reason. Results are up to a second old. `loading`
    is always as of now.
    """
    loading = {
        version: schemas.Loading(loaded=progress.loaded, total=progress.total)
        for version, progress in health.loading().items()
    }
    checks = await health.check_readiness()
    ready = all(state == OK for state in checks.values())
    response.status_code = 200 if ready else 503
    return schemas.Readiness(
        ready=ready,
        checks=checks,
        model_version=health.last_active_version(),
        warnings=health.warnings,
        loading=loading,
    )


@router.get("/stats", summary="Get the counts of the installation")
@requires(Access.READ)
def stats(
    collections: CollectionsDep, captures: CapturesDep, dead_letters: DeadLettersDep
) -> schemas.Stats:
    """Returns how many masters there are, and how much of the worker's work is left."""
    return schemas.Stats(
        masters=sum(masters for _, masters in collections.list_collections()),
        pending=collections.count_pending_embeddings(),
        dead_letters=dead_letters.count_dead_letters(),
        unread=captures.count_unread(),
    )


@router.get("/metrics", response_class=Response, summary="Get Prometheus metrics")
@requires(Access.ADMIN)
def metrics(metrics: MetricsDep) -> Response:
    """Returns the metrics of this process in Prometheus' text format."""
    return Response(metrics.exposition(), media_type=CONTENT_TYPE_LATEST)
