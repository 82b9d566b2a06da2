"""The one composition root: settings -> stores, model, services -> the ASGI app."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, closing, contextmanager, nullcontext
from functools import partial
from typing import TypeVar

import anyio.to_thread
from fastapi import FastAPI

from app import errors, openapi
from app.dependencies import Services
from app.head import HeadAsGet
from app.limits import BodyLimits
from app.observability import Metrics, RequestContext, log
from app.routes import admin, collections, docs, health, masters, search, web
from app.security import HostAndOrigin, KeyRing
from app.services.attributes import Attributes
from app.services.collections import DEFAULT, Collections
from app.services.indexing import Indexing
from app.services.ingest import Ingest
from app.services.masters import Masters
from app.services.models import GivenModel, Models
from app.services.reembed import Reembed
from app.services.scrub import Scrub
from app.services.search import Search
from app.services.vision import Vision
from app.settings import Settings
from app.worker import Worker
from models.embedder import Embedder, load_embedder
from models.weights_file import DEFAULT_WEIGHTS, WeightsFile
from storage.factory import DirectoryLock, StoreUrls, open_stores
from storage.protocols import Stores, StoreUnavailable

_T = TypeVar("_T")
_SPARE_THREADS = 32  # for reads, beside those that wait for a slot


def create_app(settings: Settings, services: Services | None = None, given: GivenModel | None = None) -> FastAPI:
    """The app. Services not given are started, on the stores of the settings, when it starts, and stopped when it ends."""
    keys = KeyRing(settings.api_keys.get_secret_value())

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        anyio.to_thread.current_default_thread_limiter().total_tokens = settings.max_requests + _SPARE_THREADS
        with ExitStack() as opened:
            if services is None:
                stores = opened.enter_context(opened_stores(settings))
                app.state.services = opened.enter_context(running_services(settings, stores, given))
            else:
                app.state.services = services
            log.info("ready", model_version=next(iter(app.state.services.models.live), None), **store_urls(settings).shown)
            yield

    app = FastAPI(
        title="Lookalike",
        summary="Put pictures in, show one, get those that look most like it.",
        version="0.1.0",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
    )
    app.state.settings = settings
    app.state.keys = keys
    app.state.services = None
    for module in (masters, search, collections, admin, health, docs, web):
        app.include_router(module.router)
    errors.install(app)
    openapi.install(app)
    app.add_middleware(BodyLimits, settings=settings)
    app.add_middleware(HostAndOrigin, settings=settings, keys=keys)
    app.add_middleware(HeadAsGet)
    app.add_middleware(RequestContext, metrics=lambda: app.state.services.metrics if app.state.services else None)
    return app


def store_urls(settings: Settings) -> StoreUrls:
    return StoreUrls(
        database=settings.effective_database_url,
        objects=settings.effective_objects_url,
        vectors=settings.vectors_url,
        timeout=settings.store_timeout,
        database_pool=settings.database_pool,
        create_bucket=settings.create_bucket,
        public_objects=settings.public_objects_url,
        milvus={
            "token": settings.milvus_token.get_secret_value(),
            "ca_certificate": settings.milvus_ca_certificate,
            "prefix": settings.milvus_prefix,
            "index": settings.milvus_index,
            "m": settings.milvus_m,
            "ef_construction": settings.milvus_ef_construction,
            "ef": settings.milvus_ef,
            "consistency": settings.milvus_consistency,
        },
    )


@contextmanager
def opened_stores(settings: Settings, *, searched: bool = True, shared: bool = False) -> Iterator[Stores]:
    """The stores of the settings, the data directory locked if one is in it and not ``shared``; servers are waited for.

    ``searched``: whether vectors are to be in memory.
    Raises ConfigurationError, and StoreUnavailable where all stores are embedded.
    """
    urls = store_urls(settings)
    lock = DirectoryLock(settings.data_dir) if urls.embedded and not shared else nullcontext()
    with lock, closing(waited_for(urls, partial(open_stores, searched=searched, shared=shared))) as stores:
        yield stores


def waited_for(urls: StoreUrls, use: Callable[[StoreUrls], _T], patience: float = math.inf) -> _T:
    """Start order does not matter: a server that is not there yet is asked again until it is, or for ``patience`` seconds."""
    pause, until = 0.5, time.monotonic() + patience
    while True:
        try:
            return use(urls)
        except StoreUnavailable as error:
            if (urls.database.startswith("sqlite:") and urls.objects.startswith("file:")) or time.monotonic() > until:
                raise
            log.warning("waiting for a store", store=error.store, reason=str(error))
        time.sleep(pause)
        pause = min(5.0, pause * 1.5)


@contextmanager
def running_services(settings: Settings, stores: Stores, given: GivenModel | None = None) -> Iterator[Services]:
    """The use cases, with their threads. Raises WeightsInvalid, EngineMissing, StoreUnavailable."""
    services = started_services(settings, stores, given or opened_model(settings))
    if settings.worker == "on" or (settings.worker == "auto" and store_urls(settings).embedded):
        services.worker.start()
    try:
        yield services
    finally:
        services.worker.stop()
        services.models.stop()


def started_services(settings: Settings, stores: Stores, given: GivenModel) -> Services:
    """The use cases with the model; a server that goes away meanwhile is waited for. Raises EngineMissing, WeightsInvalid."""

    def start(_: StoreUrls) -> Services:
        services = build_services(settings, stores)
        services.models.start(given)
        return services

    return waited_for(store_urls(settings), start)


def opened_model(settings: Settings) -> GivenModel:
    """Raises WeightsInvalid."""
    weights = settings.weights or DEFAULT_WEIGHTS
    return GivenModel(opened_embedder(settings, WeightsFile.load(weights)), weights, chosen=settings.weights is not None)


def opened_embedder(settings: Settings, weights: WeightsFile) -> Embedder:
    """Raises WeightsInvalid."""
    return load_embedder(weights, engine=settings.engine, precision=settings.precision, slots=settings.slots)


def build_services(settings: Settings, stores: Stores) -> Services:
    """Wire the use cases to stores and model. Raises StoreUnavailable."""
    metrics = Metrics(stores.metadata.count_pending, stores.metadata.count_dead)
    models = Models(stores, partial(opened_embedder, settings), settings.worker_interval)
    vision = Vision(models, settings.slots, metrics)
    found = Collections(stores.metadata)
    found.find_or_create(DEFAULT)
    indexing = Indexing(stores, models, vision, metrics, settings.lease_seconds)
    looked_at = Masters(stores, found, vision, indexing, settings.thumbnail_cache_bytes)
    scrub = Scrub(stores, metrics, grace=settings.scrub_grace)
    return Services(
        settings=settings,
        stores=stores,
        metrics=metrics,
        models=models,
        vision=vision,
        collections=found,
        attributes=Attributes(stores.metadata, found),
        ingest=Ingest(settings, stores, found, vision, indexing, metrics),
        masters=looked_at,
        search=Search(stores, models, found, looked_at, vision, metrics),
        scrub=scrub,
        reembed=Reembed(stores, models, vision, scrub, load=partial(opened_embedder, settings)),
        worker=Worker(settings, stores, indexing, scrub, metrics),
    )
