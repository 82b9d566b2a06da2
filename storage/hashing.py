"""Computes SHA-256 digests of content that need not fit into memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from io import BufferedIOBase
from typing import BinaryIO, cast


def sha256_of_file(file: BinaryIO) -> bytes:
    """Return the digest of the whole file, 32 bytes. The file's position is then at the end."""
    file.seek(0)
    return hashlib.file_digest(cast("BufferedIOBase", file), "sha256").digest()


def sha256_of_chunks(chunks: Iterable[bytes]) -> bytes:
    """Return the digest of the concatenated chunks, 32 bytes."""
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.digest()
