"""The route class of the API's endpoints: strict about parameters, with bounded forms."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Coroutine
from typing import Any

from fastapi import Request, Response, params
from fastapi.dependencies.models import Dependant
from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException

from app.errors import InvalidInput, TooLarge
from app.http.errors import WrongMediaType
from app.http.multipart import replace_parsers
from app.http.parameters import parse_json_body
from app.http.security import SecuredRoute

_MAX_FIELD_BYTES = 64 * 1024
_MAX_FIELDS = 100
_MAX_QUERY_BYTES = 1024 * 1024
_MAX_QUERY_FIELDS = 50
JSON = "application/json"
QUERY = "query"  # the form field that has a whole query in JSON
_FORM_TYPES = ("multipart/form-data", "application/x-www-form-urlencoded")


replace_parsers()


class ApiRoute(SecuredRoute):
    """Refuses query parameters and form fields that the endpoint does not have.

    A misspelled option would otherwise change the meaning of a request silently. Forms are bounded
    in their number of files and fields, and in the size of a field, before FastAPI parses them.

    An endpoint whose ``openapi_extra`` describes a JSON body also takes that instead of a form. Its
    forms may have files with any names, which it has to check itself.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()
        query = [field.alias for field in self.dependant.query_params]
        fields = _list_fields(self.dependant)

        takes_form = self.body_field is not None and isinstance(
            self.body_field.field_info, params.Form
        )
        body = (self.openapi_extra or {}).get("requestBody", {})
        takes_json = JSON in body.get("content", {})
        is_json = self.body_field is not None and not takes_form
        texts = _list_fields(self.dependant, of_files=False)

        async def handle_known(request: Request) -> Response:
            _refuse_unknown(request.query_params, query, "unknown-parameter", "query parameter")
            if takes_form and not (takes_json and media_type_of(request) == JSON):
                form = await _read_form(request, takes_json=takes_json)
                names = form if not takes_json else _names_of_fields(form)
                try:
                    if takes_json:
                        _refuse_json_as_form(names)
                    _refuse_unknown(names, fields, "unknown-field", "field")
                    _refuse_files(form, texts)
                except InvalidInput:
                    await form.close()
                    raise
            if is_json and _has_json(request) and (content := await request.body()):
                parse_json_body(content)  # FastAPI accepts a member that occurs twice
            return await handler(request)

        return handle_known


def _list_fields(dependant: Dependant, *, of_files: bool = True) -> list[str]:
    """Return the names of the form fields of an endpoint and of what it depends on.

    Those that are files are left out unless ``of_files``.
    """
    fields = [
        field.alias
        for field in dependant.body_params
        if of_files or not isinstance(field.field_info, params.File)
    ]
    for each in dependant.dependencies:
        fields += _list_fields(each, of_files=of_files)
    return fields


def media_type_of(request: Request) -> str:
    """Return the media type of the body, without its parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _has_json(request: Request) -> bool:
    media_type = media_type_of(request)
    return media_type == JSON or media_type.endswith("+json")


def _names_of_fields(form: FormData) -> list[str]:
    return [name for name, value in form.multi_items() if isinstance(value, str)]


async def _read_form(request: Request, *, takes_json: bool) -> FormData:
    if media_type_of(request) not in _FORM_TYPES:
        detail = "Send multipart/form-data, with each image as a file part"
        detail += ", or application/json." if takes_json else "."
        raise WrongMediaType("unsupported-media-type", detail)
    # Starlette decodes with any codec of Python, and some take time that grows with the square.
    _, options = parse_options_header(request.headers["content-type"])
    if options.get(b"charset", b"utf-8").lower() not in (b"utf-8", b"utf8"):
        raise HTTPException(400, "The form's charset is not UTF-8. Send the form in UTF-8.")
    limit = request.app.state.settings.max_request_files
    try:
        form = await request.form(
            max_files=limit,
            max_fields=_MAX_QUERY_FIELDS if takes_json else _MAX_FIELDS,
            max_part_size=_MAX_QUERY_BYTES if takes_json else _MAX_FIELD_BYTES,
        )
    except HTTPException as error:
        if error.detail.startswith("Too many files"):
            detail = f"A request may have {limit} files. Send the others in another request."
            raise TooLarge("too-many-files", detail) from None
        raise
    for name, value in form.multi_items():
        if isinstance(value, str) and name != QUERY and len(value) > _MAX_FIELD_BYTES:
            await form.close()
            detail = f"A field of a form has at most {_MAX_FIELD_BYTES // 1024} KiB."
            raise HTTPException(400, detail)
    return form


def _refuse_json_as_form(names: Collection[str]) -> None:
    """Raise InvalidInput for JSON that curl -d sends as a form unless it is given a header."""
    if any(name.startswith("{") for name in names):
        detail = "This is JSON. Send it with the header Content-Type: application/json."
        raise InvalidInput("unknown-field", detail)


def _refuse_files(form: FormData, texts: Collection[str]) -> None:
    """Raise InvalidInput for a file in the place of an option."""
    for name, value in form.multi_items():
        if name in texts and not isinstance(value, str):
            detail = (
                f"{name} is sent as a file, but it is an option that takes text. Send it as text,"
                " or give the file part another name."
            )
            raise InvalidInput("invalid-request", detail)


def _refuse_unknown(names: Collection[str], known: list[str], code: str, what: str) -> None:
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = _hint(close, known)
            raise InvalidInput(code, f"{name[:60]}: there is no such {what}. {hint}")


def _hint(close: list[str], known: list[str]) -> str:
    if close:
        return f"Did you mean {close[0]}?"
    return f"There are: {', '.join(known)}." if known else "This endpoint takes none."
