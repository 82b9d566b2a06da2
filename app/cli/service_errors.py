"""The errors that a service answers with, as the command line raises them."""

from __future__ import annotations

from functools import cache
from typing import Any

from pydantic import TypeAdapter

from app.cli import answers
from app.cli.console import CommandError

_RETRIED = (429, 503)  # 429 is that of proxies
_LASTING = {"object-missing", "object-damaged"}  # 503 errors that a retry does not end
_HOPELESS = ("unreachable", "unauthorized", "forbidden", "invalid-collection-name", "wrong-host")


class ServiceError(CommandError):
    """The service refused the request or does not answer.

    ``code`` is the error code of the API, ``status`` the HTTP status or 0.
    """

    def __init__(self, message: str, code: str, status: int = 0) -> None:
        super().__init__(message)
        self.code = code
        self.status = status
        self.near_duplicates: list[dict[str, Any]] = []  # of a rejected image


class HopelessError(ServiceError):
    """No other file can succeed either: no service, no key, an invalid collection name."""


class EveryFileFailed(ServiceError):
    """The service took no file of an upload. ``results`` are those of the files, in their order."""

    def __init__(self, results: list[dict[str, Any]], status: int) -> None:
        first = results[0]["error"]
        super().__init__(first["detail"], first["code"], status)
        self.results = results


def is_worth_a_retry(error: ServiceError) -> bool:
    """Whether the service may accept the same request a little later."""
    return error.status in _RETRIED and error.code not in _LASTING


def error_of(problem: dict[str, Any], status: int) -> ServiceError:
    """Return a problem of the API as an error to raise or to report."""
    detail = problem["detail"]
    if problem["code"] == "unauthorized":
        detail = "The service requires a valid API key: pass --api-key or set LOOKALIKE_API_KEY."
    kind = HopelessError if problem["code"] in _HOPELESS else ServiceError
    error = kind(detail, problem["code"], status)
    error.near_duplicates = [
        each | {"id": str(each["id"])} for each in problem.get("near_duplicates", [])
    ]
    return error


def parse_failure(body: bytes, status: int) -> ServiceError:
    """Return the error that the body of an unsuccessful response carries."""
    try:
        return error_of(adapter(answers.Problem).validate_json(body), status)
    except ValueError:  # pydantic's ValidationError is one
        pass
    try:
        failed = adapter(answers.FailedUploads).validate_json(body)
    except ValueError:
        text = body[:200].decode(errors="replace")
        return ServiceError(f"status {status}: {text}", f"http-{status}", status)
    return EveryFileFailed(failed["results"], status)


@cache
def adapter(form: type) -> TypeAdapter[Any]:
    """Return the validator of an answer, which is slow to build."""
    return TypeAdapter(form)
