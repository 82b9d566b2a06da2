"""One line of the table of formats: a file, and what the service does with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from PIL import Image

ACCEPTED = "accepted"
SIZE = (96, 64)


def picture(mode: str = "RGB") -> Image.Image:
    """Return the small photograph that most of the files show."""
    from tests.support.images import photograph  # scikit-image is not needed to write the table

    return photograph("coffee").resize(SIZE).convert(mode)


def frames(count: int = 3) -> list[Image.Image]:
    """Return ``count`` pictures that differ, the usual one first."""
    from tests.support.images import photograph

    others = [photograph(name).resize(SIZE) for name in ("rocket", "chelsea")]
    return [picture(), *others][:count]


@dataclass(frozen=True)
class Case:
    """A file of a certain format and variant, and what is expected of it.

    ``result`` is ``ACCEPTED`` or the code of the error. ``note`` is a sentence of the table that
    says more. An accepted file becomes ``expected``; ``tolerance`` is how much the channels may
    differ on average, from 0 to 255. ``extra`` names the extra that the format needs. Several files
    of one variant are one line of the table; ``file`` tells them apart.
    """

    format: str
    variant: str
    make: Callable[[], bytes]
    result: str = ACCEPTED
    note: str = ""
    expected: Callable[[], Image.Image] = picture
    tolerance: float = 6.0
    media_type: str = ""  # if it is not that of the format
    extra: str = ""
    file: str = ""

    def __str__(self) -> str:
        return f"{self.format}: {self.variant}{self.file and f' ({self.file})'}"

    @property
    def line(self) -> str:
        """What the table says about the variant, as one line of Markdown."""
        said = "Accepted." if self.result == ACCEPTED else f"Refused with `{self.result}`."
        needs = f"Needs the extra `{self.extra}`." if self.extra else ""
        return f"| {self.variant} | {' '.join(filter(None, [said, self.note, needs]))} |"


def saved(
    format: str, mode: str = "RGB", frames_of: int = 1, **options: Any
) -> Callable[[], bytes]:
    """Return a function that saves the picture with Pillow, with further frames if asked for."""

    def save() -> bytes:
        from tests.support.images import encoded

        first, *others = [picture(mode), *frames(frames_of)[1:]]
        if others:
            return encoded(first, format, save_all=True, append_images=others, **options)
        return encoded(first, format, **options)

    return save


def cut(make: Callable[[], bytes], keep: float) -> Callable[[], bytes]:
    """Return a function that makes the first part of a file: ``keep`` is its share."""

    def make_part() -> bytes:
        content = make()
        return content[: int(keep * len(content))]

    return make_part


def turned_picture(orientation: int) -> Image.Image:
    """Return the picture as a camera stores it that has to be turned so."""
    return picture() if orientation == 1 else picture().transpose(_STORED[orientation])


def turned(format: str, orientation: int, **options: Any) -> Callable[[], bytes]:
    """Return a function that stores the picture turned, and says so in EXIF."""

    def save() -> bytes:
        from tests.support.images import encoded

        exif = Image.Exif()
        exif[0x0112] = orientation
        return encoded(turned_picture(orientation), format, exif=exif, **options)

    return save


# EXIF orientation -> how a picture is transposed that is stored so.
_STORED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def turned_cases(format: str, **options: Any) -> list[Case]:
    """Return a case for each EXIF orientation that turns the image."""
    return [
        Case(
            format,
            "EXIF orientations 2 to 8",
            turned(format.upper(), orientation, **options),
            note="The image is turned upright.",
            file=str(orientation),
        )
        for orientation in _STORED
    ]


def half_clear() -> Image.Image:
    """Return the picture, whose right half is transparent."""
    image = picture("RGBA")
    width, height = image.size
    image.paste((10, 20, 30, 0), (width // 2, 0, width, height))
    return image


def half_white() -> Image.Image:
    """Return the picture, whose right half is white."""
    image = picture()
    image.paste("white", (image.width // 2, 0, image.width, image.height))
    return image
