"""The HTTP client of the command line."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import httpx
from rich.console import Console

_TIMEOUT = httpx.Timeout(120.0, connect=5.0)
_ATTEMPTS = 7
_LASTING = {"object-missing", "object-damaged"}  # 503s that no waiting mends
_LONGEST_WAIT = 10.0  # seconds


class ServiceError(Exception):
    """The service refused or does not answer; the message is the one to show. ``code`` is the problem's, if there is one."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


class HopelessError(ServiceError):
    """What fails now fails for every file: no service, no key, a collection that cannot be."""


_HOPELESS = ("unreachable", "unauthorized", "forbidden", "invalid-collection-name", "wrong-host")


class Client:
    """Thread-safe. Waits and tries again on 503 and on a broken connection: every call here may be repeated.

    Entering it looks whether a service answers there at all, and raises ServiceError if not. ``stopping`` ends all waiting.
    """

    def __init__(self, url: str, api_key: str = "") -> None:
        self.url = url.rstrip("/")
        self.stopping = threading.Event()
        self._said = False
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        limits = httpx.Limits(max_connections=64, max_keepalive_connections=64)
        self._http = httpx.Client(
            base_url=self.url,
            headers=headers,
            timeout=_TIMEOUT,
            limits=limits,
            follow_redirects=True,
        )

    def __enter__(self) -> Client:
        try:
            self._call("GET", "/livez", attempts=1)
        except ServiceError:
            self._http.close()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self._http.close()

    def upload(self, file: IO[bytes], name: str, fields: dict[str, str]) -> dict[str, Any]:
        """The result of one upload; raises ServiceError."""
        answer: dict[str, Any] = self._call(
            "POST", "/masters", file=("file", name, file), fields=fields
        )["results"][0]
        return answer

    def search(self, image: Path, fields: dict[str, str]) -> dict[str, Any]:
        with image.open("rb") as file:
            answer: dict[str, Any] = self._call(
                "POST", "/search", file=("sample", image.name, file), fields=fields
            )
        return answer

    def masters(self, collection: str) -> Iterator[tuple[dict[str, Any], int]]:
        """Each master of a collection, with the total."""
        cursor = ""
        while cursor is not None:
            params = {"collection": collection, "limit": "500"} | (
                {"cursor": cursor} if cursor else {}
            )
            page = self._call("GET", "/masters", params=params)
            for master in page["masters"]:
                yield master, page["total"]
            cursor = page["next_cursor"]

    def content(self, master: dict[str, Any], output: IO[bytes]) -> None:
        """Write the original bytes of a master."""
        self._call("GET", master["links"]["content"], output=output)

    def dead_letters(self, limit: int) -> dict[str, Any]:
        answer: dict[str, Any] = self._call(
            "GET", "/admin/dead-letters", params={"limit": str(limit)}
        )
        return answer

    def retry_dead_letters(self) -> int:
        """How many are tried again."""
        return int(self._call("POST", "/admin/dead-letters/retry")["revived"])

    def models(self) -> dict[str, Any]:
        """The model versions and how far they are."""
        answer: dict[str, Any] = self._call("GET", "/admin/models")
        return answer

    def add_weights(self, path: Path) -> str:
        """Upload weights; their model version."""
        with path.open("rb") as file:
            return str(
                self._call("POST", "/admin/models", file=("weights", path.name, file))["version"]
            )

    def change_model(self, version: str, change: str) -> None:
        """``change``: start or retire."""
        self._call("POST", f"/admin/models/{version}/{change}", attempts=1)

    def activate_model(self, version: str) -> Iterator[dict[str, Any]]:
        """What the service says of the switch; the last has `active`. Raises ServiceError."""
        return self._events(f"/admin/models/{version}/activate", None)

    def scrub(self, options: dict[str, bool]) -> Iterator[dict[str, Any]]:
        """What the service says of a scrub while it runs; the last has the report. Raises ServiceError."""
        return self._events("/admin/scrub", options)

    def _events(self, path: str, body: object) -> Iterator[dict[str, Any]]:
        try:
            with self._http.stream("POST", path, json=body) as response:
                if not response.is_success:
                    response.read()
                    raise _problem(response)
                for line in response.iter_lines():
                    said = json.loads(line)
                    if "error" in said:
                        raise ServiceError(said["error"]["detail"], said["error"]["code"])
                    yield said
        except httpx.HTTPError as error:
            raise self._unreachable(error) from None

    def _call(
        self,
        method: str,
        path: str,
        *,
        file: tuple[str, str, IO[bytes]] | None = None,
        fields: dict[str, str] | None = None,
        params: dict[str, str] | None = None,
        output: IO[bytes] | None = None,
        attempts: int = _ATTEMPTS,
    ) -> Any:
        pause = 0.5
        for attempt in range(1, attempts + 1):
            try:
                with self._http.stream(
                    method, path, params=params, data=fields, files=_rewound(file)
                ) as response:
                    if response.is_success and output is not None:
                        output.seek(0)
                        output.truncate()
                        for chunk in response.iter_bytes():
                            output.write(chunk)
                        return None
                    response.read()
                if response.is_success:
                    return self._parsed(response)
                failure = _problem(response)
                if response.status_code != 503 or failure.code in _LASTING or attempt == attempts:
                    raise failure
                pause = max(pause, float(response.headers.get("retry-after", "0")))
                self._say_once(str(failure))
            except httpx.HTTPError as error:
                if attempt == attempts or isinstance(error, httpx.UnsupportedProtocol):
                    raise self._unreachable(error) from None
            if self.stopping.wait(min(pause, _LONGEST_WAIT)):
                raise ServiceError("stopped", "stopped")
            pause *= 2
        raise AssertionError("the last attempt returns or raises")

    def _say_once(self, reason: str) -> None:
        if not self._said:
            self._said = True
            Console(stderr=True).print(
                f"{reason} Trying again for a while; Ctrl-C stops.", markup=False, highlight=False
            )

    def _parsed(self, response: httpx.Response) -> Any:
        if not response.headers.get("content-type", "").startswith("application/json"):
            return None
        try:
            return response.json()
        except ValueError:
            raise HopelessError(
                f"what answers at {self.url} is not this service", "unreachable"
            ) from None

    def _unreachable(self, error: httpx.HTTPError) -> ServiceError:
        if isinstance(error, httpx.UnsupportedProtocol):
            return HopelessError(
                f"{self.url!r} is no address of a service; write it like http://127.0.0.1:8000",
                "unreachable",
            )
        reason = str(error) or type(error).__name__
        return HopelessError(
            f"{self.url} does not answer ({reason}). Is the service running there? Start it with `lookalike serve`,"
            " or name another address with --url.",
            "unreachable",
        )


def _rewound(file: tuple[str, str, IO[bytes]] | None) -> dict[str, tuple[str, IO[bytes]]] | None:
    if file is None:
        return None
    part, name, content = file
    content.seek(0)
    return {part: (name, content)}


def _problem(response: httpx.Response) -> ServiceError:
    try:
        body = response.json()
        code, detail = body["code"], body["detail"]
        if code == "unauthorized":
            detail = "The service wants a valid API key: pass --api-key or set LOOKALIKE_API_KEY."
        return (HopelessError if code in _HOPELESS else ServiceError)(detail, code)
    except (ValueError, KeyError, TypeError):
        return ServiceError(
            f"status {response.status_code}: {response.text[:200]}", f"http-{response.status_code}"
        )
