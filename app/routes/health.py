"""/livez, /readyz, /metrics: for whoever keeps the service up."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST

from app.errors import Unavailable
from app.http import schemas
from app.http.dependencies import ServicesDep
from app.http.security import Access, SecuredRoute, requires
from storage.errors import StoreUnavailable

router = APIRouter(route_class=SecuredRoute, tags=["health"])


@router.get("/livez", response_class=Response)
@requires(Access.PUBLIC)
async def livez() -> Response:
    """200 while the process runs."""
    return Response("ok", media_type="text/plain")


@router.get("/readyz", responses={503: {"model": schemas.Readiness}})
@requires(Access.PUBLIC)
def readyz(services: ServicesDep, response: Response) -> schemas.Readiness:
    """200 when every store answers and the active model is loaded; else 503, naming what is not."""
    stores = services.stores
    checks = {
        "metadata": _check(stores.metadata.ping),
        "objects": _check(stores.objects.ping),
        "vectors": _check(stores.vectors.ping),
    }
    known = checks["metadata"] == "ok"  # which model is active stands there
    checks["model"] = (
        _check(services.models.active)
        if known
        else "unknown while the metadata store does not answer"
    )
    ready = all(state == "ok" for state in checks.values())
    response.status_code = 200 if ready else 503
    return schemas.Readiness(
        ready=ready, checks=checks, model_version=next(iter(services.models.live), "")
    )


def _check(probe: Callable[[], object]) -> str:
    try:
        probe()
    except (StoreUnavailable, Unavailable) as error:
        return str(error)
    return "ok"


@router.get("/metrics", response_class=Response)
@requires(Access.ADMIN)
def metrics(services: ServicesDep) -> Response:
    """Prometheus' text format."""
    return Response(services.metrics.exposition(), media_type=CONTENT_TYPE_LATEST)
