"""Uploads as different clients write them: file names, preambles, and forms that are malformed."""

from __future__ import annotations

import base64
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.images import CAT
from tests.support.service import Service

FORM = "multipart/form-data; boundary=x"


def post(service: Service, body: bytes, content_type: str = FORM) -> httpx.Response:
    return service.client.post("/masters", content=body, headers={"Content-Type": content_type})


def part(parameters: str | bytes, content: bytes = CAT) -> bytes:
    """Return a part whose header has these parameters behind ``form-data``."""
    given_ = parameters if isinstance(parameters, bytes) else parameters.encode()
    return b"--x\r\nContent-Disposition: form-data" + given_ + b"\r\n\r\n" + content + b"\r\n"


def named(service: Service, parameters: str | bytes) -> str:
    """Upload a file under these parameters, and return the name of its master."""
    response = post(service, part(parameters) + b"--x--\r\n")
    assert response.status_code == 201, response.text
    master: dict[str, Any] = response.json()["results"][0]["master"]
    service.client.delete(master["links"]["self"])
    return str(master["name"])


# file names


@pytest.mark.parametrize(
    ("parameters", "name"),
    [
        ("; name=file; filename*=UTF-8''Gr%C3%B6%C3%9Fe%20%F0%9F%98%80.jpg", "Größe 😀.jpg"),
        ("; name=file; filename*=utf-8'de'%C3%A9.jpg", "é.jpg"),
        ("; filename*=UTF-8''a%3B%20b%22c.jpg ; name=file", 'a; b"c.jpg'),
        ("; name=file;filename*=iso-8859-1''caf%E9.jpg", "café.jpg"),
        ("; name=file; filename*=us-ascii''plain.jpg", "plain.jpg"),
        ("; name=file; filename*=\"UTF-8''%C3%A9.jpg\"", "é.jpg"),
        ("; name=file; FileName* = UTF-8''%C3%A9.jpg", "é.jpg"),
        ("; name=file; filename*=UTF-8''..%2F..%2Fa%00b.jpg", "ab.jpg"),
        (
            "; name=file; filename*0*=UTF-8''Gr%C3; filename*1*=%B6%C3%9Fe; filename*2=.jpg",
            "Größe.jpg",
        ),
        ('; name=file; filename*0="long "; filename*1="name.jpg"', "long name.jpg"),
    ],
)
def test_a_part_with_an_extended_file_name_only_is_a_file(
    service: Service, parameters: str, name: str
) -> None:
    assert named(service, parameters) == name


def test_the_extended_name_of_dotnet_comes_before_its_encoded_word(service: Service) -> None:
    word = base64.b64encode("Größe.jpg".encode()).decode()
    parameters = (
        f"; name=file; filename=\"=?utf-8?B?{word}?=\"; filename*=utf-8''{quote('Größe.jpg')}"
    )
    assert named(service, parameters) == "Größe.jpg"


@pytest.mark.parametrize(
    "parameters",
    [
        "; name=file; filename=plain.jpg; filename*=utf-8''%C3%A9.jpg",
        "; name=file; filename*=utf-8''%C3%A9.jpg; filename=plain.jpg",
    ],
)
def test_the_extended_name_comes_before_the_plain_one(service: Service, parameters: str) -> None:
    assert named(service, parameters) == "é.jpg"


@pytest.mark.parametrize(
    ("parameters", "name"),
    [
        ('; name="file"; filename="Größe.jpg"', "Größe.jpg"),
        ('; name="file"; filename="a;b.jpg"', "a;b.jpg"),
        (f'; name="file"; filename="{";" * 200}.jpg"', f"{';' * 200}.jpg"),
        ('; name="file"; filename="filename*=UTF-8\'\'x.jpg"', "filename*=UTF-8''x.jpg"),
        ('; name="file"; filename="a\\"; filename*=x.jpg"', 'a"; filename*=x.jpg'),
    ],
)
def test_a_plain_file_name_is_kept(service: Service, parameters: str, name: str) -> None:
    assert named(service, parameters) == name


