"""What is specific to S3: object metadata, links, the connection pool, and access errors."""

from __future__ import annotations

import io
import socket
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from app.settings import Settings
from models.embedder import Embedder
from storage.errors import StoreUnavailable
from storage.objects_s3 import S3ObjectStore
from tests.support.images import encoded, photograph
from tests.support.service import serving

KEY = "masters/shop-1/ab/abcd/1.jpg"


def put(store: S3ObjectStore, content: bytes = b"0123456789", name: str = "cat.jpg") -> None:
    store.put(KEY, io.BytesIO(content), len(content), "image/jpeg", name)


@pytest.mark.parametrize("name", ["Kätzchen (1).jpg", "猫" * 255, "a/b\\c\u202e.jpg"])
@pytest.mark.parametrize("size", [10, 20_000_000])
def test_an_object_carries_its_type_and_name(s3: S3ObjectStore, name: str, size: int) -> None:
    put(s3, b"x" * size, name)
    found = s3._client.stat_object(bucket_name=s3._options.bucket, object_name=KEY)
    assert found.content_type == "image/jpeg"
    assert found.metadata is not None
    kept = found.metadata["x-amz-meta-name"]
    assert quote(name, safe="").startswith(kept)
    assert kept == quote(name, safe="") or 1000 < len(kept) <= 1024


def test_a_copy_carries_type_and_name(s3: S3ObjectStore) -> None:
    put(s3, name="Kätzchen.jpg")
    s3.copy(KEY, f"quarantine/2026-01-01/{KEY}")
    found = s3._client.stat_object(
        bucket_name=s3._options.bucket, object_name=f"quarantine/2026-01-01/{KEY}"
    )
    assert found.content_type == "image/jpeg"
    assert found.metadata is not None
    assert found.metadata["x-amz-meta-name"] == quote("Kätzchen.jpg")


def test_a_long_name_is_cut_between_characters(s3: S3ObjectStore) -> None:
    put(s3, name="👩\u200d🚀" * 85)
    found = s3._client.stat_object(bucket_name=s3._options.bucket, object_name=KEY)
    assert found.metadata is not None
    assert found.metadata["x-amz-meta-name"] == quote("👩\u200d🚀") * 31


def test_a_link_gives_access_to_its_object_only(s3: S3ObjectStore) -> None:
    assert s3.link(KEY, "image/jpeg", "inline") is None
    public = S3ObjectStore(replace(s3._options, public_url=f"http://{s3._options.endpoint}"))
    put(s3)
    link = public.link(KEY, "image/png", "inline; filename*=UTF-8''K%C3%A4tzchen.png")
    assert link is not None
    answer = httpx.get(link, headers={"Range": "bytes=2-4"})
    assert (answer.status_code, answer.content) == (206, b"234")
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["content-disposition"] == "inline; filename*=UTF-8''K%C3%A4tzchen.png"
    assert httpx.get(link.replace("1.jpg", "2.jpg")).status_code == 403
    assert httpx.get(link.partition("?")[0]).status_code == 403
    public.close()


def begin_upload(store: S3ObjectStore, key: str) -> str:
    """Begin an upload in parts, as a process does that is killed before it ends."""
    client, bucket = store._client, store._options.bucket
    upload = client._create_multipart_upload(bucket, key, {})
    client._upload_part(bucket, key, b"x" * 6_000_000, None, upload, 1)
    return upload


def unfinished(store: S3ObjectStore) -> set[str]:
    found = store._client._list_multipart_uploads(store._options.bucket)
    return {str(upload.object_name) for upload in found.uploads}


def test_old_uploads_that_never_ended_are_aborted(s3: S3ObjectStore) -> None:
    put(s3)
    for number in range(5):
        begin_upload(s3, f"masters/{number}")
    begin_upload(s3, "elsewhere/1")
    now = time.time()
    assert s3.abort_unfinished("masters/", now - 3600) == 0
    assert len(unfinished(s3)) == 6
    assert s3.abort_unfinished("masters/", now + 60) == 5
    assert unfinished(s3) == {"elsewhere/1"}
    assert s3.stat(KEY).size == 10
    s3.abort_unfinished("", now + 60)


def test_slow_readers_do_not_block_a_write(s3: S3ObjectStore) -> None:
    store = S3ObjectStore(replace(s3._options, connections=2, timeout=1.5))
    put(store, b"x" * 5_000_000)
    readers = [store.read(KEY) for _ in range(2)]
    first = [next(reader) for reader in readers]
    put(store, b"new")
    with pytest.raises(StoreUnavailable):
        store.read(KEY)
    for reader, chunk in zip(readers, first, strict=True):
        reader.close()  # type: ignore[attr-defined]
        assert chunk
    assert b"".join(store.read(KEY)) == b"new"
    store.close()


def test_clients_that_stop_reading_hold_no_connection(
    s3: S3ObjectStore, tmp_path: Path, embedder: Embedder
) -> None:
    """Forty clients stall in a download, and others still get bytes and thumbnails."""
    options = s3._options
    url = f"s3://{options.access_key}:{options.secret_key}@{options.endpoint}/{options.bucket}"
    settings = Settings(
        data_dir=tmp_path,
        objects_url=f"{url}?secure=false",
        store_timeout=2.0,
        response_timeout=600.0,
        _env_file=None,
    )
    large = encoded(photograph("retina").resize((3000, 3000)), "BMP")  # 27 MB
    with serving(settings, embedder) as service, ExitStack() as stalled:
        link = service.put_master(large, "a.bmp")["links"]
        for _ in range(40):
            client = stalled.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect((service.client.base_url.host, service.client.base_url.port))
            request = f"GET {link['content']} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
            client.sendall(request.encode())
            assert client.recv(100)
        assert service.client.get(link["content"]).content == large
        assert service.client.get(link["thumbnail"]).status_code == 200


def test_a_wrong_secret_and_a_missing_bucket_are_reported(s3: S3ObjectStore) -> None:
    with pytest.raises(StoreUnavailable, match=r"SignatureDoesNotMatch|AccessDenied|403"):
        S3ObjectStore(replace(s3._options, secret_key="wrong")).prepare()  # noqa: S106
    with pytest.raises(StoreUnavailable, match="there is no bucket"):
        S3ObjectStore(replace(s3._options, bucket="not-there", create_bucket=False)).prepare()


def test_a_read_that_is_closed_before_it_begins_returns_its_connection(
    s3: S3ObjectStore,
) -> None:
    store = S3ObjectStore(replace(s3._options, connections=2, timeout=2.0))
    put(store)
    for _ in range(6):
        store.read(KEY).close()  # type: ignore[attr-defined]
    assert b"".join(store.read(KEY)) == b"0123456789"
    store.close()
