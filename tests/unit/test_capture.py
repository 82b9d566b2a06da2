"""Capture metadata: where each field is read, and how each value is cleaned."""

from __future__ import annotations

import io
from typing import Any

import imagecodecs
import numpy as np
import pytest
from PIL.TiffImagePlugin import IFDRational

from models.capture.exif import MAX_BLOCK
from models.capture.limits import MAX_BYTES, check_capture
from models.capture.reading import read_capture
from models.imaging import decode_image, inspect_image
from tests.support.jpeg_xl import jpeg_xl_of_pixels
from tests.support.metadata import (
    PHONE,
    PHONE_CAMERA,
    PHONE_EXIF,
    PHONE_GPS,
    exif_block,
    iptc_record,
    jpeg_with,
    photoshop_segment,
    picture_with,
    raw_exif,
    tiff_with,
    xmp_list,
    xmp_packet,
)

FORMATS = ["JPEG", "PNG", "WEBP", "AVIF"]


def capture_of(content: bytes, *, keep_gps: bool = True) -> dict[str, Any]:
    """Read the metadata as the service does, and check that its process would be believed."""
    decoded = decode_image(
        io.BytesIO(content),
        min_side=8,
        read_metadata=lambda image: read_capture(image, keep_gps=keep_gps),
    )
    assert decoded.capture is not None
    return check_capture(decoded.capture)


def of_exif(**directories: Any) -> dict[str, Any]:
    return capture_of(jpeg_with(exif=exif_block(**directories)))


def of_xmp(inside: str = "", attributes: str = "") -> dict[str, Any]:
    return capture_of(jpeg_with(xmp=xmp_packet(inside, attributes)))


def of_iptc(*fields: tuple[int, int, bytes]) -> dict[str, Any]:
    return capture_of(jpeg_with(photoshop_segment(iptc_record(*fields))))


# formats

XMP = xmp_packet(
    xmp_list("dc:subject", "Bag", "sea", "harbour") + xmp_list("dc:description", "Alt", "A ship"),
    'xmp:Rating="4"',
)
SAID_IN_XMP = {"caption": "A ship", "keywords": ["sea", "harbour"], "rating": 4}
IPTC = iptc_record((2, 25, b"sea"), (2, 25, b"harbour"), (2, 120, b"A ship"), (2, 80, b"Ada"))
SAID_IN_IPTC = {"caption": "A ship", "keywords": ["sea", "harbour"], "creator": "Ada"}


@pytest.mark.parametrize("format", FORMATS)
def test_exif_and_xmp_of_each_format_are_read(format: str) -> None:
    assert capture_of(picture_with(format, exif=PHONE_EXIF)) == PHONE
    assert capture_of(picture_with(format, xmp=XMP)) == SAID_IN_XMP
    assert capture_of(picture_with(format, PHONE_EXIF, XMP)) == PHONE | SAID_IN_XMP


@pytest.mark.parametrize("format", [*FORMATS, "GIF", "BMP"])
def test_a_picture_without_metadata_says_nothing(format: str) -> None:
    assert capture_of(picture_with(format)) == {}


def test_heic_is_read() -> None:
    pytest.importorskip("pillow_heif")
    assert capture_of(picture_with("HEIF", PHONE_EXIF, XMP)) == PHONE | SAID_IN_XMP


def test_iptc_of_a_jpeg_is_read() -> None:
    assert capture_of(jpeg_with(photoshop_segment(IPTC))) == SAID_IN_IPTC


def test_a_tiff_has_all_three() -> None:
    assert capture_of(tiff_with(iptc=IPTC)) == SAID_IN_IPTC
    assert capture_of(tiff_with(xmp=XMP)) == SAID_IN_XMP
    assert capture_of(tiff_with(exif=PHONE_EXIF)) == PHONE


