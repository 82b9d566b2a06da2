"""Recognises the accepted image types by the first bytes of a file."""

from __future__ import annotations

from models.formats import jpeg_xl

HEAD = 32  # bytes that tell the type
_BITMAP_HEADERS = [size.to_bytes(4, "little") for size in (12, 16, 40, 52, 56, 64, 108, 124)]
_STARTS = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"II*\0\x10\0\0\0CR": "CR2",  # the other raw files come first, since they resemble TIFF
    b"IIRO": "ORF",
    b"IIRS": "ORF",
    b"MMOR": "ORF",
    b"IIU\0": "RW2",
    b"FUJIFILMCCD-RAW": "RAF",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",  # BigTIFF
    b"MM\0+": "TIFF",
    jpeg_xl.CODESTREAM: "JXL",
    jpeg_xl.CONTAINER: "JXL",
}
_AVIF_BRANDS = (b"avif", b"avis")
_HEIF_BRANDS = (b"heic", b"heix", b"mif1", b"msf1")
_CR3_BRANDS = (b"crx ",)


def recognise_format(head: bytes) -> str | None:
    """Return Pillow's name of the format that the first bytes belong to; None for any other.

    This distinguishes a damaged image from a file of another type.
    """
    for start, name in _STARTS.items():
        if head.startswith(start):
            return name
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP"[: len(head[8:12])]:
        return "WEBP"
    # The letters BM are not enough, because a text may begin with them.
    if head[:2] == b"BM" and head[14:18] in _BITMAP_HEADERS:
        return "BMP"
    if _has_brand(head, _CR3_BRANDS):
        return "CR3"
    if _has_brand(head, _AVIF_BRANDS):
        return "AVIF"
    return "HEIF" if _has_brand(head, _HEIF_BRANDS) else None


def _has_brand(head: bytes, brands: tuple[bytes, ...]) -> bool:
    """Whether the major brand or one of the first compatible ones is among ``brands``.

    ISO/IEC 14496-12, 4.3.
    """
    found = head[8:12], head[16:20], head[20:24], head[24:28]
    return head[4:8] == b"ftyp" and any(brand in brands for brand in found)
