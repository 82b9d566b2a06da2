"""API keys, their scopes, and the addresses that are allowed without a key."""

from __future__ import annotations

import hmac

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.datastructures import Headers

from app.http.errors import Forbidden, Unauthorized
from app.http.problems import problem_of
from app.http.security import Access, InsecureSettings, KeyRing, check_listening, is_loopback
from app.settings import Settings

KEYS = {Access.READ: "read-key-1", Access.WRITE: "write-key-2", Access.ADMIN: "admin-key-3"}
RING = KeyRing(",".join(f"{access.name.lower()}:{key}" for access, key in KEYS.items()))
SCOPES = [Access.READ, Access.WRITE, Access.ADMIN]


def with_authorization(value: bytes | str) -> Headers:
    return Headers(raw=[(b"authorization", value.encode() if isinstance(value, str) else value)])


def bearer(key: str) -> Headers:
    return with_authorization(f"Bearer {key}")


# parsing


@pytest.mark.parametrize("text", ["", " ", ",", " , ,, "])
def test_no_keys_are_an_empty_ring(text: str) -> None:
    assert not KeyRing(text)


@pytest.mark.parametrize(
    "text", ["read:12345678", " write:12345678 ,", "ADMIN:12345678", "read:a:b:c:d:"]
)
def test_a_scope_with_a_key_is_accepted(text: str) -> None:
    assert KeyRing(text)


@pytest.mark.parametrize(
    "text",
    [
        "12345678secret",
        "secret",
        "read",
        "read:",
        "read:1234567",
        ":secret12345678",
        "owner:secret12345678",
        "public:secret12345678",
        "read;secret12345678",
        "read:12345678,secret",
        "read:12345678,write:",
        "read: secret12345678",
        "read:secret12 345678",
        "read:12345678 secret",
        "read:12345678\tsecret",
        "read:sécret12345678",
        "read:12345678é",
    ],
)
def test_anything_but_a_scope_with_a_long_key_is_refused(text: str) -> None:
    with pytest.raises(InsecureSettings, match="LOOKALIKE_API_KEYS") as caught:
        KeyRing(text)
    assert "secret" not in str(caught.value)


def test_a_key_may_hold_colons() -> None:
    KeyRing("read:ab:cd:efgh").check(bearer("ab:cd:efgh"), Access.READ)


# checking


@pytest.mark.parametrize("needed", list(Access))
@pytest.mark.parametrize(
    "headers", [Headers(raw=[]), bearer("anything at all")], ids=["no key", "some key"]
)
def test_an_empty_ring_grants_all_access(headers: Headers, needed: Access) -> None:
    KeyRing("").check(headers, needed)


@pytest.mark.parametrize(
    "headers", [Headers(raw=[]), bearer("wrong-key-0"), with_authorization("Basic eDp5")]
)
def test_public_access_needs_no_key(headers: Headers) -> None:
    RING.check(headers, Access.PUBLIC)


@pytest.mark.parametrize("needed", SCOPES)
@pytest.mark.parametrize("granted", SCOPES)
def test_a_scope_includes_those_below_it(granted: Access, needed: Access) -> None:
    if granted >= needed:
        RING.check(bearer(KEYS[granted]), needed)
    else:
        with pytest.raises(Forbidden) as caught:
            RING.check(bearer(KEYS[granted]), needed)
        assert caught.value.code == "forbidden"
        assert granted.name.lower() in caught.value.detail
        assert needed.name.lower() in caught.value.detail


@pytest.mark.parametrize("needed", SCOPES)
@pytest.mark.parametrize(
    "value",
    [
        "",
        "Bearer",
        "Bearer ",
        "Bearer wrong-key-0",
        "Bearer admin-key-",
        "Bearer admin-key-33",
        "Bearer ADMIN-KEY-3",
        "Bearer admin-key-3 admin-key-3",
        "Bearer admin-key-3,",
        "Bearer admin:admin-key-3",
        "Beareradmin-key-3",
        "admin-key-3",
        "Basic admin-key-3",
        "Token admin-key-3",
        "Bearer \xff\xfe",
    ],
)
def test_anything_but_a_key_of_the_ring_is_unauthorized(value: str, needed: Access) -> None:
    with pytest.raises(Unauthorized) as caught:
        RING.check(with_authorization(value.encode("latin-1")), needed)
    assert caught.value.code == "unauthorized"
    assert problem_of(caught.value).headers == {"WWW-Authenticate": "Bearer"}


