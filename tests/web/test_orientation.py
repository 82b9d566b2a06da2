"""The service turns a picture exactly as the browser does that the box is drawn in."""

from __future__ import annotations

import base64
import io
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from models.imaging import decode_image
from tests.support.images import encoded, photograph
from tests.support.png import chunk
from tests.support.service import Service

SIZE = (96, 64)
COLOURS = {
    "red": (220, 30, 30),
    "green": (30, 200, 30),
    "blue": (30, 30, 220),
    "grey": (90, 90, 90),
}
OPTIONS: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 95},
    "PNG": {},
    "WEBP": {"lossless": True},
    "AVIF": {"quality": 95, "speed": 10},
}
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF'
    b' xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description'
    b' xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
)
SHORT, LONG = 3, 4
_DRAW = """async url => {
    const image = new Image();
    image.src = url;
    await image.decode();
    const canvas = document.createElement("canvas");
    canvas.width = image.naturalWidth;
    canvas.height = image.naturalHeight;
    canvas.getContext("2d").drawImage(image, 0, 0);
    return canvas.toDataURL();
}"""


def quarters() -> Image.Image:
    """Return a picture whose four quarters differ."""
    image = Image.new("RGB", SIZE)
    for number, colour in enumerate(COLOURS.values()):
        image.paste(colour, (48 * (number % 2), 32 * (number // 2), 96, 64))
    return image


def exif(orientation: int, *, kind: int = SHORT, order: str = ">", tag: int = 0x0112) -> bytes:
    mark = b"MM" if order == ">" else b"II"
    value = struct.pack(
        f"{order}HH" if kind == SHORT else f"{order}I", *[orientation, 0][: 5 - kind]
    )
    entry = struct.pack(f"{order}HHHI", 1, tag, kind, 1) + value
    return b"Exif\0\0" + mark + struct.pack(f"{order}HI", 42, 8) + entry + bytes(4)


def saved(name: str, **options: Any) -> bytes:
    return encoded(quarters(), name, **OPTIONS[name], **options)


def png_with(*, ahead: bytes = b"", behind: bytes = b"") -> bytes:
    content = saved("PNG")
    return content[:33] + ahead + content[33:-12] + behind + content[-12:]


def jpeg_with(*blocks: bytes) -> bytes:
    content = saved("JPEG")
    segments = [b"\xff\xe1" + (len(block) + 2).to_bytes(2) + block for block in blocks]
    return content[:2] + b"".join(segments) + content[2:]


def make_cases() -> Iterator[tuple[str, bytes]]:
    for name in OPTIONS:
        for orientation in range(1, 10):  # AVIF says it in properties of its own
            yield f"{name}, orientation {orientation}", saved(name, exif=exif(orientation))
        yield f"{name}, little endian", saved(name, exif=exif(6, order="<"))
        yield f"{name}, 32 bits", saved(name, exif=exif(6, kind=LONG))
        if name != "PNG":
            yield f"{name}, XMP", saved(name, xmp=XMP)
    yield "PNG, XMP", png_with(ahead=chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP))
    yield "PNG, behind the pixels", png_with(behind=chunk(b"eXIf", exif(6)[6:]))
    yield "PNG, with the mark of a JPEG", png_with(ahead=chunk(b"eXIf", exif(6)))
    yield "PNG, in a text", png_with(ahead=chunk(b"tEXt", b"exif\0" + exif(6)))
    yield "JPEG, two blocks", jpeg_with(exif(6), exif(3))
    yield "JPEG, a broken block first", jpeg_with(b"Exif\0\0xx", exif(6))
    yield "JPEG, XMP and EXIF", jpeg_with(b"http://ns.adobe.com/xap/1.0/\0" + XMP, exif(3))
    # Pillow moves the orientation of an AVIF to its properties, so another tag becomes it here.
    avif = saved("AVIF", exif=exif(6, tag=0x0128))
    yield "AVIF, in EXIF alone", avif.replace(b"\x01\x28\0\3\0\0\0\1", b"\x01\x12\0\3\0\0\0\1")


CASES = dict(make_cases())


def corners(image: Image.Image) -> list[str]:
    """Return the size of a picture, and the colours of its corners."""
    width, height = image.size
    places = [(8, 8), (width - 8, 8), (8, height - 8), (width - 8, height - 8)]
    found = [image.convert("RGB").getpixel(place) for place in places]

    def distance(name: str, pixel: Any) -> int:
        return sum(abs(one - other) for one, other in zip(COLOURS[name], pixel, strict=True))

    names = [min(COLOURS, key=lambda name: distance(name, pixel)) for pixel in found]
    return [f"{width} x {height}", *names]


@pytest.fixture(scope="module")
def canvas(browser: Browser) -> Iterator[Page]:
    with browser.new_context() as context:
        yield context.new_page()


@pytest.mark.parametrize("name", CASES)
def test_a_picture_is_turned_as_the_browser_turns_it(name: str, canvas: Page) -> None:
    content = CASES[name]
    media_type = f"image/{name.split(',', maxsplit=1)[0].lower()}"
    url = f"data:{media_type};base64,{base64.b64encode(content).decode()}"
    drawn = base64.b64decode(canvas.evaluate(_DRAW, url).partition(",")[2])
    ours = decode_image(io.BytesIO(content), min_side=1000)
    assert (ours.width, ours.height) == ours.image.size
    assert corners(ours.image) == corners(Image.open(io.BytesIO(drawn)))


def test_the_corners_tell_orientations_apart() -> None:
    files = [saved("PNG", exif=exif(orientation)) for orientation in range(1, 9)]
    seen = {tuple(corners(decode_image(io.BytesIO(file), min_side=64).image)) for file in files}
    assert len(seen) == 8


@pytest.mark.parametrize("name", ["JPEG", "WEBP"])
def test_a_box_on_a_sample_is_where_the_person_saw_it(
    name: str, service: Service, page: Page, tmp_path: Path
) -> None:
    """With the other orientation, the box would not lie inside the picture."""
    service.put_master(encoded(photograph("coffee")))
    metadata = {"xmp": XMP} if name == "JPEG" else {"exif": exif(6)}
    sample = tmp_path / f"sample.{name.lower()}"
    sample.write_bytes(encoded(photograph("coffee"), name, **metadata))
    page.set_input_files("#choose", sample)
    expect(page.locator("#count")).to_have_text("1 result")
    with page.expect_response("**/search") as answered:
        page.get_by_role("button", name="Select area").click()
    assert answered.value.status == 200
    expect(page).to_have_url(re.compile("box=150%2C100%2C300%2C200"))
    expect(page.locator("#count")).to_have_text("1 result")
