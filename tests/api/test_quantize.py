"""`lookalike models quantize` makes the active encoder of a service int8 in one step."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from app.cli import model_changes, quantizing
from app.cli.client import Client
from app.cli.main import app
from models.labelled_images import UnusableData, load_image
from models.quantizing import Agreement, Quantized
from models.weights_file import DEFAULT_WEIGHTS, WeightsFile
from tests.support.images import encoded, part_of
from tests.support.service import Service
from tests.support.tiny_encoders import make_image_bundle
from tests.support.tiny_network import tiny_weights
from tests.support.use_cases import raising


def quantize(service: Service, *arguments: str | Path, command: str = "quantize") -> Result:
    environment = {"LOOKALIKE_URL": str(service.client.base_url), "COLUMNS": "300"}
    given = ["models", command, *map(str, arguments)]
    return CliRunner().invoke(app, given, env=environment)


def active(service: Service, space: str = "look") -> str:
    models = service.client.get("/admin/models").json()["models"]
    (found,) = (
        each["version"] for each in models if (each["state"], each["space"]) == ("active", space)
    )
    return str(found)


@pytest.fixture
def served(service: Service, tiny_weights_file: Path) -> Service:
    """A service with images in two collections, which has stored its active encoder."""
    for seed in range(3):
        service.put_master(encoded(part_of("coffee", seed)))
    service.put_master(encoded(part_of("rocket", 0)), collection="others")
    result = quantize(service, tiny_weights_file, command="add")
    assert result.exit_code == 0, result.output
    return service


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Replace the slow step, and note what it was called with."""
    calls: list[dict[str, Any]] = []

    def replaced(weights: WeightsFile, images: list[Path], out: Path, progress: Any) -> Quantized:
        sizes = [load_image(path).size for path in images]
        calls.append({"version": weights.version, "sizes": sizes})
        if not images:
            raise UnusableData("no image")
        out.write_bytes(tiny_weights("int8"))
        return Quantized(WeightsFile.load(out).version, Agreement(4, 3, 0.975, 0.0123))

    monkeypatch.setattr(quantizing, "quantize_network", replaced)
    monkeypatch.setattr(model_changes, "_POLL_INTERVAL", 0.05)
    return calls


def test_one_command_quantizes_builds_and_activates(
    served: Service, calls: list[dict[str, Any]]
) -> None:
    before = active(served)
    result = quantize(served)
    assert result.exit_code == 0, result.output
    (call,) = calls
    assert call["version"] == before
    assert len(call["sizes"]) == 4  # all masters of both collections
    assert "97.5% of the 3 nearest" in result.output
    assert "0.0123" in result.output
    assert "lookalike models rollback" in result.output
    assert active(served) not in (before, "")
    sample = encoded(part_of("coffee", 1), quality=60)
    answer = served.client.post("/search", files={"sample": ("sample.jpg", sample)}).json()
    assert answer["model_version"] == active(served)
    assert len(answer["hits"]) == 3
    again = quantize(served)
    assert (again.exit_code, len(calls)) == (2, 1)
    assert f"{before} is kept as the previous version" in again.stderr
    rolled_back = quantize(served, command="rollback")
    assert rolled_back.exit_code == 0, rolled_back.output
    assert active(served) == before


def test_the_version_is_only_built_if_so_asked_and_then_stands_in_the_way(
    served: Service, calls: list[dict[str, Any]]
) -> None:
    before = active(served)
    result = quantize(served, "--no-activate")
    assert result.exit_code == 0, result.output
    assert "lookalike models activate" in result.output
    assert active(served) == before
    again = quantize(served)
    assert again.exit_code == 2
    assert "is being built in the space look" in again.stderr
    assert len(calls) == 1


def test_images_of_a_directory_calibrate_and_the_file_is_kept(
    served: Service, calls: list[dict[str, Any]], tmp_path: Path
) -> None:
    folder = tmp_path / "typical"
    folder.mkdir()
    (folder / "one.jpg").write_bytes(encoded(part_of("chelsea", 0)))
    file = tmp_path / "kept.safetensors"
    result = quantize(served, "active", folder, "--out", file, "--no-activate")
    assert result.exit_code == 0, result.output
    assert len(calls[0]["sizes"]) == 1
    assert WeightsFile.load(file).version in result.output


