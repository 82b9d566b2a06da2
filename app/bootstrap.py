"""The composition root: builds stores, model and services from the settings.

The server, the worker, the command line and the tests all start here.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import stamina

from app.container import Services
from app.given_model import GivenModel, build_embedder, load_given_model
from app.logs import log
from app.metrics import Metrics
from app.services.attributes import Attributes
from app.services.captures import Captures
from app.services.changes import Changes
from app.services.collections import DEFAULT, Collections
from app.services.database_doubt import find_doubt
from app.services.dead_letters import DeadLetters
from app.services.duplicate_scanning import DuplicateScanning
from app.services.duplicates import Duplicates
from app.services.examples import Examples
from app.services.explanations import Explanations
from app.services.health import Health
from app.services.indexing import Indexing
from app.services.ingest import Ingest
from app.services.installation_id import claim_bucket
from app.services.loaded_models import LoadedModels
from app.services.masters import Masters
from app.services.near_duplicates import NearDuplicates
from app.services.ranking import Ranking
from app.services.reembed import Reembed
from app.services.resolving import Resolving
from app.services.results import FindResults
from app.services.scrub import Scrub
from app.services.search import Search
from app.services.spaces import Spaces
from app.services.stored_vectors import StoredVectors
from app.services.texts import Texts
from app.services.undo import Undo
from app.services.vision import Decoder, Vision
from app.settings import MIB, Settings
from app.worker import Worker
from models.capture.reading import READER
from models.decoding.pool import PROCESS_MEMORY, SMALL_IMAGE, DecodeLimits, DecodePool
from storage.errors import ConfigurationError, StoreUnavailable
from storage.factory import open_stores
from storage.protocols import Stores
from storage.store_locks import StoreLocks
from storage.store_urls import MilvusOptions, StoreUrls

if TYPE_CHECKING:
    from models.words.look_words import LookWords

MAX_WAITING = 128  # images that wait to be decoded for the same purpose
_SERVICE_MEMORY = 520 * MIB  # of a process with the network of `look`, and what requests take there
_COSTLY_MEMORY = 620 * MIB  # an image of 64 megapixels with transparency takes 512 MB
_Result = TypeVar("_Result")


def store_urls(settings: Settings) -> StoreUrls:
    """Return where the stores are, by the settings."""
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

    Servers that do not answer yet are retried until they do. Embedded stores are locked against
    other processes, unless ``read_only``, which reads beside a running service.
    ``load_vectors`` reads the embedded vectors into memory, which only searches need.

    Raises ConfigurationError; StoreUnavailable if every store is embedded.
    """
    urls = store_urls(settings)
    is_locked = urls.embedded and not read_only
    lock = StoreLocks(urls, settings.data_dir) if is_locked else nullcontext()
    open_these = partial(open_stores, load_vectors=load_vectors, read_only=read_only)
    with lock, closing(wait_for_stores(urls, open_these)) as stores:
        yield stores


def wait_for_stores(
    urls: StoreUrls, call: Callable[[StoreUrls], _Result], timeout: float | None = None
) -> _Result:
    """Return ``call(urls)``, and retry for ``timeout`` seconds while a server does not answer.

    So the servers and the processes of Lookalike can start in any order. None means no limit.
    Raises StoreUnavailable after that time, or at once if only local files are used.
    """

    def is_worth_a_retry(error: Exception) -> bool:
        if only_local or not isinstance(error, StoreUnavailable):
            return False
        log.warning("waiting for a store", store=error.store, reason=str(error))
        return True

    only_local = urls.database.startswith("sqlite:") and urls.objects.startswith("file:")
    retries = stamina.retry_context(
        on=is_worth_a_retry, attempts=None, timeout=timeout, wait_initial=0.5, wait_exp_base=1.5
    )
    for attempt in retries:
        with attempt:
            result = call(urls)
    return result


@contextmanager
def run_services(
    settings: Settings,
    stores: Stores,
    given: GivenModel | None = None,
    decoder: Decoder | None = None,
) -> Iterator[Services]:
    """Run the services on open stores, with threads and processes, until the end of the block.

    The worker runs as a thread of this process if the settings say so. ``given`` replaces the model
    that the settings name, and ``decoder`` the processes that decode. Raises EncoderInvalid,
    EngineMissing, ConfigurationError.
    """
    decoder = decoder or DecodePool(plan_decoding(settings))
    services = _start_services(settings, stores, given or load_given_model(settings), decoder)
    if settings.worker == "on" or (settings.worker == "auto" and store_urls(settings).embedded):
        services.worker.start()
    try:
        yield services
    finally:
        services.vision.stop()
        services.worker.stop()
        services.models.stop()
        services.vision.close()


@contextmanager
def run_worker(settings: Settings) -> Iterator[Worker]:
    """Yield the worker alone, for the caller to run in its own thread.

    Raises EncoderInvalid, EngineMissing, ConfigurationError.
    """
    with connect_stores(settings) as stores:
        decoder = DecodePool(plan_decoding(settings))
        services = _start_services(settings, stores, load_given_model(settings), decoder)
        try:
            yield services.worker
        finally:
            services.models.stop()
            services.vision.close()


