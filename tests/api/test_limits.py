"""The limits on size, number and duration of requests."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from tempfile import SpooledTemporaryFile

import httpx
import pytest

from app.http import body_limits
from app.settings import Settings
from models.embedder import Embedder
from tests.support.images import CAT
from tests.support.requests import HALF_A_REQUEST
from tests.support.service import Service, serving


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        data_dir=tmp_path / "data",
        max_file_bytes=100_000,
        max_request_bytes=300_000,
        max_encoder_bytes=500_000,
        max_request_files=5,
        body_timeout=1.0,
        _env_file=None,
    )


def problem_of(response: httpx.Response) -> tuple[int, str]:
    assert response.headers["content-type"] == "application/problem+json"
    return response.status_code, response.json()["code"]


def test_a_file_over_the_cap_is_413(service: Service) -> None:
    assert problem_of(service.put(CAT + b"\0" * 100_000)) == (413, "file-too-large")
    response = service.client.post("/search", files={"sample": ("a.jpg", CAT + b"\0" * 100_000)})
    assert problem_of(response) == (413, "file-too-large")
    assert service.client.get("/masters").json()["total"] == 0


def test_a_declared_body_over_the_cap_is_413(service: Service) -> None:
    assert problem_of(service.put(b"\0" * 400_000)) == (413, "body-too-large")


def test_an_encoder_has_a_limit_of_its_own(service: Service) -> None:
    def add(size: int) -> tuple[int, str]:
        files = {"weights": ("a.bundle", b"\0" * size)}
        return problem_of(service.client.post("/admin/models", files=files))

    assert add(400_000) == (422, "invalid-weights")
    assert add(600_000) == (413, "body-too-large")


def test_a_chunked_body_over_the_cap_is_413(service: Service) -> None:
    def chunks() -> Iterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\n\r\n'
        for _ in range(40):
            yield b"\0" * 10_000

    response = service.client.post(
        "/masters", content=chunks(), headers={"Content-Type": "multipart/form-data; boundary=x"}
    )
    assert problem_of(response) == (413, "body-too-large")


@pytest.fixture
def rolled(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """An entry for each file that goes to the disk."""
    found: list[bool] = []
    rollover = SpooledTemporaryFile.rollover

    def note(self: SpooledTemporaryFile[bytes]) -> None:
        found.append(True)
        rollover(self)

    monkeypatch.setattr(SpooledTemporaryFile, "rollover", note)
    return found


@pytest.fixture
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of undeclared length go to the disk from 1000 bytes on."""
    monkeypatch.setattr(body_limits, "_FILE_IN_MEMORY", 1000)


def put_undeclared(service: Service, content: bytes) -> httpx.Response:
    """Upload a file in a body that does not declare its length."""
    head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\n\r\n'
    return service.client.post(
        "/masters",
        content=iter([head, content, b"\r\n--x--\r\n"]),
        headers={"Content-Type": "multipart/form-data; boundary=x"},
    )


def test_a_file_stays_in_memory_if_its_body_declares_a_length(
    service: Service, rolled: list[bool], small_files: None
) -> None:
    assert service.put(CAT).status_code == 201
    assert not rolled
    assert put_undeclared(service, CAT).status_code == 200
    assert rolled