def test_a_service_without_images_is_left_alone(
    service: Service, tiny_weights_file: Path, calls: list[dict[str, Any]]
) -> None:
    assert quantize(service, tiny_weights_file, command="add").exit_code == 0
    result = quantize(service)
    assert result.exit_code == 2
    assert "lookalike models quantize active IMAGES" in result.stderr
    assert calls == []


def test_a_space_without_an_active_encoder_is_refused(
    served: Service, calls: list[dict[str, Any]], tmp_path: Path
) -> None:
    result = quantize(served, "--space", "no-such")
    assert result.exit_code == 2
    assert "there is no space no-such" in result.stderr
    bundle = make_image_bundle(tmp_path / "tiny.bundle")
    assert quantize(served, bundle, "--space", "shapes", command="start").exit_code == 0
    result = quantize(served, "--space", "shapes", "--no-activate")
    assert result.exit_code == 2
    assert "is being built in the space shapes" in result.stderr
    assert calls == []


def test_the_bundle_of_another_space_is_quantized(
    served: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_changes, "_POLL_INTERVAL", 0.05)
    bundle = make_image_bundle(tmp_path / "tiny.bundle")
    options = ("--space", "shapes")
    for command, arguments in (("start", (bundle, *options)), ("activate", options)):
        done = quantize(served, *arguments, command=command)
        assert done.exit_code == 0, done.output
    before = active(served, "shapes")
    result = quantize(served, *options)
    assert result.exit_code == 0, result.output
    assert "Compared on 4 images" in result.output
    assert active(served, "shapes") != before
    assert active(served, "shapes").startswith("tiny-")
    sample = encoded(part_of("coffee", 1), quality=90)
    found = served.client.post(
        "/search", files={"sample": ("sample.jpg", sample)}, data={"space": "shapes"}
    ).json()
    assert found["model_version"] == active(served, "shapes")
    assert found["hits"][0]["distance"] < 0.01


def test_a_missing_library_is_named_before_anything_is_downloaded(
    served: Service, calls: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "nncf", None)
    monkeypatch.setattr(Client, "download_encoder", raising(AssertionError()))
    result = quantize(served)
    assert result.exit_code == 2
    assert "pip install '.[train]'" in result.stderr
    assert calls == []


def test_the_file_of_an_encoder_can_be_downloaded(served: Service, tiny_weights_file: Path) -> None:
    path = f"/admin/models/{active(served)}/encoder"
    response = served.client.get(path)
    assert response.content == tiny_weights_file.read_bytes()
    assert response.headers["content-length"] == str(len(response.content))
    head = served.client.head(path)
    assert (head.status_code, head.content) == (200, b"")
    missing = served.client.get("/admin/models/rn50-0/encoder")
    assert (missing.status_code, missing.json()["code"]) == (404, "model-not-found")


def test_a_file_needs_images_to_calibrate_with() -> None:
    result = CliRunner().invoke(app, ["models", "quantize", "default"])
    assert result.exit_code == 2
    assert "name a directory of typical images" in result.stderr


@pytest.mark.slow
@pytest.mark.real_network
def test_the_shipped_encoder_is_quantized_and_served(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_changes, "_POLL_INTERVAL", 0.05)
    assert quantize(service, DEFAULT_WEIGHTS, command="add").exit_code == 0
    masters = {
        seed: service.put_master(encoded(part_of("coffee", seed)))["id"] for seed in range(6)
    }
    before = active(service)
    result = quantize(service)
    assert result.exit_code == 0, result.output
    assert "Compared on 6 images" in result.output
    assert active(service) != before
    for seed, master in masters.items():
        sample = encoded(part_of("coffee", seed), quality=60)
        answer = service.client.post("/search", files={"sample": ("sample.jpg", sample)}).json()
        assert answer["hits"][0]["master"]["id"] == master
