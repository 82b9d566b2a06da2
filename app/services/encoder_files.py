"""The files of encoders in the object store, where every process finds them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory, gettempdir
from typing import BinaryIO

from models.bundles.archive import read_bundle
from models.embedder import Encoder
from models.errors import EncoderInvalid
from models.weights_file import VERSION_PREFIX, WeightsFile, model_version_of
from storage.errors import ObjectMissing
from storage.hashing import sha256_of_chunks, sha256_of_file
from storage.protocols import ObjectStore

COPY_PREFIX = "lookalike-encoder-"  # of temporary directories with copies of encoders
_STALE = 86_400  # seconds; no process needs a copy that long


def remove_stale_copies() -> None:
    """Remove the temporary copies that killed processes left behind a day ago or earlier."""
    for directory in Path(gettempdir()).glob(f"{COPY_PREFIX}*"):
        with suppress(OSError):  # another process removed it first, or it belongs to another user
            if directory.stat().st_mtime < time.time() - _STALE:
                rmtree(directory)


def encoder_key(version: str) -> str:
    """Return the object store's key for the file of a version: weights or a bundle."""
    name = "weights.safetensors" if is_weights(version) else "encoder.bundle"
    return f"models/{version}/{name}"


def is_weights(version: str) -> bool:
    """Report whether a version is that of weights for the ResNet, and not of a bundle."""
    return version.startswith(VERSION_PREFIX)


class EncoderFiles:
    """Stores and reads the files of encoders. Every method may raise StoreUnavailable."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects

    def exists(self, version: str) -> bool:
        """Report whether the object store has the file of a version."""
        try:
            self._objects.stat(encoder_key(version))
        except ObjectMissing:
            return False
        return True

    def store(self, version: str, file: BinaryIO) -> None:
        """Store the whole file as that of a version, in place of an earlier one."""
        size, key = file.seek(0, os.SEEK_END), encoder_key(version)
        file.seek(0)
        self._objects.put(key, file, size, "application/octet-stream", Path(key).name)

    @contextmanager
    def download(self, version: str) -> Iterator[Path]:
        """Yield the path of a copy of a version's file, which is removed after the block.

        Raises ObjectMissing.
        """
        chunks = self._objects.read(encoder_key(version))
        with TemporaryDirectory(prefix=COPY_PREFIX) as directory:
            path = Path(directory) / version
            with path.open("wb") as file:
                file.writelines(chunks)
            yield path

    def read(self, version: str) -> tuple[int, Iterator[bytes]]:
        """Return the size of a version's file in bytes, and its chunks. Raises ObjectMissing."""
        key = encoder_key(version)
        return self._objects.stat(key).size, self._objects.read(key)

    def hash(self, version: str) -> bytes | None:
        """Return the SHA-256 of a version's file, or None if the object store lacks it."""
        try:
            return sha256_of_chunks(self._objects.read(encoder_key(version)))
        except ObjectMissing:
            return None

    @contextmanager
    def open(self, version: str) -> Iterator[Encoder]:
        """Yield the encoder of a version, whose files can be read until the end of the block.

        Raises ObjectMissing, and EncoderInvalid if the file is not the one of this version.
        """
        if is_weights(version):
            content = b"".join(self._objects.read(encoder_key(version)))
            weights = WeightsFile.parse(content, version)
            _check_version(weights.version, version)
            yield weights
            return
        with self.download(version) as path:
            bundle = read_bundle(path)
            _check_version(bundle.version, version)
            yield bundle


def check_file(path: Path, version: str) -> None:
    """Check that a file is the encoder of a version, without its content in memory.

    Raises EncoderInvalid, OSError.
    """
    if is_weights(version):
        with path.open("rb") as file:
            found = model_version_of(sha256_of_file(file))
    else:
        found = read_bundle(path).version
    _check_version(found, version)


def _check_version(found: str, version: str) -> None:
    if found != version:
        raise EncoderInvalid(f"the file stored for {version} is that of {found}")
