"""What every decoder does with the same files: the pool of processes, and the tests' own."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from app.services.vision import Decoder
from models.bundles.framing import Framing
from models.bundles.manifest import ImageTower
from models.decoding.jobs import DecodeJob
from models.decoding.pool import DecodeLimits, DecodePool
from models.decoding.turns import Abandoned, Caller, Purpose, Refused
from models.imaging import Box, ImageRejected
from models.transforms import CentreSquare
from tests.support.direct_decoder import DirectDecoder
from tests.support.images import encoded, photograph
from tests.support.metadata import (
    PHONE,
    PHONE_EXIF,
    PICTURE,
    iptc_record,
    jpeg_with,
    photoshop_segment,
    picture_with,
    segment,
    xmp_packet,
)

_SQUARE = CentreSquare()
_MAKERS: dict[str, Callable[[], Decoder]] = {
    "pool": lambda: DecodePool(DecodeLimits(slots=2, memory=600 << 20, seconds=5, max_waiting=8)),
    "direct": DirectDecoder,
}


@pytest.fixture(params=_MAKERS)
def decoder(request: pytest.FixtureRequest) -> Iterator[Decoder]:
    decoder = _MAKERS[request.param]()
    yield decoder
    decoder.close()


def test_an_image_becomes_the_input_of_each_rule(decoder: Decoder) -> None:
    image = photograph("coffee")
    tower = ImageTower(
        file="image.onnx",
        input="x",
        output="y",
        width=96,
        height=64,
        resize="pad",
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
    )
    rules = _SQUARE, Framing(tower)
    file = io.BytesIO(encoded(image, "PNG"))
    decoded = decoder.decode(file, DecodeJob(rules), Purpose.SEARCH)
    for rule in rules:
        assert np.array_equal(decoded.inputs[rule], rule.prepare(image))
    assert (decoded.mime, decoded.extension) == ("image/png", "png")
    assert (decoded.width, decoded.height) == image.size


def test_a_box_is_cut_out(decoder: Decoder) -> None:
    image = photograph("coffee")
    job = DecodeJob((_SQUARE,), Box(10, 20, 100, 90))
    decoded = decoder.decode(io.BytesIO(encoded(image, "PNG")), job, Purpose.SEARCH)
    assert np.array_equal(decoded.inputs[_SQUARE], _SQUARE.prepare(image.crop((10, 20, 110, 110))))


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "AVIF"])
@pytest.mark.parametrize("skip_pixels", [False, True], ids=["decoded", "pixels skipped"])
def test_what_a_picture_says_of_itself_is_read_with_it(
    decoder: Decoder, format: str, skip_pixels: bool
) -> None:
    content = picture_with(format, PHONE_EXIF)
    rules = () if skip_pixels else (_SQUARE,)
    job = DecodeJob(rules, capture=True, skip_pixels=skip_pixels)
    decoded = decoder.decode(io.BytesIO(content), job, Purpose.UPLOAD)
    assert decoded.capture == PHONE
    assert (decoded.width, decoded.height) == PICTURE.size
    without = replace(job, keep_gps=False)
    decoded = decoder.decode(io.BytesIO(content), without, Purpose.UPLOAD)
    assert decoded.capture == {name: PHONE[name] for name in PHONE if name != "gps"}
    said = decoder.decode(io.BytesIO(picture_with(format)), job, Purpose.UPLOAD).capture
    assert said == {}
    assert decoder.decode(io.BytesIO(content), DecodeJob(rules), Purpose.UPLOAD).capture is None


def test_metadata_are_read_once_for_inputs_of_several_sizes(decoder: Decoder) -> None:
    tower = ImageTower(
        file="image.onnx",
        input="x",
        output="y",
        width=96,
        height=64,
        resize="pad",
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
    )
    job = DecodeJob((_SQUARE, Framing(tower)), capture=True)
    content = jpeg_with(exif=PHONE_EXIF)
    assert decoder.decode(io.BytesIO(content), job, Purpose.UPLOAD).capture == PHONE


def test_what_is_no_image_has_no_metadata_either(decoder: Decoder) -> None:
    job = DecodeJob(capture=True, skip_pixels=True)
    with pytest.raises(ImageRejected):
        decoder.decode(io.BytesIO(b"text"), job, Purpose.INDEXING)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "AVIF"])
def test_a_thumbnail_has_no_metadata(decoder: Decoder, format: str) -> None:
    packet = xmp_packet("", 'xmp:Rating="4"')
    content = picture_with(format, PHONE_EXIF, packet)
    if format == "JPEG":
        comment = segment(0xFE, b"iPhone")
        content = (
            content[:2] + comment + photoshop_segment(iptc_record((2, 80, b"Ada"))) + content[2:]
        )
    decoded = decoder.decode(io.BytesIO(content), DecodeJob(thumbnail=64), Purpose.THUMBNAIL)
    for mark in (b"Exif", b"iPhone", b"http:", b"8BIM", b"Photoshop", b"ICC_PROFILE", b"Ada"):
        assert mark not in decoded.thumbnail
    with Image.open(io.BytesIO(decoded.thumbnail)) as thumbnail:
        assert {name for name, _ in thumbnail.applist} <= {"APP0"}


def test_a_thumbnail_is_a_small_jpeg(decoder: Decoder) -> None:
    job = DecodeJob(thumbnail=64)
    source = io.BytesIO(encoded(photograph("coffee")))
    decoded = decoder.decode(lambda: source, job, Purpose.THUMBNAIL)
    with_pillow = decoder.decode(io.BytesIO(decoded.thumbnail), DecodeJob(), Purpose.SEARCH)
    assert max(with_pillow.width, with_pillow.height) == 64
    assert with_pillow.mime == "image/jpeg"


def test_what_is_no_image_is_refused_with_its_code(decoder: Decoder) -> None:
    with pytest.raises(ImageRejected) as caught:
        decoder.decode(io.BytesIO(b"text"), DecodeJob((_SQUARE,)), Purpose.UPLOAD)
    assert caught.value.code == "unsupported-image-type"


def test_what_reads_the_file_may_fail(decoder: Decoder) -> None:
    def fail() -> io.BytesIO:
        raise LookupError("no such object")

    with pytest.raises(LookupError, match="no such object"):
        decoder.decode(fail, DecodeJob((_SQUARE,)), Purpose.INDEXING)


def test_nothing_is_decoded_for_a_caller_who_has_left(decoder: Decoder) -> None:
    caller = Caller()
    caller.leave()
    with pytest.raises(Abandoned):
        decoder.decode(io.BytesIO(b"text"), DecodeJob(), Purpose.SEARCH, caller)


def test_nothing_is_decoded_after_it_was_stopped(decoder: Decoder) -> None:
    decoder.stop()
    with pytest.raises(Refused):
        decoder.decode(io.BytesIO(b"text"), DecodeJob(), Purpose.SEARCH)
