"""Raw files of cameras."""

from __future__ import annotations

from collections.abc import Callable

from tests.support.image_cases.case import Case, cut, turned_picture

_MEDIA_TYPES = {
    "ARW": "image/x-sony-arw",
    "CR2": "image/x-canon-cr2",
    "CR3": "image/x-canon-cr3",
    "DNG": "image/x-adobe-dng",
    "NEF": "image/x-nikon-nef",
    "ORF": "image/x-olympus-orf",
    "RAF": "image/x-fuji-raf",
    "RW2": "image/x-panasonic-rw2",
}


def _raw(format: str, orientation: int = 1) -> Callable[[], bytes]:
    def make() -> bytes:
        from tests.support.images import encoded
        from tests.support.raw_files import raw_file

        preview = encoded(turned_picture(orientation), "JPEG", quality=95)
        return raw_file(format, preview, orientation)

    return make


def _without_preview() -> bytes:
    from tests.support.raw_files import raw_file

    return raw_file("DNG", b"")


CASES = [
    *(
        Case(
            "Camera raw",
            "ARW, CR2, CR3, DNG, NEF, ORF, RAF, RW2",
            _raw(name),
            media_type=media_type,
            extra="raw",
            file=name,
            note="The largest preview in the file is decoded.",
        )
        for name, media_type in _MEDIA_TYPES.items()
    ),
    *(
        Case(
            "Camera raw",
            "turned",
            _raw(name, orientation),
            media_type=_MEDIA_TYPES[name],
            extra="raw",
            file=f"{name}, {orientation}",
            note="The preview is turned upright.",
        )
        for name in ("CR2", "CR3", "DNG", "NEF")
        for orientation in (3, 6, 8)
    ),
    Case(
        "Camera raw", "without a preview", _without_preview, "unsupported-image-type", extra="raw"
    ),
    Case(
        "Camera raw",
        "truncated in the preview",
        cut(_raw("DNG"), 0.8),
        "invalid-image",
        extra="raw",
    ),
]
