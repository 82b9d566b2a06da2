"""What a request may cost: body size and pace, requests and bytes held at a time, parts of a form."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

import python_multipart
from fastapi import Request, Response, params
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartState
from starlette import formparsers
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import AppError, BodyTooSlow, TooLarge, Unavailable, WrongMediaType, problem_response
from app.security import SecuredRoute
from app.settings import MIB, Settings

_METHODS_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
_MAX_FIELD_BYTES = 64 * 1024
_MAX_PART_HEADER_BYTES = 32 * 1024  # names of 5 kB are not rare in some scripts, percent-encoded three times that
_FORM_TYPES = ("multipart/form-data", "application/x-www-form-urlencoded")


class _RoomyMultipartParser(python_multipart.MultipartParser):
    """Takes longer part headers than 4 KiB, and no body cut short: python-multipart would, and Starlette cannot ask otherwise."""

    def __init__(self, boundary: bytes | str, callbacks: Any) -> None:
        super().__init__(boundary, callbacks, max_header_size=_MAX_PART_HEADER_BYTES)

    def finalize(self) -> None:
        if self.state != MultipartState.END:
            raise MultipartParseError("the body ends before its closing boundary")


formparsers.multipart.MultipartParser = _RoomyMultipartParser  # type: ignore[attr-defined]


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
        body = _Body(self, receive, send)
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
            raise Unavailable("too-busy", f"{settings.max_requests} requests are under way. Try again.")
        declared = Headers(scope=scope).get("content-length", "0")
        if declared.isdigit():
            self.check_size(int(declared), self._held + int(declared))

    def check_size(self, size: int, held: int) -> None:
        settings = self._settings
        if size > settings.max_request_bytes:
            raise TooLarge(
                "body-too-large", f"The body is over the limit of {settings.max_request_bytes / MIB:g} MiB. Send fewer files."
            )
        if held > settings.max_spool_bytes:
            raise Unavailable("too-busy", "Too many bytes are being uploaded at this moment. Try again.")

    def count(self, body: _Body, more: int) -> None:
        body.size += more
        self._held += more
        self.check_size(body.size, self._held)

    def deadline(self, body: _Body) -> float:
        return body.started + self._settings.body_timeout + body.size / self._settings.body_min_rate


class _Body:
    """One request's body. Once refused, whatever the application answers is replaced by the refusal."""

    def __init__(self, limits: BodyLimits, receive: Receive, send: Send) -> None:
        self._limits = limits
        self._receive = receive
        self._send = send
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
            self.refused = BodyTooSlow("body-too-slow", "The body came too slowly and was given up. Send it again.")
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


class FormRoute(SecuredRoute):
    """Where a route takes a form: refuses other media types, and caps the parts before FastAPI parses them."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def capped(request: Request) -> Response:
            if self.body_field is not None and isinstance(self.body_field.field_info, params.Form):
                media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
                if media_type not in _FORM_TYPES:
                    raise WrongMediaType("unsupported-media-type", "Send multipart/form-data, with the image as a file part.")
                settings: Settings = request.app.state.settings
                await request.form(max_files=settings.max_request_files, max_fields=100, max_part_size=_MAX_FIELD_BYTES)
            return await handler(request)

        return capped
