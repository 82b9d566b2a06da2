"""Maps errors to RFC 9457 problem+json, for every endpoint, in one place."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response

from app.errors import AppError, Disconnected, InvalidInput, Unavailable, WrongMediaType
from models.imaging import ImageRejected
from storage.errors import StoreUnavailable


def as_app_error(error: Exception) -> AppError | None:
    """What a storage or model error means to a client; None for what nobody foresaw."""
    if isinstance(error, AppError):
        return error
    if isinstance(error, ImageRejected):
        kind = WrongMediaType if error.code == "unsupported-image-type" else InvalidInput
        return kind(error.code, str(error))
    if isinstance(error, StoreUnavailable):
        return Unavailable(
            "store-unavailable",
            f"The {error.store} store does not answer. Try again; nothing was changed.",
            5,
        )
    return None


def problem(status: int, code: str, detail: str, request_id: str, **members: Any) -> dict[str, Any]:
    """The body of an error (RFC 9457, 3.1)."""
    return {
        "type": f"urn:lookalike:problem:{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail.encode(
            "utf-8", "backslashreplace"
        ).decode(),  # it may quote half a surrogate pair
        "code": code,
        "request_id": request_id,
        **members,
    }


def problem_response(error: AppError, request_id: str) -> Response:
    body = problem(error.status, error.code, error.detail, request_id)
    return JSONResponse(
        body, error.status, headers=error.headers, media_type="application/problem+json"
    )


def request_id_of(request: Request) -> str:
    return str(request.scope.get("request_id", ""))


def _field(item: dict[str, Any]) -> str:
    """Where in the request it is, without FastAPI's word for header, query or body."""
    return ".".join(str(part) for part in item["loc"][1:]) or str(item["loc"][0])


def _message(item: dict[str, Any]) -> str:
    if "UploadFile" in item["msg"]:
        return f"is text, not a file; with curl write {item['loc'][1]}=@picture.jpg"
    if item["type"] == "model_attributes_type":
        return "send a JSON body with Content-Type: application/json"
    return str(item["msg"])


_HTTP_DETAILS = {
    404: "There is nothing at {path}; see /docs.",
    405: "{method} is not for {path}; see /docs.",
}
_HTTP_CODES = {400: "malformed-body", 404: "not-found", 405: "method-not-allowed"}


def install(app: FastAPI) -> None:
    """Map everything that can come out of a handler to problem+json."""

    @app.exception_handler(AppError)
    @app.exception_handler(ImageRejected)
    @app.exception_handler(StoreUnavailable)
    def known(request: Request, error: Exception) -> Response:
        mapped = as_app_error(error)
        if mapped is None:
            raise error
        return problem_response(mapped, request_id_of(request))

    @app.exception_handler(RequestValidationError)
    def invalid(request: Request, error: RequestValidationError) -> Response:
        places = [{"field": _field(item), "message": _message(item)} for item in error.errors()]
        detail = (
            "; ".join(f"{place['field']}: {place['message']}" for place in places)
            or "The request is not valid."
        )
        body = problem(422, "invalid-request", detail, request_id_of(request), errors=places)
        return JSONResponse(body, 422, media_type="application/problem+json")

    @app.exception_handler(HTTPException)
    def http(request: Request, error: HTTPException) -> Response:
        code = _HTTP_CODES.get(error.status_code, "http-error")
        detail = _HTTP_DETAILS.get(error.status_code, str(error.detail)).format(
            path=request.url.path[:200], method=request.method
        )
        body = problem(error.status_code, code, detail, request_id_of(request))
        return JSONResponse(
            body, error.status_code, headers=error.headers, media_type="application/problem+json"
        )

    @app.exception_handler(ClientDisconnect)
    def hung_up(request: Request, error: ClientDisconnect) -> Response:
        return problem_response(
            Disconnected("client-disconnected", "The connection ended before the body did."),
            request_id_of(request),
        )

    @app.exception_handler(Exception)
    def unforeseen(request: Request, error: Exception) -> Response:
        detail = "The service failed; its log says why under this request id."
        body = problem(500, "internal-error", detail, request_id_of(request))
        return JSONResponse(body, 500, media_type="application/problem+json")
