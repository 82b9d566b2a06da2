"""A master's own bytes, for what looks at the image."""

from __future__ import annotations

import hashlib
import io

from app.errors import Unavailable
from storage.protocols import ObjectStore
from storage.records import Master


def original(objects: ObjectStore, master: Master) -> io.BytesIO:
    """The bytes that were once put in. Raises ObjectMissing, StoreUnavailable, and Unavailable for other bytes."""
    content = b"".join(objects.read(master.object_key))
    if hashlib.sha256(content).digest() != master.sha256:
        raise Unavailable(
            "object-damaged",
            f"The bytes of the master {master.id} are not those that were put in. `lookalike scrub --full --repair` marks it;"
            " putting the image in again heals it.",
            60,
        )
    return io.BytesIO(content)
