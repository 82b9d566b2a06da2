"""Multipart forms: bounds on their parts, unknown fields refused, and fields that carry JSON, boxes or cursors parsed."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Coroutine
from typing import Any
from uuid import UUID

import python_multipart
from fastapi import Request, Response, params
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartState
from starlette import formparsers
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException

from app.errors import InvalidInput, TooLarge, WrongMediaType
from app.http.security import SecuredRoute
from models.imaging import Box
from storage.filters import Filter, InvalidFilter, parse_filter

_MAX_FIELD_BYTES = 64 * 1024
_MAX_FIELDS = 100
_MAX_PART_HEADER_BYTES = (
    32 * 1024
)  # names of 5 kB are not rare in some scripts, percent-encoded three times that
_FORM_TYPES = ("multipart/form-data", "application/x-www-form-urlencoded")


class _RoomyMultipartParser(python_multipart.MultipartParser):
    """Takes longer part headers than 4 KiB, and no body cut short: python-multipart would, and Starlette cannot ask otherwise."""

    def __init__(self, boundary: bytes | str, callbacks: Any) -> None:
        super().__init__(boundary, callbacks, max_header_size=_MAX_PART_HEADER_BYTES)

    def finalize(self) -> None:
        if self.state != MultipartState.END:
            raise MultipartParseError("the body ends before its closing boundary")


formparsers.multipart.MultipartParser = _RoomyMultipartParser  # type: ignore[attr-defined]


class FormRoute(SecuredRoute):
    """Where a route takes a form: refuses other media types, and caps the parts before FastAPI parses them."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def capped(request: Request) -> Response:
            if self.body_field is not None and isinstance(self.body_field.field_info, params.Form):
                form = await self._form(request)
                try:
                    _check_form(form, [field.alias for field in self.dependant.body_params])
                except InvalidInput:
                    await form.close()
                    raise
            return await handler(request)

        return capped

    @staticmethod
    async def _form(request: Request) -> FormData:
        media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media_type not in _FORM_TYPES:
            raise WrongMediaType(
                "unsupported-media-type", "Send multipart/form-data, with the image as a file part."
            )
        most = request.app.state.settings.max_request_files
        try:
            return await request.form(
                max_files=most, max_fields=_MAX_FIELDS, max_part_size=_MAX_FIELD_BYTES
            )
        except UnicodeError:  # of a charset that Starlette looks up by the name the client gave
            raise HTTPException(400, "The form's charset cannot be read; send UTF-8.") from None
        except HTTPException as error:
            if error.detail.startswith("Too many files"):
                raise TooLarge(
                    "too-many-files",
                    f"A request may have {most} files. Send the others in another one.",
                ) from None
            raise


def _check_form(form: FormData, known: list[str]) -> None:
    """A misspelled option would change the meaning of a request without a word."""
    for name in form:
        if name not in known:
            alike = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {alike[0]}?" if alike else f"; there are {', '.join(known)}."
            raise InvalidInput("unknown-field", f"{name[:60]}: no such field{hint}")


def parse_json(text: str, code: str, what: str) -> Any:
    """Raises InvalidInput with ``code``."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(code, f"{what} is not JSON: {str(error)[:200]}") from None


def parse_filter_text(text: str | None) -> Filter | None:
    """An empty or missing filter is none."""
    if not text:
        return None
    try:
        return parse_filter(parse_json(text, "invalid-filter", "filter"))
    except InvalidFilter as error:
        raise InvalidInput("invalid-filter", str(error)) from None


def parse_box(text: str | None) -> Box | None:
    if not text:
        return None
    parts = text.split(",")
    if len(parts) != 4 or not all(
        part.strip().isascii() and part.strip().isdigit() and len(part) < 10 for part in parts
    ):
        raise InvalidInput(
            "invalid-box",
            "box takes x,y,width,height in whole pixels of the upright sample, for example 10,20,200,100.",
        )
    return Box(*(int(part) for part in parts))


def parse_cursor(text: str | None) -> UUID | None:
    if not text:
        return None
    try:
        return UUID(text)
    except ValueError:
        raise InvalidInput(
            "invalid-cursor", "cursor takes the next_cursor of the page before."
        ) from None
