"""The HTTP client of the command line.

It believes nothing that a service answers: every answer is bounded in size and checked against the
schema of the API, and paths are made here.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote
from uuid import UUID

import httpx

from app.cli import answers
from app.cli.console import err
from app.cli.service_errors import (
    EveryFileFailed,
    HopelessError,
    ServiceError,
    adapter,
    is_worth_a_retry,
    parse_failure,
)

_ERROR_NUMBER = re.compile(r"^\[Errno -?\d+\] ")
_TIMEOUT = httpx.Timeout(120.0, connect=5.0)
_ENCODER_TIMEOUT = httpx.Timeout(600.0, connect=5.0)  # a bundle is tried for up to 5 minutes
_MAX_ANSWER = 256 * 1024 * 1024  # bytes of JSON; a page of masters with long attributes
_MAX_ENCODER = 8 << 30  # bytes of weights or of a bundle
_MAX_OVERLAY = 16 << 20  # bytes of a PNG
_MAX_LINE = 1024 * 1024  # characters of a line of a stream
ATTEMPTS = 7
_DECISIONS = "/duplicates/decisions"
_FIRST_BACKOFF = 0.5  # seconds
_LONGEST_WAIT = 10.0  # seconds
_File = tuple[str, str, IO[bytes]]  # the field of the form, the file's name, its content


class Backoff:
    """The pauses between attempts. Each is twice as long as the one before."""

    def __init__(self, stopping: threading.Event) -> None:
        self._stopping = stopping
        self._pause = _FIRST_BACKOFF

    def wait(self, at_least: float = 0.0) -> bool:
        """Wait for the next pause. Returns False as soon as ``stopping`` is set."""
        pause = min(max(self._pause, at_least), _LONGEST_WAIT)
        self._pause = 2 * pause
        return not self._stopping.wait(pause)


class Client:
    """A thread-safe client of one service. Its methods raise ServiceError.

    Entering it checks that a service answers. Calls are safe to repeat, so they are retried on 503
    and on broken connections, after the time in Retry-After; setting ``stopping`` ends all waiting.
    """

    def __init__(self, url: str, api_key: str = "") -> None:
        self.url = url.rstrip("/")
        self.stopping = threading.Event()
        self._announced = False
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        limits = httpx.Limits(max_connections=64, max_keepalive_connections=64)
        self._http = httpx.Client(
            base_url=self.url,
            headers=headers,
            timeout=_TIMEOUT,
            limits=limits,
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

    def upload(
        self, files: Sequence[tuple[str, IO[bytes]]], fields: dict[str, str]
    ) -> list[dict[str, Any]]:
        """Upload images with their names in one request, and return the result of each, in order.

        The result of a file that failed has an ``error``. A single one that fails raises it.
        """
        parts = [("file", name, content) for name, content in files]
        try:
            answer = self._call(
                "POST", "/masters", answers.UploadResults, files=parts, fields=fields
            )
            results: list[dict[str, Any]] = answer["results"]
        except EveryFileFailed as failure:
            if is_worth_a_retry(failure):  # it was retried already
                raise
            results = failure.results
        if len(results) != len(files):
            raise self._unexpected_answer()
        return results

    def search(self, query: dict[str, Any], files: Mapping[str, Path]) -> dict[str, Any]:
        """Search with a query and the image files that its examples name; return the answer."""
        with ExitStack() as opened:
            parts = [
                (name, path.name, opened.enter_context(path.open("rb")))
                for name, path in files.items()
            ]
            answer: dict[str, Any] = self._call(
                "POST",
                "/search",
                answers.SearchAnswer,
                files=parts,
                fields={"query": json.dumps(query)},
            )
        return answer

    def explain(self, sample: Path, fields: dict[str, str]) -> dict[str, Any]:
        """Return which places of a sample and a master make them alike."""
        with sample.open("rb") as file:
            answer: dict[str, Any] = self._call(
                "POST",
                "/explain",
                answers.Explanation,
                files=[("sample", sample.name, file)],
                fields=fields,
            )
        return answer

    def draw_explanation(self, sample: Path, fields: dict[str, str], output: IO[bytes]) -> None:
        """Write a PNG of both images, coloured by what makes them alike."""
        with sample.open("rb") as file:
            self._call(
                "POST",
                "/explain",
                files=[("sample", sample.name, file)],
                fields=fields | {"overlay": "both"},
                output=output,
                max_bytes=_MAX_OVERLAY,
            )

    def masters(
        self, collection: str, filter: str = "", sort: str = "", page: int = 500
    ) -> Iterator[tuple[dict[str, Any], int]]:
        """Yield each master that matches, in order, with the total number of them."""
        given = {"collection": collection, "limit": str(page), "filter": filter, "sort": sort}
        cursor = ""
        while cursor is not None:
            params = {name: value for name, value in given.items() if value}
            params |= {"cursor": cursor} if cursor else {}
            answer = self._call("GET", "/masters", answers.MasterPage, params=params)
            for master in answer["masters"]:
                yield master, answer["total"]
            cursor = answer["next_cursor"]

    def content(self, master: dict[str, Any], output: IO[bytes]) -> None:
        """Write the original bytes of a master, which may be in an object store elsewhere."""
        path = f"/masters/{UUID(master['id'])}/content"
        self._call("GET", path, output=output, max_bytes=master["size"])

    def dead_letters(self, limit: int) -> dict[str, Any]:
        """Return the first ``limit`` dead letters and their total."""
        answer: dict[str, Any] = self._call(
            "GET", "/admin/dead-letters", answers.DeadLetters, params={"limit": str(limit)}
        )
        return answer

    def retry_dead_letters(self) -> int:
        """Retry all dead letters and return their number."""
        return int(self._call("POST", "/admin/dead-letters/retry", answers.Revived)["revived"])

    def stats(self) -> dict[str, Any]:
        """Return numbers of the installation."""
        answer: dict[str, Any] = self._call("GET", "/stats", answers.Stats)
        return answer

    def reread_captures(self) -> int:
        """Let the service read all files again, and return how many."""
        return int(self._call("POST", "/admin/capture/reread", answers.Reread)["unread"])

    def models(self) -> dict[str, Any]:
        """Return the model versions and their progress."""
        answer: dict[str, Any] = self._call("GET", "/admin/models", answers.ModelList)
        return answer

    def add_encoder(self, path: Path) -> str:
        """Upload weights or a bundle and return its model version."""
        with path.open("rb") as file:
            return str(
                self._call(
                    "POST",
                    "/admin/models",
                    answers.AddedModel,
                    files=[("weights", path.name, file)],
                    timeout=_ENCODER_TIMEOUT,
                )["version"]
            )

    def download_encoder(self, version: str, output: IO[bytes]) -> None:
        """Write the file of a model version."""
        path = f"/admin/models/{version}/encoder"
        self._call("GET", path, output=output, max_bytes=_MAX_ENCODER)

    def collections(self) -> list[dict[str, Any]]:
        """Return the collections and the numbers of their masters."""
        answer = self._call("GET", "/collections", answers.CollectionList)
        found: list[dict[str, Any]] = answer["collections"]
        return found

    def spaces(self) -> list[dict[str, Any]]:
        """Return the spaces."""
        spaces: list[dict[str, Any]] = self._call("GET", "/spaces", answers.SpaceList)["spaces"]
        return spaces

    def start_model(self, version: str, space: str) -> None:
        """Begin to build a model version for a space."""
        self._call("POST", f"/admin/models/{version}/start", params={"space": space}, attempts=1)

    def retire_model(self, version: str) -> None:
        """Remove a model version."""
        self._call("POST", f"/admin/models/{version}/retire", attempts=1)

    def activate_model(self, version: str) -> Iterator[dict[str, Any]]:
        """Switch to a model version and yield the events; the last one has the key ``active``."""
        path = f"/admin/models/{version}/activate"
        return self._events("POST", path, answers.ActivationEvent)

    def scrub(self, options: dict[str, bool]) -> Iterator[dict[str, Any]]:
        """Run a scrub and yield the events; the last one has the key ``report``."""
        return self._events("POST", "/admin/scrub", answers.ScrubEvent, json=options)

    def count_changes(self, change: dict[str, Any]) -> int:
        """Return the number of masters that a change by filter would be about."""
        request = {"json": change | {"dry_run": True}}
        return self._count_matching("PATCH", request)

    def count_deletions(self, params: dict[str, str]) -> int:
        """Return the number of masters that a deletion by filter would delete."""
        return self._count_matching("DELETE", {"params": params | {"dry_run": "true"}})

    def _count_matching(self, method: str, request: dict[str, Any]) -> int:
        (counted,) = self._events(method, "/masters", answers.MatchCount, **request)
        return int(counted["matched"])

    def change_masters(self, change: dict[str, Any], number: int) -> Iterator[dict[str, Any]]:
        """Change masters by a filter and yield the events; the last one has the result."""
        body = change | {"confirm": number}
        return self._events("PATCH", "/masters", answers.ChangeEvent, json=body)

    def delete_masters(self, params: dict[str, str], number: int) -> Iterator[dict[str, Any]]:
        """Delete masters by a filter and yield the events; the last one has the result."""
        confirmed = params | {"confirm": str(number)}
        return self._events("DELETE", "/masters", answers.ChangeEvent, params=confirmed)

    def deletions(self, collection: str = "") -> list[dict[str, Any]]:
        """Return the deletions that can be undone, the newest first."""
        params = {"collection": collection} if collection else {}
        answer = self._call("GET", "/deletions", answers.DeletionList, params=params)
        return list(answer["deletions"])

    def undo_deletion(self, deletion_id: UUID) -> Iterator[dict[str, Any]]:
        """Undo a deletion and yield the events; the last one has the result."""
        return self._events("POST", f"/deletions/{deletion_id}/undo", answers.UndoEvent)

    def start_duplicate_scan(self, collection: str, wanted: dict[str, Any]) -> dict[str, Any]:
        """Start to look for duplicates, and return how far the scan is."""
        path = _duplicates_path(collection)
        answer: dict[str, Any] = self._call("POST", path, answers.DuplicateScan, json=wanted)
        return answer

    def duplicate_pages(self, collection: str, params: dict[str, str]) -> Iterator[dict[str, Any]]:
        """Yield pages of groups of duplicates, each with how far the scan is."""
        return self._pages(_duplicates_path(collection), answers.DuplicatePage, params)

    def preview_resolving(self, collection: str, wanted: dict[str, Any]) -> dict[str, Any]:
        """Return what resolving groups of duplicates would do."""
        path, body = f"{_duplicates_path(collection)}/resolve", wanted | {"dry_run": True}
        answer: dict[str, Any] = self._call("POST", path, answers.ResolvePreview, json=body)
        return answer

    def resolve_duplicates(
        self, collection: str, wanted: dict[str, Any], number: int
    ) -> Iterator[dict[str, Any]]:
        """Resolve groups and yield the events; the last one has the result."""
        path, body = f"{_duplicates_path(collection)}/resolve", wanted | {"confirm": number}
        return self._events("POST", path, answers.ResolveEvent, json=body)

    def end_duplicate_scan(self, collection: str, params: dict[str, str]) -> None:
        """End the search for duplicates."""
        self._call("DELETE", _duplicates_path(collection), params=params)

    def save_decision(self, ids: Sequence[str], decision: str) -> int:
        """Decide about every two of the masters, and return the number of pairs."""
        body = {"masters": ids, "decision": decision}
        return int(self._call("POST", _DECISIONS, answers.Decided, json=body)["pairs"])

    def withdraw_decision(self, ids: Sequence[str]) -> int:
        """Remove what was decided about every two of the masters; return the number of pairs."""
        body = {"masters": ids}
        return int(self._call("DELETE", _DECISIONS, answers.Decided, json=body)["pairs"])

    def decisions(self, collection: str, page: int) -> Iterator[dict[str, Any]]:
        """Yield each decision about masters of a collection."""
        params = {"collection": collection, "limit": str(page)}
        for each in self._pages(_DECISIONS, answers.DecisionPage, params):
            yield from each["decisions"]

    def _pages(self, path: str, form: type, params: dict[str, str]) -> Iterator[dict[str, Any]]:
        """Yield the pages of a list."""
        cursor: str | None = ""
        while cursor is not None:
            more = {"cursor": cursor} if cursor else {}
            page = self._call("GET", path, form, params=params | more)
            yield page
            cursor = page["next_cursor"]

    def _events(
        self, method: str, path: str, form: type, **request: Any
    ) -> Iterator[dict[str, Any]]:
        try:
            with self._http.stream(method, path, **request) as response:
                if not response.is_success:
                    raise self._problem(response, self._read(response))
                for line in _bounded_lines(response):
                    event = self._parsed(line, form)
                    if "error" in event:
                        raise ServiceError(event["error"]["detail"], event["error"]["code"])
                    yield event
        except ValueError:
            raise self._unexpected_answer() from None
        except httpx.HTTPError as error:
            raise self._unreachable(error) from None

    def _call(
        self,
        method: str,
        path: str,
        form: type | None = None,
        *,
        files: Sequence[_File] = (),
        fields: dict[str, str] | None = None,
        params: dict[str, str] | None = None,
        json: object = None,
        output: IO[bytes] | None = None,
        max_bytes: int = _MAX_ANSWER,
        attempts: int = ATTEMPTS,
        timeout: httpx.Timeout = _TIMEOUT,
    ) -> Any:
        """Send a request, retrying on 503 and broken connections, and return the checked answer.

        Written by hand because stamina sleeps with ``time.sleep``, which ``stopping`` cannot end.
        """
        backoff = Backoff(self.stopping)
        for attempt in range(1, attempts + 1):
            wait = 0.0
            try:
                response, body = self._send(
                    method, path, files, fields, params, json, output, max_bytes, timeout
                )
            except httpx.HTTPError as error:
                if attempt == attempts or isinstance(error, httpx.UnsupportedProtocol):
                    raise self._unreachable(error) from None
            else:
                if response.is_success:
                    return None if form is None else self._parsed(body, form)
                failure = self._problem(response, body)
                if not is_worth_a_retry(failure) or attempt == attempts:
                    raise failure
                wait = _retry_after(response)
                self.announce_retries(str(failure))
            if not backoff.wait(wait):
                raise ServiceError("stopped", "stopped")
        raise AssertionError("the last attempt returns or raises")

    def _send(
        self,
        method: str,
        path: str,
        files: Sequence[_File],
        fields: dict[str, str] | None,
        params: dict[str, str] | None,
        json: object,
        output: IO[bytes] | None,
        max_bytes: int,
        timeout: httpx.Timeout,
    ) -> tuple[httpx.Response, bytes]:
        """Send one request; return the response with its body.

        The body of a successful response goes to ``output`` instead, if that is given.
        """
        with self._http.stream(
            method,
            path,
            params=params,
            json=json,
            data=fields,
            files=_rewound(files),
            timeout=timeout,
            follow_redirects=output is not None,
        ) as response:
            if not response.is_success or output is None:
                return response, self._read(response)
            output.seek(0)
            output.truncate()
            for chunk in response.iter_bytes():
                if output.tell() + len(chunk) > max_bytes:
                    raise ServiceError(
                        "the service sent more bytes than it had announced", "wrong-bytes"
                    )
                output.write(chunk)
        return response, b""

    def _read(self, response: httpx.Response) -> bytes:
        """Return the body of a response. Raises ServiceError if it is too long."""
        body = bytearray()
        for chunk in response.iter_bytes():
            body += chunk
            if len(body) > _MAX_ANSWER:
                raise self._unexpected_answer()
        return bytes(body)

    def announce_retries(self, reason: str) -> None:
        """Print once why the command waits."""
        if not self._announced:
            self._announced = True
            err.print(f"{reason} Retrying for a while; press Ctrl-C to stop.")

    def _parsed(self, body: bytes | str, form: type) -> Any:
        """Return the JSON of an answer as it was sent, once it is known to have this form."""
        try:
            adapter(form).validate_json(body, strict=True)
            return json.loads(body)
        except (ValueError, RecursionError):  # pydantic's ValidationError is a ValueError
            raise self._unexpected_answer() from None

    def _unexpected_answer(self) -> ServiceError:
        return HopelessError(
            f"the server at {self.url} is not a Lookalike service of this version: check --url",
            "unexpected-answer",
        )

    def _problem(self, response: httpx.Response, body: bytes) -> ServiceError:
        """Return the error that a response carries."""
        if response.is_redirect:
            target = response.headers.get("location", "")[:200]
            detail = f"the server at {self.url} redirects to {target}: name that address with --url"
            return HopelessError(detail, "redirected")
        return parse_failure(body, response.status_code)

    def _unreachable(self, error: httpx.HTTPError) -> ServiceError:
        if isinstance(error, httpx.UnsupportedProtocol):
            return HopelessError(
                f"'{self.url}' is not a valid address: write it like http://127.0.0.1:8000",
                "unreachable",
            )
        reason = _ERROR_NUMBER.sub("", str(error)) or type(error).__name__
        return HopelessError(
            f"{self.url} does not answer ({reason}). Start the service with `lookalike serve`,"
            " or name another address with --url.",
            "unreachable",
        )


def _duplicates_path(collection: str) -> str:
    return f"/collections/{quote(collection, safe='')}/duplicates"


def _rewound(files: Sequence[_File]) -> list[tuple[str, tuple[str, IO[bytes]]]] | None:
    """Rewind the files, and return them in the form that httpx expects."""
    if not files:
        return None
    for _, _, content in files:
        content.seek(0)
    # Linux allows file names that are not UTF-8
    return [
        (part, (name.encode(errors="replace").decode(), content)) for part, name, content in files
    ]


def _retry_after(response: httpx.Response) -> float:
    """Return the seconds of the header Retry-After; 0 if it is missing or no number."""
    value = response.headers.get("retry-after", "")
    return float(value) if value.isdecimal() and len(value) < 9 else 0.0


def _bounded_lines(response: httpx.Response) -> Iterator[str]:
    """Yield the lines of a stream. Raises ValueError if one of them does not end."""
    rest = ""
    for text in response.iter_text():
        *lines, rest = (rest + text).split("\n")
        if len(rest) > _MAX_LINE:
            raise ValueError("the line is too long")
        yield from filter(None, lines)
    if rest:
        yield rest
