"""The object store on MinIO or another S3-compatible store, through the minio SDK."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, BinaryIO, TypeVar
from urllib.parse import quote, urlsplit

import stamina
import urllib3
from minio import Minio
from minio.commonconfig import CopySource
from minio.error import InvalidResponseError, MinioException, S3Error, ServerError

from storage.errors import ObjectMissing, StoreFull, StoreUnavailable
from storage.records import ObjectInfo
from storage.unicode_text import cut_text

CHUNK = 256 * 1024  # bytes
_PART = 8 * 1024 * 1024  # bytes of one part of a multipart upload
_MOST_NAME_BYTES = 1024  # of a percent-encoded name in the metadata
_LINK_LASTS = timedelta(minutes=5)
_ANY_REGION = "us-east-1"  # accepted by S3 servers without regions
_EXISTS = (409, 412)  # somebody else is writing the object, or has written it
_NOT_IMPLEMENTED = 501  # the server refuses conditional writes
_MISSING = ("NoSuchKey", "NoSuchObject")
_FULL = (
    "XMinioStorageFull",
    "InsufficientStorage",
    "QuotaExceeded",
    "XMinioAdminBucketQuotaExceeded",
)
_T = TypeVar("_T")


@dataclass(frozen=True)
class S3Options:
    """How to reach a bucket.

    There are two pools of connections, one for reading objects and one for everything else, because
    a reader keeps its connection until it has read all bytes that it asked for.
    """

    endpoint: str  # host or host:port
    access_key: str
    secret_key: str = field(repr=False)
    bucket: str
    secure: bool = True  # https
    region: str | None = None
    # Seconds; bounds connecting, each wait for bytes or for a free connection, and all retries.
    timeout: float = 10.0
    connections: int = 32  # at most, in each of the two pools
    attempts: int = 3
    create_bucket: bool = True
    public_url: str = ""  # where clients reach the same store, for links


class _Pool(urllib3.PoolManager):
    """A pool in which the wait for a free connection is bounded by the timeout for an answer."""

    def __init__(self, options: S3Options) -> None:
        timeout = urllib3.Timeout(connect=min(3.0, options.timeout), read=options.timeout)
        super().__init__(timeout=timeout, maxsize=options.connections, block=True, retries=False)
        self._wait = options.timeout

    def urlopen(self, *args: Any, **kw: Any) -> Any:
        return super().urlopen(*args, pool_timeout=self._wait, **kw)


class S3ObjectStore:
    """ObjectStore on an S3-compatible store, for any number of processes."""

    def __init__(self, options: S3Options) -> None:
        self._options = options
        self._pools = _Pool(options), _Pool(options)
        self._client, self._reader = (self._connected(pool, options) for pool in self._pools)
        self._public: Minio | None = None
        if options.public_url:
            parts = urlsplit(options.public_url)
            # Without a region the SDK would request it from the server, at an address that may not
            # be reachable from here.
            region = options.region or _ANY_REGION
            self._public = self._connected(
                None,
                replace(
                    options, endpoint=parts.netloc, secure=parts.scheme == "https", region=region
                ),
            )

    @staticmethod
    def _connected(pool: _Pool | None, options: S3Options) -> Minio:
        return Minio(
            options.endpoint,
            access_key=options.access_key,
            secret_key=options.secret_key,
            secure=options.secure,
            region=options.region,
            http_client=pool,
        )

    def prepare(self) -> None:
        """Create the bucket if it does not exist.

        Raises StoreUnavailable if it does not exist and ``create_bucket`` is false.
        """
        bucket = self._options.bucket
        if not self._call(lambda: self._client.bucket_exists(bucket_name=bucket)):
            if not self._options.create_bucket:
                raise StoreUnavailable(
                    "object",
                    f"there is no bucket {bucket}. Create it, or set LOOKALIKE_CREATE_BUCKET=true",
                )
            try:
                self._call(lambda: self._client.make_bucket(bucket_name=bucket))
            except StoreUnavailable:
                # Another replica may have created it first.
                if not self._call(lambda: self._client.bucket_exists(bucket_name=bucket)):
                    raise

    def put(self, key: str, file: BinaryIO, size: int, content_type: str, name: str) -> None:
        metadata: dict[str, str | list[str] | tuple[str]] = {"name": _encoded(name)}
        start = file.tell()

        def send() -> None:
            file.seek(start)
            self._client.put_object(
                bucket_name=self._options.bucket,
                object_name=key,
                data=file,
                length=size,
                content_type=content_type,
                metadata=metadata,
                part_size=_PART,
            )

        self._call(send)

    def create(self, key: str, content: bytes, content_type: str) -> bool:
        # The SDK has no conditional writes, but signs a request of which the condition is no part.
        headers = {"Content-Type": content_type, "If-None-Match": "*"}

        def send() -> int:
            url = self._client.get_presigned_url(
                "PUT", self._options.bucket, key, expires=_LINK_LASTS
            )
            answer = self._pools[0].request("PUT", url, body=content, headers=headers)
            if answer.status >= 500 and answer.status != _NOT_IMPLEMENTED:
                raise ServerError(f"the server answered {answer.status}", answer.status)
            return int(answer.status)

        status = self._call(send)
        if status == _NOT_IMPLEMENTED:
            return self._create_unconditionally(key, content, content_type)
        if status not in (*_EXISTS, 200):
            raise StoreUnavailable("object", f"{key} cannot be written: the server said {status}")
        return status == 200

    def _create_unconditionally(self, key: str, content: bytes, content_type: str) -> bool:
        try:
            self.stat(key)
        except ObjectMissing:
            self.put(key, io.BytesIO(content), len(content), content_type, key)
            return True
        return False

    def read(self, key: str, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        if length == 0:
            self.stat(key)
            return iter(())
        try:
            response = self._call(
                lambda: self._reader.get_object(
                    bucket_name=self._options.bucket,
                    object_name=key,
                    offset=offset,
                    length=length or 0,
                ),
                key,
            )
        except _RangeBeyondEnd:
            return iter(())
        chunks = self._chunks(response)
        # A generator that has started returns its connection even if it is closed before a read.
        next(chunks)
        return chunks

    @staticmethod
    def _chunks(response: Any) -> Iterator[bytes]:
        try:
            yield b""
            yield from response.stream(CHUNK)
        except urllib3.exceptions.HTTPError as error:
            raise StoreUnavailable("object", str(error)) from error
        finally:
            response.close()
            response.release_conn()

    def stat(self, key: str) -> ObjectInfo:
        found = self._call(
            lambda: self._client.stat_object(bucket_name=self._options.bucket, object_name=key), key
        )
        return ObjectInfo(
            key,
            int(found.size or 0),
            found.last_modified.timestamp() if found.last_modified else 0.0,
        )

    def link(self, key: str, content_type: str, disposition: str) -> str | None:
        if self._public is None:
            return None
        headers: dict[str, str | list[str] | tuple[str]] = {
            "response-content-type": content_type,
            "response-content-disposition": disposition,
        }
        return self._public.presigned_get_object(
            bucket_name=self._options.bucket,
            object_name=key,
            expires=_LINK_LASTS,
            response_headers=headers,
        )

    def copy(self, key: str, target: str) -> None:
        bucket = self._options.bucket
        self._call(
            lambda: self._client.copy_object(
                bucket_name=bucket, object_name=target, source=CopySource(bucket, key)
            ),
            key,
        )

    def delete(self, key: str) -> None:
        self._call(
            lambda: self._client.remove_object(bucket_name=self._options.bucket, object_name=key)
        )

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        try:
            for found in self._client.list_objects(
                bucket_name=self._options.bucket, prefix=prefix, recursive=True
            ):
                modified = found.last_modified.timestamp() if found.last_modified else 0.0
                yield ObjectInfo(str(found.object_name), int(found.size or 0), modified)
        except (MinioException, urllib3.exceptions.HTTPError) as error:
            raise StoreUnavailable("object", str(error)) from error

    def abort_unfinished(self, prefix: str, before: float) -> int:
        # The SDK has no public methods for this, so it uses the private ones that its own uploads
        # call. Its result lacks the upload id at which a page ends; after some were aborted, the
        # listing starts again, and a page on which none is old enough is skipped by its last key.
        bucket, aborted, after = self._options.bucket, 0, ""
        while True:
            found = self._call(
                lambda after=after: self._client._list_multipart_uploads(  # type: ignore[misc]
                    bucket, prefix=prefix, key_marker=after
                )
            )
            old = [each for each in found.uploads if _began_before(each, before)]
            for upload in old:
                self._call(
                    lambda upload=upload: self._client._abort_multipart_upload(  # type: ignore[misc]
                        bucket, upload.object_name, upload.upload_id
                    )
                )
            aborted += len(old)
            if not found.is_truncated:
                return aborted
            after = "" if old else (found.next_key_marker or found.uploads[-1].object_name)

    def ping(self) -> None:
        if not self._call(
            lambda: self._client.bucket_exists(bucket_name=self._options.bucket), attempts=1
        ):
            raise StoreUnavailable("object", f"there is no bucket {self._options.bucket}")

    def close(self) -> None:
        for pool in self._pools:
            pool.clear()

    def _call(self, work: Callable[[], _T], key: str = "", attempts: int | None = None) -> _T:
        """Run one request, with retries and backoff for broken connections and 5xx responses.

        Raises ObjectMissing for ``key``, and StoreUnavailable.
        """
        try:
            for attempt in stamina.retry_context(
                on=_is_temporary,
                attempts=attempts or self._options.attempts,
                timeout=self._options.timeout,
                wait_initial=0.1,
                wait_max=2.0,
            ):
                with attempt:
                    return work()
        except S3Error as error:
            if error.code in _MISSING:
                raise ObjectMissing(key) from error
            if error.code == "InvalidRange":
                raise _RangeBeyondEnd("object", str(error.message)) from error
            kind = StoreFull if error.code in _FULL else StoreUnavailable
            raise kind("object", f"{error.code}: {error.message}") from error
        except (MinioException, urllib3.exceptions.HTTPError, OSError) as error:
            raise StoreUnavailable("object", str(error) or type(error).__name__) from error
        raise AssertionError("the last attempt returns or raises")


class _RangeBeyondEnd(StoreUnavailable):
    """A range begins behind the end of the object."""


def _began_before(upload: Any, time: float) -> bool:
    began = upload.initiated_time
    return began is not None and began.timestamp() < time


def _is_temporary(error: Exception) -> bool:
    """Return whether a retry may succeed."""
    if isinstance(error, S3Error):
        return error.code in ("SlowDown", "InternalError", "ServiceUnavailable", "RequestTimeout")
    if isinstance(error, urllib3.exceptions.EmptyPoolError):
        return False
    return isinstance(
        error, urllib3.exceptions.HTTPError | ServerError | InvalidResponseError | ConnectionError
    )


def _encoded(name: str) -> str:
    """Percent-encode a name, because headers are ASCII.

    It is cut after a whole character so that it fits into the metadata that S3 allows.
    """
    return quote(cut_text(name, _MOST_NAME_BYTES, lambda text: len(quote(text, safe=""))), safe="")
