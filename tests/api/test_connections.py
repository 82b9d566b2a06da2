"""The limits on connections, with raw sockets: heads, silence, slow readers, their number."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path

import httpx
import pytest

from app.settings import Settings
from models.embedder import Embedder
from tests.support.embedded import free_port, serve_until_ready
from tests.support.images import CAT, encoded, photograph
from tests.support.processes import ROOT
from tests.support.requests import HALF_A_REQUEST
from tests.support.service import Service, eventually, serving

LIVE = b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
MASTERS = b"GET /masters HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
HEAD = b"POST /collections HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        data_dir=tmp_path / "data",
        head_timeout=0.5,
        idle_timeout=1.0,
        response_timeout=0.5,
        response_min_rate=2_000_000,
        _env_file=None,
    )


@contextmanager
def limited(settings: Settings, embedder: Embedder, **limits: object) -> Iterator[Service]:
    with serving(settings.model_copy(update=limits), embedder) as service:
        yield service


def connect(service: Service, buffer: int = 0) -> socket.socket:
    connection = socket.socket()
    if buffer:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    connection.settimeout(20)
    connection.connect((service.client.base_url.host, service.client.base_url.port))
    return connection


def read_all(connection: socket.socket) -> bytes:
    """Return what the server sends until it closes or resets the connection."""
    received = b""
    with suppress(ConnectionError):
        while chunk := connection.recv(65536):
            received += chunk
    return received


def exchange(service: Service, *parts: bytes) -> bytes:
    with connect(service) as connection:
        with suppress(ConnectionError):
            for part in parts:
                connection.sendall(part)
        return read_all(connection)


def problem_in(answer: bytes) -> tuple[int, str]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in head
    return int(head.split()[1]), json.loads(body)["code"]


# Heads
@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"a" * 70_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"a" * 300_000,
        b"GET / HTTP/1.1\r\n" + b"".join(b"X%d: 1\r\n" % number for number in range(200)),
        b"\r\n" * 40_000,
    ],
)
def test_a_head_that_is_too_large_is_431(service: Service, head: bytes) -> None:
    assert problem_in(exchange(service, head)) == (431, "head-too-large")


def test_a_head_is_not_read_to_its_end_before_it_is_refused(service: Service) -> None:
    with connect(service) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nX: ")
        sent = 0
        with suppress(ConnectionError, TimeoutError):
            for _ in count():
                sent += connection.send(b"a" * 8192)
                if sent > 65536 and b"431" in read_if_ready(connection):
                    break
    assert sent < 2_000_000


def read_if_ready(connection: socket.socket) -> bytes:
    with suppress(BlockingIOError):
        return connection.recv(4096, socket.MSG_DONTWAIT)
    return b""


def test_a_large_head_within_the_limit_is_answered(service: Service) -> None:
    headers = {"X-Long": "a" * 60_000}
    assert service.client.get("/livez", headers=headers).status_code == 200


@pytest.mark.parametrize("size", [0, 10])
def test_trailers_are_ignored(service: Service, size: int) -> None:
    trailers = b"".join(b"Authorization: %d\r\n" % number for number in range(size))
    body = b'f\r\n{"name": "one"}\r\n0\r\n' + trailers + b"\r\n"
    with connect(service) as connection:
        connection.sendall(CHUNKED + body)
        assert connection.recv(4096).startswith(b"HTTP/1.1 201 ")


@pytest.mark.parametrize(
    "body",
    [
        b"0\r\nX: " + b"a" * 400_000,
        b"0\r\n" + b"X: 1\r\n" * 200,
        b"f;" + b"a" * 400_000,
    ],
)
def test_trailers_and_chunk_extensions_are_bounded(service: Service, body: bytes) -> None:
    assert problem_in(exchange(service, CHUNKED, body)) == (431, "head-too-large")
    assert service.client.get("/collections").json()["collections"][0]["name"] == "default"


def test_what_is_not_http_is_400(service: Service) -> None:
    assert problem_in(exchange(service, b"\x16\x03\x01 hello")) == (400, "malformed-request")
    bad_chunk = exchange(service, CHUNKED, b"not a number\r\n")
    assert problem_in(bad_chunk) == (400, "malformed-request")


def test_requests_before_a_malformed_one_are_answered_whole(service: Service) -> None:
    answer = exchange(service, MASTERS + LIVE + b"garbage\r\n\r\n")
    assert answer.count(b"HTTP/1.1 200 ") == 2
    assert answer.endswith(b"ok")


def test_pipelined_requests_are_answered_in_order_up_to_a_number(service: Service) -> None:
    few = exchange(service, MASTERS, LIVE * 3)
    assert few.count(b"HTTP/1.1 200 ") == 4
    assert few.index(b'"total"') < few.index(b"ok")
    many = exchange(service, MASTERS + LIVE * 1000)
    assert 2 <= many.count(b"HTTP/1.1 200 ") < 20
    assert many.endswith(b"ok")


# Silence
@pytest.mark.parametrize("sent", [b"", b"\r\n", LIVE])
def test_silent_connections_are_closed(service: Service, sent: bytes) -> None:
    answer = exchange(service, sent)
    assert answer == b"" or answer.endswith(b"ok")


@pytest.mark.parametrize("drop", [b"\r\n", b"X: 1\r\n"])
@pytest.mark.parametrize("before", [b"", LIVE])
def test_a_head_that_drips_in_is_cut_off(service: Service, before: bytes, drop: bytes) -> None:
    with connect(service) as connection:
        connection.sendall(before + (b"" if drop == b"\r\n" else b"GET / HTTP/1.1\r\n"))

        def is_cut_off() -> bool:
            with suppress(ConnectionError, BlockingIOError):
                connection.send(drop)
                received = connection.recv(4096, socket.MSG_DONTWAIT)
                return received == b"" or b" 408 " in received
            with suppress(BlockingIOError):
                return connection.recv(1, socket.MSG_DONTWAIT) == b""
            return False

        assert eventually(is_cut_off, 10)


def test_a_body_that_is_not_read_does_not_keep_the_connection(service: Service) -> None:
    with connect(service) as connection:
        connection.sendall(LIVE[:-2] + b"Content-Length: 100000000\r\n\r\n")

        def is_closed() -> bool:
            try:
                connection.sendall(b"a" * 1000)
            except OSError:
                return True
            return False

        assert eventually(is_closed, 10)


# Slow readers
def put_large(service: Service) -> str:
    large = encoded(photograph("retina").resize((2500, 2500)), "BMP")  # 19 MB
    content: str = service.put_master(large, "a.bmp")["links"]["content"]
    return content


def ask(connection: socket.socket, path: str) -> None:
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())


def test_a_client_that_reads_nothing_is_disconnected(service: Service) -> None:
    content = put_large(service)
    with connect(service, 4096) as connection:
        ask(connection, content)
        assert connection.recv(100)
        assert eventually(lambda: not service.has_connection(connection), 10)
        assert len(read_all(connection)) < 10_000_000


def test_a_short_answer_that_nobody_reads_does_not_keep_the_connection(service: Service) -> None:
    with connect(service, 4096) as connection:
        for _ in range(200):
            with suppress(BlockingIOError, ConnectionError):
                connection.send(LIVE.replace(b"/livez", b"/docs") * 8, socket.MSG_DONTWAIT)
        assert eventually(lambda: not service.has_connection(connection), 10)


def test_a_client_that_reads_too_slowly_is_disconnected(service: Service) -> None:
    content = put_large(service)
    with connect(service, 4096) as connection:
        ask(connection, content)

        def is_disconnected() -> bool:  # it takes at most 2 kB in 20 ms
            try:
                return not connection.recv(2000)
            except ConnectionResetError:
                return True

        assert eventually(is_disconnected, 15)
        assert not service.has_connection(connection)


def test_a_client_that_reads_at_once_gets_everything(service: Service) -> None:
    assert len(service.client.get(put_large(service)).content) > 18_000_000


# Number
def test_silent_connections_do_not_lock_others_out(settings: Settings, embedder: Embedder) -> None:
    limits = {"max_connections": 20, "head_timeout": 60.0, "idle_timeout": 60.0}
    with limited(settings, embedder, **limits) as service, ExitStack() as held:
        # A connection that waits for its next request is among those that make room.
        service.client.headers["Connection"] = "close"
        for number in range(100):
            held.enter_context(connect(service)).sendall(b"GET" if number % 2 else b"")
        assert exchange_head(service, LIVE).startswith(b"HTTP/1.1 200 ")
        assert service.put(CAT).status_code == 201
        for _ in range(40):
            held.enter_context(connect(service))
        assert service.search(CAT)


def exchange_head(service: Service, request: bytes) -> bytes:
    with connect(service) as connection:
        connection.sendall(request)
        return connection.recv(4096)


def test_health_is_answered_while_every_connection_is_busy(
    settings: Settings, embedder: Embedder
) -> None:
    with limited(settings, embedder, max_connections=4) as service, ExitStack() as held:
        service.client.close()
        for _ in range(4):
            held.enter_context(connect(service)).sendall(HALF_A_REQUEST + b"--x")
        assert eventually(lambda: b" 503 " in exchange_head(service, MASTERS))
        assert problem_in(exchange(service, MASTERS)) == (503, "too-busy")
        for path in (b"/livez", b"/readyz"):
            answer = exchange_head(service, LIVE.replace(b"/livez", path))
            assert answer.startswith(b"HTTP/1.1 200 ")
        with ExitStack() as silent:  # they cannot lock out the health checks either
            for _ in range(50):
                silent.enter_context(connect(service))
            assert exchange_head(service, LIVE).startswith(b"HTTP/1.1 200 ")
        held.close()
        assert eventually(lambda: b" 200 " in exchange_head(service, MASTERS))


def test_an_address_may_have_a_limit(settings: Settings, embedder: Embedder) -> None:
    with limited(settings, embedder, max_connections_per_address=3) as service:
        service.client.close()
        with ExitStack() as held:
            for _ in range(3):
                connection = held.enter_context(connect(service))
                connection.sendall(LIVE)
                assert connection.recv(100)
            assert exchange(service, LIVE) == b""
        assert eventually(lambda: exchange(service, LIVE) != b"")


@pytest.mark.slow
def test_the_limit_on_open_files_is_kept(tmp_path: Path) -> None:
    """With 200 descriptors, 400 silent connections leave enough for requests."""
    port = free_port()
    ours = {"LOOKALIKE_DATA_DIR": str(tmp_path), "LOOKALIKE_PORT": str(port)}
    process = subprocess.Popen(
        ["/bin/sh", "-c", 'ulimit -n 200; exec "$0" api.py', sys.executable],
        cwd=ROOT,
        env=os.environ | ours,
        stderr=subprocess.PIPE,
        text=True,
    )
    with serve_until_ready(process, port), ExitStack() as held:
        for _ in range(400):
            held.enter_context(socket.create_connection(("127.0.0.1", port)))
        url = f"http://127.0.0.1:{port}"
        response = httpx.post(f"{url}/masters", files={"file": ("a.jpg", CAT)}, timeout=30)
        assert response.status_code == 201