@contextmanager
def run_service(settings: Settings, given: GivenModel | None = None) -> Iterator[Services]:
    """Connect the stores and run the services on them, as ``lookalike serve`` does."""
    with connect_stores(settings) as stores, run_services(settings, stores, given) as services:
        yield services


def plan_decoding(settings: Settings) -> DecodeLimits:
    """Divide LOOKALIKE_MEMORY_LIMIT among this process and those that decode.

    Raises ConfigurationError if it is too small.
    """
    processes = settings.slots + 1
    fixed = _SERVICE_MEMORY + processes * (PROCESS_MEMORY + SMALL_IMAGE)
    memory = settings.memory_limit - fixed if settings.memory_limit else _COSTLY_MEMORY
    if memory < SMALL_IMAGE:
        raise ConfigurationError(
            f"LOOKALIKE_MEMORY_LIMIT is too small: {settings.slots} slots need at least"
            f" {fixed + SMALL_IMAGE} bytes. Raise it, or set LOOKALIKE_SLOTS to fewer."
        )
    return DecodeLimits(settings.slots, memory, settings.decode_seconds, MAX_WAITING)


def _start_services(
    settings: Settings, stores: Stores, given: GivenModel, decoder: Decoder
) -> Services:
    def start(_: StoreUrls) -> Services:
        claim_bucket(stores)
        services = _build_services(settings, stores, decoder, _list_warnings(stores))
        services.models.start(given)
        return services

    return wait_for_stores(store_urls(settings), start)


def _list_warnings(stores: Stores) -> list[str]:
    """Log and return what an operator should know, although the process can serve."""
    doubt = find_doubt(stores)
    if not doubt:
        return []
    warning = f"{doubt}, so masters may be missing. Stop the service and run `lookalike recover`"
    log.warning(warning)
    return [warning]


def _build_services(
    settings: Settings, stores: Stores, decoder: Decoder, warnings: list[str]
) -> Services:
    """Wire the services to stores and model. Raises StoreUnavailable."""
    metrics = Metrics(
        stores.metadata.count_pending_embeddings,
        stores.metadata.count_dead_letters,
        partial(stores.metadata.count_unread, READER),
    )
    build = partial(build_embedder, settings)
    models = LoadedModels(stores, build, settings.worker_interval)
    vision = Vision(
        models,
        decoder,
        settings.slots,
        metrics,
        max_pixels=settings.max_megapixels * 1_000_000,
        keep_gps=settings.keep_gps,
        accept_truncated=settings.accept_truncated,
    )
    wake = threading.Event()  # set by the services when they leave work to the worker
    collections = Collections(stores.metadata, wake.set)
    collections.find_or_create_collection(DEFAULT)
    undo_seconds = settings.undo_hours * 3600
    indexing = Indexing(stores, models, vision, metrics, settings.lease_seconds)
    masters = Masters(
        stores, collections, vision, indexing, settings.thumbnail_cache_bytes, wake.set
    )
    texts = Texts(stores, models, metrics, partial(_load_words, settings.slots))
    ranking = Ranking(stores, models, metrics)
    examples = Examples(stores, models, masters, vision, texts)
    vectors = StoredVectors(stores, masters)
    near_duplicates = NearDuplicates(stores.metadata, models, collections, masters, vision, ranking)
    duplicates = Duplicates(stores, collections, models, wake.set)
    results = FindResults(ranking, vectors, metrics)
    scrub = Scrub(stores, metrics, grace=settings.scrub_grace)
    scanning = DuplicateScanning(stores, vision, settings.duplicate_rate, settings.lease_seconds)
    captures = Captures(stores, vision, settings.capture_rate, settings.lease_seconds, wake.set)
    return Services(
        settings=settings,
        stores=stores,
        metrics=metrics,
        models=models,
        vision=vision,
        collections=collections,
        attributes=Attributes(stores.metadata, collections),
        captures=captures,
        changes=Changes(stores.metadata, collections, undo_seconds, wake.set),
        dead_letters=DeadLetters(stores.metadata, wake.set),
        duplicates=duplicates,
        explanations=Explanations(models, masters, vision),
        health=Health(stores, models, warnings=warnings),
        ingest=Ingest(settings, stores, collections, vision, indexing, near_duplicates, metrics),
        masters=masters,
        search=Search(models, collections, vision, examples, ranking, results, vectors),
        spaces=Spaces(stores, models, texts),
        stored_vectors=vectors,
        scrub=scrub,
        reembed=Reembed(stores, models, vision, scrub, load=build, wake_worker=wake.set),
        resolving=Resolving(stores.metadata, collections, duplicates, undo_seconds, wake.set),
        undo=Undo(stores.metadata, collections, wake.set),
        worker=Worker(settings, stores, indexing, captures, scanning, scrub, metrics, wake),
    )


def _load_words(slots: int) -> LookWords:
    from models.words.look_words import LookWords  # it reads 31 MB, which most processes never need

    return LookWords(slots=slots)