@pytest.mark.parametrize("bigtiff", [False, True])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_exif_and_xmp_of_a_tiff_that_pillow_cannot_read_are_read(
    byteorder: str, bigtiff: bool
) -> None:
    tifffile = pytest.importorskip("tifffile")
    file = io.BytesIO()
    tags = [(271, 2, 0, "Canon", True), (700, 1, len(XMP), XMP, True), (274, 3, 1, 6, True)]
    floats = np.zeros((20, 30, 3), np.float32)
    tifffile.imwrite(
        file,
        floats,
        photometric="rgb",
        byteorder=byteorder,
        bigtiff=bigtiff,
        metadata=None,
        software=False,
        extratags=tags,
    )
    is_unknown_to_pillow = bigtiff and byteorder == ">"
    said_in_exif = {} if is_unknown_to_pillow else {"camera": "Canon"}
    assert capture_of(file.getvalue()) == said_in_exif | SAID_IN_XMP
    assert inspect_image(io.BytesIO(file.getvalue()), read_capture).width == 20


def jpeg_xl_with(*boxes: tuple[bytes, bytes]) -> bytes:
    """Return a JPEG XL with further boxes, 30 pixels wide."""
    content = jpeg_xl_of_pixels(np.zeros((20, 30, 3), np.uint8), usecontainer=True)
    return content + b"".join((8 + len(data)).to_bytes(4) + kind + data for kind, data in boxes)


@pytest.mark.parametrize("packed", [False, True])
def test_exif_and_xmp_of_a_jpeg_xl_are_read(packed: bool) -> None:
    exif = bytes(4) + exif_block({"Orientation": 6, "Make": "Canon"}).removeprefix(b"Exif\0\0")
    boxes = [(b"Exif", exif), (b"xml ", XMP)]
    if packed:
        boxes = [(b"brob", kind + imagecodecs.brotli_encode(data)) for kind, data in boxes]
    content = jpeg_xl_with(*boxes)
    assert capture_of(content) == {"camera": "Canon"} | SAID_IN_XMP
    assert inspect_image(io.BytesIO(content), read_capture).width == 30  # it is upright


@pytest.mark.parametrize("kind", [b"Exif", b"xml ", b"brob"])
@pytest.mark.parametrize("data", [b"", b"\0", bytes(4), b"\xff" * 40, b"Exif\xff\xff", b"xml \x0b"])
def test_a_hostile_box_of_a_jpeg_xl_says_nothing(kind: bytes, data: bytes) -> None:
    assert capture_of(jpeg_xl_with((kind, data))) == {}


def test_a_box_of_a_jpeg_xl_that_unpacks_to_too_much_says_nothing() -> None:
    large = imagecodecs.brotli_encode(XMP + b" " * 4_000_000)
    assert capture_of(jpeg_xl_with((b"brob", b"xml " + large))) == {}


@pytest.mark.parametrize("format", [*FORMATS, "TIFF", "HEIF"])
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_a_file_whose_pixels_are_skipped_says_the_same(format: str, orientation: int) -> None:
    if format == "HEIF":
        pytest.importorskip("pillow_heif")
    exif = exif_block({"Orientation": orientation, "Make": "Canon"})
    content = tiff_with(exif=exif) if format == "TIFF" else picture_with(format, exif)
    decoded = decode_image(io.BytesIO(content), min_side=8, read_metadata=read_capture)
    inspected = inspect_image(io.BytesIO(content), read_capture)
    assert inspected.capture == decoded.capture == {"camera": "Canon"}
    for known in ("width", "height", "mime", "extension"):
        assert getattr(inspected, known) == getattr(decoded, known)


def test_the_metadata_behind_the_pixels_of_a_png_are_read() -> None:
    content = picture_with("PNG", PHONE_EXIF)
    start = content.index(b"eXIf") - 4
    end = start + 12 + int.from_bytes(content[start : start + 4])
    moved = content[:start] + content[end:-12] + content[start:end] + content[-12:]
    assert capture_of(moved) == PHONE


def test_the_position_can_be_left_out() -> None:
    without = {name: value for name, value in PHONE.items() if name != "gps"}
    assert capture_of(jpeg_with(exif=PHONE_EXIF), keep_gps=False) == without
    place = 'exif:GPSLatitude="52,31.2N" exif:GPSLongitude="13,24.6E" xmp:Rating="1"'
    assert capture_of(jpeg_with(xmp=xmp_packet("", place)), keep_gps=False) == {"rating": 1}


# which source goes first


