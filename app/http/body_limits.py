"""Bounds what request bodies may cost: their size, their pace, and how many are held at a time."""

from __future__ import annotations

import asyncio
import math
import time

from starlette.datastructures import Headers
from starlette.formparsers import MultiPartParser
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import AppError, TooLarge, Unavailable
from app.http.errors import TooSlow
from app.http.problems import problem_of
from app.settings import MIB, Settings

_ENCODERS = "/admin/models"
_BATCH = "/search/batch"
_METHODS_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
# Of a body that is not a form: it is read into memory and parsed whole.
_MAX_PLAIN_BYTES = 256 * 1024
_MAX_BATCH_BYTES = 4 * MIB  # a hundred searches, each by a vector of some thousand numbers
_IN_MEMORY = 64 * MIB  # of all bodies, before the files of further ones go to the disk
_FILE_IN_MEMORY = 256 * 1024  # bytes of a file in a body of unknown length, or without room


class BodyLimits:
    """ASGI middleware that answers 413, 408 or 503 instead of reading a body that costs too much.

    413: the body is larger than allowed, declared or not. 408: it arrives too slowly. 503: too many
    requests, or too many bytes, are under way.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._settings = settings
        self._requests = 0
        self._held = 0  # bytes of the bodies under way
        self._in_memory = 0  # bytes that they may keep in memory

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not _has_body(scope):
            await self._app(scope, receive, send)
            return
        body = _Body(self, receive, send, self.limit_for(scope))
        self._requests += 1
        try:
            self._admit(scope, body)
            await self._app(scope, body.receive, body.send)
        except AppError as error:
            body.refused = body.refused or error
        except Exception:
            if body.refused is None:
                raise
        finally:
            self._requests -= 1
            self._held -= body.size
            self._in_memory -= body.reserved or body.size
        if body.refused is not None and not body.answered:
            problem = problem_of(body.refused)
            problem.headers["Connection"] = "close"  # the rest of the body is not read
            await problem.response(scope.get("request_id", ""))(scope, receive, send)

    def _admit(self, scope: Scope, body: _Body) -> None:
        settings = self._settings
        if self._requests > settings.max_requests:
            detail = f"{settings.max_requests} requests with a body are under way. Retry later."
            raise Unavailable("too-busy", detail)
        declared = Headers(scope=scope).get("content-length", "0")
        if declared.isdigit():
            # Only the largest limit is applied to the declared size. A route that takes a form
            # answers 415 to other media types first; their smaller limit applies as they are read.
            held = self._held + int(declared)
            self._check_size(int(declared), held, self._form_limit(scope))
            self._reserve_memory(body, int(declared))

    def _reserve_memory(self, body: _Body, declared: int) -> None:
        """Let the files of a body stay in memory if there is room for all of it."""
        if self._in_memory + declared <= _IN_MEMORY:
            body.reserved = declared
            self._in_memory += declared

    def limit_for(self, scope: Scope) -> int:
        """Return the largest body in bytes. Forms go to disk and may be large, others may not."""
        media_type = Headers(scope=scope).get("content-type", "").lower()
        if media_type.startswith("multipart/form-data"):
            return self._form_limit(scope)
        return _MAX_BATCH_BYTES if scope["path"] == _BATCH else _MAX_PLAIN_BYTES

    def _form_limit(self, scope: Scope) -> int:
        is_encoder = scope["path"] == _ENCODERS
        return self._settings.max_encoder_bytes if is_encoder else self._settings.max_request_bytes

    def _check_size(self, size: int, held: int, limit: int) -> None:
        # An encoder, which only an operator can send, may be larger than what images may take.
        room = self._settings.max_spool_bytes + max(0, limit - self._settings.max_request_bytes)
        if size > limit:
            detail = (
                f"The body is larger than the limit of {limit / MIB:g} MiB. Send less at a time."
            )
            raise TooLarge("body-too-large", detail)
        if held > room:
            raise Unavailable("too-busy", "Too many bytes are being uploaded now. Retry later.")

    def count(self, body: _Body, more: int) -> None:
        """Add ``more`` received bytes. Raises TooLarge, Unavailable."""
        body.size += more
        body.time_left += more / self._settings.body_min_rate
        self._held += more
        if not body.reserved:
            self._in_memory += more
        # Starlette asks for this as it begins a file. The files of many bodies at once would take
        # all of LOOKALIKE_MAX_SPOOL_BYTES in memory if each of them was small.
        spooled = _FILE_IN_MEMORY if self._in_memory < _IN_MEMORY else 1
        MultiPartParser.spool_max_size = body.reserved or spooled
        self._check_size(body.size, self._held, body.limit)

    def time_left(self, body: _Body) -> float:
        """Return how long the next bytes may take, in seconds."""
        return min(body.time_left, self._settings.body_timeout)


def _has_body(scope: Scope) -> bool:
    headers = Headers(scope=scope)
    return (
        scope["method"] in _METHODS_WITH_BODY
        or headers.get("content-length", "0") != "0"
        or "transfer-encoding" in headers
    )


class _Body:
    """One request's body. Once it is refused, the application's answer is replaced."""

    def __init__(self, limits: BodyLimits, receive: Receive, send: Send, limit: int) -> None:
        self._limits = limits
        self._receive = receive
        self._send = send
        self.limit = limit  # bytes
        self.time_left = math.inf  # seconds
        self.size = 0
        self.reserved = 0  # bytes of memory for all of it; 0 if its files may go to the disk
        self.complete = False
        self.refused: AppError | None = None
        self.answered = False

    async def receive(self) -> Message:
        if self.complete:
            return await self._receive()
        start, time_left = time.monotonic(), self._limits.time_left(self)
        try:
            async with asyncio.timeout(time_left):
                message = await self._receive()
        except TimeoutError:
            detail = (
                "The body arrived too slowly, so the service stopped reading it. Send it again."
            )
            self.refused = TooSlow("body-too-slow", detail)
            raise self.refused from None
        self.time_left = max(0.0, time_left - (time.monotonic() - start))
        if message["type"] == "http.request":
            self.complete = not message.get("more_body", False)
            try:
                self._limits.count(self, len(message.get("body", b"")))
            except AppError as error:
                self.refused = error
                raise
        return message

    async def send(self, message: Message) -> None:
        if self.refused is None:
            self.answered = True
            await self._send(message)
