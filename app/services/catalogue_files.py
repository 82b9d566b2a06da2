"""The files of the catalogue: an index, and the rows of masters in compressed chunks."""

from __future__ import annotations

import gzip
import io
import json
import re
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO, TypeVar, cast
from uuid import UUID

from storage.errors import ObjectMissing
from storage.protocols import ObjectStore
from storage.records import Collection, Master, MasterState

CATALOGUE_PREFIX = "catalogue/"
_INDEX_KEY = "catalogue/index.json"
_FORMAT = 1
_SPOOL = 8 * 1024 * 1024  # bytes of a chunk that are held in memory
_UUID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_Record = TypeVar("_Record")
_CHUNK_KEY = re.compile(rf"catalogue/[a-z0-9-]+-(?P<id>{_UUID})/from-(?P<start>{_UUID})\.jsonl\.gz")


class CatalogueDamaged(Exception):
    """A file of the catalogue cannot be read; the message names it."""


@dataclass(frozen=True)
class CatalogueIndex:
    """What the catalogue says beside the rows of masters. It is written last."""

    mark: int  # of the metadata database, see app/services/marks.py
    at: int  # the catalogue shows everything before this moment: milliseconds since 1970
    collections: list[Collection] = field(default_factory=list)
    active: dict[str, str] = field(default_factory=dict)  # the active version of each space
    chunks: dict[str, str] = field(default_factory=dict)  # the fingerprint of each key
    decisions: str = ""  # the fingerprint of those about near-identical masters; empty without any


def chunk_key(collection: Collection, start: UUID) -> str:
    """Return the key of the chunk with the masters from the id ``start`` on."""
    return f"{CATALOGUE_PREFIX}{collection.name}-{collection.id}/from-{start}.jsonl.gz"


def parse_chunk_key(key: str) -> tuple[UUID, UUID] | None:
    """Return the collection's id and the first id of a chunk, or None for other keys."""
    match = _CHUNK_KEY.fullmatch(key)
    return (UUID(match["id"]), UUID(match["start"])) if match else None


def read_index(objects: ObjectStore) -> CatalogueIndex | None:
    """Return the index, or None if there is none. Raises CatalogueDamaged, StoreUnavailable."""
    try:
        content: dict[str, Any] = json.loads(b"".join(objects.read(_INDEX_KEY)))
        collections = [
            Collection(UUID(each["id"]), each["name"], each["created_at"])
            for each in content["collections"]
        ]
        return CatalogueIndex(
            content["mark"],
            content["at"],
            collections,
            content["active"],
            content["chunks"],
            content.get("decisions", ""),  # earlier releases wrote none
        )
    except ObjectMissing:
        return None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise CatalogueDamaged(f"{_INDEX_KEY} is damaged") from None


def write_index(objects: ObjectStore, index: CatalogueIndex) -> None:
    """Replace the index, durably. Raises StoreUnavailable."""
    collections = [vars(each) | {"id": str(each.id)} for each in index.collections]
    values = vars(index) | {"format": _FORMAT, "collections": collections}
    content = json.dumps(values, ensure_ascii=False).encode()
    objects.put(_INDEX_KEY, io.BytesIO(content), len(content), "application/json", "index.json")


def write_chunk(objects: ObjectStore, key: str, masters: Iterable[Master]) -> int:
    """Replace a chunk by the rows of these masters, and return their number.

    The chunk is deleted if there are none. Raises StoreUnavailable.
    """
    return write_lines(objects, key, map(line_of_master, masters))


def write_lines(objects: ObjectStore, key: str, lines: Iterable[bytes]) -> int:
    """Replace a compressed file by these lines, and return their number.

    The file is deleted if there are none. Raises StoreUnavailable.
    """
    count = 0
    with tempfile.SpooledTemporaryFile(_SPOOL) as spooled:
        file = cast("BinaryIO", spooled)
        with gzip.GzipFile(fileobj=file, mode="wb", compresslevel=6, mtime=0) as compressed:
            for line in lines:
                compressed.write(line)
                count += 1
        size = file.tell()
        file.seek(0)
        if count:
            objects.put(key, file, size, "application/gzip", key.rpartition("/")[2])
        else:
            objects.delete(key)
    return count


def read_chunk(objects: ObjectStore, key: str) -> Iterator[Master]:
    """Yield the masters of a chunk.

    Raises CatalogueDamaged, ObjectMissing, StoreUnavailable.
    """
    return read_lines(objects, key, master_of_line)


def read_lines(
    objects: ObjectStore, key: str, parse: Callable[[bytes], _Record]
) -> Iterator[_Record]:
    """Yield what the lines of a compressed file say.

    ``parse`` may raise ValueError, KeyError and TypeError. Raises CatalogueDamaged, ObjectMissing,
    StoreUnavailable.
    """
    with tempfile.SpooledTemporaryFile(_SPOOL) as spooled:
        file = cast("BinaryIO", spooled)
        file.writelines(objects.read(key))
        file.seek(0)
        try:
            with gzip.GzipFile(fileobj=file, mode="rb") as lines:
                for line in lines:
                    yield parse(line)
        except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError):
            raise CatalogueDamaged(f"{key} is damaged") from None


def line_of_master(master: Master) -> bytes:
    """Return the line of a chunk that has the whole row of a master."""
    values = vars(master) | {
        "id": str(master.id),
        "collection_id": str(master.collection_id),
        "sha256": master.sha256.hex(),
    }
    return json.dumps(values, ensure_ascii=False).encode() + b"\n"


def master_of_line(line: bytes) -> Master:
    """Return the master of a line. Raises ValueError, KeyError, TypeError."""
    values: dict[str, Any] = json.loads(line)
    return Master(
        **values
        | {
            "id": UUID(values["id"]),
            "collection_id": UUID(values["collection_id"]),
            "sha256": bytes.fromhex(values["sha256"]),
            "state": MasterState(values["state"]),
        }
    )
