"""Puts one image in as a master: gate, dedupe, bytes, commit, index, in the order that a crash cannot spoil."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO, cast
from uuid import uuid4

from app.errors import InvalidInput, TooLarge, Unavailable
from app.metrics import Metrics
from app.services.collections import Collections, check_name
from app.services.indexing import Indexing
from app.services.names import clean_name
from app.services.vision import Picture, Vision
from app.settings import MIB, Settings
from models.imaging import ImageRejected
from storage.attributes import InvalidAttributes, clean_attributes
from storage.errors import CollectionGone
from storage.hashing import sha256_of_file
from storage.protocols import Stores
from storage.records import Attributes, Claim, Master, NewMaster, Reservation

_FIRST_WAIT, _LONGEST_WAIT = 0.01, 0.5  # seconds between looks at another upload of the same bytes


@dataclass(frozen=True)
class Ingested:
    master: Master
    created: bool
    indexed: bool


class Ingest:
    def __init__(
        self,
        settings: Settings,
        stores: Stores,
        collections: Collections,
        vision: Vision,
        indexing: Indexing,
        metrics: Metrics,
    ) -> None:
        self._settings = settings
        self._stores = stores
        self._collections = collections
        self._vision = vision
        self._indexing = indexing
        self._metrics = metrics

    def put(self, file: BinaryIO, *, collection: str, name: str, attributes: object) -> Ingested:
        """Returns once the bytes are durable and the row is committed. Raises AppError, ImageRejected, StoreUnavailable."""
        try:
            check_name(collection)
            cleaned = checked_attributes(attributes)
            digest, size = self._hash(file)
            known = self._stores.metadata.find_by_hash(collection, digest)
            if known is not None:
                return self._existing(known)
            picture = self._vision.read(file)
        except (ImageRejected, InvalidInput, TooLarge):
            self._metrics.uploads.labels("rejected").inc()
            raise
        new = NewMaster(
            sha256=digest,
            size=size,
            mime=picture.mime,
            extension=picture.extension,
            width=picture.width,
            height=picture.height,
            name=clean_name(name) or f"{digest.hex()[:12]}.{picture.extension}",
            attributes=cleaned,
        )
        return self._store(file, collection, new, picture)

    def _hash(self, file: BinaryIO) -> tuple[bytes, int]:
        with self._metrics.stage("hash"):
            digest = sha256_of_file(file)
        size = file.seek(0, os.SEEK_END)
        limit = self._settings.max_file_bytes
        if size > limit:
            raise TooLarge(
                "file-too-large",
                f"The file is over the limit of {limit / MIB:g} MiB. Send a smaller version.",
            )
        return digest, size

    def _existing(self, master: Master) -> Ingested:
        self._metrics.uploads.labels("existing").inc()
        active = next(iter(self._indexing.versions), "")
        return Ingested(
            master, created=False, indexed=self._stores.metadata.is_indexed(master.id, active)
        )

    def _store(self, file: BinaryIO, collection: str, new: NewMaster, picture: Picture) -> Ingested:
        owner = uuid4().hex
        metadata, lease = self._stores.metadata, self._settings.lease_seconds
        while True:
            reservation = self._reserve(collection, new, owner)
            if reservation.claim is Claim.EXISTS:
                return self._existing(reservation.master)
            master = reservation.master
            self._put_object(file, master, owner)
            if reservation.claim is Claim.DAMAGED:
                if metadata.restore_damaged(master.id):
                    return self._existing(master)
                continue  # healed by somebody else, or deleted: look again
            with self._metrics.stage("commit"):
                versions = metadata.commit_stored(master.id, owner, self._indexing.versions, lease)
            if versions is not None:
                break
            metadata.abandon_reservation(
                master.id, owner
            )  # its collection was deleted, or our lease ran out and the row is no longer ours
        self._metrics.uploads.labels("created").inc()
        return Ingested(
            master,
            created=True,
            indexed=self._indexing.index_inline(master, owner, versions, picture),
        )

    def _reserve(self, collection: str, new: NewMaster, owner: str) -> Reservation:
        """Our pending row or the stored one; never answers on somebody else's pending row."""
        give_up = time.monotonic() + self._settings.upload_wait
        pause = _FIRST_WAIT
        while True:
            target = self._collections.find_or_create(collection)
            try:
                with self._metrics.stage("reserve"):
                    reservation = self._stores.metadata.reserve_master(
                        target.id, new, owner, self._settings.lease_seconds
                    )
            except CollectionGone:  # deleted between the two lines above
                continue
            if reservation.claim is not Claim.BUSY:
                return reservation
            if time.monotonic() > give_up:
                raise Unavailable(
                    "upload-in-progress",
                    "Another upload of the same bytes is under way. Try again.",
                    5,
                )
            time.sleep(pause)
            pause = min(_LONGEST_WAIT, pause * 1.5)

    def _put_object(self, file: BinaryIO, master: Master, owner: str) -> None:
        lease = self._settings.lease_seconds
        file.seek(0)
        renewing = _Renewing(
            file,
            lease / 3,
            lambda: self._stores.metadata.renew_reservation(master.id, owner, lease),
        )
        try:
            with self._metrics.stage("put"):
                source = cast("BinaryIO", renewing)
                self._stores.objects.put(
                    master.object_key, source, master.size, master.mime, master.name
                )
        except BaseException:
            self._stores.metadata.abandon_reservation(master.id, owner)
            raise


class _Renewing:
    """A file that renews the lease of its upload while it is being read."""

    def __init__(self, file: BinaryIO, interval: float, renew: Callable[[], object]) -> None:
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


def checked_attributes(attributes: object) -> Attributes:
    try:
        return clean_attributes(attributes)
    except InvalidAttributes as error:
        raise InvalidInput("invalid-attributes", str(error)) from None
