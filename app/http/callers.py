"""Notices that a client has closed its connection, so that its work is dropped before it starts."""

from __future__ import annotations

import asyncio

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.services.vision import current_caller
from models.decoding.turns import Caller

_WITHOUT_BODY = frozenset({"GET", "HEAD", "OPTIONS"})


class Callers:
    """ASGI middleware that gives each request a ``Caller``, and tells it when the client leaves."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        client = scope.get("client")
        caller = Caller(client[0] if client else "")
        watched = _WatchedReceive(receive, caller)
        if not _may_have_body(scope):
            watched.start()
        token = current_caller.set(caller)
        try:
            await self._app(scope, watched, send)
        finally:
            current_caller.reset(token)
            watched.stop()


def _may_have_body(scope: Scope) -> bool:
    """Return whether a handler may read a body; of some methods none does, whatever is sent."""
    if scope["method"] == "DELETE":
        headers = Headers(scope=scope)
        return headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
    return scope["method"] not in _WITHOUT_BODY


class _WatchedReceive:
    """Passes messages on, and waits for the disconnection once the body is complete.

    It never reads a body ahead of the application, so the client is slowed down as before.
    """

    def __init__(self, receive: Receive, caller: Caller) -> None:
        self._receive = receive
        self._caller = caller
        self._messages: asyncio.Queue[Message] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None

    async def __call__(self) -> Message:
        if self._task is not None:
            message = await self._messages.get()
            if message["type"] == "http.disconnect":
                self._messages.put_nowait(message)  # every later call is told the same
            return message
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self._caller.leave()
        elif not message.get("more_body", False):
            self.start()
        return message

    def start(self) -> None:
        """Receive in the background from now on, and drop a body that nobody asked for."""
        self._task = asyncio.create_task(self._watch())

    def stop(self) -> None:
        """End the background task."""
        if self._task is not None:
            self._task.cancel()

    async def _watch(self) -> None:
        message = await self._receive()
        while message["type"] != "http.disconnect":
            if not message.get("more_body", False):
                self._messages.put_nowait({"type": "http.request", "body": b"", "more_body": False})
            message = await self._receive()
        self._caller.leave()
        self._messages.put_nowait(message)