def test_a_missing_header_is_unauthorized() -> None:
    with pytest.raises(Unauthorized):
        RING.check(Headers(raw=[]), Access.READ)


@pytest.mark.parametrize(
    "value",
    ["bearer admin-key-3", "BEARER admin-key-3", "Bearer   admin-key-3", "Bearer admin-key-3  "],
)
def test_the_scheme_ignores_case_and_extra_spaces(value: str) -> None:
    RING.check(with_authorization(value), Access.ADMIN)


@pytest.mark.parametrize("text", ["read:12345678,admin:12345678", "admin:12345678,read:12345678"])
def test_a_key_with_two_scopes_has_the_higher_one(text: str) -> None:
    KeyRing(text).check(bearer("12345678"), Access.ADMIN)


def outcome(headers: Headers, needed: Access) -> str:
    try:
        RING.check(headers, needed)
    except (Unauthorized, Forbidden) as error:
        return error.code
    return "granted"


@settings(deadline=None, max_examples=200)
@given(
    value=st.binary(max_size=40)
    | st.builds(bytes.__add__, st.just(b"Bearer "), st.binary(max_size=20)),
    needed=st.sampled_from(SCOPES),
)
def test_arbitrary_header_bytes_are_unauthorized(value: bytes, needed: Access) -> None:
    assert outcome(with_authorization(value), needed) == "unauthorized"


@settings(deadline=None, max_examples=100)
@given(
    cut=st.integers(0, 11),
    tail=st.text(st.characters(codec="latin-1"), max_size=3),
    needed=st.sampled_from(SCOPES),
)
def test_a_value_similar_to_a_key_is_unauthorized(cut: int, tail: str, needed: Access) -> None:
    near = KEYS[Access.ADMIN][:cut] + tail
    expected = "granted" if near.strip() == KEYS[Access.ADMIN] else "unauthorized"
    assert outcome(with_authorization(f"Bearer {near}".encode("latin-1")), needed) == expected


@pytest.mark.parametrize("key", [*KEYS.values(), "wrong-key-0", ""])
def test_every_key_is_compared_in_constant_time_whichever_matches(
    key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[bytes] = []
    compare = hmac.compare_digest

    def counting(kept: bytes, given: bytes) -> bool:
        compared.append(kept)
        return compare(kept, given)

    monkeypatch.setattr(hmac, "compare_digest", counting)
    outcome(bearer(key), Access.READ)
    assert sorted(compared) == sorted(key.encode() for key in KEYS.values())


# listening


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.8.7", "::1", "localhost"])
def test_a_loopback_address_is_recognised(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host",
    [
        "0.0.0.0",
        "::",
        "10.0.0.1",
        "192.168.1.2",
        "128.0.0.1",
        "example.org",
        "localhost.example.org",
        "127.0.0.1.example.org",
        "",
    ],
)
def test_another_address_is_not_loopback(host: str) -> None:
    assert not is_loopback(host)


def settings_of(host: str, api_keys: str) -> Settings:
    return Settings(host=host, api_keys=api_keys, _env_file=None)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
@pytest.mark.parametrize("api_keys", ["", "read:12345678"])
def test_loopback_may_be_listened_on_without_a_key(host: str, api_keys: str) -> None:
    check_listening(settings_of(host, api_keys))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "example.org"])
def test_an_open_address_may_be_listened_on_with_a_key(host: str) -> None:
    check_listening(settings_of(host, "admin:12345678"))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "example.org"])
@pytest.mark.parametrize("api_keys", ["", " , "])
def test_an_open_address_without_a_key_is_refused_and_the_message_says_what_to_set(
    host: str, api_keys: str
) -> None:
    with pytest.raises(InsecureSettings, match="Set LOOKALIKE_API_KEYS") as caught:
        check_listening(settings_of(host, api_keys))
    assert f"listen on {host} " in str(caught.value)


def test_an_open_address_with_a_malformed_key_is_refused() -> None:
    with pytest.raises(InsecureSettings):
        check_listening(settings_of("0.0.0.0", "admin"))
