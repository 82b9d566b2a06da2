"""JPEGs that lack their last bytes, and very large ones: over HTTP, and on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from app.cli.main import app
from app.settings import Settings
from models.embedder import Embedder
from tests.support.images import CAT, encoded, photograph, plain_jpeg
from tests.support.service import Service, serving

CUT = CAT[: int(len(CAT) * 0.995)]
WITHOUT_END = CAT[:-2]


@pytest.fixture
def accepting(settings: Settings) -> Settings:
    return settings.model_copy(update={"accept_truncated": True})


def search(service: Service, content: bytes, **fields: str) -> dict[str, Any]:
    response = service.client.post("/search", files={"sample": ("cut.jpg", content)}, data=fields)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def test_a_truncated_sample_is_searched_with_and_a_warning(service: Service) -> None:
    service.put_master(CAT)
    answer = search(service, CUT)
    assert answer["warnings"] == ["truncated"]
    assert len(answer["hits"]) == 1
    assert not answer["hits"][0]["exact"]
    assert search(service, CAT)["warnings"] == []
    assert search(service, WITHOUT_END)["warnings"] == []


def test_a_sample_of_which_more_is_missing_is_refused(service: Service) -> None:
    half = CAT[: len(CAT) // 2]
    response = service.client.post("/search", files={"sample": ("cut.jpg", half)})
    assert (response.status_code, response.json()["code"]) == (422, "invalid-image")


def test_a_truncated_image_is_compared_with_a_warning(service: Service) -> None:
    files = {"a": ("a.jpg", CUT), "b": ("b.jpg", CAT)}
    assert service.client.post("/compare", files=files).json()["warnings"] == ["truncated"]
    files = {"a": ("a.jpg", CUT), "b": ("b.jpg", CUT)}
    assert service.client.post("/compare", files=files).json()["warnings"] == ["truncated"]
    files = {"a": ("a.jpg", CAT), "b": ("b.jpg", CAT)}
    assert service.client.post("/compare", files=files).json()["warnings"] == []


def test_a_truncated_upload_is_refused_and_names_the_setting(service: Service) -> None:
    response = service.put(CUT, "cut.jpg")
    assert (response.status_code, response.json()["code"]) == (422, "invalid-image")
    assert "LOOKALIKE_ACCEPT_TRUNCATED" in response.json()["detail"]
    assert service.client.get("/masters").json()["total"] == 0


def test_an_upload_that_lacks_only_the_marker_of_its_end_is_whole(service: Service) -> None:
    result = service.put(WITHOUT_END, "end.jpg").json()["results"][0]
    assert (result["status"], result["warnings"]) == (201, [])


def test_a_truncated_upload_that_was_accepted_stays_usable(
    accepting: Settings, settings: Settings, embedder: Embedder
) -> None:
    with serving(accepting, embedder) as service:
        result = service.put(CUT, "cut.jpg").json()["results"][0]
        assert (result["status"], result["warnings"]) == (201, ["truncated"])
        again = service.put(CUT, "cut.jpg").json()["results"][0]
        assert (again["status"], again["warnings"]) == (200, [])
    with serving(settings, embedder) as service:  # the setting is back at its default
        master = result["master"]
        assert service.client.get(master["links"]["thumbnail"]).status_code == 200
        assert service.client.get(master["links"]["content"]).content == CUT
        fields = {"master_id": master["id"], "box": "10,10,100,100"}  # decodes the original
        response = service.client.post("/search", data=fields)
        assert (response.status_code, response.json()["warnings"]) == (200, [])
        assert service.put(CUT[:-1], "cut.jpg").status_code == 422


def test_a_master_keeps_working_when_the_limit_of_pixels_is_lowered(
    settings: Settings, embedder: Embedder
) -> None:
    large = settings.model_copy(update={"max_megapixels": 110})
    content = plain_jpeg(12_000, 9_000)
    with serving(large, embedder) as service:
        master = service.put_master(content)
        assert (master["width"], master["height"]) == (12_000, 9_000)
    with serving(settings, embedder) as service:
        assert service.client.get(master["links"]["thumbnail"]).status_code == 200
        response = service.client.post("/search", files={"sample": ("large.jpg", content)})
        assert (response.status_code, response.json()["code"]) == (422, "too-many-pixels")
        assert "64 megapixels" in response.json()["detail"]


def run(service: Service, *arguments: str | Path) -> Any:
    environment = {"LOOKALIKE_URL": str(service.client.base_url), "COLUMNS": "100"}
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env=environment)


def test_the_command_line_shows_the_warnings(
    accepting: Settings, embedder: Embedder, tmp_path: Path
) -> None:
    (tmp_path / "cut.jpg").write_bytes(CUT)
    (tmp_path / "whole.jpg").write_bytes(encoded(photograph("coffee")))
    with serving(accepting, embedder) as service:
        imported = run(service, "import", tmp_path)
        assert imported.exit_code == 0
        assert "1 of them lacks the last bytes of its file" in imported.output
        assert "lacks" not in run(service, "import", tmp_path).output
        assert "lacks its last bytes" in run(service, "search", tmp_path / "cut.jpg").output
        assert "lacks" not in run(service, "search", tmp_path / "whole.jpg").output
        as_json = run(service, "search", tmp_path / "cut.jpg", "--json").output
        assert '"truncated"' in as_json
