"""Access control: API keys with scopes, checked before the body is read; Host and Origin rules."""

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

from app.errors import AppError
from app.http.errors import Forbidden, Unauthorized, WrongHost
from app.http.problems import problem_of
from app.settings import Settings

_KEY = re.compile(r"[!-+\--~]{8,}")
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^:\[\]/@]+)(?::\d*)?")
_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_Endpoint = TypeVar("_Endpoint", bound=Callable[..., Any])


class Access(IntEnum):
    """The scope that an endpoint needs. Each scope includes those below it; PUBLIC needs no key."""

    PUBLIC = 0
    READ = 1
    WRITE = 2
    ADMIN = 3


class InsecureSettings(Exception):
    """The service refuses to start with these settings; the message says what to set."""


class KeyRing:
    """The API keys of the settings.

    Without keys every request has all scopes, and the service answers to loopback names only.
    """

    def __init__(self, text: str) -> None:
        """Parse ``read:KEY,write:KEY,admin:KEY``. Raises InsecureSettings."""
        self._keys: list[tuple[bytes, Access]] = []
        for entry in filter(None, (part.strip() for part in text.split(","))):
            name, _, key = entry.partition(":")
            if name.upper() not in ("READ", "WRITE", "ADMIN") or not _KEY.fullmatch(key):
                raise InsecureSettings(
                    "LOOKALIKE_API_KEYS takes read:KEY,write:KEY,admin:KEY. A key has at least 8"
                    " ASCII characters and contains no comma and no space."
                )
            self._keys.append((key.encode(), Access[name.upper()]))

    def __bool__(self) -> bool:
        return bool(self._keys)

    def check(self, headers: Headers, needed: Access) -> None:
        """Check the request's key. Raises Unauthorized, Forbidden.

        The key is compared with every key of the ring, each in constant time.
        """
        if not self._keys or needed is Access.PUBLIC:
            return
        scheme, _, given = headers.get("authorization", "").partition(" ")
        granted = Access.PUBLIC
        for key, access in self._keys:
            if hmac.compare_digest(key, given.strip().encode()):
                granted = max(granted, access)
        if scheme.lower() != "bearer" or granted is Access.PUBLIC:
            detail = "Send a valid API key in the header Authorization: Bearer KEY."
            raise Unauthorized("unauthorized", detail)
        if granted < needed:
            detail = (
                f"This endpoint needs a key with the scope {needed.name.lower()};"
                f" yours has {granted.name.lower()}."
            )
            raise Forbidden("forbidden", detail)


def requires(access: Access) -> Callable[[_Endpoint], _Endpoint]:
    """Declare the scope of an endpoint. SecuredRoute refuses an endpoint that declares none."""

    def mark(endpoint: _Endpoint) -> _Endpoint:
        endpoint.access = access  # type: ignore[attr-defined]
        return endpoint

    return mark


class SecuredRoute(APIRoute):
    """A route that checks the API key before the body is read.

    It checks as an ASGI application, because FastAPI parses a form before it runs dependencies.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        self.access: Access = endpoint.access  # type: ignore[attr-defined]
        super().__init__(path, endpoint, **options)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        keys: KeyRing = scope["app"].state.keys
        keys.check(Headers(scope=scope), self.access)
        await super().handle(scope, receive, send)


class HostAndOrigin:
    """ASGI middleware that refuses unknown hosts, and changes that come from foreign origins.

    The first prevents DNS rebinding, the second cross-site request forgery.
    """

    def __init__(self, app: ASGIApp, settings: Settings, keys: KeyRing) -> None:
        self._app = app
        names = (host.strip().lower() for host in settings.allowed_hosts.split(","))
        listed = frozenset(filter(None, names))
        self._hosts = listed or (None if keys else _LOOPBACK_NAMES)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                self._check(scope)
            except AppError as error:
                response = problem_of(error).response(scope.get("request_id", ""))
                await response(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if self._hosts is not None and _without_port(host) not in self._hosts:
            detail = (
                f"This service does not answer to the host name '{host[:100]}'."
                " The setting LOOKALIKE_ALLOWED_HOSTS lists those it answers to."
            )
            raise WrongHost("wrong-host", detail)
        origin = headers.get("origin")
        changes = scope["method"] not in _SAFE_METHODS
        if origin is not None and changes and _host_of(origin) != host.lower():
            detail = f"Pages from '{origin[:100]}' may not change anything here."
            raise Forbidden("foreign-origin", detail)


def _host_of(origin: str) -> str:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _without_port(host: str) -> str:
    """Return the name in a Host header; empty if the header is malformed (RFC 9110, 7.2)."""
    match = _HOST.fullmatch(host.lower())
    return match.group(1) if match else ""


def is_loopback(host: str) -> bool:
    """Tell whether only this machine reaches the address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_listening(settings: Settings) -> None:
    """Refuse to listen beyond this machine without an API key. Raises InsecureSettings."""
    if not is_loopback(settings.host) and not KeyRing(settings.api_keys.get_secret_value()):
        raise InsecureSettings(
            f"Lookalike does not listen on {settings.host} without an API key, because anybody who"
            " reaches that address could read and delete everything. Set LOOKALIKE_API_KEYS, for"
            " example to admin:$(openssl rand -hex 24), or listen on 127.0.0.1."
        )
