"""The bundle file: a ZIP archive with a manifest and the files that the manifest lists.

Nothing of an archive is trusted: every limit is checked before bytes are unpacked, and again
against the bytes that come out.
"""

from __future__ import annotations

import hashlib
import json
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from models.bundles.manifest import MANIFEST, Manifest, StatedFile, parse_manifest, serialize
from models.errors import BundleInvalid
from storage.durable_files import replace_durably

MAX_BYTES = 1_999_999_999  # of all files of a bundle together: less than 2 GB
_MAX_MANIFEST = 1_000_000  # bytes
_MAX_MEMBERS = 64
_CHUNK = 1 << 20
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the first time that ZIP can state
_END = struct.Struct("<4s4H2LH")  # end of central directory record (APPNOTE.TXT, 4.3.16)
_LOCATOR_64 = 20  # bytes of the record that an archive with 64-bit sizes has before it
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError)


@dataclass(frozen=True)
class Bundle:
    """A bundle whose files match its manifest. Its networks have not been run yet."""

    path: Path
    manifest: Manifest
    version: str

    @property
    def size(self) -> int:
        """The bytes of all files together."""
        return sum(file.size for file in self.manifest.files.values())

    def read_file(self, name: str) -> NDArray[np.uint8]:
        """Return the bytes of a file, ``(size,)`` uint8. Raises BundleInvalid if it was changed."""
        stated = self.manifest.files[name]
        content = np.empty(stated.size, dtype=np.uint8)
        with _open_archive(self.path) as archive:
            _read_member(archive, name, stated, content)
        return content


def is_bundle(path: Path) -> bool:
    """Report whether a file begins like a bundle, unlike a weights file. Raises OSError."""
    with path.open("rb") as file:
        return file.read(4) in (b"PK\x03\x04", b"PK\x05\x06")


def read_bundle(path: Path, max_bytes: int = MAX_BYTES) -> Bundle:
    """Check the archive, its manifest, and the size and hash of every file.

    ``max_bytes`` limits the files' size together. Raises BundleInvalid, and OSError if the file
    cannot be read.
    """
    with _open_archive(path) as archive:
        members = {member.filename: member for member in archive.infolist()}
        if MANIFEST not in members or members[MANIFEST].file_size > _MAX_MANIFEST:
            raise BundleInvalid(
                f"{path.name} is not a bundle: it has no {MANIFEST} of at most 1 MB."
            )
        manifest, version = parse_manifest(archive.read(MANIFEST), path.name)
        _compare_members(path.name, members, manifest, max_bytes)
        for name, stated in manifest.files.items():
            _read_member(archive, name, stated, None)
    return Bundle(path, manifest, version)


def write_bundle(path: Path, manifest: Mapping[str, Any], files: Mapping[str, Path]) -> None:
    """Write a bundle atomically; the same content always yields the same bytes.

    Sizes and hashes of ``files``, by their names in the bundle, are added to the manifest. What
    was written is valid only after ``read_bundle`` or ``check_bundle``. Raises OSError, and
    BundleInvalid if the files are too large.
    """
    _check_total(path.name, sum(source.stat().st_size for source in files.values()), MAX_BYTES)
    stated = {name: _describe_file(source) for name, source in files.items()}
    complete = serialize({**manifest, "files": stated})
    with (
        replace_durably(path) as target,
        zipfile.ZipFile(target, "w", zipfile.ZIP_STORED, allowZip64=False) as archive,
    ):
        archive.writestr(_make_member(MANIFEST, len(complete)), complete)
        for name in sorted(files):
            member = _make_member(name, int(stated[name]["size"]))
            with files[name].open("rb") as source, archive.open(member, "w") as copy:
                while chunk := source.read(_CHUNK):
                    copy.write(chunk)


def _make_member(name: str, size: int) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name, _EPOCH)
    member.file_size = size
    member.create_system = 3  # Unix, on every system
    member.external_attr = (stat.S_IFREG | 0o644) << 16
    return member


def _describe_file(path: Path) -> dict[str, str | int]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"sha256": digest, "size": path.stat().st_size}


