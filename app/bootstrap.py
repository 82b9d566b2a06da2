"""The composition root: builds stores, model and services from the settings.

The server, the worker, the command line and the tests all start here.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from functools import partial
from typing import TypeVar

from app.container import Services
from app.logs import log
from app.metrics import Metrics
from app.services.attributes import Attributes
from app.services.collections import DEFAULT, Collections
from app.services.indexing import Indexing
from app.services.ingest import Ingest
from app.services.loaded_models import GivenModel, Models
from app.services.masters import Masters
from app.services.reembed import Reembed
from app.services.scrub import Scrub
from app.services.search import Search
from app.services.vision import Vision
from app.settings import Settings
from app.worker import Worker
from models.embedder import Embedder, load_embedder
from models.weights_file import DEFAULT_WEIGHTS, WeightsFile
from storage.directory_lock import DirectoryLock
from storage.errors import StoreUnavailable
from storage.factory import open_stores
from storage.protocols import Stores
from storage.store_urls import MilvusOptions, StoreUrls

_Result = TypeVar("_Result")


def store_urls(settings: Settings) -> StoreUrls:
    return StoreUrls(
        database=settings.effective_database_url,
        objects=settings.effective_objects_url,
        vectors=settings.vectors_url,
        timeout=settings.store_timeout,
        database_pool=settings.database_pool,
        create_bucket=settings.create_bucket,
        public_objects=settings.public_objects_url,
        milvus=MilvusOptions(
            token=settings.milvus_token.get_secret_value(),
            ca_certificate=settings.milvus_ca_certificate,
            prefix=settings.milvus_prefix,
            index=settings.milvus_index,
            m=settings.milvus_m,
            ef_construction=settings.milvus_ef_construction,
            ef=settings.milvus_ef,
            consistency=settings.milvus_consistency,
        ),
    )


@contextmanager
def connect_stores(
    settings: Settings, *, load_vectors: bool = True, read_only: bool = False
) -> Iterator[Stores]:
    """Open the stores that the settings name, and close them at the end.

    Servers that do not answer yet are retried until they do. An embedded data directory is locked
    against other processes, unless ``read_only``, which reads beside a running service.
    ``load_vectors`` reads the embedded vectors into memory, which only searches need.

    Raises ConfigurationError; StoreUnavailable if every store is embedded.
    """
    urls = store_urls(settings)
    lock = DirectoryLock(settings.data_dir) if urls.embedded and not read_only else nullcontext()
    open_these = partial(open_stores, load_vectors=load_vectors, read_only=read_only)
    with lock, closing(wait_for_stores(urls, open_these)) as stores:
        yield stores


def wait_for_stores(
    urls: StoreUrls, call: Callable[[StoreUrls], _Result], patience: float = math.inf
) -> _Result:
    """Return ``call(urls)``, retried while a server does not answer, for at most ``patience`` seconds.

    So the servers and the processes of Lookalike can start in any order.
    """
    pause, give_up_at = 0.5, time.monotonic() + patience
    only_local = urls.database.startswith("sqlite:") and urls.objects.startswith("file:")
    while True:
        try:
            return call(urls)
        except StoreUnavailable as error:
            if only_local or time.monotonic() > give_up_at:
                raise
            log.warning("waiting for a store", store=error.store, reason=str(error))
        time.sleep(pause)
        pause = min(5.0, pause * 1.5)


@contextmanager
def run_services(
    settings: Settings, stores: Stores, given: GivenModel | None = None
) -> Iterator[Services]:
    """Run the services on open stores, with the threads they need, until the end of the block.

    The worker runs as a thread of this process if the settings say so. ``given`` replaces the model
    that the settings name. Raises WeightsInvalid, EngineMissing.
    """
    services = _start_services(settings, stores, given or load_given_model(settings))
    if settings.worker == "on" or (settings.worker == "auto" and store_urls(settings).embedded):
        services.worker.start()
    try:
        yield services
    finally:
        services.worker.stop()
        services.models.stop()


@contextmanager
def run_worker(settings: Settings) -> Iterator[Worker]:
    """Yield the worker alone, for the caller to run in its own thread. Raises WeightsInvalid, EngineMissing."""
    with connect_stores(settings) as stores:
        services = _start_services(settings, stores, load_given_model(settings))
        try:
            yield services.worker
        finally:
            services.models.stop()


@contextmanager
def run_service(settings: Settings, given: GivenModel | None = None) -> Iterator[Services]:
    """Connect the stores and run the services on them: what ``lookalike serve`` answers with."""
    with connect_stores(settings) as stores, run_services(settings, stores, given) as services:
        yield services


def load_given_model(settings: Settings) -> GivenModel:
    """Load the weights that the settings name, or the shipped ones. Raises WeightsInvalid, EngineMissing."""
    path = settings.weights or DEFAULT_WEIGHTS
    embedder = build_embedder(settings, WeightsFile.load(path))
    return GivenModel(embedder, path, chosen=settings.weights is not None)


def build_embedder(settings: Settings, weights: WeightsFile) -> Embedder:
    """Build the network on the engine that the settings name. Raises WeightsInvalid, EngineMissing."""
    return load_embedder(
        weights, engine=settings.engine, precision=settings.precision, slots=settings.slots
    )


def _start_services(settings: Settings, stores: Stores, given: GivenModel) -> Services:
    def start(_: StoreUrls) -> Services:
        services = _build_services(settings, stores)
        services.models.start(given)
        return services

    return wait_for_stores(store_urls(settings), start)


def _build_services(settings: Settings, stores: Stores) -> Services:
    """Wire the services to stores and model. Raises StoreUnavailable."""
    metrics = Metrics(stores.metadata.count_pending_embeddings, stores.metadata.count_dead_letters)
    build = partial(build_embedder, settings)
    models = Models(stores, build, settings.worker_interval)
    vision = Vision(models, settings.slots, metrics)
    collections = Collections(stores.metadata)
    collections.find_or_create(DEFAULT)
    indexing = Indexing(stores, models, vision, metrics, settings.lease_seconds)
    masters = Masters(stores, collections, vision, indexing, settings.thumbnail_cache_bytes)
    scrub = Scrub(stores, metrics, grace=settings.scrub_grace)
    return Services(
        settings=settings,
        stores=stores,
        metrics=metrics,
        models=models,
        vision=vision,
        collections=collections,
        attributes=Attributes(stores.metadata, collections),
        ingest=Ingest(settings, stores, collections, vision, indexing, metrics),
        masters=masters,
        search=Search(stores, models, collections, masters, vision, metrics),
        scrub=scrub,
        reembed=Reembed(stores, models, vision, scrub, load=build),
        worker=Worker(settings, stores, indexing, scrub, metrics),
    )
