"""A process that is still reading its vectors: uploads go on, searches wait, /readyz says so."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from app.settings import Settings
from models.embedder import Embedder
from storage.vectors_exact import ExactVectorStore
from tests.support.images import CAT, encoded, photograph
from tests.support.service import eventually, serving

COFFEE = encoded(photograph("coffee"))


def test_uploads_go_on_and_searches_wait_while_vectors_are_loaded(
    settings: Settings, embedder: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(settings, embedder) as service:
        assert service.put(CAT).status_code == 201
    go_on = threading.Event()
    original = ExactVectorStore._read

    def read_slowly(self: ExactVectorStore, *arguments: Any) -> Any:
        assert go_on.wait(30)
        return original(self, *arguments)

    monkeypatch.setattr(ExactVectorStore, "_read", read_slowly)
    with serving(settings, embedder) as service, ThreadPoolExecutor(1) as pool:
        try:
            response = service.client.get("/readyz")
            answer = response.json()
            assert (response.status_code, answer["ready"]) == (503, False)
            assert answer["checks"]["vectors"].endswith("are being loaded")
            assert answer["loading"] == {answer["model_version"]: {"loaded": 0, "total": 0}}
            assert service.put(COFFEE).status_code == 201
            searching = pool.submit(service.search, COFFEE)
            assert service.client.get("/livez").status_code == 200
            assert not searching.done()
        finally:
            go_on.set()
        assert len(searching.result(30)) == 2
        assert eventually(lambda: service.client.get("/readyz").status_code == 200)
        assert service.client.get("/readyz").json()["loading"] == {}
