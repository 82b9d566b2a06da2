"""Unusable store URLs are refused with a clear message before any connection is made."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from storage.errors import ConfigurationError
from storage.factory import open_stores
from storage.store_urls import MilvusOptions, StoreUrls

NOWHERE = "127.0.0.1:1"


@pytest.fixture
def urls(tmp_path: Path) -> StoreUrls:
    return StoreUrls(
        f"sqlite:///{tmp_path}/a.db", f"file://{tmp_path}/objects", "embedded:", timeout=0.5
    )


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://user:password@host/name",
        f"mysql+pymysql://user:password@{NOWHERE}",
        "mysql+pymysql://user:password@host:port/name",
        f"mysql+pymysql://user:password@{NOWHERE}/name?foo=bar",
        f"mysql+pymysql://user:password@{NOWHERE}/name?ssl_ca=/not/there.pem",
        "sqlite:",
        "",
    ],
)
def test_an_unusable_database_url_is_refused(urls: StoreUrls, url: str) -> None:
    with pytest.raises(ConfigurationError, match="LOOKALIKE_DATABASE_URL"):
        open_stores(replace(urls, database=url))


@pytest.mark.parametrize(
    "url",
    [
        "http://key:secret@host/bucket",
        f"s3://{NOWHERE}/bucket",
        f"s3://key:secret@{NOWHERE}",
        "s3://key:secret@host:port/bucket",
        f"s3://key:sec/ret@{NOWHERE}/bucket",
        f"s3://key:secret@{NOWHERE}/bucket/prefix",
        f"s3://key:secret@{NOWHERE}/b",
        f"s3://key:secret@{NOWHERE}/bucket?secure=maybe",
        f"s3://key:secret@{NOWHERE}/bucket?tls=true",
    ],
)
def test_an_unusable_objects_url_is_refused(urls: StoreUrls, url: str) -> None:
    with pytest.raises(ConfigurationError, match="LOOKALIKE_OBJECTS_URL"):
        open_stores(replace(urls, objects=url))


@pytest.mark.parametrize(
    "url", ["milvus:19530", "http://", "http://milvus:port", "http://milvus:", ""]
)
def test_an_unusable_vectors_url_is_refused(urls: StoreUrls, url: str) -> None:
    with pytest.raises(ConfigurationError, match="LOOKALIKE_VECTORS_URL"):
        open_stores(replace(urls, vectors=url))


def test_a_missing_certificate_is_refused(urls: StoreUrls) -> None:
    with pytest.raises(ConfigurationError, match="CA_CERTIFICATE"):
        open_stores(
            replace(
                urls,
                vectors=f"https://{NOWHERE}",
                milvus=MilvusOptions(ca_certificate="/not/there.pem"),
            )
        )
