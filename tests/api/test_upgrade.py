"""An installation of an earlier release keeps its encoder until its operator changes it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from app.cli.main import app
from app.settings import Settings
from models.weights_file import DEFAULT_WEIGHTS, WeightsFile
from tests.support.colour_profiles import DISPLAY_P3, matrix_profile, srgb_to_xyb, xyb_profile
from tests.support.images import encoded, photograph
from tests.support.service import Service, eventually, serving
from tests.support.weights import EARLIER_VERSION, earlier_weights

COFFEE = photograph("coffee")


def xyb_jpeg(image: Image.Image) -> bytes:
    """Make a JPEG as jpegli does with XYB: other stored values, the same picture."""
    stored = np.rint(srgb_to_xyb(np.asarray(image) / 255) * 255).clip(0, 255).astype(np.uint8)
    options = {"quality": 95, "keep_rgb": True, "icc_profile": xyb_profile()}
    return encoded(Image.fromarray(stored), **options)


def first_hit(service: Service, content: bytes) -> tuple[str, float]:
    """Return the model version of a search and the distance of its first hit."""
    answer = service.client.post("/search", files={"sample": ("a.jpg", content)}).json()
    return answer["model_version"], answer["hits"][0]["distance"]


def states(service: Service) -> dict[str, Any]:
    models = service.client.get("/admin/models").json()["models"]
    return {model["version"]: model["state"] for model in models}


def run(service: Service, *arguments: str) -> None:
    """Run a command of ``lookalike models`` on the service."""
    url = str(service.client.base_url)
    result = CliRunner().invoke(app, ["models", *arguments, "--url", url])
    assert result.exit_code == 0, result.output


@pytest.mark.slow
def test_an_installation_keeps_its_encoder_until_its_operator_changes_it(
    settings: Settings, tmp_path: Path
) -> None:
    weights = earlier_weights(tmp_path / "earlier.safetensors")
    shipped = WeightsFile.load(DEFAULT_WEIGHTS).version
    original, copy = encoded(COFFEE, "PNG"), xyb_jpeg(COFFEE)
    with serving(settings.model_copy(update={"weights": weights}), None) as service:
        service.put_master(original, "coffee.png")
        before = first_hit(service, copy)
        assert before[0] == EARLIER_VERSION
        assert before[1] > 0.2
    with serving(settings, None) as service:  # the next release ships other weights
        assert states(service) == {EARLIER_VERSION: "active"}
        assert first_hit(service, copy) == pytest.approx(before)
        run(service, "start", "default")
        assert eventually(lambda: len(service.services.models.live_versions) == 2, 30)
        run(service, "list", "--watch")
        assert first_hit(service, copy) == pytest.approx(before)
        run(service, "activate")
        version, distance = first_hit(service, copy)
        assert version == shipped
        assert distance < 0.01
        run(service, "rollback")
        assert first_hit(service, copy) == pytest.approx(before)
        run(service, "activate", shipped)
    with serving(settings, None) as service:
        assert states(service) == {shipped: "active", EARLIER_VERSION: "previous"}
        run(service, "retire", EARLIER_VERSION)


@pytest.mark.slow
def test_a_new_installation_converts_colours(settings: Settings) -> None:
    with serving(settings, None) as service:
        service.put_master(encoded(COFFEE, "PNG"), "coffee.png")
        version, distance = first_hit(service, xyb_jpeg(COFFEE))
        assert version == WeightsFile.load(DEFAULT_WEIGHTS).version
        assert distance < 0.01


def test_a_thumbnail_shows_the_colours_of_a_browser(service: Service) -> None:
    plain = Image.new("RGB", (64, 64), (200, 60, 40))
    wide = encoded(plain, "PNG", icc_profile=matrix_profile(DISPLAY_P3))
    master = service.put_master(wide)
    response = service.client.get(master["links"]["thumbnail"])
    with Image.open(io.BytesIO(response.content)) as thumbnail:
        assert "icc_profile" not in thumbnail.info
        found = np.asarray(thumbnail)[32, 32]
    assert np.abs(found.astype(int) - (217, 42, 23)).max() <= 3
    earlier = f'"{master["sha256"][:32]}-256"'
    again = service.client.get(master["links"]["thumbnail"], headers={"If-None-Match": earlier})
    assert again.status_code == 200
    assert again.headers["etag"] == response.headers["etag"] != earlier
