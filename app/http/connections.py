"""Bounds the number of connections, and configures the server with all limits on them."""

from __future__ import annotations

import resource
from collections import Counter
from functools import partial
from typing import Any
from uuid import uuid4

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from app.errors import Unavailable
from app.http.bounded_protocol import BoundedProtocol
from app.http.problems import problem_of
from app.settings import Settings

BACKLOG = 512  # connections that the kernel holds until they are accepted
_DESCRIPTORS = 1280  # for stores, spooled uploads, and connections accepted in one go
_RESERVE = 16  # connections beyond the limit; only health checks are answered on them
_HEALTH = frozenset({"/livez", "/readyz"})


class Connections:
    """The open connections of one server, and those of them that wait for their client.

    A client is waited for until it has sent the head of a request, and while it reads too slowly.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.limit = _fit_descriptors(settings.max_connections)
        self._open: set[BoundedProtocol] = set()
        self._waiting: dict[BoundedProtocol, None] = {}  # in the order in which they began to wait
        self._addresses: Counter[str] = Counter()

    def add(self, connection: BoundedProtocol) -> None:
        """Admit a new connection, or close it or another one at once.

        At the limit, the connection that has waited longest for its client makes room. So silent
        connections cannot lock others out. If none waits, the new one is for health checks only.
        """
        self._open.add(connection)
        self._waiting[connection] = None
        self._addresses[connection.address] += 1
        most = self.settings.max_connections_per_address
        if most and self._addresses[connection.address] > most:
            self._drop(connection)
        elif len(self._open) > self.limit:
            oldest = next(iter(self._waiting))
            if oldest is not connection or len(self._open) > self.limit + _RESERVE:
                self._drop(oldest)
            else:
                connection.app = _HealthOnly(connection.app)

    def remove(self, connection: BoundedProtocol) -> None:
        """Forget a connection; do nothing if it is forgotten already."""
        self._waiting.pop(connection, None)
        if connection in self._open:
            self._open.remove(connection)
            self._addresses[connection.address] -= 1
            if not self._addresses[connection.address]:
                del self._addresses[connection.address]

    def mark_waiting(self, connection: BoundedProtocol) -> None:
        if connection in self._open:
            self._waiting[connection] = None

    def mark_busy(self, connection: BoundedProtocol) -> None:
        self._waiting.pop(connection, None)

    def _drop(self, connection: BoundedProtocol) -> None:
        self.remove(connection)
        connection.reset()


class _HealthOnly:
    """ASGI app that answers health checks, and 503 to everything else."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] in _HEALTH:
            await self._app(scope, receive, send)
            return
        error = Unavailable("too-busy", "Too many connections are open. Retry later.")
        problem = problem_of(error)
        problem.headers["Connection"] = "close"
        await problem.response(uuid4().hex)(scope, receive, send)


def server_config(app: ASGIApp, settings: Settings, **options: Any) -> uvicorn.Config:
    """Return uvicorn's configuration with the limits on connections that the settings name."""
    return uvicorn.Config(
        app,
        http=partial(BoundedProtocol, Connections(settings)),  # type: ignore[arg-type]
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=settings.idle_timeout,  # type: ignore[arg-type] # a float is as good
        **options,
    )


def _fit_descriptors(wanted: int) -> int:
    """Return how many connections there may be, and raise the limit on open files if necessary.

    At least half of the descriptors, or enough of them, stay free for everything else.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + _RESERVE + _DESCRIPTORS
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY:
        return wanted
    return min(wanted, max(soft - _RESERVE - _DESCRIPTORS, soft // 2))