def test_the_words_of_people_come_from_xmp_and_the_numbers_of_cameras_from_exif() -> None:
    exif = exif_block(
        {"ImageDescription": "of EXIF", "Make": "Canon", "Model": "Canon EOS R5"},
        {"DateTimeOriginal": "2024:05:01 10:00:00"},
    )
    xmp = xmp_packet(
        xmp_list("dc:description", "Alt", "of XMP"),
        'tiff:Make="Nikon" exif:DateTimeOriginal="2020-01-01T00:00:00Z"',
    )
    iptc = photoshop_segment(iptc_record((2, 120, b"of IPTC"), (2, 55, b"20190101")))
    both = {"camera": "Canon EOS R5", "time": 1714557600000}
    assert capture_of(jpeg_with(iptc, exif=exif, xmp=xmp)) == both | {"caption": "of XMP"}
    assert capture_of(jpeg_with(iptc, exif=exif)) == both | {"caption": "of IPTC"}
    assert capture_of(jpeg_with(exif=exif)) == both | {"caption": "of EXIF"}


def test_the_time_of_scanning_comes_last() -> None:
    exif = exif_block(None, {"DateTimeDigitized": "2020:01:01 00:00:00"})
    assert capture_of(jpeg_with(exif=exif))["time"] == 1577836800000
    iptc = photoshop_segment(iptc_record((2, 55, b"19690720")))
    assert capture_of(jpeg_with(iptc, exif=exif))["time"] == -14256000000


# EXIF


@pytest.mark.parametrize(
    ("make", "model", "camera"),
    [
        ("Apple", "iPhone 12", "Apple iPhone 12"),
        ("Canon", "Canon EOS R5", "Canon EOS R5"),
        ("NIKON CORPORATION", "NIKON D850", "NIKON D850"),
        ("SONY", "ILCE-7M3", "SONY ILCE-7M3"),
        ("Go", "GoPro", "Go GoPro"),
        ("LG Electronics", "LG-H870 ", "LG-H870"),
        ("", "X100", "X100"),
        ("Leica", "", "Leica"),
    ],
)
def test_the_make_is_not_repeated(make: str, model: str, camera: str) -> None:
    assert of_exif(main={"Make": make, "Model": model}) == {"camera": camera}


@pytest.mark.parametrize(
    ("time", "more", "said"),
    [
        ("2024:05:01 10:00:00", {}, {"time": 1714557600000}),
        ("2024:05:01 10:00:00", {"OffsetTimeOriginal": "Z"}, {"time": 1714557600000, "offset": 0}),
        (
            "2024:05:01 10:00:00",
            {"OffsetTimeOriginal": "-05:30"},
            {"time": 1714577400000, "offset": -330},
        ),
        ("2024:05:01 10:00:00", {"OffsetTimeOriginal": "   :  "}, {"time": 1714557600000}),
        ("2024:05:01 10:00:00", {"OffsetTimeOriginal": "+99:00"}, {"time": 1714557600000}),
        ("2024:05:01 10:00:00", {"SubsecTimeOriginal": "5 "}, {"time": 1714557600500}),
        ("2024:05:01 10:00:00", {"SubsecTimeOriginal": "x"}, {"time": 1714557600000}),
        ("2024-05-01T10:00:00", {}, {"time": 1714557600000}),
        ("2024:05:01", {}, {"time": 1714521600000}),
        ("1801:01:01 00:00:00", {}, {"time": -5333126400000}),
        ("1799:12:31 00:00:00", {}, {}),
        ("2200:01:01 00:00:00", {}, {}),
        ("0000:00:00 00:00:00", {}, {}),
        ("    :  :     :  :  ", {}, {}),
        ("2024:13:01 10:00:00", {}, {}),
        ("2024:05:01 25:00:00", {}, {}),
        ("yesterday", {}, {}),
    ],
)
def test_a_time_is_an_instant_with_its_offset_if_that_is_known(
    time: str, more: dict[str, str], said: dict[str, int]
) -> None:
    assert of_exif(camera={"DateTimeOriginal": time} | more) == said


@pytest.mark.parametrize("value", [(0, 0), (1, 0), (0, 5)], ids=["0/0", "1/0", "0/5"])
def test_a_fraction_that_is_no_number_above_zero_is_left_out(value: tuple[int, int]) -> None:
    camera = PHONE_CAMERA | dict.fromkeys(
        ("FocalLength", "ExposureTime", "FNumber"), IFDRational(*value)
    )
    said = capture_of(jpeg_with(exif=exif_block(None, camera)))
    assert {"time", "iso", "lens"} <= said.keys()
    assert not {"focal_length", "exposure", "aperture"} & said.keys()


