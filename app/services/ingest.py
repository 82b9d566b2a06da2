"""Uploads one image: validates it, finds duplicates, stores bytes and row, and indexes it.

The order of the writes keeps every acknowledged upload intact after a crash at any step.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import wait
from dataclasses import dataclass, replace
from typing import BinaryIO, cast
from uuid import UUID, uuid4

from app.errors import Conflict, InvalidInput, TooLarge, Unavailable
from app.metrics import Metrics
from app.services.collections import Collections, check_collection_name
from app.services.indexing import Indexing
from app.services.masters import validate_attributes
from app.services.names import clean_name
from app.services.near_duplicates import (
    NearCheck,
    NearDuplicate,
    NearDuplicates,
    near_duplicate_error,
)
from app.services.vision import DecodedImage, Vision
from app.settings import MIB, Settings
from models.capture.reading import READER
from models.decoding.turns import Purpose
from models.imaging import ImageRejected
from storage.errors import CollectionGone
from storage.hashing import sha256_of_file
from storage.protocols import Stores
from storage.records import Claim, Master, MasterState, NewMaster, Reservation

_FIRST_PAUSE, _LONGEST_PAUSE = 0.01, 0.5  # seconds between polls of another upload's row
_MOST_KNOWN = 1000  # collections whose ids are remembered


@dataclass(frozen=True)
class UploadOutcome:
    """The master that has the uploaded bytes."""

    master: Master
    created: bool  # False if the collection had the bytes already
    indexed: bool  # whether searches with the active model version find it
    warnings: tuple[str, ...] = ()  # of a new one: ``models.imaging.TRUNCATED`` or nothing
    near_duplicates: list[NearDuplicate] | None = None  # of a new one, if they were looked for


class Ingest:
    """Accepts uploads."""

    def __init__(
        self,
        settings: Settings,
        stores: Stores,
        collections: Collections,
        vision: Vision,
        indexing: Indexing,
        near_duplicates: NearDuplicates,
        metrics: Metrics,
    ) -> None:
        self._settings = settings
        self._stores = stores
        self._collections = collections
        self._vision = vision
        self._indexing = indexing
        self._near_duplicates = near_duplicates
        self._metrics = metrics
        # The ids of collections by name. A deleted collection is noticed when a row is reserved.
        self._known: dict[str, UUID] = {}

    def upload_image(
        self,
        file: BinaryIO,
        *,
        collection: str,
        name: str,
        attributes: object,
        near_check: NearCheck | None = None,
    ) -> UploadOutcome:
        """Upload one image; its bytes are durable and its row is committed on return.

        The collection is created if it does not exist. Bytes that it has already change nothing.
        An empty ``name`` becomes a part of the hash. ``near_check`` also looks for masters that are
        nearly identical. Raises InvalidInput, TooLarge, ImageRejected, Conflict, Unavailable,
        StoreUnavailable.
        """
        try:
            check_collection_name(collection)
            cleaned = validate_attributes(attributes)
            digest, size = self._hash_file(file)
            existing = self._stores.metadata.find_by_hash(collection, digest)
            if existing is not None:
                return self._existing_outcome(existing)
            image = self._vision.decode_image(
                file, Purpose.UPLOAD, capture=True, local_features=near_check is not None
            )
            image = self._vision.start_embedding(image, self._indexing.live_versions)
            near = self._check_near(image, collection, digest, near_check)
        except (ImageRejected, InvalidInput, TooLarge, Conflict):
            self._metrics.uploads.labels("rejected").inc()
            raise
        new = NewMaster(
            sha256=digest,
            size=size,
            mime=image.mime,
            extension=image.extension,
            width=image.width,
            height=image.height,
            name=clean_name(name) or f"{digest.hex()[:12]}.{image.extension}",
            attributes=cleaned,
            capture=image.capture,
            capture_reader=READER,
        )
        outcome = self._store_master(file, collection, new, image)
        return replace(outcome, near_duplicates=near) if outcome.created else outcome

    def _hash_file(self, file: BinaryIO) -> tuple[bytes, int]:
        """Return SHA-256 and size in bytes. Raises TooLarge."""
        with self._metrics.stage("hash"):
            digest = sha256_of_file(file)
        size = file.seek(0, os.SEEK_END)
        limit = self._settings.max_file_bytes
        if size > limit:
            detail = f"The file is over the limit of {limit / MIB:g} MiB. Send a smaller version."
            raise TooLarge("file-too-large", detail)
        return digest, size

    def _check_near(
        self, image: DecodedImage, collection: str, digest: bytes, check: NearCheck | None
    ) -> list[NearDuplicate] | None:
        """Return the near duplicates of an image, or None without a check.

        A master with the same bytes is none of them, and comes first, even if it is hidden because
        its bytes are lost. Raises Conflict if the image is rejected.
        """
        if check is None:
            return None
        near = self._near_duplicates.find_near_duplicates(image, collection, check.max_distance)
        near = [each for each in near if each.master.sha256 != digest]
        if near and check.rejects and not self._stores.metadata.is_taken(collection, digest):
            raise near_duplicate_error(near)
        return near

    def _existing_outcome(self, master: Master) -> UploadOutcome:
        self._metrics.uploads.labels("existing").inc()
        active = next(iter(self._indexing.live_versions), "")
        indexed = self._stores.metadata.is_indexed(master.id, active)
        return UploadOutcome(master, created=False, indexed=indexed)

    def _store_master(
        self, file: BinaryIO, collection: str, new: NewMaster, image: DecodedImage
    ) -> UploadOutcome:
        owner = uuid4().hex
        metadata = self._stores.metadata
        while True:
            reservation = self._reserve_row(collection, new, owner)
            master = reservation.master
            if reservation.claim is Claim.EXISTS:
                return self._existing_outcome(master)
            self._write_object(file, master, owner)
            if reservation.claim is Claim.DAMAGED:
                if metadata.restore_damaged(master.id):
                    return self._existing_outcome(master)
                self._remove_orphan(master)
                continue  # another upload restored it first, or it was deleted
            self._wait_for_embeddings(image, master, owner)
            with self._metrics.stage("commit"):
                indexed = self._commit_stored(master, owner, image)
            if indexed is not None:
                break
            # The collection was deleted, or the lease expired and another upload took the row over.
            metadata.abandon_reservation(master.id, owner)
            self._remove_orphan(master)
        self._metrics.uploads.labels("created").inc()
        return UploadOutcome(master, created=True, indexed=indexed, warnings=image.warnings)

    def _wait_for_embeddings(self, image: DecodedImage, master: Master, owner: str) -> None:
        """Wait until the embeddings are ready or have failed, and keep the lease meanwhile."""
        lease = self._settings.lease_seconds
        while wait(image.embeddings.values(), timeout=lease / 3).not_done:
            self._stores.metadata.renew_reservation(master.id, owner, lease)

    def _commit_stored(self, master: Master, owner: str, image: DecodedImage) -> bool | None:
        """Commit the row as stored, and index it, in one transaction where that is possible.

        Returns whether it is indexed; None if the row is no longer this upload's.
        """
        with self._stores.together():
            versions = self._stores.metadata.commit_stored(
                master.id, owner, list(image.embeddings), self._settings.lease_seconds
            )
            if versions is None:
                return None
            return self._indexing.index_inline(master, owner, versions, image)

    def _reserve_row(self, collection: str, new: NewMaster, owner: str) -> Reservation:
        """Reserve a row, or wait until another upload of the same bytes has finished.

        An upload must not answer with a row that is still pending: its upload may fail. Raises
        Unavailable after LOOKALIKE_UPLOAD_WAIT seconds.
        """
        deadline = time.monotonic() + self._settings.upload_wait
        pause = _FIRST_PAUSE
        while True:
            collection_id = self._find_collection_id(collection)
            try:
                with self._metrics.stage("reserve"):
                    reservation = self._stores.metadata.reserve_master(
                        collection_id, new, owner, self._settings.lease_seconds
                    )
            except CollectionGone:  # it was deleted since its id was read
                self._known.pop(collection, None)
                continue
            if reservation.claim is not Claim.BUSY:
                return reservation
            if time.monotonic() > deadline:
                detail = "Another upload of the same bytes is in progress. Retry in a few seconds."
                raise Unavailable("upload-in-progress", detail, 5)
            time.sleep(pause)
            pause = min(_LONGEST_PAUSE, pause * 1.5)

    def _find_collection_id(self, name: str) -> UUID:
        """Return the id of the collection, which may be deleted; create it if it is not there."""
        known = self._known.get(name)
        if known is None:
            known = self._collections.find_or_create_collection(name).id
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            self._known[name] = known
        return known

    def _remove_orphan(self, master: Master) -> None:
        """Remove the object that was just written if its row is gone or being deleted.

        The worker may have removed the object before it was written, and then forgets the row. An
        upload that took the row over needs the object, and a deleted row never comes back.
        """
        record = self._stores.metadata.find_records([master.id]).get(master.id)
        if record is None or record.master.state is MasterState.DELETING:
            self._stores.objects.delete(master.object_key)

    def _write_object(self, file: BinaryIO, master: Master, owner: str) -> None:
        metadata, lease = self._stores.metadata, self._settings.lease_seconds
        file.seek(0)
        renewing = _LeaseRenewingFile(
            file, lease / 3, lambda: metadata.renew_reservation(master.id, owner, lease)
        )
        try:
            with self._metrics.stage("put"):
                source = cast("BinaryIO", renewing)
                self._stores.objects.put(
                    master.object_key, source, master.size, master.mime, master.name
                )
        except BaseException:
            metadata.abandon_reservation(master.id, owner)
            raise


class _LeaseRenewingFile:
    """A file that renews the lease of its upload while the object store reads it."""

    def __init__(self, file: BinaryIO, interval: float, renew: Callable[[], object]) -> None:
        """``interval`` is the time in seconds between two calls of ``renew``."""
        self._file = file
        self._interval = interval
        self._renew = renew
        self._renewed = time.monotonic()

    def read(self, size: int = -1) -> bytes:
        if time.monotonic() - self._renewed > self._interval:
            self._renew()
            self._renewed = time.monotonic()
        return self._file.read(size)

    def tell(self) -> int:
        return self._file.tell()

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)
