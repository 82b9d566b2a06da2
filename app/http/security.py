"""Who may do what: API keys with scopes, checked before the first body byte; Host and Origin rules."""

from __future__ import annotations

import hmac
import ipaddress
import re
from collections.abc import Callable
from enum import IntEnum
from typing import Any, TypeVar
from urllib.parse import urlsplit

from fastapi.routing import APIRoute
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from app.errors import AppError, Forbidden, Unauthorized, WrongHost
from app.http.problems import problem_response
from app.settings import Settings

_KEY = re.compile(r"[!-+\--~]{8,}")
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^:\[\]/@]+)(?::\d*)?")
_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_Endpoint = TypeVar("_Endpoint", bound=Callable[..., Any])


class Access(IntEnum):
    """What an endpoint asks for. Each includes those below it; PUBLIC asks for no key."""

    PUBLIC = 0
    READ = 1
    WRITE = 2
    ADMIN = 3


class InsecureSettings(Exception):
    """The service refuses to start like this; the message says what to set."""


class KeyRing:
    """The API keys of the settings. Empty: everybody may do all (the service then answers to loopback names only)."""

    def __init__(self, text: str) -> None:
        self._keys: list[tuple[bytes, Access]] = []
        for entry in filter(None, (part.strip() for part in text.split(","))):
            name, _, key = entry.partition(":")
            if name.upper() not in ("READ", "WRITE", "ADMIN") or not _KEY.fullmatch(key):
                raise InsecureSettings(
                    "LOOKALIKE_API_KEYS takes read:KEY,write:KEY,admin:KEY;"
                    " a key has at least 8 ASCII characters, no comma or space"
                )
            self._keys.append((key.encode(), Access[name.upper()]))

    def __bool__(self) -> bool:
        return bool(self._keys)

    def check(self, headers: Headers, needed: Access) -> None:
        """Raises Unauthorized or Forbidden. Compares with every key, each in constant time."""
        if not self._keys or needed is Access.PUBLIC:
            return
        scheme, _, given = headers.get("authorization", "").partition(" ")
        granted = Access.PUBLIC
        for key, access in self._keys:
            if hmac.compare_digest(key, given.strip().encode()):
                granted = max(granted, access)
        if scheme.lower() != "bearer" or granted is Access.PUBLIC:
            raise Unauthorized(
                "unauthorized",
                "Send a valid API key: Authorization: Bearer KEY.",
                headers={"WWW-Authenticate": "Bearer"},
            )
        if granted < needed:
            raise Forbidden(
                "forbidden",
                f"This needs a key with the scope {needed.name.lower()}; yours has {granted.name.lower()}.",
            )


def requires(access: Access) -> Callable[[_Endpoint], _Endpoint]:
    """States the scope of an endpoint; a route without one cannot be made."""

    def mark(endpoint: _Endpoint) -> _Endpoint:
        endpoint.access = access  # type: ignore[attr-defined]
        return endpoint

    return mark


class SecuredRoute(APIRoute):
    """A route that checks the key itself, as ASGI: FastAPI would read a multipart body before any dependency runs."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        self.access: Access = endpoint.access  # type: ignore[attr-defined]
        super().__init__(path, endpoint, **options)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        keys: KeyRing = scope["app"].state.keys
        keys.check(Headers(scope=scope), self.access)
        await super().handle(scope, receive, send)


class HostAndOrigin:
    """ASGI: refuses foreign Hosts (DNS rebinding) and, for methods that change something, foreign Origins."""

    def __init__(self, app: ASGIApp, settings: Settings, keys: KeyRing) -> None:
        self._app = app
        listed = frozenset(
            host.strip().lower() for host in settings.allowed_hosts.split(",") if host.strip()
        )
        self._hosts = listed or (None if keys else _LOOPBACK_NAMES)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                self._check(scope)
            except AppError as error:
                await problem_response(error, scope.get("request_id", ""))(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if self._hosts is not None and _without_port(host) not in self._hosts:
            raise WrongHost(
                "wrong-host",
                f"This service does not answer to the host {host[:100]!r}; see LOOKALIKE_ALLOWED_HOSTS.",
            )
        origin = headers.get("origin")
        if (
            origin is not None
            and scope["method"] not in _SAFE_METHODS
            and _host_of(origin) != host.lower()
        ):
            raise Forbidden(
                "foreign-origin", f"A page of {origin[:100]!r} may not change anything here."
            )


def _host_of(origin: str) -> str:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _without_port(host: str) -> str:
    """The name of a Host header; empty for what is none (RFC 9110, 7.2)."""
    found = _HOST.fullmatch(host.lower())
    return found.group(1) if found else ""


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_listening(settings: Settings) -> None:
    """Raises InsecureSettings for an open address without an API key."""
    if not is_loopback(settings.host) and not KeyRing(settings.api_keys.get_secret_value()):
        raise InsecureSettings(
            f"refusing to listen on {settings.host} without an API key: anybody who reaches that address could read and delete "
            "everything. Set LOOKALIKE_API_KEYS, for example to admin:$(openssl rand -hex 24), or listen on 127.0.0.1."
        )
