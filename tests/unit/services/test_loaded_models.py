"""The models of a process and its readiness."""

from __future__ import annotations

import io
import os
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from app.errors import Unavailable
from app.given_model import GivenModel
from app.services import loaded_models as models_module
from app.services.encoder_files import encoder_key, remove_stale_copies
from app.services.loaded_models import LoadedModels
from models.bundles.archive import read_bundle
from models.embedder import Encoder
from models.weights_file import WeightsFile
from storage.errors import StoreUnavailable
from storage.protocols import Stores
from storage.records import LOOK
from tests.support.coroutines import run_coroutine
from tests.support.tiny_encoders import make_image_bundle
from tests.support.tiny_network import tiny_weights
from tests.support.use_cases import (
    DOWN,
    FakeClock,
    TinyEmbedder,
    UseCases,
    raising,
)


def load(encoder: Encoder) -> TinyEmbedder:
    return TinyEmbedder(encoder.version)


def put_weights(stores: Stores, key: str, content: bytes) -> None:
    stores.objects.put(key, io.BytesIO(content), len(content), "application/octet-stream", "w")


def live(use_cases: UseCases) -> list[str]:
    use_cases.models.refresh()
    return use_cases.models.live_versions


def test_the_first_process_makes_its_model_the_active_one(stores: Stores, tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    file.write_bytes(tiny_weights("shipped"))
    version = WeightsFile.load(file).version
    models = LoadedModels(stores, load, 3600.0)
    models.start(GivenModel(TinyEmbedder(version), file))
    models.stop()
    assert stores.registry.find_active(LOOK) == version
    assert b"".join(stores.objects.read(encoder_key(version))) == file.read_bytes()
    assert stores.registry.list_replicas() == []


def test_a_later_process_loads_the_active_model(
    use_cases: UseCases, stores: Stores, tmp_path: Path
) -> None:
    content = tiny_weights("other")
    version = WeightsFile.parse(content).version
    put_weights(stores, encoder_key(version), content)
    stores.registry.replace_active({LOOK: version})
    file = tmp_path / "unused.safetensors"
    models = LoadedModels(stores, load, 3600.0)
    models.start(GivenModel(TinyEmbedder("given"), file, chosen=True))
    try:
        assert models.live_versions == [version]
        assert models.find_embedder(version).model_version == version
    finally:
        models.stop()
    assert [each.key for each in stores.objects.list("models")] == [encoder_key(version)]


def test_shared_weights_are_not_written_twice(stores: Stores, tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    file.write_bytes(tiny_weights("shipped"))
    version = WeightsFile.load(file).version
    put_weights(stores, encoder_key(version), b"as they are")
    models = LoadedModels(stores, load, 3600.0)
    models.start(GivenModel(TinyEmbedder(version), file))
    models.stop()
    assert b"".join(stores.objects.read(encoder_key(version))) == b"as they are"


def test_a_version_that_is_not_loaded_is_unavailable(use_cases: UseCases) -> None:
    use_cases.stores.registry.replace_active({LOOK: "elsewhere"})
    with pytest.raises(Unavailable, match=r"not loaded the model version elsewhere") as caught:
        use_cases.models.active_version()
    assert (caught.value.code, caught.value.retry_after) == ("model-not-loaded", 5)


def test_a_version_is_loaded_once_its_weights_are_right(use_cases: UseCases) -> None:
    content, stores = tiny_weights("other"), use_cases.stores
    version = WeightsFile.parse(content).version
    stores.registry.start_building(version, LOOK)
    assert live(use_cases) == ["model-1"]
    put_weights(stores, encoder_key(version), tiny_weights("another"))
    assert live(use_cases) == ["model-1"]
    put_weights(stores, encoder_key(version), b"no weights")
    assert live(use_cases) == ["model-1"]
    put_weights(stores, encoder_key(version), content)
    assert live(use_cases) == ["model-1", version]
    embedder = use_cases.models.find_embedder(version)
    assert live(use_cases) == ["model-1", version]
    assert use_cases.models.find_embedder(version) is embedder  # not loaded again
    stores.registry.retire_model(version)
    assert live(use_cases) == ["model-1"]


def test_a_heartbeat_is_sent_when_it_is_due_or_the_models_change(
    use_cases: UseCases, monkeypatch: pytest.MonkeyPatch, clock: FakeClock
) -> None:
    monkeypatch.setattr(models_module, "time", clock)
    sent: list[Any] = []
    monkeypatch.setattr(
        use_cases.stores.registry, "record_heartbeat", lambda *given: sent.append(given[1:])
    )
    use_cases.models.refresh()
    use_cases.models.refresh()
    assert sent == [(["model-1"], 15.0)]
    clock.now += 3
    use_cases.models.refresh()
    assert len(sent) == 2
    use_cases.stores.registry.replace_active({LOOK: "elsewhere"})
    use_cases.models.refresh()
    assert sent[2:] == [([], 15.0)]


def test_a_database_that_is_read_only_does_not_stop_the_models(
    use_cases: UseCases, monkeypatch: pytest.MonkeyPatch, clock: FakeClock
) -> None:
    monkeypatch.setattr(models_module, "time", clock)
    monkeypatch.setattr(use_cases.stores.registry, "record_heartbeat", raising(DOWN))
    assert live(use_cases) == ["model-1"]


@pytest.mark.parametrize("error", [DOWN, RuntimeError("a fault")])
def test_the_thread_survives_a_failed_refresh(
    use_cases: UseCases, stores: Stores, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    models = LoadedModels(stores, load, interval=0.001)
    refresh, calls = models.refresh, []

    def fail_at_first(**_: object) -> None:
        calls.append(1)
        if len(calls) == 2:
            raise error
        refresh()
        if len(calls) > 2:
            models._stopping.set()

    monkeypatch.setattr(models, "refresh", fail_at_first)
    models.start(GivenModel(TinyEmbedder("model-1")))
    models._thread.join(10)
    assert len(calls) == 3
    models.stop()


def test_a_process_whose_stores_answer_is_ready(use_cases: UseCases) -> None:
    checks = run_coroutine(use_cases.health.check_readiness())
    assert checks == dict.fromkeys(("metadata", "objects", "vectors", "model"), "ok")
    assert use_cases.health.last_active_version() == "model-1"


@pytest.mark.parametrize("store", ["objects", "vectors", "metadata"])
def test_the_checks_name_the_store_that_is_down(
    use_cases: UseCases, monkeypatch: pytest.MonkeyPatch, store: str
) -> None:
    monkeypatch.setattr(getattr(use_cases.stores, store), "ping", raising(DOWN))
    checks = run_coroutine(use_cases.health.check_readiness())
    assert checks[store] == str(DOWN)
    unknown = {"metadata": "unknown while the metadata store does not answer"}
    assert checks["model"] == unknown.get(store, "ok")


def test_a_model_that_is_not_loaded_is_not_ready(use_cases: UseCases) -> None:
    use_cases.stores.registry.replace_active({LOOK: "elsewhere"})
    assert "has not loaded" in run_coroutine(use_cases.health.check_readiness())["model"]


def test_a_process_without_a_model_has_no_version(stores: Stores) -> None:
    models = LoadedModels(stores, load, 3600.0)
    with pytest.raises(Unavailable):
        models.active_version()
    models.stop()


def test_metrics_count_errors_of_stores_and_show_unknown_counts(
    use_cases: UseCases, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(StoreUnavailable), use_cases.metrics.stage("put"):
        raise DOWN
    text = use_cases.metrics.exposition().decode()
    assert 'lookalike_store_errors_total{store="test"} 1.0' in text
    assert "lookalike_pending_embeddings 0.0" in text
    monkeypatch.setattr(use_cases.metrics, "_counts", [(use_cases.metrics.pending, raising(DOWN))])
    assert "lookalike_pending_embeddings NaN" in use_cases.metrics.exposition().decode()


def test_versions_of_other_spaces_are_loaded_after_the_start(stores: Stores) -> None:
    content = tiny_weights("words")
    version = WeightsFile.parse(content).version
    stores.registry.register_active("model-1", LOOK)
    stores.registry.register_active(version, "words")
    put_weights(stores, encoder_key(version), content)
    loading = threading.Event()

    def load_slowly(encoder: Encoder) -> TinyEmbedder:
        loading.wait(10)
        return load(encoder)

    models = LoadedModels(stores, load_slowly, 3600.0)
    models.start(GivenModel(TinyEmbedder("model-1")))
    loaded_already = models.live_versions
    with pytest.raises(Unavailable):
        models.active_version("words")
    loading.set()
    while models.live_versions != ["model-1", version]:
        time.sleep(0.001)
    models.stop()
    assert loaded_already == ["model-1"]


def test_a_bundle_is_loaded_from_the_object_store(use_cases: UseCases, tmp_path: Path) -> None:
    bundle = make_image_bundle(tmp_path / "tiny.bundle")
    version = read_bundle(bundle).version
    put_weights(use_cases.stores, encoder_key(version), bundle.read_bytes())
    use_cases.stores.registry.start_building(version, "words")
    assert live(use_cases) == ["model-1", version]
    assert encoder_key(version) == f"models/{version}/encoder.bundle"


def test_copies_of_encoders_that_a_killed_process_left_are_removed_after_a_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for name in ("lookalike-encoder-old", "lookalike-encoder-new", "other-old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "copy").touch()
        if name.endswith("old"):
            os.utime(tmp_path / name, (0, 0))
    remove_stale_copies()
    assert {path.name for path in tmp_path.iterdir()} == {"lookalike-encoder-new", "other-old"}
