"""What every decoder does with the same files: the pool of processes, and the tests' own."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator

import numpy as np
import pytest

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
