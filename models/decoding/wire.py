"""The messages between a parent and its child: a header and a body, each with its length.

Few system calls per image count here: most images take one or two milliseconds.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Iterator

_LENGTHS = struct.Struct("!II")
_FIRST = 256 * 1024  # bytes; most messages arrive with one call


def send_message(
    target: socket.socket, header: bytes, length: int, body: Iterable[bytes | memoryview]
) -> None:
    """Send a message whose body has ``length`` bytes in several parts. Raises OSError."""
    parts = iter(body)
    start = [_LENGTHS.pack(len(header), length), header, next(parts, b"")]
    sent = target.sendmsg(start)
    if sent < sum(map(len, start)):
        target.sendall(b"".join(start)[sent:])
    for part in parts:
        target.sendall(part)


def receive_message(
    source: socket.socket, max_header: int, max_body: int
) -> tuple[memoryview, memoryview]:
    """Receive a header and a body. Raises OSError, and EOFError if the other end closes.

    Raises ValueError if one of them is longer than allowed.
    """
    buffer = bytearray(_FIRST)
    received = _receive_into(source, memoryview(buffer), _LENGTHS.size)
    header, body = _LENGTHS.unpack_from(buffer)
    if header > max_header or body > max_body:
        raise ValueError("the message is longer than allowed")
    end = _LENGTHS.size + header + body
    if received > end:
        raise ValueError("the message is longer than it says")
    if end > len(buffer):
        whole = bytearray(end)
        whole[:received] = memoryview(buffer)[:received]
        buffer = whole
    view = memoryview(buffer)[:end]
    if received < end:
        _receive_into(source, view[received:], end - received)
    return view[_LENGTHS.size : _LENGTHS.size + header], view[_LENGTHS.size + header :]


def _receive_into(source: socket.socket, view: memoryview, least: int) -> int:
    """Receive at least ``least`` bytes, and return how many."""
    received = 0
    while received < least:
        count = source.recv_into(view[received:])
        if not count:
            raise EOFError
        received += count
    return received


def split(body: memoryview, lengths: Iterable[int]) -> Iterator[memoryview]:
    """Yield the parts of a body. Raises ValueError unless the lengths are those of the whole."""
    position = 0
    for length in lengths:
        yield body[position : position + length]
        position += length
    if position != len(body):
        raise ValueError("the body has another length")
