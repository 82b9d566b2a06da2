"""The files of encoders in the object store, where every process finds them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO

from models.bundles.archive import read_bundle
from models.embedder import Encoder
from models.errors import EncoderInvalid
from models.weights_file import VERSION_PREFIX, WeightsFile
from storage.errors import ObjectMissing
from storage.protocols import ObjectStore


def encoder_key(version: str) -> str:
    """Return the object store's key for the file of a version: weights or a bundle."""
    name = "weights.safetensors" if is_weights(version) else "encoder.bundle"
    return f"models/{version}/{name}"


def is_weights(version: str) -> bool:
    """Report whether a version is that of weights for our ResNet, and not of a bundle."""
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
    def open(self, version: str) -> Iterator[Encoder]:
        """Yield the encoder of a version, whose files can be read until the end of the block.

        Raises ObjectMissing, and EncoderInvalid if the file is not the one of this version.
        """
        chunks = self._objects.read(encoder_key(version))
        if is_weights(version):
            yield _check_version(WeightsFile.parse(b"".join(chunks), version), version)
            return
        with TemporaryDirectory(prefix="lookalike-") as directory:
            path = Path(directory) / version
            with path.open("wb") as file:
                file.writelines(chunks)
            yield _check_version(read_bundle(path), version)


def _check_version(encoder: Encoder, version: str) -> Encoder:
    if encoder.version != version:
        raise EncoderInvalid(f"the file stored for {version} is that of {encoder.version}")
    return encoder
