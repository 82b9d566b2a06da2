"""Finds the images to import in files, directories and zip files."""

from __future__ import annotations

import fnmatch
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path, PurePosixPath
from typing import IO

from app.cli.console import CommandError
from storage.unicode_text import normalize_text

IMAGE_SUFFIXES = frozenset(
    {
        *(".jpg", ".jpeg", ".jpe", ".png", ".webp", ".gif", ".bmp", ".avif", ".tif", ".tiff"),
        *(".heic", ".heif", ".jxl", ".arw", ".cr2", ".cr3", ".dng", ".nef", ".orf", ".raf", ".rw2"),
    }
)
_MEMORY_LIMIT = 8 * 1024 * 1024  # bytes of an unpacked zip member held in memory
_LARGEST_MEMBER = 256 * 1024 * 1024  # bytes; the service's own limit for a request


class UnreadableInput(CommandError):
    """A path cannot be read; the message names it."""


@dataclass(frozen=True)
class ImageFile:
    """An image to import. ``where`` names it in messages; ``open`` returns its bytes."""

    where: str
    name: str
    folder: str
    size: int  # bytes; that of a zip file's member is what the zip file says
    open: Callable[[], IO[bytes]]


def find_images(
    paths: Iterable[Path], glob: str, skip: Callable[[str], None] = lambda where: None
) -> Iterator[ImageFile]:
    """Yield the images in files, directories and zip files, in a stable order.

    ``glob`` selects by name; if it is empty, the file name extension decides. ``skip`` is called
    with every file that is not selected. Raises UnreadableInput.
    """
    for path in paths:
        suffix = path.suffix.lower()
        if path.is_dir():
            yield from _find_in_directory(path, glob, skip)
        elif suffix == ".zip" or (suffix not in IMAGE_SUFFIXES and zipfile.is_zipfile(path)):
            yield from _find_in_zip(path, glob, skip)
        elif path.is_file():
            yield _describe_file(path)
        else:
            raise UnreadableInput(f"{path} is neither a file nor a directory")


def _find_in_directory(
    directory: Path, glob: str, skip: Callable[[str], None]
) -> Iterator[ImageFile]:
    for path in sorted(directory.rglob("*")):
        if path.suffix.lower() == ".zip" and zipfile.is_zipfile(path):
            yield from _find_in_zip(path, glob, skip)
        elif path.is_file():
            yield from _select(_describe_file(path), glob, skip)


def _find_in_zip(path: Path, glob: str, skip: Callable[[str], None]) -> Iterator[ImageFile]:
    try:
        members = [info for info in _open_zip(path).infolist() if not info.is_dir()]
    except (OSError, zipfile.BadZipFile) as error:
        raise UnreadableInput(f"{path} cannot be read as a zip file: {error}") from None
    for member in sorted(members, key=lambda info: info.filename):
        inside = PurePosixPath(member.filename)
        if "__MACOSX" in inside.parts:
            continue
        image = ImageFile(
            where=_to_text(f"{path}!{member.filename}"),
            name=_to_text(inside.name),
            folder=_to_text(inside.parent.name or path.stem),
            size=member.file_size,
            open=partial(_extract, path, member),
        )
        yield from _select(image, glob, skip)


def _select(image: ImageFile, glob: str, skip: Callable[[str], None]) -> Iterator[ImageFile]:
    if image.name.startswith("."):  # metadata files of macOS and others
        return
    if glob:
        # macOS keeps names decomposed, and a keyboard types them composed. Phones write .JPG.
        name, pattern = (normalize_text(text).lower() for text in (image.name, glob))
        selected = fnmatch.fnmatchcase(name, pattern)
    else:
        selected = PurePosixPath(image.name).suffix.lower() in IMAGE_SUFFIXES
    if selected:
        yield image
    else:
        skip(image.where)


def _describe_file(path: Path) -> ImageFile:
    return ImageFile(
        where=_to_text(path),
        name=_to_text(path.name),
        folder=_to_text(path.absolute().parent.name),
        size=_size_of(path),
        open=lambda: path.open("rb"),
    )


def _size_of(path: Path) -> int:
    """Return the size in bytes; 0 if the file has just been removed, which opening it reports."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _to_text(name: object) -> str:
    """Return a name that can be sent and printed, whatever bytes the file system has."""
    return str(name).encode("utf-8", "replace").decode()


@lru_cache(maxsize=16)
def _open_zip(path: Path) -> zipfile.ZipFile:
    """Keep zip files open: opening one reads its whole directory."""
    return zipfile.ZipFile(path)


def _extract(path: Path, member: zipfile.ZipInfo) -> IO[bytes]:
    """Return the unpacked bytes. Raises UnreadableInput if they exceed the limit."""
    with ExitStack() as on_failure:
        spooled = on_failure.enter_context(tempfile.SpooledTemporaryFile(_MEMORY_LIMIT))
        with _open_zip(path).open(member) as source:
            while chunk := source.read(1024 * 1024):
                spooled.write(chunk)
                if spooled.tell() > _LARGEST_MEMBER:  # the size in the header can be wrong
                    raise UnreadableInput(f"unpacks to more than {_LARGEST_MEMBER // 2**20} MiB")
        spooled.seek(0)
        on_failure.pop_all()
        return spooled