def test_small_files_go_to_the_disk_once_many_bytes_are_held(
    service: Service, rolled: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(body_limits, "_IN_MEMORY", 1)
    assert service.put(CAT).status_code == 201
    assert rolled


def test_a_body_gives_its_memory_back(
    service: Service, rolled: list[bool], small_files: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(body_limits, "_IN_MEMORY", 3 * len(CAT))
    for _ in range(6):
        assert service.put(CAT).status_code in (200, 201)
    assert not rolled


def test_a_file_goes_to_the_disk_while_another_body_has_announced_that_it_fills_the_memory(
    service: Service, rolled: list[bool], small_files: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(body_limits, "_IN_MEMORY", 3 * len(CAT))
    announced = b"Expect: 100-continue\r\nContent-Length: %d\r\n" % (2.5 * len(CAT))
    address = service.client.base_url.host, service.client.base_url.port
    with socket.create_connection(address, timeout=20) as connection:
        connection.sendall(HALF_A_REQUEST.replace(b"Content-Length: 1000\r\n", announced))
        assert connection.recv(4096).startswith(b"HTTP/1.1 100 ")
        assert service.put(CAT).status_code == 201
    assert rolled


def test_too_many_files_are_refused(service: Service) -> None:
    files = [("file", (f"{number}.jpg", b"x")) for number in range(6)]
    assert problem_of(service.client.post("/masters", files=files)) == (413, "too-many-files")
    assert service.client.post("/masters", files=files[:5]).status_code == 415


def test_a_body_that_arrives_too_slowly_is_408(service: Service) -> None:
    with socket.create_connection(
        (service.client.base_url.host, service.client.base_url.port), timeout=20
    ) as connection:
        connection.sendall(HALF_A_REQUEST + b"--x")
        answer = b""
        while chunk := connection.recv(4096):
            answer += chunk
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'"code":"body-too-slow"' in answer
    assert b"problem+json" in answer


@pytest.mark.parametrize(
    ("content_type", "body", "status", "code"),
    [
        ("application/json", b"{}", 415, "unsupported-media-type"),
        ("image/jpeg", CAT, 415, "unsupported-media-type"),
        ("", b"x", 415, "unsupported-media-type"),
        ("multipart/form-data", b"x", 400, "malformed-body"),
        ("multipart/form-data; boundary=x", b"garbage without a boundary", 400, "malformed-body"),
        (
            "multipart/form-data; boundary=x",
            b"--x\r\nContent-Disposition: form-data\r\n\r\n1\r\n--x--\r\n",
            400,
            "malformed-body",
        ),
        ("multipart/form-data; boundary=x", b"", 400, "malformed-body"),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\n\r\n'
            + CAT[:5000],
            400,
            "malformed-body",
        ),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\nx\r\n--x--\r\n',
            422,
            "invalid-request",
        ),
    ],
)
def test_hostile_bodies_are_refused(
    service: Service, content_type: str, body: bytes, status: int, code: str
) -> None:
    response = service.client.post("/masters", content=body, headers={"Content-Type": content_type})
    assert problem_of(response) == (status, code)
    assert service.client.get("/masters").json()["total"] == 0


@pytest.mark.parametrize(
    ("path", "field"), [("/masters", "attribute"), ("/search", "filters"), ("/compare", "mirror")]
)
def test_an_unknown_field_is_refused(service: Service, path: str, field: str) -> None:
    assert problem_of(
        service.client.post(path, files={"file": ("a.jpg", CAT)}, data={field: "{}"})
    ) == (422, "unknown-field")


def test_too_many_concurrent_requests_are_503_until_others_end(
    tmp_path: Path, embedder: Embedder
) -> None:
    settings = Settings(data_dir=tmp_path / "data", max_requests=2, _env_file=None)
    with serving(settings, embedder) as service:
        address = (service.client.base_url.host, service.client.base_url.port)
        head = HALF_A_REQUEST + b"--x"
        held = [socket.create_connection(address) for _ in range(2)]
        for connection in held:
            connection.sendall(head)
        refused = service.put(CAT)
        while refused.status_code != 503:  # until the service has received both
            refused = service.put(CAT)
        assert problem_of(refused) == (503, "too-busy")
        assert int(refused.headers["retry-after"]) >= 1
        assert service.client.get("/livez").status_code == 200
        for connection in held:
            connection.close()
        while (answer := service.put(CAT)).status_code == 503:
            pass
        assert answer.status_code in (200, 201)


@pytest.mark.parametrize(
    "charset", ["undefined", "punycode", "raw_unicode_escape", "utf-7", '"latin-1"', "x"]
)
@pytest.mark.parametrize("kind", ["multipart/form-data; boundary=x", "multipart/form-data"])
def test_a_charset_other_than_utf8_is_refused(service: Service, kind: str, charset: str) -> None:
    body = b'--x\r\nContent-Disposition: form-data; name="collection"\r\n\r\na\r\n--x--\r\n'
    headers = {"Content-Type": f"{kind}; charset={charset}"}
    response = service.client.post("/masters", content=body, headers=headers)
    assert problem_of(response) == (400, "malformed-body")
    assert "UTF-8" in response.json()["detail"]


@pytest.mark.parametrize("charset", ["utf-8", "UTF8", '"Utf-8"'])
def test_utf8_may_be_named(service: Service, charset: str) -> None:
    body = b'--x\r\nContent-Disposition: form-data; name="text"\r\n\r\n\xc3\xa9\r\n--x--\r\n'
    headers = {"Content-Type": f"multipart/form-data; boundary=x; charset={charset}"}
    response = service.client.post("/search", content=body, headers=headers)
    assert response.json().get("code") != "malformed-body"


def test_a_body_of_a_get_is_bounded(service: Service) -> None:
    response = service.client.request("GET", "/masters", content=b"\0" * 400_000)
    assert problem_of(response) == (413, "body-too-large")


def test_a_large_json_body_is_413(service: Service) -> None:
    body = b'{"name": "a", "x": [' + b"[]," * 100_000 + b"[]]}"
    response = service.client.post(
        "/collections", content=body, headers={"Content-Type": "application/json"}
    )
    assert problem_of(response) == (413, "body-too-large")


@pytest.mark.parametrize("path", ["/masters", "/search", "/compare"])
def test_a_large_image_outside_a_form_is_415(service: Service, path: str) -> None:
    response = service.client.post(
        path, content=b"\xff" * 290_000, headers={"Content-Type": "image/jpeg"}
    )
    assert problem_of(response) == (415, "unsupported-media-type")
