"""TIFF files: those that Pillow reads, and those that need the extra ``tiff``."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from tests.support.image_cases.case import (
    Case,
    cut,
    frames,
    half_clear,
    half_white,
    picture,
    saved,
    turned_cases,
    turned_picture,
)


def _written_by(
    make_pixels: Callable[[], NDArray[np.generic]], **options: object
) -> Callable[[], bytes]:
    """Return a function that writes pixels with tifffile, with options of its ``imwrite``."""

    def make() -> bytes:
        import tifffile

        file = io.BytesIO()
        tifffile.imwrite(file, make_pixels(), **options)
        return file.getvalue()

    return make


def _as(mode: str) -> Callable[[], Image.Image]:
    return lambda: picture(mode).convert("RGB")


def _values(mode: str = "RGB", kind: str = "u1") -> Callable[[], NDArray[np.generic]]:
    """Return a function for the picture's channels: whole numbers fill their range, floats 0..1."""

    def make() -> NDArray[np.generic]:
        pixels = np.asarray(picture(mode))
        if kind[0] == "f":
            return (pixels / 255).astype(kind)
        return pixels.astype(kind) * (np.iinfo(kind).max // 255)

    return make


def _planes(mode: str = "RGB", kind: str = "u1") -> Callable[[], NDArray[np.generic]]:
    return lambda: np.ascontiguousarray(np.moveaxis(_values(mode, kind)(), -1, 0))


def _clear(kind: str = "u1", multiplied: bool = False) -> NDArray[np.generic]:
    pixels = np.asarray(half_clear()).astype(float) / 255
    if multiplied:
        pixels[..., :3] *= pixels[..., 3:]
    most = 1 if kind[0] == "f" else np.iinfo(kind).max
    return (pixels * most).round(0 if most > 1 else 6).astype(kind)


def _lab() -> NDArray[np.generic]:
    """Return L*a*b* of 16 bits, in which a and b are signed."""
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    converted = ImageCms.profileToProfile(picture(), srgb, lab, outputMode="LAB")
    assert converted is not None
    return np.asarray(converted).astype("u2") * 256


def _elevations() -> NDArray[np.generic]:
    return np.linspace(-500, 3000, 64 * 96).reshape(64, 96).astype("f4")


def _elevations_in_grey() -> Image.Image:
    grey = (_elevations() + 500) / 3500 * 255
    return Image.fromarray(grey.round().astype(np.uint8)).convert("RGB")


def _pages() -> NDArray[np.generic]:
    return np.stack([np.asarray(frame) for frame in frames()])


def _with_layers() -> bytes:
    from tests.support.images import encoded

    layers = Image.Exif()
    layers[37724] = b"Adobe Photoshop Document Data Block\0" + bytes(5000)
    return encoded(picture(), "TIFF", tiffinfo=layers)


def _case(
    variant: str, make: Callable[[], bytes], result: str = "accepted", **more: object
) -> Case:
    return Case("TIFF", variant, make, result, **more)  # type: ignore[arg-type]


_BY_PILLOW = [
    _case("1 bit", saved("TIFF", "1"), expected=_as("1"), tolerance=0),
    _case("1 bit, fax group 4", saved("TIFF", "1", compression="group4"), expected=_as("1")),
    _case("grey", saved("TIFF", "L"), expected=_as("L"), tolerance=0),
    _case("grey, 16 bits", _written_by(_values("L", "u2")), expected=_as("L"), tolerance=1),
    _case(
        "grey, 16 bits, big-endian",
        _written_by(_values("L", "u2"), byteorder=">"),
        expected=_as("L"),
        tolerance=1,
    ),
    _case("palette", saved("TIFF", "P"), expected=_as("P"), tolerance=0),
    _case("colours", saved("TIFF"), tolerance=0),
    _case("colours, 16 bits", _written_by(_values("RGB", "u2"), photometric="rgb"), tolerance=1),
    _case(
        "colours, 16 bits, big-endian",
        _written_by(_values("RGB", "u2"), photometric="rgb", byteorder=">"),
        tolerance=1,
    ),
    _case("CMYK", saved("TIFF", "CMYK")),
    _case(
        "CMYK, 16 bits", _written_by(_values("CMYK", "u2"), photometric="separated"), tolerance=1
    ),
    _case("L\\*a\\*b\\*", _written_by(lambda: (_lab() >> 8).astype("u1"), photometric="cielab")),
    *(
        _case("LZW, ZIP, PackBits, Zstandard", saved("TIFF", compression=name), file=name)
        for name in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "zstd")
    ),
    _case("JPEG compression", saved("TIFF", compression="jpeg", quality=95)),
    _case("tiles", _written_by(_values(), photometric="rgb", tile=(32, 32)), tolerance=0),
    _case(
        "planes",
        _written_by(_planes(), photometric="rgb", planarconfig="separate"),
        tolerance=0,
    ),
    _case("BigTIFF", _written_by(_values(), photometric="rgb", bigtiff=True), tolerance=0),
    _case("layers of Photoshop", _with_layers, note="The flattened image counts."),
    _case(
        "transparent",
        _written_by(_clear, photometric="rgb", extrasamples=["unassalpha"]),
        expected=half_white,
        tolerance=1,
    ),
    _case(
        "several pages",
        _written_by(_pages, photometric="rgb"),
        tolerance=0,
        note="The first page counts.",
    ),
    *turned_cases("TIFF"),
    _case("truncated", cut(saved("TIFF"), 0.8), "invalid-image"),
    _case("truncated, LZW", cut(saved("TIFF", compression="tiff_lzw"), 0.8), "invalid-image"),
]


