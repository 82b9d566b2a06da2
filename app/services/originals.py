"""Reads the original bytes of a master and verifies them."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator

from app.errors import Unavailable
from storage.hashing import sha256_of_chunks
from storage.protocols import ObjectStore
from storage.records import Master

BLOCK = 1024 * 1024  # bytes that are read at once, and the largest original verified for any part


class OriginalDamaged(Unavailable):
    """The object has other bytes than those that were uploaded."""

    def __init__(self, master: Master) -> None:
        super().__init__(
            "object-damaged",
            f"The stored bytes of the master {master.id} are not those that were uploaded. Upload"
            " the image again, after `lookalike scrub --full --repair` if the master is still"
            " listed.",
            60,
        )


def read_original(objects: ObjectStore, master: Master) -> io.BytesIO:
    """Return the bytes that were uploaded, whose SHA-256 is verified.

    Raises ObjectMissing, StoreUnavailable, OriginalDamaged.
    """
    content, digest = io.BytesIO(), hashlib.sha256()
    for chunk in objects.read(master.object_key):
        content.write(chunk)
        digest.update(chunk)
    if digest.digest() != master.sha256:
        raise OriginalDamaged(master)
    content.seek(0)
    return content


def read_blocks(objects: ObjectStore, master: Master, start: int, stop: int) -> Iterator[bytes]:
    """Yield the bytes of the original from ``start`` to ``stop``, at most BLOCK at a time.

    The last block of the whole original is yielded only if the SHA-256 is right. A part is verified
    only if the original is no larger than BLOCK. Each block is read to its end before it is
    yielded, so that a slow consumer holds no connection to the store. Raises ObjectMissing,
    StoreUnavailable, OriginalDamaged.
    """
    if master.size <= BLOCK:
        yield read_original(objects, master).getbuffer()[start:stop].tobytes()
        return
    whole = (start, stop) == (0, master.size)
    digest = hashlib.sha256()
    for offset in range(start, stop, BLOCK):
        length = min(BLOCK, stop - offset)
        block = b"".join(objects.read(master.object_key, offset, length))
        digest.update(block)
        is_wrong = whole and offset + length == stop and digest.digest() != master.sha256
        if len(block) < length or is_wrong:
            raise OriginalDamaged(master)
        yield block


def is_intact(objects: ObjectStore, master: Master) -> bool:
    """Read the whole original and tell whether it has the bytes that were uploaded.

    Raises ObjectMissing, StoreUnavailable.
    """
    return sha256_of_chunks(objects.read(master.object_key)) == master.sha256
