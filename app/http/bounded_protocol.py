"""uvicorn's HTTP/1.1 protocol with limits on heads, silence and slow readers."""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from app.errors import AppError
from app.http.errors import HeadTooLarge, MalformedRequest, TooSlow
from app.http.problems import problem_of
from app.logs import log

if TYPE_CHECKING:
    from app.http.connections import Connections

MAX_HEAD = 64 * 1024  # bytes of the request line and all headers, or of all trailers
MAX_FIELDS = 128  # headers, or trailers
_MAX_PIPELINED = 8  # requests that wait behind the one that is being answered
_LINGER = 2.0  # seconds in which the client can still read the answer to a refused request
_NO_LINGER = struct.pack("ii", 1, 0)  # struct linger: on, 0 seconds


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 protocol with limits, and errors in the form of RFC 9457.

    A request's head must arrive in time, and is bounded in size and fields. So are the trailers and
    chunk extensions of a body, whose size and pace BodyLimits bounds. A client that reads its
    response too slowly is disconnected.
    """

    def __init__(self, connections: Connections, **options: Any) -> None:
        super().__init__(**options)
        self._connections = connections
        self._settings = connections.settings
        self.address = ""
        self._refused = False  # whether everything that still arrives is ignored
        self._refusal: AppError | None = None  # why the parser was stopped
        self._in_head = False
        self._head_size = self._head_fields = 0
        self._advanced = False  # whether the bytes being parsed completed a head or had a body
        self._unused = 0  # bytes since the parser last advanced
        self._head_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._paused_at = 0.0  # loop time at which the client stopped keeping up
        self._time_left = 0.0  # seconds for which the client may still not keep up

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.address = self.client[0] if self.client else ""
        transport.set_write_buffer_limits(high=0)  # every byte that is not sent counts as a pause
        self._time_left = self._settings.response_timeout
        self._expect_head()
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        self._stop_head_timer()
        self._stop_write_timer()
        self._connections.remove(self)

    # Reading

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        self._advanced = False
        super().data_received(data)
        self._unused = 0 if self._advanced else self._unused + len(data)
        if self._refused or self.transport.is_closing():
            return
        if self._unused > MAX_HEAD:
            self._refusal = _head_too_large()
            self.send_400_response("")
        elif self._is_waiting():
            self._expect_head()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True
        self._head_size = self._head_fields = 0

    def on_url(self, url: bytes) -> None:
        self._count_head(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_fields += 1
        self._count_head(len(name) + len(value) + 4)
        if self._in_head:  # otherwise it is a trailer, which must not change the request
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if len(self.pipeline) >= _MAX_PIPELINED:
            raise MalformedRequest("malformed-request", "Too many requests are pipelined.")
        super().on_headers_complete()
        self._advanced, self._in_head = True, False
        self._head_size = self._head_fields = 0
        self._stop_head_timer()
        self._connections.mark_busy(self)

    def on_body(self, body: bytes) -> None:
        self._advanced = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._advanced = True
        super().on_message_complete()

    def _count_head(self, more: int) -> None:
        self._head_size += more
        if self._head_size > MAX_HEAD or self._head_fields > MAX_FIELDS:
            self._refusal = _head_too_large()
            raise self._refusal

    def send_400_response(self, msg: str) -> None:
        """Refuse what the parser cannot accept, after the answers to the requests before it."""
        self._refused = True
        self._stop_head_timer()
        detail = "This is not a valid HTTP/1.1 request. Send one that follows RFC 9112."
        error = self._refusal or MalformedRequest("malformed-request", detail)
        answering = self.cycle is not None and not self.cycle.response_complete
        if not answering:
            self._answer(error)
        elif self._in_head:
            self.cycle.keep_alive = False  # the last of the requests before it
        elif self.pipeline or self.cycle.response_started:
            self.transport.close()
        else:
            self._answer(error)

    def _answer(self, error: AppError) -> None:
        """Send an error and end the connection.

        What arrives meanwhile is ignored; with unread bytes the kernel would reset the connection,
        and the client might never see the answer.
        """
        self._refused = True
        response = problem_of(error).response(uuid4().hex)
        headers = [*self.server_state.default_headers, *response.raw_headers]
        lines = [b"%s: %s\r\n" % header for header in [*headers, (b"connection", b"close")]]
        head = [STATUS_LINE[response.status_code], *lines, b"\r\n"]
        self.transport.write(b"".join([*head, bytes(response.body)]))
        self.transport.write_eof()
        self._connections.mark_waiting(self)
        self._head_timer = self.loop.call_later(_LINGER, self.transport.abort)
        if self.cycle is not None:  # it waits for a body that never comes
            self.cycle.disconnected = True
            self.cycle.message_event.set()

    # Waiting

    def _is_waiting(self) -> bool:
        """Whether no request is being received or answered, apart from ignored bytes of a body."""
        return (self.cycle is None or self.cycle.response_complete) and not self.pipeline

    def _expect_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(
                self._settings.head_timeout, self._give_up_waiting
            )

    def _give_up_waiting(self) -> None:
        self._stop_head_timer()
        if self.transport.is_closing():
            return
        if self._in_head:
            detail = "The head of the request arrived too slowly. Send the request again."
            self._answer(TooSlow("request-too-slow", detail))
        else:
            self.transport.close()

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    # Writing

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._is_waiting():
            self.cycle.body.clear()  # nobody reads what is left of it
            self._time_left = self._settings.response_timeout
            self._connections.mark_waiting(self)

    def pause_writing(self) -> None:
        """Called as soon as the kernel does not take all bytes at once."""
        super().pause_writing()
        needed = self.transport.get_write_buffer_size() / self._settings.response_min_rate
        self._time_left = min(self._time_left, self._settings.response_timeout) + needed
        self._paused_at = self.loop.time()
        self._connections.mark_waiting(self)
        self._write_timer = self.loop.call_later(self._time_left, self._disconnect_slow_reader)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_write_timer()
        self._time_left = max(0.0, self._time_left - (self.loop.time() - self._paused_at))
        if not self._is_waiting():
            self._connections.mark_busy(self)

    def _disconnect_slow_reader(self) -> None:
        log.info("a client that reads too slowly is disconnected", client=self.address)
        self.reset()

    def reset(self) -> None:
        """Close the connection at once, and let the kernel drop what the client has not taken."""
        end = self.transport.get_extra_info("socket")
        if end is not None:
            with suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self.transport.abort()

    def _stop_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None


def _head_too_large() -> HeadTooLarge:
    detail = (
        f"The request line and the headers, or the trailers, may have {MAX_HEAD // 1024} KiB and"
        f" {MAX_FIELDS} fields. Send less in them."
    )
    return HeadTooLarge("head-too-large", detail)
