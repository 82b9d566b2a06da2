"""Unusable store URLs are refused with a clear message before any connection is made."""

from __future__ import annotations

import re
import traceback
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pytest
from pydantic import ValidationError

from app.settings import Settings
from storage.errors import ConfigurationError, StoreUnavailable
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


SECRETS = [
    *(
        "wJalr/XUtnFEMI",
        "Zq1@Zq2",
        "Zq1:Zq2:Zq3",
        "Zq1#Zq2#",
        "Zq1?Zq2=Zq3",
        "1%2FZq1%Zq2",
        "Zq1+Zq2",
    ),
    *(
        "Zq1 Zq2",
        "Zq1/Zq2@Zq3:Zq4#Zq5?Zq6",
        "]Zq1[",
        "//Zq1//Zq2",
        "\u2100Zq1",
        "Zq1@@",
        "?Zq1&Zq2",
    ),
]


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("quoted", [False, True])
def test_no_message_contains_a_secret(urls: StoreUrls, secret: str, quoted: bool) -> None:
    """Whatever characters the secret has, encoded or not, and whether the URL is valid or not."""
    given = quote(secret, safe="") if quoted else secret
    parts = [part for part in re.split(r"[^\w]+", secret) if len(part) > 2] + [secret, given]
    server = f"KEY:{given}@{NOWHERE}"
    cases = {
        "database": f"mysql+pymysql://{server}/name",
        "objects": f"s3://{server}/bucket?secure=false",
        "vectors": f"http://{server}",
    }
    for name, url in cases.items():
        changed = replace(urls, **{name: url})
        texts = [*changed.shown.values(), repr(changed), repr(MilvusOptions(token=given))]
        texts.append(repr(Settings(**{f"{name}_url": url}, milvus_token=given, _env_file=None)))
        if name != "vectors":  # Milvus is connected to when it is first used
            with pytest.raises((ConfigurationError, StoreUnavailable)) as caught:
                open_stores(changed)
            texts += ["".join(traceback.format_exception_only(caught.value)), str(caught.value)]
        for text in texts:
            assert not [part for part in parts if part in text], text


def test_the_address_of_a_store_is_shown_without_its_secret(urls: StoreUrls) -> None:
    given = replace(
        urls, database="mysql+pymysql://me:a/b@db:3306/name", objects="s3://K:a?b#c@s3:9/b?x=1"
    )
    assert given.shown["database"] == "mysql+pymysql://db:3306/name"
    assert given.shown["objects"] == "s3://s3:9/b"
    assert replace(urls, objects="s3://KEY:SECRET/bucket").shown["objects"] == "s3://…"
    assert replace(urls, vectors="secret").shown["vectors"] == "…"
    assert urls.shown["vectors"] == "embedded:"


def test_a_setting_that_is_refused_is_not_quoted() -> None:
    with pytest.raises(ValidationError) as caught:
        Settings(public_objects_url="https://KEY:SECRET@host/path", _env_file=None)
    assert "SECRET" not in str(caught.value)
