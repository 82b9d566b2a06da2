"""Answers HEAD wherever there is a GET (RFC 9110, 9.1)."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send


class HeadAsGet:
    """ASGI middleware that runs the GET handler for HEAD.

    The server has its own scope, in which the method is still HEAD, so it sends no body.
    ``request.state.head`` is true for a handler that has to know.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "HEAD":
            scope = {**scope, "method": "GET", "state": {**scope.get("state", {}), "head": True}}
        await self._app(scope, receive, send)
