"""The ASGI app: routes, middleware and error mapping over the services of one process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio.to_thread
from fastapi import FastAPI

from app import __version__
from app.bootstrap import MAX_WAITING, store_urls
from app.container import Services
from app.http import openapi, problems
from app.http.body_limits import BodyLimits
from app.http.callers import Callers
from app.http.file_threads import FileThreads
from app.http.head import HeadAsGet
from app.http.request_context import RequestContext
from app.http.security import HostAndOrigin, KeyRing
from app.logs import log
from app.routes import (
    admin,
    changes,
    collections,
    comparison,
    content,
    deletions,
    docs,
    duplicates,
    explanation,
    health,
    masters,
    resolving,
    search,
    spaces,
    vectors,
    web,
)
from app.settings import Settings

_SPARE_THREADS = 32  # for reads: neither requests with a body nor thumbnails that wait
_DESCRIPTION = """
Upload *masters*, the images that can be found. Send a *sample*, an image that is not stored, or a
few words, or both, and get the nearest masters. A *collection* is a named set of masters, and a
search stays inside one.

Errors have the form of RFC 9457, with a stable `code` for programs. If the service has API keys,
send one in the header `Authorization: Bearer KEY`.
"""
_TAGS = [
    {"name": "masters", "description": "Upload, browse, change and delete images."},
    {"name": "search", "description": "Find masters by an image, by words, or by both."},
    {"name": "collections", "description": "Named sets of masters."},
    {"name": "duplicates", "description": "Find copies of one photograph, and decide about them."},
    {"name": "admin", "description": "Checks, repairs and model changes. Needs the scope admin."},
    {"name": "health", "description": "The state of the process."},
]


def create_app(settings: Settings, services: Services | None = None) -> FastAPI:
    """Build the app over ``services``, which the caller starts and stops.

    Without services the app can only be inspected, for its routes and its OpenAPI document.
    """
    keys = KeyRing(settings.api_keys.get_secret_value())

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.file_threads = FileThreads(settings.slots)
        threads = (
            settings.max_requests + MAX_WAITING + _SPARE_THREADS + app.state.file_threads.count
        )
        anyio.to_thread.current_default_thread_limiter().total_tokens = threads
        if services is not None:
            active = next(iter(services.models.live_versions), None)
            log.info("ready", model_version=active, **store_urls(settings).shown)
        yield

    app = FastAPI(
        title="Lookalike",
        summary="Self-hosted visual search: upload images and find those that look like a sample.",
        description=_DESCRIPTION,
        openapi_tags=_TAGS,
        version=__version__,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,  # such a redirect would lead to whatever the Host header names
    )
    app.state.settings = settings
    app.state.keys = keys
    app.state.services = services
    for module in (
        masters,
        changes,
        deletions,
        content,
        search,
        vectors,
        comparison,
        explanation,
        spaces,
        collections,
        duplicates,
        resolving,
        admin,
        health,
        docs,
        web,
    ):
        app.include_router(module.router)
    problems.install(app)
    openapi.install(app)
    app.add_middleware(Callers)
    app.add_middleware(BodyLimits, settings=settings)
    app.add_middleware(HostAndOrigin, settings=settings, keys=keys)
    app.add_middleware(HeadAsGet)
    app.add_middleware(RequestContext, metrics=services.metrics if services else None)
    return app
