"""Reads searches in JSON, alone or in a form beside the files that they name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.datastructures import UploadFile

from app.errors import InvalidInput
from app.http import schemas
from app.http.api_route import JSON, media_type_of
from app.http.parameters import parse_filter_json
from app.http.uploads import file_of
from app.services.queries import (
    Example,
    FileExample,
    MasterExample,
    SearchOptions,
    TextExample,
    VectorExample,
)
from app.settings import Settings
from models.imaging import Box

QUERY = "query"  # the form field
_Body = TypeVar("_Body", bound=BaseModel)
Files = Mapping[str, UploadFile]


@dataclass(frozen=True)
class Sent:
    """What a request sends: a query in JSON or None, file parts by name, and the other fields."""

    query: bytes | str | None
    files: Files
    others: list[str]


async def read_sent(request: Request) -> Sent:
    """Return the query of a request, from its body or from the form field ``query``.

    Raises InvalidInput.
    """
    if media_type_of(request) == JSON:
        return Sent(await request.body(), {}, [])
    parts = (await request.form()).multi_items()
    files = [(name, value) for name, value in parts if isinstance(value, UploadFile)]
    others = [name for name, value in parts if isinstance(value, str) and name != QUERY]
    if len(dict(files)) < len(files):
        detail = "Two file parts have the same name. Give each its own."
        raise InvalidInput("invalid-request", detail)
    query = dict(parts).get(QUERY)
    return Sent(query if isinstance(query, str) else None, dict(files), others)


SentDep = Annotated[Sent, Depends(read_sent)]


def read_query(sent: Sent, settings: Settings) -> tuple[list[Example], SearchOptions]:
    """Return the examples and options of a query in JSON.

    Raises RequestValidationError, InvalidInput, TooLarge.
    """
    query = parse_body(schemas.SearchQuery, sent.query or b"")
    if sent.others:
        detail = f"Put {sent.others[0][:60]} into the JSON of query, or leave query out."
        raise InvalidInput("invalid-request", detail)
    check_files(query.examples, sent.files)
    examples = [example_of(each, sent.files, settings) for each in query.examples]
    return examples, options_of(query)


def refuse_files(sent: Sent, known: str) -> None:
    """Raise InvalidInput if a form without a query has other file parts than the known one."""
    for name in sent.files:
        if name != known:
            detail = (
                f"{name[:60]}: there is no such file part. Only the field query can name others."
            )
            raise InvalidInput("unknown-field", detail)


def parse_body(schema: type[_Body], body: bytes | str) -> _Body:
    """Parse a body in JSON. Raises RequestValidationError."""
    try:
        return schema.model_validate_json(body)
    except ValidationError as error:
        raise _request_error(error) from None


def _request_error(error: ValidationError) -> RequestValidationError:
    errors = [each | {"loc": ("body", *each["loc"])} for each in error.errors(include_url=False)]
    return RequestValidationError(errors)


def check_files(examples: list[schemas.Example], files: Files) -> None:
    """Raise InvalidInput unless the examples name all of the files, and no others."""
    named = {each.upload for each in examples if each.upload is not None}
    if missing := sorted(named - set(files)):
        detail = f"There is no file part named {missing[0][:60]}, which upload names."
        raise InvalidInput("file-missing", detail)
    if unused := sorted(set(files) - named):
        detail = f"No example has the upload {unused[0][:60]}. Name it in one, or leave it out."
        raise InvalidInput("file-not-used", detail)


def options_of(query: schemas.SearchQuery) -> SearchOptions:
    """Return the options of a search in JSON. Raises InvalidInput."""
    return SearchOptions(
        collection=query.collection,
        k=query.k,
        offset=query.offset,
        max_distance=query.max_distance,
        filter=None if query.filter is None else parse_filter_json(query.filter),
        mirror=query.mirror,
        min_probability=query.min_probability,
        space=query.space,
        feedback=query.feedback,
    )


def example_of(example: schemas.Example, files: Files, settings: Settings) -> Example:
    """Return an example, with the file that it names. Raises TooLarge."""
    given: dict[str, Any] = {"weight": example.weight, "space": example.space}
    box = Box(*example.box) if example.box else None
    if example.upload is not None:
        return FileExample(file_of(files[example.upload], settings), box, **given)
    if example.master_id is not None:
        return MasterExample(example.master_id, box, **given)
    if example.text is not None:
        return TextExample(example.text, **given)
    return VectorExample(example.vector or [], **given)
