"""TIFF, JPEG XL and camera raw files over HTTP."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from PIL import Image

from tests.support.images import encoded, photograph
from tests.support.jpeg_xl import jpeg_xl
from tests.support.raw_files import raw_file
from tests.support.service import Service

SIZE = (320, 240)
FILES: dict[str, Callable[[Image.Image], bytes]] = {
    "image/tiff": lambda image: encoded(image, "TIFF", compression="tiff_lzw"),
    "image/jxl": lambda image: jpeg_xl(image, distance=0.5),
    "image/x-adobe-dng": lambda image: raw_file("DNG", encoded(image, "JPEG", quality=95)),
}


@pytest.mark.parametrize("media_type", FILES)
def test_a_file_that_browsers_cannot_show_has_a_thumbnail_and_its_original(
    media_type: str, service: Service
) -> None:
    image = photograph("coffee").resize(SIZE)
    content = FILES[media_type](image)
    master = service.put_master(content)
    assert (master["mime"], master["width"], master["height"]) == (media_type, *SIZE)
    original = service.client.get(master["links"]["content"])
    assert (original.content, original.headers["content-type"]) == (content, media_type)
    thumbnail = service.client.get(master["links"]["thumbnail"], params={"size": 128})
    assert thumbnail.headers["content-type"] == "image/jpeg"
    assert Image.open(io.BytesIO(thumbnail.content)).size == (128, 96)


@pytest.mark.parametrize("media_type", FILES)
def test_a_sample_of_another_format_finds_the_same_picture(
    media_type: str, service: Service
) -> None:
    image = photograph("coffee").resize(SIZE)
    found = service.put_master(encoded(image, "PNG"))
    service.put_master(encoded(photograph("chelsea"), "PNG"))
    hit, *_ = service.search(FILES[media_type](image))
    assert hit["master"]["id"] == found["id"]
    assert hit["score"] > 99


def test_a_raw_file_without_a_preview_is_415_and_leaves_nothing(service: Service) -> None:
    response = service.put(raw_file("DNG", b""))
    problem = response.json()
    assert (response.status_code, problem["code"]) == (415, "unsupported-image-type")
    assert "without a preview" in problem["detail"]
    assert service.client.get("/masters").json()["total"] == 0
    assert service.objects() == []