def test_a_number_that_a_camera_rounded_is_the_one_it_means() -> None:
    camera = {"FNumber": IFDRational(179999995232, 100000000000)}
    assert of_exif(camera=camera) == {"aperture": 1.8}


def test_an_iso_number_that_does_not_fit_is_read_from_the_larger_field() -> None:
    camera = {"ISOSpeedRatings": 65535, "RecommendedExposureIndex": 102400}
    assert of_exif(camera=camera) == {"iso": 102400}


def test_a_lens_without_a_name_is_none() -> None:
    assert of_exif(camera={"LensModel": "----"}) == {}


BERLIN = {"latitude": 52.52, "longitude": 13.41}


@pytest.mark.parametrize(
    ("changes", "gps"),
    [
        ({}, BERLIN | {"altitude": 34.5}),
        ({"GPSLatitudeRef": "S", "GPSLongitudeRef": "W", "GPSAltitudeRef": b"\1"}, "mirrored"),
        ({"GPSLatitude": (52.0, 31.2)}, BERLIN | {"altitude": 34.5}),
        ({"GPSAltitude": IFDRational(1, 0)}, BERLIN),
        ({"GPSLatitudeRef": None}, None),
        ({"GPSLatitudeRef": "E"}, None),
        ({"GPSLongitude": None}, None),
        ({"GPSLatitude": (91.0, 0.0, 0.0)}, None),
        ({"GPSLongitude": (180.0, 1.0, 0.0)}, None),
        ({"GPSLatitude": (IFDRational(0, 0),) * 3}, None),
    ],
)
def test_a_position_is_on_the_globe_or_left_out(changes: dict[str, Any], gps: object) -> None:
    tags = {name: value for name, value in (PHONE_GPS | changes).items() if value is not None}
    if gps == "mirrored":
        gps = {"latitude": -52.52, "longitude": -13.41, "altitude": -34.5}
    assert of_exif(gps=tags).get("gps") == gps


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("Zoë".encode(), "Zoë"),
        ("Zoë".encode("latin-1"), "Zoë"),
        ("Zoe\u0308".encode(), "Zoë"),
        ("“Zoë”".encode("cp1252"), "“Zoë”"),
        (b"  Zoe \0junk", "Zoe"),
        (b"a\x07b\nc", "a b c"),
        (b"\0\0\0", None),
        (b"   ", None),
    ],
)
def test_texts_are_decoded_and_cleaned(value: bytes, text: str | None) -> None:
    said = capture_of(jpeg_with(exif=raw_exif({0x013B: (2, value)})))
    assert said.get("creator") == text


def test_the_copyright_of_the_editor_is_used_if_there_is_no_other() -> None:
    assert of_exif(main={"Copyright": "Ada\0Grace"}) == {"copyright": "Ada"}
    assert of_exif(main={"Copyright": " \0Grace"}) == {"copyright": "Grace"}


def test_the_fields_of_windows_are_used_if_there_are_no_others() -> None:
    fields = {
        0x9C9B: (1, "Title\0".encode("utf-16-le")),
        0x9C9C: (1, "Größe 😀\0".encode("utf-16-le")),
        0x9C9E: (1, "sea; harbour;;sea\0".encode("utf-16-le")),
        0x4746: (3, b"\5\0"),
    }
    said = {"caption": "Größe 😀", "keywords": ["sea", "harbour"], "rating": 5}
    assert capture_of(jpeg_with(exif=raw_exif(fields))) == said
    del fields[0x9C9C]
    assert capture_of(jpeg_with(exif=raw_exif(fields)))["caption"] == "Title"


