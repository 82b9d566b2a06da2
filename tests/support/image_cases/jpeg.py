"""JPEG files."""

from __future__ import annotations

from PIL import Image

from tests.support.image_cases.case import Case, cut, picture, saved, turned_cases


def _grey() -> Image.Image:
    return picture("L").convert("RGB")


def _with_many_scans() -> bytes:
    content = saved("JPEG", progressive=True)()
    last = content.rindex(b"\xff\xda")
    return content[:last] + content[last:-2] * 200 + content[-2:]


def _with_a_film_behind() -> bytes:
    return saved("JPEG", quality=95)() + b"\0\0\0\x18ftypmp42" + bytes(5000)


def _with_a_short_jfif() -> bytes:
    content = saved("JPEG", quality=95)()
    return content[:2] + b"\xff\xe0\0\7JFIF\0" + content[4 + int.from_bytes(content[4:6]) :]


def _without_an_end() -> bytes:
    return saved("JPEG", quality=95)()[:-2]


def _of_12_bits() -> bytes:
    content = bytearray(saved("JPEG")())
    content[content.index(b"\xff\xc0") + 4] = 12
    return bytes(content)


CASES = [
    Case("JPEG", "grey", saved("JPEG", "L", quality=95), expected=_grey),
    Case("JPEG", "colours, 4:4:4", saved("JPEG", quality=95, subsampling=0)),
    Case("JPEG", "colours, 4:2:0", saved("JPEG", quality=95, subsampling=2)),
    Case("JPEG", "CMYK", saved("JPEG", "CMYK", quality=95)),
    Case("JPEG", "progressive", saved("JPEG", quality=95, progressive=True)),
    Case("JPEG", "restart markers", saved("JPEG", quality=95, restart_marker_blocks=2)),
    Case("JPEG", "other bytes behind the image", _with_a_film_behind),
    *turned_cases("JPEG", quality=95),
    Case(
        "JPEG",
        "several images (MPO)",
        saved("MPO", frames_of=2, quality=95),
        note="The first image counts.",
    ),
    Case("JPEG", "damaged metadata", _with_a_short_jfif, note="The metadata is ignored."),
    Case("JPEG", "12 bits a channel", _of_12_bits, "unsupported-image-type"),
    Case("JPEG", "without its end marker", _without_an_end),
    Case("JPEG", "truncated", cut(saved("JPEG"), 0.8), "invalid-image"),
    Case(
        "JPEG", "truncated, progressive", cut(saved("JPEG", progressive=True), 0.8), "invalid-image"
    ),
    Case("JPEG", "more than 100 scans", _with_many_scans, "invalid-image"),
]
