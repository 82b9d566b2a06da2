"""Maps every error to RFC 9457 problem+json: for whole responses, parts of them, and streams."""

from __future__ import annotations

from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response

from app import errors
from app.errors import AppError, Unavailable
from app.http.errors import (
    Forbidden,
    HeadTooLarge,
    MalformedRequest,
    RangeNotSatisfiable,
    TooSlow,
    Unauthorized,
    WrongHost,
    WrongMediaType,
)
from app.http.invalid_requests import describe_errors
from app.logs import log
from models.imaging import ImageRejected
from storage.errors import StoreFull, StoreUnavailable, is_disk_full

EXPECTED = (AppError, ImageRejected, StoreUnavailable)  # what a service may raise
_STATUS: dict[type[AppError], int] = {
    errors.InvalidInput: 422,
    errors.TooLarge: 413,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.CountChanged: 409,
    errors.Outdated: 412,
    errors.Unavailable: 503,
    Unauthorized: 401,
    Forbidden: 403,
    WrongHost: 400,
    WrongMediaType: 415,
    MalformedRequest: 400,
    HeadTooLarge: 431,
    TooSlow: 408,
}
_STORE_RETRY_AFTER = 5  # seconds
_DISK_RETRY_AFTER = 60  # seconds
_HTTP_CODES = {400: "malformed-body", 404: "not-found", 405: "method-not-allowed"}
_HTTP_DETAILS = {
    404: "There is nothing at {path}. /docs lists the endpoints.",
    405: "{path} does not support {method}. /docs lists the endpoints.",
}


@dataclass(frozen=True)
class Problem:
    """An error as a client sees it. ``members`` are the body's further members (RFC 9457, 3.2)."""

    status: int
    code: str
    detail: str
    headers: dict[str, str] = field(default_factory=dict)
    members: dict[str, Any] = field(default_factory=dict)

    def body(self, request_id: str) -> dict[str, Any]:
        """The JSON object of RFC 9457, 3.1, with our own ``code`` and ``request_id``."""
        return {
            "type": f"urn:lookalike:problem:{self.code}",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            # the detail may quote half a surrogate pair from the request
            "detail": self.detail.encode("utf-8", "backslashreplace").decode(),
            "code": self.code,
            "request_id": request_id,
            **self.members,
        }

    def response(self, request_id: str) -> Response:
        """The whole response."""
        return JSONResponse(
            self.body(request_id),
            self.status,
            headers=self.headers,
            media_type="application/problem+json",
        )


def problem_of(error: Exception, *, method: str = "", path: str = "") -> Problem:
    """Map any error to its problem; an unexpected one to ``internal-error`` with status 500.

    ``method`` and ``path`` are the request's, for the words of 404 and 405.
    """
    match error:
        case Unavailable():
            headers = {"Retry-After": str(error.retry_after)}
            return Problem(503, error.code, error.detail, headers)
        case Unauthorized():
            return Problem(401, error.code, error.detail, {"WWW-Authenticate": "Bearer"})
        case RangeNotSatisfiable():
            headers = {"Content-Range": f"bytes */{error.size}"}
            return Problem(416, error.code, error.detail, headers)
        case AppError():
            status = _STATUS[type(error)]
            return Problem(status, error.code, error.detail, members=error.members)
        case ImageRejected():
            status = 415 if error.code == "unsupported-image-type" else 422
            return Problem(status, error.code, str(error))
        case StoreFull():
            return _disk_full(f"The disk of the {error.store} store is full.")
        case OSError() if is_disk_full(error):  # an upload or an encoder is written there first
            return _disk_full("The disk for temporary files is full.")
        case StoreUnavailable():
            detail = f"The {error.store} store does not answer. Nothing was changed; retry later."
            headers = {"Retry-After": str(_STORE_RETRY_AFTER)}
            return Problem(503, "store-unavailable", detail, headers)
        case RequestValidationError():
            detail, places = describe_errors(error)
            return Problem(422, "invalid-request", detail, members={"errors": places})
        case HTTPException():
            code = _HTTP_CODES.get(error.status_code, "http-error")
            words = _HTTP_DETAILS.get(error.status_code)
            detail = words.format(path=path[:200], method=method) if words else str(error.detail)
            return Problem(error.status_code, code, detail, dict(error.headers or {}))
        case ClientDisconnect():
            detail = "The connection was closed before the body was complete."
            return Problem(400, "client-disconnected", detail)
        case _:
            detail = "The service failed. Its log has the reason under this request id."
            return Problem(500, "internal-error", detail)


def _disk_full(what: str) -> Problem:
    detail = f"{what} Nothing was changed. Free some space on the server, then retry."
    return Problem(503, "disk-full", detail, {"Retry-After": str(_DISK_RETRY_AFTER)})


def request_id_of(request: Request) -> str:
    """Return the id that RequestContext gave the request."""
    return str(request.scope.get("request_id", ""))


def install(app: FastAPI) -> None:
    """Answer every exception that leaves a handler with its problem."""

    def answer(request: Request, error: Exception) -> Response:
        problem = problem_of(error, method=request.method, path=request.url.path)
        return problem.response(request_id_of(request))

    def answer_full_disk(request: Request, error: Exception) -> Response:
        if isinstance(error, OSError) and is_disk_full(error):
            log.error("a disk is full", reason=str(error))
            return answer(request, error)
        raise error  # it is logged and answered as any unexpected error

    app.add_exception_handler(OSError, answer_full_disk)
    for kind in (*EXPECTED, RequestValidationError, HTTPException, ClientDisconnect, Exception):
        app.add_exception_handler(kind, answer)