def test_files_with_extended_names_count_as_files(service: Service) -> None:
    limit = service.app.state.settings.max_request_files
    body = part("; name=file; filename*=UTF-8''a.jpg", b"x") * (limit + 1) + b"--x--\r\n"
    response = post(service, body)
    assert (response.status_code, response.json()["code"]) == (413, "too-many-files")


# the body around the parts


@pytest.mark.parametrize(
    "preamble",
    [
        b"\r\n",
        b"\r\n\r\n",
        b"This is a message with multiple parts in MIME format.\r\n",
        b"\r\nA pre-amble\r\n-- with dashes\r\n--\r\n",
        b"\r\n" * 1000,
        b"a line that mentions --x\r\n",
        b"\0\xff\r\n-\r\n--\r",
        b"-" * 200_000 + b"\r\n",
    ],
    ids=lambda preamble: ascii(preamble[:20]),
)
def test_a_preamble_is_skipped(service: Service, preamble: bytes) -> None:
    body = preamble + part('; name="file"; filename="a.jpg"')
    if preamble.endswith(b"\r"):
        body = preamble + b"\n" + part('; name="file"; filename="a.jpg"')
    response = post(service, body + b"--x--\r\n")
    assert response.status_code == 201, response.text
    assert response.json()["results"][0]["master"]["size"] == len(CAT)


@pytest.mark.parametrize("epilogue", [b"", b"\r\n", b"\r\nThe end\r\n--x\r\n\r\n", b" \t\r\n"])
def test_an_epilogue_is_skipped(service: Service, epilogue: bytes) -> None:
    body = part('; name="file"; filename="a.jpg"') + b"--x--" + epilogue
    assert post(service, body).status_code == 201


def test_a_boundary_may_be_padded(service: Service) -> None:
    body = part('; name="collection"', b"mine") + part('; name="file"; filename="a.jpg"')
    response = post(service, body.replace(b"--x\r\n", b"--x \t\r\n") + b"--x--\r\n")
    assert response.status_code == 201, response.text
    assert response.json()["results"][0]["master"]["collection"] == "mine"