@pytest.mark.parametrize(
    ("comment", "text"),
    [
        (b"ASCII\0\0\0A ship", "A ship"),
        (b"UNICODE\0" + "Ein Schiff".encode("utf-16-le"), "Ein Schiff"),
        (b"UNICODE\0" + "Ein Schiff".encode("utf-16-be"), "Ein Schiff"),
        (b"JIS\0\0\0\0\0" + "船".encode("iso2022_jp"), "船"),
        (bytes(8) + "Größe".encode(), "Größe"),
        (bytes(8) + b"    \0\0", None),
        (b"UNICODE\0", None),
    ],
)
def test_a_comment_is_a_caption_if_there_is_no_other(comment: bytes, text: str | None) -> None:
    block = raw_exif({0x9286: (7, comment)}, pointer=0x8769)
    assert capture_of(jpeg_with(exif=block)).get("caption") == text


# XMP


def test_a_property_of_xmp_is_an_attribute_or_an_element() -> None:
    attributes = (
        'tiff:Make="Canon" tiff:Model="Canon EOS R5" aux:Lens="RF 50mm" exif:FNumber="28/10"'
        ' exif:ExposureTime="1/250" exif:FocalLength="50" exifEX:PhotographicSensitivity="100"'
        ' xmp:CreatorTool="darktable" xmp:Rating="-1" exif:GPSLatitude="52,31,12N"'
        ' exif:GPSLongitude="13,24.6E" exif:GPSAltitude="345/10" exif:GPSAltitudeRef="1"'
    )
    elements = "".join(
        f"<{name}>{value}</{name}>"
        for name, value in (part.rstrip('"').split('="') for part in attributes.split('" '))
    )
    said = {
        "camera": "Canon EOS R5",
        "lens": "RF 50mm",
        "focal_length": 50.0,
        "exposure": 0.004,
        "aperture": 2.8,
        "iso": 100,
        "gps": BERLIN | {"altitude": -34.5},
        "software": "darktable",
        "rating": -1,
    }
    assert of_xmp("", attributes) == said
    assert of_xmp(elements) == said


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("2024-05-01T10:00:00+02:00", {"time": 1714550400000, "offset": 120}),
        ("2024-05-01T10:00:00.25Z", {"time": 1714557600250, "offset": 0}),
        ("2024-05-01T10:00", {"time": 1714557600000}),
        ("2024-05-01", {"time": 1714521600000}),
        ("2024-05", {"time": 1714521600000}),
        ("1968", {"time": -63158400000}),
        ("May 2024", {}),
    ],
)
def test_times_of_xmp_may_be_short(written: str, said: dict[str, int]) -> None:
    for name in ("exif:DateTimeOriginal", "photoshop:DateCreated", "xmp:CreateDate"):
        assert of_xmp("", f'{name}="{written}"') == said


def test_a_time_that_is_broken_leaves_the_next_one() -> None:
    said = of_xmp("", 'exif:DateTimeOriginal="2024-13-01" xmp:CreateDate="2024-05-01"')
    assert said == {"time": 1714521600000}


def test_the_default_language_goes_first() -> None:
    texts = (
        "<dc:description><rdf:Alt><rdf:li xml:lang='de'>Schiff</rdf:li>"
        "<rdf:li xml:lang='x-default'>Ship</rdf:li></rdf:Alt></dc:description>"
    )
    assert of_xmp(texts) == {"caption": "Ship"}
    assert of_xmp(texts.replace("x-default", "fr")) == {"caption": "Schiff"}


def test_several_creators_are_named() -> None:
    assert of_xmp(xmp_list("dc:creator", "Seq", "Ada", "Grace")) == {"creator": "Ada, Grace"}


def test_the_ingredients_of_a_picture_do_not_speak_for_it() -> None:
    pantry = (
        "<xmpMM:Pantry><rdf:Bag><rdf:li><rdf:Description dc:format='image/jpeg'>"
        f"{xmp_list('dc:description', 'Alt', 'an ingredient')}"
        "</rdf:Description></rdf:li></rdf:Bag></xmpMM:Pantry>"
    )
    assert of_xmp(pantry) == {}


@pytest.mark.parametrize("rating", ["6", "-2", "2.5", "nan", "inf", "many", ""])
def test_a_rating_that_is_none_is_left_out(rating: str) -> None:
    assert of_xmp("", f'xmp:Rating="{rating}" xmp:CreatorTool="x"') == {"software": "x"}


# IPTC


