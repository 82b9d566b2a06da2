"""The use cases on given stores and a tiny network, without HTTP and a worker thread."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from functools import cache, partial
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.given_model import GivenModel
from app.metrics import Metrics
from app.services.attributes import Attributes
from app.services.captures import Captures
from app.services.changes import Changes
from app.services.collections import DEFAULT, Collections
from app.services.dead_letters import DeadLetters
from app.services.duplicate_scanning import DuplicateScanning
from app.services.duplicates import Duplicates
from app.services.examples import Examples
from app.services.explanations import Explanations
from app.services.health import Health
from app.services.indexing import Indexing
from app.services.ingest import Ingest, UploadOutcome
from app.services.loaded_models import LoadedModels
from app.services.masters import Masters
from app.services.near_duplicates import NearCheck, NearDuplicates
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
from app.services.vision import Vision
from app.settings import Settings
from app.worker import Worker
from models.calibration import Calibration
from models.capture.reading import READER
from models.embedder import Embedder, Encoder
from models.transforms import INPUT_SIDE, CentreSquare
from models.weights_file import EMBEDDING_DIM
from models.words.look_words import LookWords
from storage.errors import StoreUnavailable
from storage.protocols import Stores
from tests.support.direct_decoder import DirectDecoder

DOWN = StoreUnavailable("test", "it is switched off")
TODAY = date(2026, 5, 17)  # so that no test depends on when it runs
_CELLS = 8  # per side; their mean colours are the embedding before projection


@cache
def _draw_projection(version: str) -> NDArray[np.float32]:
    """Return ``(512, 192) float32`` with orthonormal columns; each version has its own."""
    random = np.random.default_rng(list(version.encode()))
    drawn = random.standard_normal((EMBEDDING_DIM, _CELLS * _CELLS * 3))
    projection: NDArray[np.float32] = np.linalg.qr(drawn)[0].astype(np.float32)
    projection.flags.writeable = False
    return projection


class TinyEmbedder:
    """An embedder without a network: the colours of 8 x 8 cells, projected at random.

    The projection depends on the version, so that the vectors of two versions are unrelated.
    """

    dimension = EMBEDDING_DIM
    preprocessing = CentreSquare()
    text = None
    places = None

    def __init__(self, version: str, calibration: Calibration | None = None) -> None:
        self.model_version = version
        self.calibration = calibration
        self.calls = 0
        self._projection = _draw_projection(version)

    def embed(self, images: NDArray[np.uint8], *, all_cores: bool = False) -> NDArray[np.float32]:
        self.calls += 1
        side = INPUT_SIDE // _CELLS
        cells = images.reshape(len(images), _CELLS, side, _CELLS, side, 3).mean(axis=(2, 4))
        flat = cells.reshape(len(images), -1).astype(np.float32)
        flat += 1.0 - flat.mean(axis=1, keepdims=True)  # keeps plain grey from becoming zero
        embedded: NDArray[np.float32] = flat @ self._projection.T
        return embedded / np.linalg.norm(embedded, axis=1, keepdims=True)


class FakeClock:
    """Stands in for the module ``time``: a sleep only moves the clock."""

    def __init__(self) -> None:
        self.now = 1_000_000.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now

    def perf_counter(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@dataclass
class UseCases:
    """The services of app.container.Services, and the parts that only these services use."""

    settings: Settings
    stores: Stores
    embedder: TinyEmbedder
    wake: threading.Event
    metrics: Metrics
    models: LoadedModels
    vision: Vision
    collections: Collections
    attributes: Attributes
    captures: Captures
    changes: Changes
    dead_letters: DeadLetters
    duplicates: Duplicates
    scanning: DuplicateScanning
    explanations: Explanations
    health: Health
    indexing: Indexing
    ingest: Ingest
    masters: Masters
    search: Search
    spaces: Spaces
    texts: Texts
    scrub: Scrub
    reembed: Reembed
    resolving: Resolving
    undo: Undo
    worker: Worker

    def upload(
        self,
        content: bytes,
        collection: str = DEFAULT,
        name: str = "picture.png",
        attributes: object = None,
        near_check: NearCheck | None = None,
    ) -> UploadOutcome:
        return self.ingest.upload_image(
            io.BytesIO(content),
            collection=collection,
            name=name,
            attributes={} if attributes is None else attributes,
            near_check=near_check,
        )


def build_use_cases(
    settings: Settings,
    stores: Stores,
    embedder: TinyEmbedder,
    load: Callable[[Encoder], Embedder],
) -> UseCases:
    wake = threading.Event()
    metrics = Metrics(
        stores.metadata.count_pending_embeddings,
        stores.metadata.count_dead_letters,
        partial(stores.metadata.count_unread, READER),
    )
    models = LoadedModels(stores, load, interval=3600.0)
    models.start(GivenModel(embedder))
    vision = Vision(
        models,
        DirectDecoder(),
        2,
        metrics,
        keep_gps=settings.keep_gps,
        accept_truncated=settings.accept_truncated,
    )
    collections = Collections(stores.metadata, wake.set)
    undo_seconds = settings.undo_hours * 3600
    indexing = Indexing(stores, models, vision, metrics, settings.lease_seconds)
    masters = Masters(stores, collections, vision, indexing, 100_000, wake.set)
    texts = Texts(stores, models, metrics, LookWords)
    ranking = Ranking(stores, models, metrics)
    examples = Examples(stores, models, masters, vision, texts)
    vectors = StoredVectors(stores, masters)
    near_duplicates = NearDuplicates(stores.metadata, models, collections, masters, vision, ranking)
    duplicates = Duplicates(stores, collections, models, wake.set)
    results = FindResults(ranking, vectors, metrics)
    scrub = Scrub(stores, metrics, grace=settings.scrub_grace)
    scanning = DuplicateScanning(stores, vision, settings.duplicate_rate, settings.lease_seconds)
    captures = Captures(stores, vision, settings.capture_rate, settings.lease_seconds, wake.set)
    return UseCases(
        settings=settings,
        stores=stores,
        embedder=embedder,
        wake=wake,
        metrics=metrics,
        models=models,
        vision=vision,
        collections=collections,
        attributes=Attributes(stores.metadata, collections),
        captures=captures,
        changes=Changes(stores.metadata, collections, undo_seconds, wake.set),
        dead_letters=DeadLetters(stores.metadata, wake.set),
        duplicates=duplicates,
        scanning=scanning,
        explanations=Explanations(models, masters, vision),
        health=Health(stores, models, kept=0.0),
        indexing=indexing,
        ingest=Ingest(settings, stores, collections, vision, indexing, near_duplicates, metrics),
        masters=masters,
        search=Search(models, collections, vision, examples, ranking, results, vectors),
        spaces=Spaces(stores, models, texts),
        texts=texts,
        scrub=scrub,
        reembed=Reembed(stores, models, vision, scrub, load, wake.set),
        resolving=Resolving(stores.metadata, collections, duplicates, undo_seconds, wake.set),
        undo=Undo(stores.metadata, collections, wake.set),
        worker=Worker(settings, stores, indexing, captures, scanning, scrub, metrics, wake),
    )


def colours(seed: int, size: tuple[int, int] = (64, 48)) -> bytes:
    """Return a PNG of 8 x 8 random colours; each seed gives another image."""
    cells = np.random.default_rng(seed).integers(0, 256, (_CELLS, _CELLS, 3), dtype=np.uint8)
    image = Image.fromarray(cells).resize(size, Image.Resampling.NEAREST)
    output = io.BytesIO()
    image.save(output, "PNG")
    return output.getvalue()


def raising(error: BaseException) -> Callable[..., NoReturn]:
    """Return a function that raises the error, whatever it is called with."""

    def fail(*_: object, **__: object) -> NoReturn:
        raise error

    return fail
