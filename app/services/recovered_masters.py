"""Builds the row of a master from an object in the bucket, and verifies its bytes."""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass, replace
from typing import BinaryIO, cast
from uuid import UUID

from app.services.recovery_collections import time_of_id
from models.imaging import ANYTHING, ImageRejected, decode_image
from storage.errors import ObjectMissing
from storage.hashing import sha256_of_file
from storage.protocols import ObjectStore
from storage.records import Collection, Master, MasterState

_SPOOL = 8 * 1024 * 1024  # bytes of an original that are held in memory
_MIN_SIDE = 1  # pixels: only the size of the whole image is wanted
_UUID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_MASTER_KEY = re.compile(
    rf"masters/(?P<name>[a-z0-9][a-z0-9-]{{0,62}})-(?P<collection>{_UUID})"
    rf"/(?P<start>[0-9a-f]{{2}})/(?P<sha256>(?P=start)[0-9a-f]{{62}})"
    rf"/(?P<id>{_UUID})\.(?P<extension>[a-z0-9]{{1,8}})"
)


@dataclass(frozen=True)
class MasterKey:
    """What the key of an original says."""

    key: str
    collection: Collection
    sha256: bytes
    id: UUID
    extension: str


class NotRecoverable(Exception):
    """The bytes of a master are not usable; the message says why."""


def parse_master_key(key: str) -> MasterKey | None:
    """Return what a key of the form Master.object_key says; None for other keys."""
    match = _MASTER_KEY.fullmatch(key)
    if match is None:
        return None
    id_ = UUID(match["collection"])
    collection = Collection(id_, match["name"], time_of_id(id_))
    sha256 = bytes.fromhex(match["sha256"])
    return MasterKey(key, collection, sha256, UUID(match["id"]), match["extension"])


def build_master(objects: ObjectStore, found: MasterKey, row: Master | None) -> Master:
    """Read the bytes, and return the master as it shall be stored.

    ``row`` is its row in the catalogue, or None. With a row, bytes that are not its own make a
    damaged master; without one, they raise NotRecoverable. Raises StoreUnavailable.
    """
    with tempfile.SpooledTemporaryFile(_SPOOL) as spooled:
        file = cast("BinaryIO", spooled)
        try:
            file.writelines(objects.read(found.key))
        except ObjectMissing:
            raise NotRecoverable("its bytes are gone") from None
        size = file.tell()
        intact = sha256_of_file(file) == found.sha256
        if row is not None:
            return replace(row, state=MasterState.STORED if intact else MasterState.DAMAGED)
        if not intact:
            raise NotRecoverable("its bytes are not those that were uploaded")
        return _build_from_key(file, size, found)


def _build_from_key(file: BinaryIO, size: int, found: MasterKey) -> Master:
    try:
        image = decode_image(file, min_side=_MIN_SIDE, convert_colours=False, accept=ANYTHING)
    except ImageRejected as error:
        raise NotRecoverable(f"its image cannot be decoded: {error}") from None
    created_at = time_of_id(found.id)
    return Master(
        id=found.id,
        collection_id=found.collection.id,
        collection=found.collection.name,
        sha256=found.sha256,
        size=size,
        mime=image.mime,
        extension=found.extension,
        width=image.width,
        height=image.height,
        name=f"{found.id}.{found.extension}",
        attributes={},
        revision=1,
        state=MasterState.STORED,
        created_at=created_at,
        updated_at=created_at,
    )