def _deep(variant: str, make: Callable[[], bytes], **more: object) -> Case:
    return _case(variant, make, **{"extra": "tiff", "tolerance": 1} | more)


_BY_TIFFFILE = [
    _deep(
        "BigTIFF, big-endian",
        _written_by(_values(), photometric="rgb", bigtiff=True, byteorder=">"),
    ),
    *(
        _deep(
            "planes of 16 bits",
            _written_by(
                _planes("RGB", "u2"),
                photometric="rgb",
                planarconfig="separate",
                compression=compression,
            ),
            file=str(compression),
        )
        for compression in (None, "zlib", "lzw")
    ),
    *(
        _deep(
            "floats of 16, 32 or 64 bits",
            _written_by(
                _values("RGB", kind), photometric="rgb", compression="zlib", predictor=True
            ),
            file=kind,
            note="Values from 0 to 1 are black to white.",
        )
        for kind in ("f2", "f4", "f8")
    ),
    _deep(
        "floats beyond 0 to 1",
        _written_by(_elevations),
        expected=_elevations_in_grey,
        note="The least becomes black and the greatest white.",
    ),
    _deep("grey, 32 bits", _written_by(_values("L", "u4")), expected=_as("L")),
    _deep(
        "CMYK and a further channel",
        _written_by(
            lambda: np.concatenate([_values("CMYK")(), _values("CMYK")()[..., :1]], -1),
            photometric="separated",
            extrasamples=["unassalpha"],
        ),
        note="The further channel is ignored.",
    ),
    _deep("L\\*a\\*b\\*, 16 bits", _written_by(_lab, photometric="cielab"), tolerance=6),
    *(
        _deep(
            "transparent, 16 bits in planes or floats",
            _written_by(
                lambda kind=kind: np.moveaxis(_clear(kind), -1, 0),  # type: ignore[misc]
                photometric="rgb",
                planarconfig="separate",
                extrasamples=["unassalpha"],
            ),
            expected=half_white,
            file=kind,
        )
        for kind in ("u2", "f4")
    ),
    _deep(
        "colours multiplied by their transparency, floats",
        _written_by(
            lambda: _clear("f4", multiplied=True), photometric="rgb", extrasamples=["assocalpha"]
        ),
        expected=half_white,
    ),
    *(
        _deep(
            "JPEG 2000, WebP, JPEG XL or LERC compression",
            _written_by(_values(), photometric="rgb", compression=compression),
            file=compression,
            tolerance=6,
        )
        for compression in ("jpeg2000", "webp", "jpegxl", "lerc")
    ),
    *(
        _deep(
            "floats that are turned",
            _written_by(
                lambda orientation=orientation: (  # type: ignore[misc]
                    np.asarray(turned_picture(orientation)) / np.float32(255)
                ),
                photometric="rgb",
                extratags=[(274, 3, 1, orientation, True)],
            ),
            file=str(orientation),
            note="The image is turned upright.",
        )
        for orientation in (3, 6)
    ),
    *(
        _case(
            "truncated, floats",
            cut(_written_by(_values("RGB", "f4"), photometric="rgb", compression=compression), 0.8),
            "invalid-image",
            extra="tiff",
            file=str(compression),
        )
        for compression in (None, "zlib", "lzw")
    ),
]
CASES = [*_BY_PILLOW, *_BY_TIFFFILE]
