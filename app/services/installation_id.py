"""The bucket's `installation.json`: the id of the installation, and of the database it belongs to.

Backups know an installation by the first, which survives restores and the loss of the database. By
the second a process recognises a bucket that is not of its database. With a new or another
database, all its originals would look as if nobody knew them.
"""

from __future__ import annotations

import io
import json
from dataclasses import asdict, dataclass, replace
from itertools import islice
from uuid import uuid4

from app.services.recovered_masters import parse_master_key
from storage.errors import ConfigurationError, ObjectMissing
from storage.protocols import ObjectStore, Stores

INSTALLATION_KEY = "installation.json"
_JSON = "application/json"
_SAMPLE = 100  # originals that are looked up in the database
_SAMPLED_ROWS = 10  # masters whose originals are looked up in the bucket
_ADVICE = (
    "Nothing was changed. Check LOOKALIKE_DATABASE_URL, LOOKALIKE_OBJECTS_URL and"
    " LOOKALIKE_DATA_DIR: they may have been copied from another installation. If the database was"
    " lost or replaced, `lookalike recover` shows what the bucket can bring back, and `lookalike"
    " recover --apply` brings it back and lets the bucket belong to this database."
)


class BucketRefused(ConfigurationError):
    """The bucket does not belong to the metadata database; the message says what to do."""


@dataclass(frozen=True)
class BucketIdentity:
    """The content of `installation.json`."""

    id: str
    database: str | None  # None: no database has claimed the bucket, as in earlier versions


def check_bucket(stores: Stores) -> None:
    """Check that no other database has claimed the bucket, and write nothing.

    Raises BucketRefused, StoreUnavailable.
    """
    # The bucket first: a database gets its id before it claims a bucket.
    bucket = read_bucket_identity(stores.objects)
    _check(bucket, stores.metadata.find_database_id())


def is_of_other_bucket(stores: Stores) -> bool:
    """Tell whether the database had claimed another bucket than this one, which is not its own.

    Raises StoreUnavailable.
    """
    bucket, database = read_bucket_identity(stores.objects), stores.metadata.find_database_id()
    return database is not None and bucket is not None and bucket.database not in (None, database)


def claim_bucket(stores: Stores, new_id: str | None = None) -> str:
    """Claim the bucket for the database unless this has happened, and return the installation's id.

    A bucket that no database has claimed belongs to one that knows some of its masters; a bucket
    without masters belongs to the first. Any number of processes may do this at the same time.
    ``new_id`` is what a bucket without an id gets instead of a random one. Raises BucketRefused,
    StoreUnavailable.
    """
    bucket = read_bucket_identity(stores.objects)
    _check(bucket, stores.metadata.find_database_id())
    if bucket and bucket.database:
        return bucket.id
    if not _has_masters_in_common(stores):
        raise BucketRefused(
            "the bucket holds masters of which the metadata database knows none: it is new, or"
            f" belongs to another installation. {_ADVICE}"
        )
    database = stores.metadata.claim_database_id(str(uuid4()))
    new = BucketIdentity(new_id or str(uuid4()), database)
    if bucket is None:
        stores.objects.create(INSTALLATION_KEY, _encode(new), _JSON)
        bucket = read_bucket_identity(stores.objects)
    if bucket is None or bucket.database is None:
        bucket = replace(bucket or new, database=database)
        _write(stores.objects, bucket)
    check_bucket(stores)
    return bucket.id


def adopt_bucket(stores: Stores) -> None:
    """Let the bucket belong to the database, whichever had claimed it. Raises StoreUnavailable."""
    database = stores.metadata.claim_database_id(str(uuid4()))
    bucket = read_bucket_identity(stores.objects) or BucketIdentity(str(uuid4()), None)
    _write(stores.objects, replace(bucket, database=database))


def take_over_installation_id(objects: ObjectStore, id_: str) -> None:
    """Give the bucket the id of the installation that it is a copy of. Raises StoreUnavailable."""
    bucket = read_bucket_identity(objects) or BucketIdentity(id_, None)
    _write(objects, replace(bucket, id=id_))


def read_bucket_identity(objects: ObjectStore) -> BucketIdentity | None:
    """Return the content of the file, or None if it is missing or damaged.

    Raises StoreUnavailable.
    """
    try:
        content = json.loads(b"".join(objects.read(INSTALLATION_KEY)))
    except (ObjectMissing, ValueError):
        return None
    if not isinstance(content, dict) or not isinstance(content.get("id"), str):
        return None
    database = content.get("database")
    return BucketIdentity(content["id"], database if isinstance(database, str) else None)


def _check(bucket: BucketIdentity | None, database: str | None) -> None:
    if bucket is None or bucket.database in (None, database):
        return
    which = "this one is new" if database is None else "this one has another id"
    raise BucketRefused(f"the bucket belongs to another metadata database; {which}. {_ADVICE}")


def _has_masters_in_common(stores: Stores) -> bool:
    """Tell whether database and bucket have masters in common, or the bucket has none.

    A sample of each is looked up in the other.
    """
    listed = islice(stores.objects.list("masters/"), _SAMPLE)
    ids = [key.id for info in listed if (key := parse_master_key(info.key))]
    if not ids or stores.metadata.find_records(ids):
        return True
    rows = stores.metadata.list_records(None, _SAMPLED_ROWS)
    return any(_has_object(stores.objects, record.master.object_key) for record in rows)


def _has_object(objects: ObjectStore, key: str) -> bool:
    try:
        objects.stat(key)
    except ObjectMissing:
        return False
    return True


def _encode(bucket: BucketIdentity) -> bytes:
    return (json.dumps(asdict(bucket)) + "\n").encode()


def _write(objects: ObjectStore, bucket: BucketIdentity) -> None:
    content = _encode(bucket)
    objects.put(INSTALLATION_KEY, io.BytesIO(content), len(content), _JSON, INSTALLATION_KEY)