@contextmanager
def _open_archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open an archive whose directory is small and plain, and translate errors about damage."""
    damaged = f"{path.name} is not a bundle, or is damaged"
    try:
        with path.open("rb") as file:
            if not _has_plain_directory(file):
                raise BundleInvalid(
                    f"{damaged}: it does not end like a ZIP archive of at most {_MAX_MEMBERS}"
                    " files without a comment. Copy it again."
                )
            file.seek(0)
            with zipfile.ZipFile(file) as archive:
                _check_members(path.name, archive.infolist())
                yield archive
    except _DAMAGE as error:
        raise BundleInvalid(f"{damaged} ({error}). Copy it again.") from error


def _has_plain_directory(file: BinaryIO) -> bool:
    """Check the end record, because zipfile reads a directory of any size into memory."""
    size = file.seek(0, 2)
    if size < _END.size:
        return False
    tail = min(size, _END.size + _LOCATOR_64)
    file.seek(size - tail)
    content = file.read(tail)
    signature, *_, entries, length, start, comment = _END.unpack(content[-_END.size :])
    return (
        signature == b"PK\x05\x06"
        and not content.startswith(b"PK\x06\x07")
        and comment == 0
        and 1 <= entries <= _MAX_MEMBERS
        and length < _MAX_MANIFEST
        and start + length == size - _END.size
    )


def _check_members(source: str, members: list[zipfile.ZipInfo]) -> None:
    """Refuse members that the manifest could never list. Raises BundleInvalid."""
    names = [member.filename for member in members]
    if len(set(names)) < len(names):
        raise BundleInvalid(f"{source} has two files of the same name. Write the bundle again.")
    for member in members:
        kind = stat.S_IFMT(member.external_attr >> 16)
        plain = kind in (0, stat.S_IFREG) and not member.is_dir()
        if not plain or member.orig_filename != member.filename or member.flag_bits & 1:
            raise BundleInvalid(
                f"{source} has a directory, a link or an encrypted file. Write the bundle again."
            )
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise BundleInvalid(
                f"{source} is compressed by an unusual method. Write the bundle again."
            )


def _compare_members(
    source: str, members: dict[str, zipfile.ZipInfo], manifest: Manifest, max_bytes: int
) -> None:
    expected = {MANIFEST, *manifest.files}
    if missing := expected - set(members):
        raise BundleInvalid(f"{source} is incomplete: {min(missing)} is missing. Copy it again.")
    if extra := set(members) - expected:
        raise BundleInvalid(
            f"{source} has the file {_printable(min(extra))}, which its manifest does not list."
            " Write the bundle again."
        )
    for name, stated in manifest.files.items():
        if members[name].file_size != stated.size:
            raise BundleInvalid(
                f"{name} in {source} has {members[name].file_size} bytes, but the manifest says"
                f" {stated.size}. Write the bundle again."
            )
    _check_total(source, sum(stated.size for stated in manifest.files.values()), max_bytes)


def _check_total(source: str, total: int, max_bytes: int) -> None:
    if total > max_bytes:
        raise BundleInvalid(
            f"The files of {source} have {total / 1e9:.1f} GB, which is over the limit of"
            f" {max_bytes / 1e9:.1f} GB. Use a smaller network, or half-precision weights."
        )


def _read_member(
    archive: zipfile.ZipFile, name: str, stated: StatedFile, into: NDArray[np.uint8] | None
) -> None:
    """Read a file into a buffer of its size, if any, and check its size and hash."""
    digest, done = hashlib.sha256(), 0
    with archive.open(name) as member:
        # zipfile stops at the size that the directory states, which is the manifest's.
        while chunk := member.read(_CHUNK):
            if done + len(chunk) > stated.size:
                break
            if into is not None:
                into[done : done + len(chunk)] = np.frombuffer(chunk, np.uint8)
            digest.update(chunk)
            done += len(chunk)
    if done != stated.size or digest.hexdigest() != stated.sha256:
        raise BundleInvalid(
            f"{name} differs from what its manifest says (SHA-256). The bundle is damaged or was"
            " changed: copy it again."
        )


def _printable(name: str) -> str:
    return json.dumps(name[:100])[1:-1]