def test_iptc_is_utf8_if_it_says_so_and_guessed_otherwise() -> None:
    assert of_iptc((1, 90, b"\x1b%G"), (2, 80, "Zoë".encode())) == {"creator": "Zoë"}
    assert of_iptc((2, 80, "Zoë".encode())) == {"creator": "Zoë"}
    assert of_iptc((2, 80, "Zoë".encode("latin-1"))) == {"creator": "Zoë"}


@pytest.mark.parametrize(
    ("date", "clock", "said"),
    [
        (b"20240501", b"100000+0200", {"time": 1714550400000, "offset": 120}),
        (b"20240501", b"", {"time": 1714521600000}),
        (b"20240000", b"", {"time": 1704067200000}),
        (b"00000000", b"", {}),
        (b"2024", b"", {}),
        (b"20240501", b"990000+0200", {}),
    ],
)
def test_dates_of_iptc(date: bytes, clock: bytes, said: dict[str, int]) -> None:
    assert of_iptc((2, 55, date), (2, 60, clock)) == said


def test_other_fields_of_iptc() -> None:
    said = of_iptc((2, 65, b"Bridge"), (2, 116, b"Ada"), (2, 120, b"A ship"))
    assert said == {"software": "Bridge", "copyright": "Ada", "caption": "A ship"}


# bounds


def test_texts_and_keywords_are_bounded() -> None:
    words = [f"{number} {'x' * 200}" for number in range(150)]
    said = of_xmp(
        xmp_list("dc:description", "Alt", "é" * 5000)
        + xmp_list("dc:subject", "Bag", *words)
        + xmp_list("dc:rights", "Alt", "z" * 5000)
    )
    assert len(said["caption"]) == 2000
    assert len(said["copyright"]) == 255
    assert {len(word) for word in said["keywords"]} == {100}
    assert said["keywords"][0].startswith("0 ")
    assert len(said["keywords"]) in range(10, 50)  # all hundred would be over the size


def test_the_whole_is_bounded() -> None:
    said = of_xmp(
        xmp_list("dc:description", "Alt", "😀" * 5000)
        + xmp_list("dc:subject", "Bag", *("😀" * 90 + str(number) for number in range(100)))
        + xmp_list("dc:rights", "Alt", "😀" * 255)
    )
    assert "keywords" not in said
    assert len(said["caption"]) == 1000
    assert len(said["copyright"]) == 255
    assert MAX_BYTES == 8192


def test_an_exif_block_of_megabytes_is_read_as_far_as_the_limit() -> None:
    content = picture_with("PNG", PHONE_EXIF + bytes(3 * MAX_BLOCK))
    assert capture_of(content) == PHONE


# what the parent of the process that reads believes

GOOD: dict[str, Any] = PHONE | {"caption": "A ship", "keywords": ["sea"], "rating": 4}


def test_what_is_read_is_believed() -> None:
    assert check_capture(GOOD) == GOOD
    assert check_capture({}) == {}


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        "text",
        {"unknown": 1},
        {"offset": 0},
        {"time": 1.5},
        {"time": True},
        {"time": 10**15},
        {"time": 0, "offset": 10_000},
        {"camera": ""},
        {"camera": " x"},
        {"camera": "a\nb"},
        {"camera": "e\u0301"},
        {"camera": "x" * 256},
        {"camera": "\ud800"},
        {"camera": ["x"]},
        {"aperture": float("nan")},
        {"aperture": float("inf")},
        {"aperture": -1.0},
        {"aperture": "2.8"},
        {"iso": 0},
        {"gps": {"latitude": 1.0}},
        {"gps": {"latitude": 91.0, "longitude": 0.0}},
        {"gps": {"latitude": 1.0, "longitude": 0.0, "altitude": None}},
        {"gps": {"latitude": 1.0, "longitude": 0.0, "more": 1.0}},
        {"gps": [1.0, 0.0]},
        {"keywords": []},
        {"keywords": ["x", "x"]},
        {"keywords": ["x" * 101]},
        {"keywords": [str(number) for number in range(101)]},
        {"keywords": "x"},
        {"rating": 6},
        {"caption": "😀" * 2000, "keywords": ["x" * 100, "y" * 100]},
    ],
    ids=lambda value: repr(value)[:50],
)
def test_what_reading_could_not_have_made_is_not_believed(value: object) -> None:
    with pytest.raises(ValueError, match="not"):
        check_capture(value)
