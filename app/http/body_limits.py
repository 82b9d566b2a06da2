"""What a request may cost: body size and pace, requests and bytes held at a time, parts of a form."""

from __future__ import annotations

import asyncio
import time

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import AppError, BodyTooSlow, TooLarge, Unavailable
from app.http.problems import problem_response
from app.settings import MIB, Settings

_METHODS_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
_MAX_PLAIN_BYTES = 256 * 1024


class BodyLimits:
    """ASGI: 413 for a body over the cap, declared or not; 408 for one that dribbles; 503 when too much is under way."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._settings = settings
        self._requests = 0
        self._held = 0  # bytes of bodies under way

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] not in _METHODS_WITH_BODY:
            await self._app(scope, receive, send)
            return
        body = _Body(self, receive, send, self.most_bytes(scope))
        self._requests += 1
        try:
            self._admit(scope)
            await self._app(scope, body.receive, body.send)
        except AppError as error:
            body.refused = body.refused or error
        except Exception:
            if body.refused is None:
                raise
        finally:
            self._requests -= 1
            self._held -= body.size
        if body.refused is not None and not body.answered:
            body.refused.headers["Connection"] = "close"
            await problem_response(body.refused, scope.get("request_id", ""))(scope, receive, send)

    def _admit(self, scope: Scope) -> None:
        settings = self._settings
        if self._requests > settings.max_requests:
            raise Unavailable(
                "too-busy", f"{settings.max_requests} requests are under way. Try again."
            )
        declared = Headers(scope=scope).get("content-length", "0")
        if declared.isdigit():
            # a smaller bound is left to the bytes that are read: a route that wants a form refuses other types before, with 415
            self._check_size(int(declared), self._held + int(declared), settings.max_request_bytes)

    def most_bytes(self, scope: Scope) -> int:
        """A form is spooled and may be large; anything else is read into memory and parsed whole."""
        is_form = (
            Headers(scope=scope).get("content-type", "").lower().startswith("multipart/form-data")
        )
        return self._settings.max_request_bytes if is_form else _MAX_PLAIN_BYTES

    def _check_size(self, size: int, held: int, most: int) -> None:
        settings = self._settings
        if size > most:
            raise TooLarge(
                "body-too-large",
                f"The body is over the limit of {most / MIB:g} MiB. Send less at a time.",
            )
        if held > settings.max_spool_bytes:
            raise Unavailable(
                "too-busy", "Too many bytes are being uploaded at this moment. Try again."
            )

    def count(self, body: _Body, more: int) -> None:
        body.size += more
        self._held += more
        self._check_size(body.size, self._held, body.most)

    def deadline(self, body: _Body) -> float:
        return body.started + self._settings.body_timeout + body.size / self._settings.body_min_rate


class _Body:
    """One request's body. Once refused, whatever the application answers is replaced by the refusal."""

    def __init__(self, limits: BodyLimits, receive: Receive, send: Send, most: int) -> None:
        self._limits = limits
        self._receive = receive
        self._send = send
        self.most = most  # bytes
        self.started = time.monotonic()
        self.size = 0
        self.complete = False
        self.refused: AppError | None = None
        self.answered = False

    async def receive(self) -> Message:
        if self.complete:
            return await self._receive()
        try:
            async with asyncio.timeout(max(0.0, self._limits.deadline(self) - time.monotonic())):
                message = await self._receive()
        except TimeoutError:
            self.refused = BodyTooSlow(
                "body-too-slow", "The body came too slowly and was given up. Send it again."
            )
            raise self.refused from None
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
