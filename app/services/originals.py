"""Reads the original bytes of a master and verifies them."""

from __future__ import annotations

import hashlib
import io

from app.errors import Unavailable
from storage.protocols import ObjectStore
from storage.records import Master


def read_original(objects: ObjectStore, master: Master) -> io.BytesIO:
    """Return the bytes that were uploaded, whose SHA-256 is verified.

    Raises ObjectMissing, StoreUnavailable, and Unavailable if the object has other bytes.
    """
    content = b"".join(objects.read(master.object_key))
    if hashlib.sha256(content).digest() != master.sha256:
        raise Unavailable(
            "object-damaged",
            f"The stored bytes of the master {master.id} are not those that were uploaded. Upload"
            " the image again after `lookalike scrub --full --repair` has marked the damage.",
            60,
        )
    return io.BytesIO(content)
