"""HEAD wherever there is GET (RFC 9110, 9.1): the same answer, whose body the server leaves out."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send


class HeadAsGet:
    """ASGI. The server keeps its own scope, in which the method is still HEAD, and by it sends no body.

    ``request.state.head`` tells a handler that has to know.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "HEAD":
            scope = {**scope, "method": "GET", "state": {**scope.get("state", {}), "head": True}}
        await self._app(scope, receive, send)
