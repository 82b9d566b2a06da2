"""The id of an installation, which lies in its bucket and outlives its metadata database."""

from __future__ import annotations

import io
import json
from uuid import uuid4

from storage.errors import ObjectMissing
from storage.protocols import ObjectStore

INSTALLATION_KEY = "installation.json"


def read_installation_id(objects: ObjectStore) -> str | None:
    """Return the id, or None if the bucket has none. Raises StoreUnavailable."""
    try:
        content = json.loads(b"".join(objects.read(INSTALLATION_KEY)))
    except (ObjectMissing, ValueError):
        return None
    id_ = content.get("id") if isinstance(content, dict) else None
    return id_ if isinstance(id_, str) else None


def find_or_create_installation_id(objects: ObjectStore) -> str:
    """Return the id, and store a new one if the bucket has none. Raises StoreUnavailable."""
    return read_installation_id(objects) or write_installation_id(objects, str(uuid4()))


def write_installation_id(objects: ObjectStore, id_: str) -> str:
    """Store the id in place of an earlier one, and return it. Raises StoreUnavailable."""
    content = (json.dumps({"id": id_}) + "\n").encode()
    size = len(content)
    objects.put(INSTALLATION_KEY, io.BytesIO(content), size, "application/json", INSTALLATION_KEY)
    return id_
