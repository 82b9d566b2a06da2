"""Requests that cost their sender little and an unprotected service much."""

from __future__ import annotations

import http.client
import io
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

import numpy as np
from PIL import Image

from benchmarks.service import Client, encode_form

_HOST = "127.0.0.1"
_PATIENCE = 10.0  # seconds that an attacker waits for an answer
_PIXELS = 8000  # a side: 64 megapixels
Attack = Callable[[int, threading.Event], None]  # gets the port, and ends soon after the event


@contextmanager
def attacking(attacks: list[Attack], port: int) -> Iterator[None]:
    """Run attacks in threads during the block."""
    end = threading.Event()
    threads = [threading.Thread(target=attack, args=(port, end)) for attack in attacks]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        end.set()
        for thread in threads:
            thread.join()


def repeat(clients: int, send: Callable[[int, int], None]) -> Attack:
    """Make an attack of clients that send again and again. ``send`` gets port and number."""

    def attack(port: int, end: threading.Event) -> None:
        def run(number: int) -> None:
            while not end.is_set():
                try:
                    send(port, number)
                except (OSError, RuntimeError, http.client.HTTPException):
                    time.sleep(0.05)  # it was refused

        threads = [threading.Thread(target=run, args=(number,)) for number in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    return attack


def post(path: str, body: bytes) -> Callable[[int, int], None]:
    return lambda port, number: _discard(Client(port, _PATIENCE).post(path, body))


def _discard(_: object) -> None:
    """Ignore an answer."""


def encode(image: Image.Image, format: str, **options: object) -> bytes:
    output = io.BytesIO()
    image.save(output, format, **options)
    return output.getvalue()


def flat_png(mode: str) -> bytes:
    """Make a PNG of 64 megapixels in 0.2 MB."""
    return encode(Image.new(mode, (_PIXELS, _PIXELS), (200, 10, 10, 100)[: len(mode)]), "PNG")


def noisy_png() -> bytes:
    """Make a PNG of 27 MB."""
    pixels = np.random.default_rng(0).integers(0, 256, (3000, 3000, 3), dtype=np.uint8)
    return encode(Image.fromarray(pixels), "PNG", compress_level=1)


def many_scans(scans: int, side: int, separator: bytes = b"") -> bytes:
    """Make a progressive JPEG that repeats its last scan."""
    content = encode(Image.new("L", (side, side), 90), "JPEG", progressive=True)
    last = content[content.rindex(b"\xff\xda") : -2]
    return content[:-2] + (separator + last) * scans + content[-2:]


def search_with(image: bytes, clients: int) -> Attack:
    return repeat(clients, post("/search", encode_form([("sample", image)])))


def thumbnails(path: str, clients: int, *, hang_up: bool = False) -> Attack:
    """Request thumbnails of one master in many sizes, and read them, or close the connection."""

    def send(port: int, number: int) -> None:
        size = 16 + (number * 7 + time.monotonic_ns()) % 1000
        if not hang_up:
            Client(port, _PATIENCE).get(f"{path}?size={size}")
            return
        with socket.create_connection((_HOST, port), timeout=10) as connection:
            connection.sendall(_get(f"{path}?size={size}"))
        time.sleep(0.2)

    return repeat(clients, send)


def strange_charset() -> Attack:
    """Name a codec whose time grows with the square of the text."""
    part = b'--x\r\nContent-Disposition: form-data; name="%s"\r\n'
    body = part % b"_charset_" + b"\r\npunycode\r\n"
    body += part % b"text" + b"Content-Type: text/plain; charset=punycode\r\n\r\n"
    body += b"a-" + b"b" * 60_000 + b"\r\n"
    name = b"\xff" * 20_000
    body += b'--x\r\nContent-Disposition: form-data; name="sample"; filename="' + name + b'"\r\n'
    body += b"\r\nx\r\n--x--\r\n"

    def send(port: int, _: int) -> None:
        connection = http.client.HTTPConnection(_HOST, port, timeout=_PATIENCE)
        kind = "multipart/form-data; boundary=x; charset=punycode"
        connection.request("POST", "/search", body, {"Content-Type": kind})
        connection.getresponse().read()
        connection.close()

    return repeat(4, send)


def endless_head() -> Attack:
    """Send a request head of 100 MB."""

    def send(port: int, _: int) -> None:
        with socket.create_connection((_HOST, port), timeout=10) as connection:
            connection.sendall(b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n")
            for number in range(1600):
                connection.sendall(b"X-%d: " % number + b"a" * 65_536 + b"\r\n")

    return repeat(3, send)


def silent_connections(count: int) -> Attack:
    """Open connections and send nothing."""

    def attack(port: int, end: threading.Event) -> None:
        with ExitStack() as stack:
            for _ in range(count):
                with suppress(OSError):
                    stack.enter_context(socket.create_connection((_HOST, port), timeout=1))
            end.wait()

    return attack


def slow_readers(path: str, count: int) -> Attack:
    """Ask for an original and stop reading it."""

    def attack(port: int, end: threading.Event) -> None:
        with ExitStack() as stack:
            for _ in range(count):
                with suppress(OSError):
                    connection = socket.create_connection((_HOST, port), timeout=5)
                    stack.enter_context(connection)
                    connection.sendall(_get(path))
                    connection.recv(1000)
            end.wait()

    return attack


def readiness(clients: int) -> Attack:
    return repeat(clients, lambda port, number: _discard(Client(port, _PATIENCE).get("/readyz")))


def costly_filter(image: bytes) -> Attack:
    """Search with 49 ranges of a key that has another value in each master."""
    ranges = [{"sku": {"$gte": f"{number:06}a", "$lt": f"{number:06}b"}} for number in range(48)]
    fields = {"filter": json.dumps({"$or": ranges})}
    return repeat(8, post("/search", encode_form([("sample", image)], fields)))


def _get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: {_HOST}\r\n\r\n".encode()
