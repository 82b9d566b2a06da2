"""Spaces over HTTP and on the command line, and searches by words in them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
from typer.testing import CliRunner

from app.cli.main import app
from app.services.encoder_files import EncoderFiles
from models.bundles.archive import read_bundle
from models.embedder import Embedder
from models.weights_file import DEFAULT_WEIGHTS
from tests.support.images import encoded, photograph
from tests.support.service import Service
from tests.support.tiny_encoders import image_network, make_image_bundle, make_text_bundle

PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_text_bundle(tmp_path_factory.mktemp("bundle") / "words.bundle")


@pytest.fixture(scope="module")
def newer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("bundle") / "newer.bundle"
    return make_text_bundle(file, name="newer", dimension=256)


@pytest.fixture
def gallery(service: Service) -> dict[str, str]:
    """Upload four photographs; return their names by id."""
    return {
        service.put_master(encoded(photograph(name)), f"{name}.jpg")["id"]: name
        for name in PHOTOGRAPHS
    }


def run(service: Service, *arguments: str | Path) -> str:
    environment = {"LOOKALIKE_URL": str(service.client.base_url), "COLUMNS": "150"}
    result = CliRunner().invoke(app, [str(each) for each in arguments], env=environment)
    assert result.exit_code == 0, result.output
    return result.output


def fail(service: Service, *arguments: str | Path) -> str:
    environment = {"LOOKALIKE_URL": str(service.client.base_url), "COLUMNS": "150"}
    result = CliRunner().invoke(app, [str(each) for each in arguments], env=environment)
    assert result.exit_code == 2, result.output
    return " ".join(result.output.split())


def search(service: Service, **fields: Any) -> dict[str, Any]:
    response = service.client.post("/search", data=fields)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def spaces(service: Service) -> dict[str, Any]:
    listed = service.client.get("/spaces").json()["spaces"]
    return {each["name"]: each["model_version"] for each in listed}


def test_a_space_is_created_changed_and_removed_by_commands(
    service: Service, gallery: dict[str, str], bundle: Path, newer: Path
) -> None:
    look = spaces(service)["look"]
    assert "spaces status words --watch" in run(
        service, "spaces", "create", "words", "--encoder", bundle
    )
    assert spaces(service) == {"look": look, "words": None}
    assert "exists" in fail(service, "spaces", "create", "words", "--encoder", bundle)
    status = run(service, "spaces", "status", "words", "--watch")
    assert "4 of 4" in status
    assert "lookalike spaces activate words" in status
    assert "switch back" not in run(service, "spaces", "activate", "words")
    assert "see lookalike spaces status words" in fail(service, "spaces", "activate", "words")
    words = spaces(service)["words"]
    assert words.startswith("tiny-")
    found = json.loads(run(service, "search", "--text", "a red dog", "--json"))
    assert (found["space"], found["model_version"]) == ("words", words)
    assert {hit["master"]["id"] for hit in found["hits"]} == set(gallery)

    run(service, "models", "start", newer, "--space", "words")
    run(service, "spaces", "status", "words", "--watch")
    assert "spaces rollback words" in run(service, "spaces", "activate", "words")
    assert spaces(service)["words"].startswith("newer-")
    assert len(search(service, text="dog")["hits"]) == 4
    run(service, "spaces", "rollback", "words")
    assert spaces(service) == {"look": look, "words": words}
    listed = run(service, "spaces", "list").split()
    assert {words, "128", "yes"} <= set(listed)


def test_a_search_by_words_with_a_picture_on_the_command_line(
    service: Service, gallery: dict[str, str], bundle: Path, tmp_path: Path
) -> None:
    version = read_bundle(bundle).version
    with bundle.open("rb") as file:
        EncoderFiles(service.stores.objects).store(version, file)
    run(service, "spaces", "create", "words", "--encoder", version)
    run(service, "spaces", "status", "words", "--watch")
    run(service, "spaces", "activate", "words")
    picture = tmp_path / "coffee.jpg"
    picture.write_bytes(encoded(photograph("coffee")))
    options = ("--text", "red", "--text-weight", "0.1", "--json")
    found = json.loads(run(service, "search", picture, *options))
    assert gallery[found["hits"][0]["master"]["id"]] == "coffee"
    assert not found["hits"][0]["exact"]
    assert "nothing to search with" in fail(service, "search")
    assert "cannot be the name" in fail(service, "spaces", "create", "Words!", "--encoder", "x")
    assert "there is no space nowhere" in fail(service, "spaces", "status", "nowhere")
    assert "there is no space nowhere" in fail(service, "spaces", "activate", "nowhere")
    assert "To confirm" in fail(service, "spaces", "retire", "words")
    assert "cannot be removed" in fail(service, "spaces", "retire", "look", "--confirm", "look")


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"text": "dog"}, "text-not-supported"),
        ({"text": "dog", "space": "words"}, "space-not-found"),
        ({"text": " "}, "invalid-text"),
        ({"text": "x" * 501}, "invalid-text"),
        ({"text": "a\x07"}, "invalid-text"),
        ({"text_weight": "0.5"}, "invalid-request"),
        ({"text": "dog", "text_weight": "1.5"}, "invalid-request"),
        ({}, "invalid-request"),
    ],
)
def test_a_search_that_cannot_be_answered_is_refused(
    service: Service, fields: dict[str, str], code: str
) -> None:
    response = service.client.post("/search", data=fields or {"k": "1"})
    assert (response.status_code, response.json()["code"]) == (422, code)


def test_the_answer_of_a_search_by_image_has_only_added_members(
    service: Service, gallery: dict[str, str]
) -> None:
    content = encoded(photograph("coffee"))
    answer = service.client.post("/search", files={"sample": ("a.jpg", content)}).json()
    assert list(answer)[:6] == [
        "hits",
        "model_version",
        "took_ms",
        "space",
        "understood",
        "warnings",
    ]
    assert (answer["space"], answer["understood"], answer["warnings"]) == ("look", None, [])


def rewrite(source: Path, change: Callable[[ZipFile], None], target: Path) -> Path:
    target.write_bytes(source.read_bytes())
    with ZipFile(target, "a") as archive:
        change(archive)
    return target


def test_bundles_that_contradict_their_manifest_are_refused_and_leave_nothing_behind(
    service: Service, bundle: Path, tmp_path: Path
) -> None:
    files = {
        "a wrong dimension": make_image_bundle(
            tmp_path / "dimension.bundle", network=image_network(128), dimension=256
        ),
        "a path": rewrite(
            bundle, lambda archive: archive.writestr("../evil.xml", "x"), tmp_path / "path.bundle"
        ),
        "another file": rewrite(
            bundle, lambda archive: archive.writestr("more.bin", b"\0" * 10**6), tmp_path / "more"
        ),
    }
    for what, file in files.items():
        content = file.read_bytes()
        response = service.client.post("/admin/models", files={"weights": ("a.bundle", content)})
        assert (response.status_code, response.json()["code"]) == (422, "invalid-bundle"), what
    assert not list(service.stores.objects.list("models"))


@pytest.mark.real_network
def test_the_built_in_words_search_every_installation(
    service: Service, gallery: dict[str, str], real_embedder: Embedder
) -> None:
    with DEFAULT_WEIGHTS.open("rb") as file:
        EncoderFiles(service.stores.objects).store(real_embedder.model_version, file)
    for text, name in {"a cat": "chelsea", "cup of coffee": "coffee", "missile": "rocket"}.items():
        answer = search(service, text=text)
        assert gallery[answer["hits"][0]["master"]["id"]] == name
        assert answer["understood"] > 0.5
        assert (answer["space"], answer["hits"][0]["probability"]) == ("look", None)
    assert search(service, text="qwrtz plmkn")["understood"] < 0.5
    assert "The built-in words may not know this text" in run(
        service, "search", "--text", "qwrtz plmkn"
    )
    assert service.client.get("/spaces").json()["spaces"] == [
        {
            "name": "look",
            "model_version": real_embedder.model_version,
            "dimension": 512,
            "text": "built-in",
            "calibrated": True,
        }
    ]
