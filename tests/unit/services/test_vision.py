"""An image is embedded on all cores if it is alone, and on one core beside others."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait

import numpy as np
import pytest
from numpy.typing import NDArray

from app.given_model import GivenModel
from app.metrics import Metrics
from app.services import vision
from app.services.loaded_models import LoadedModels
from app.services.vision import DecodedImage, Source, Vision
from models.decoding.jobs import DecodedFile, DecodeJob
from models.decoding.turns import Caller, Purpose
from models.imaging import ImageRejected
from storage.protocols import Stores
from tests.support.direct_decoder import DirectDecoder
from tests.support.service import eventually
from tests.support.use_cases import FakeClock, TinyEmbedder, colours


class Gate:
    """Holds the first thread that comes after it was closed, until it is opened."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.open.set()
        self.reached = threading.Event()

    def pass_through(self) -> None:
        if not self.open.is_set() and not self.reached.is_set():
            self.reached.set()
            assert self.open.wait(60)


class GatedEmbedder(TinyEmbedder):
    """Notes for each image whether it was to be embedded on all cores."""

    def __init__(self) -> None:
        super().__init__("model-1")
        self.gate = Gate()
        self.on_all_cores: list[bool] = []

    def embed(self, images: NDArray[np.uint8], *, all_cores: bool = False) -> NDArray[np.float32]:
        self.on_all_cores.append(all_cores)
        self.gate.pass_through()
        return super().embed(images)


class GatedDecoder(DirectDecoder):
    def __init__(self) -> None:
        super().__init__()
        self.gate = Gate()

    def decode(
        self, source: Source, job: DecodeJob, purpose: Purpose, caller: Caller | None = None
    ) -> DecodedFile:
        self.gate.pass_through()
        return super().decode(source, job, purpose, caller)


class Service:
    """A Vision whose decoder and network can be held, and threads that use it."""

    def __init__(self, stores: Stores) -> None:
        self.embedder, self.decoder = GatedEmbedder(), GatedDecoder()
        self.models = LoadedModels(stores, lambda _: self.embedder, interval=3600.0)
        self.models.start(GivenModel(self.embedder))
        self.vision = Vision(self.models, self.decoder, 2, Metrics())
        self.pool = ThreadPoolExecutor(1)

    def decode(self) -> DecodedImage:
        return self.vision.decode_image(io.BytesIO(colours(1)), Purpose.SEARCH)

    def embed(self) -> bool:
        """Decode and embed an image; report whether it was embedded on all cores."""
        self.vision.embed_image(self.decode(), "model-1")
        return self.embedder.on_all_cores[-1]

    def hold(self, gate: Gate, work: object) -> Future[object]:
        """Start a thread and wait until it is held at the gate."""
        gate.open.clear()
        held = self.pool.submit(work)  # type: ignore[arg-type]
        assert gate.reached.wait(60)
        return held


@pytest.fixture
def service(stores: Stores, clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    monkeypatch.setattr(vision, "time", clock)
    service = Service(stores)
    yield service
    service.pool.shutdown()
    service.models.stop()


def test_images_one_after_the_other_are_embedded_on_all_cores(service: Service) -> None:
    assert [service.embed() for _ in range(3)] == [True] * 3


def test_an_image_is_embedded_on_one_core_while_another_is_embedded(service: Service) -> None:
    image = service.decode()
    held = service.hold(service.embedder.gate, service.embed)
    service.vision.embed_image(image, "model-1")
    assert service.embedder.on_all_cores == [True, False]
    service.embedder.gate.open.set()
    held.result()


def test_an_image_is_embedded_on_one_core_while_another_is_decoded(service: Service) -> None:
    image = service.decode()
    held = service.hold(service.decoder.gate, service.decode)
    service.vision.embed_image(image, "model-1")
    assert service.embedder.on_all_cores == [False]
    service.decoder.gate.open.set()
    held.result()


def test_images_get_all_cores_again_a_moment_after_the_last_two_met(
    service: Service, clock: FakeClock
) -> None:
    image = service.decode()
    held = service.hold(service.decoder.gate, service.decode)
    clock.sleep(5)
    service.vision.embed_image(image, "model-1")
    service.decoder.gate.open.set()
    held.result()
    clock.sleep(0.05)
    assert not service.embed()
    clock.sleep(0.06)
    assert service.embed()


def test_failures_do_not_count_for_ever(service: Service) -> None:
    for _ in range(3):
        with pytest.raises(ImageRejected):
            service.vision.decode_image(io.BytesIO(b"no image"), Purpose.SEARCH)
    assert service.embed()


def test_embeddings_that_wait_end_when_the_service_is_closed(stores: Stores) -> None:
    """An upload waits for them without an end: one that is cancelled would never be done."""
    service = Service(stores)
    service.vision = Vision(service.models, service.decoder, 1, Metrics())
    image = service.vision.decode_image(io.BytesIO(colours(1)), Purpose.UPLOAD)
    service.embedder.gate.open.clear()
    under_way = service.vision.start_embedding(image, ["model-1"])
    assert service.embedder.gate.reached.wait(60)
    waiting = service.vision.start_embedding(image, ["model-1"])
    with ThreadPoolExecutor(1) as pool:
        closed = pool.submit(service.vision.close)
        assert eventually(lambda: service.vision._background._shutdown, 10)
        service.embedder.gate.open.set()
        closed.result(60)
    for each in (under_way, waiting):
        assert wait(each.embeddings.values(), timeout=10).not_done == set()
        assert each.embeddings["model-1"].exception() is None
    late = service.vision.start_embedding(image, ["model-1"])
    assert late.embeddings == {}  # the worker embeds it after the next start
    service.models.stop()
    service.pool.shutdown()
