"""Copies objects and vectors from one installation to another, and reads each back to verify it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import BinaryIO, cast

import numpy as np

from app.services.encoder_files import EncoderFiles, check_file
from models.errors import EncoderInvalid
from storage.errors import ObjectMissing, StoreUnavailable
from storage.hashing import sha256_of_chunks, sha256_of_file
from storage.protocols import Stores
from storage.records import LOOK, Master, MasterRecord, VectorPart, VectorRecord

_SPOOL = 8 * 1024 * 1024  # bytes of an original that are held in memory
_MAX_UNREADABLE = 3  # originals in a row that cannot be read before the store counts as down
_ADD_AGAIN = "add it again with `lookalike models add`"
_TOLERANCE = 1e-6  # per component, between a vector and what the target's vector store returns


class VerifiedCopy:
    """Copies what belongs to a master except its row. Every method may raise StoreUnavailable."""

    def __init__(self, source: Stores, target: Stores, fail: Callable[[str, str], None]) -> None:
        """``fail`` is called with a description of what cannot be copied, and the reason."""
        self._source = source
        self._target = target
        self._fail = fail
        self._unreadable = 0  # originals in a row

    def copy_encoder(self, version: str, space: str) -> None:
        """Copy the file of the active version of a space, and verify what the target returns.

        Nothing is written if the target has the same bytes. The file of `look` may be missing: the
        shipped weights need not be in the object store.
        """
        source, target = (EncoderFiles(each.objects) for each in (self._source, self._target))
        try:
            with source.download(version) as path, path.open("rb") as file:
                check_file(path, version)
                digest = sha256_of_file(file)
                if target.hash(version) != digest:
                    target.store(version, file)
                    if target.hash(version) != digest:
                        reason = "the object store returned other bytes than were written"
                        self._fail(f"the encoder {version}", reason)
        except ObjectMissing:
            if space != LOOK:
                self._fail(f"the encoder {version}", f"its file is missing: {_ADD_AGAIN}")
        except EncoderInvalid as error:
            reason = f"its file is damaged ({str(error).rstrip('.')}): {_ADD_AGAIN}"
            self._fail(f"the encoder {version}", reason)

    def copy_object(self, master: Master) -> str | None:
        """Copy the bytes of a master, and verify what the target returns.

        Returns None if the target now has the bytes, or the reason why not. The reason is empty if
        the master was deleted meanwhile.
        """
        with tempfile.SpooledTemporaryFile(_SPOOL) as spooled:
            file = cast("BinaryIO", spooled)
            try:
                file.writelines(self._source.objects.read(master.object_key))
            except ObjectMissing:
                exists = self._source.metadata.find_master(master.id) is not None
                return "its bytes are missing" if exists else ""
            except StoreUnavailable as error:
                self._unreadable += 1
                if self._unreadable == _MAX_UNREADABLE:
                    raise
                return f"its bytes cannot be read: {error}"
            self._unreadable = 0
            if sha256_of_file(file) != master.sha256:
                return "its bytes are not those that were uploaded"
            file.seek(0)
            self._target.objects.put(master.object_key, file, master.size, master.mime, master.name)
        if self._hash_target(master) != master.sha256:
            return "the object store returned other bytes than were written"
        return None

    def target_has_object(self, master: Master, *, verify: bool) -> bool:
        """Tell whether the target has the bytes, by their size or, with ``verify``, their hash."""
        try:
            if verify:
                return self._hash_target(master) == master.sha256
            return self._target.objects.stat(master.object_key).size == master.size
        except ObjectMissing:
            return False

    def _hash_target(self, master: Master) -> bytes:
        return sha256_of_chunks(self._target.objects.read(master.object_key))

    def copy_vectors(self, records: Sequence[MasterRecord], version: str) -> list[MasterRecord]:
        """Copy all parts of the embeddings of these masters.

        Returns the records to write to the target. A record whose vectors are missing or outdated
        gets a pending embedding, for the target's worker to make. A record whose vectors differ
        when they are read back is left out.
        """
        complete = {record.master.id: record for record in records}
        vectors = self._source.vectors.fetch_vectors(version, list(complete))
        for id_, record in complete.items():
            vector = vectors.get(id_)
            if vector is None or vector.revision != record.master.revision:
                vectors.pop(id_, None)
                complete[id_] = replace(record, indexed=record.indexed | {version: None})
        written = list(vectors.values())
        self._target.vectors.upsert(version, written)
        returned = self._target.vectors.fetch_vectors(version, list(vectors))
        for vector in written:
            if not _vectors_equal(vector, returned.get(vector.master_id)):
                master = complete.pop(vector.master_id).master
                reason = "the vector store returned another vector than was written"
                self._fail(describe_master(master), reason)
        return list(complete.values())


def describe_master(master: Master) -> str:
    """Name a master in a message for people."""
    return f"{master.id} ({master.name})"


def _vectors_equal(written: VectorRecord, returned: VectorRecord | None) -> bool:
    return (
        returned is not None
        and len(written.parts) == len(returned.parts)
        and all(map(_parts_equal, written.parts, returned.parts))
        and (written.collection_id, written.attributes, written.revision)
        == (returned.collection_id, returned.attributes, returned.revision)
    )


def _parts_equal(written: VectorPart, returned: VectorPart) -> bool:
    return written.box == returned.box and np.allclose(
        written.vector, returned.vector, atol=_TOLERANCE
    )