FILE = part('; name="file"; filename="a.jpg"', b"x")
MALFORMED = {
    "no boundary in the type": ("multipart/form-data", FILE + b"--x--", "boundary"),
    "an empty boundary": ("multipart/form-data; boundary=", FILE + b"--x--", "boundary"),
    "an empty quoted boundary": ('multipart/form-data; boundary=""', FILE + b"--x--", "boundary"),
    "a boundary that is too long": (
        f"multipart/form-data; boundary={'x' * 300}",
        FILE + b"--x--",
        "boundary",
    ),
    "another boundary": ("multipart/form-data; boundary=y", FILE + b"--x--", "never occurs"),
    "an empty body": (FORM, b"", "never occurs"),
    "only a preamble": (FORM, b"nothing\r\nelse", "never occurs"),
    "a boundary within a line only": (FORM, b"a --x\r\n", "never occurs"),
    "no end": (FORM, FILE, "closing boundary"),
    "cut short in a part": (FORM, FILE[:-4], "closing boundary"),
    "cut short in a header": (FORM, FILE[:30], "closing boundary"),
    "cut short in the boundary": (FORM, FILE + b"--x", "closing boundary"),
    "no line break after a boundary": (FORM, FILE.replace(b"--x\r\n", b"--x\ry"), "boundary"),
    "a header without a colon": (FORM, b"--x\r\nnonsense\r\n\r\nx\r\n--x--", "header"),
    "a header without a name": (FORM, b"--x\r\n: x\r\n\r\nx\r\n--x--", "header"),
    "a header that ends in LF alone": (FORM, FILE.replace(b'"\r\n', b'"\n') + b"--x--", ""),
    "a folded header": (FORM, FILE.replace(b"; ", b";\r\n ") + b"--x--", "header"),
    "too large a header": (FORM, FILE.replace(b"a.jpg", b"a" * 40_000) + b"--x--", "header"),
    "too many headers": (FORM, b"--x\r\n" + b"A: b\r\n" * 50 + b"\r\nx\r\n--x--", "header"),
    "too many parameters": (FORM, part("; name=file" + ";" * 1000) + b"--x--", "semicolons"),
    "no headers": (FORM, b"--x\r\n\r\nx\r\n--x--", "Content-Disposition"),
    "no name": (FORM, part('; filename="a.jpg"') + b"--x--", "name"),
    "an extended name in another charset": (
        FORM,
        part("; name=file; filename*=utf-7''a.jpg") + b"--x--",
        "filename*",
    ),
    "an extended name in a charset of Python": (
        FORM,
        part("; name=file; filename*=punycode''a.jpg") + b"--x--",
        "filename*",
    ),
    "an extended name without a charset": (
        FORM,
        part("; name=file; filename*=a.jpg") + b"--x--",
        "filename*",
    ),
    "an extended name that is not of its charset": (
        FORM,
        part("; name=file; filename*=UTF-8''%E9.jpg") + b"--x--",
        "filename*",
    ),
    "an extended name with half an escape": (
        FORM,
        part("; name=file; filename*=UTF-8''a%4") + b"--x--",
        "filename*",
    ),
    "an extended name with half a surrogate pair": (
        FORM,
        part("; name=file; filename*=UTF-8''%ED%A0%80") + b"--x--",
        "filename*",
    ),
    "parts of an extended name that lack one": (
        FORM,
        part('; name=file; filename*0="a"; filename*2="b.jpg"') + b"--x--",
        "filename*",
    ),
    "a malformed extended name beside a plain one": (
        FORM,
        part("; name=file; filename=a.jpg; filename*=UTF-8''%zz") + b"--x--",
        "filename*",
    ),
    "a quote that never closes": (
        FORM,
        part("; name=\"file; filename*=UTF-8''a.jpg") + b"--x--",
        "quote",
    ),
    "a quote alone": (FORM, part('; filename=a.jpg; name="') + b"--x--", "quote"),
    "a quote before the parameters": (
        FORM,
        part("\"; x=\"; name=file; filename*=UTF-8''a.jpg") + b"--x--",
        "quote",
    ),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_form_is_400_in_words(service: Service, name: str) -> None:
    content_type, body, words = MALFORMED[name]
    response = post(service, body, content_type)
    assert (response.status_code, response.json()["code"]) == (400, "malformed-body")
    detail = response.json()["detail"]
    assert words in detail
    assert detail.endswith(".")
    assert "0x" not in detail
    assert service.client.get("/masters").json()["total"] == 0


def test_a_field_of_an_urlencoded_form_that_is_too_large_is_400(service: Service) -> None:
    response = service.client.post(
        "/search",
        content=b"text=" + b"a" * 100_000,
        headers={"Content-Type": "application/x-www-form-urlencoded"},
    )
    assert (response.status_code, response.json()["code"]) == (400, "malformed-body")


WHOLE = (
    b"preamble\r\n"
    + part('; name="collection"', b"mine")
    + part("; name=file; filename=\"a\"; filename*0*=UTF-8''%C3%A9; filename*1=.jpg", CAT[:300])
    + b"--x--\r\n"
)


@settings(
    deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    cuts=st.lists(st.integers(0, len(WHOLE)), min_size=2, max_size=2),
    middle=st.binary(max_size=6)
    | st.sampled_from([b"\r\n", b"--x", b"\r\n--x\r\n", b"%", b'"', b"*"]),
)
def test_no_damage_to_a_form_is_an_error_of_the_service(
    service: Service, cuts: list[int], middle: bytes
) -> None:
    first, second = sorted(cuts)
    response = post(service, WHOLE[:first] + middle + WHOLE[second:])
    assert 400 <= response.status_code < 500
    assert response.headers["content-type"] == "application/problem+json"
