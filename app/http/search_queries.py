"""Reads searches in JSON, alone or in a form beside the files that they name."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, BinaryIO, TypeVar, cast
from uuid import UUID

from fastapi import Depends, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.datastructures import UploadFile

from app.errors import InvalidInput
from app.http import schemas
from app.http.api_route import JSON, QUERY, media_type_of
from app.http.parameters import parse_filter_json, parse_json, parse_json_body
from app.http.result_options import make_results
from app.http.uploads import file_of
from app.services.queries import (
    MAX_REACH,
    Example,
    FileExample,
    MasterExample,
    SearchOptions,
    TextExample,
    VectorExample,
)
from app.settings import Settings
from models.imaging import Box
from models.orientations import list_orientations
from storage.filters import Filter

_MOST_EXAMPLES = 200  # of a batch
_MOST_VIEWS = 400  # of the images of a batch
_VIEWS_OF_SPACES = 20  # that cost as much as to search in several spaces with one view
_MOST_FILTER_BYTES = 64 * 1024  # in JSON
_MOST_ERRORS = 100  # of a query, before they are only counted
_HITS_OF_A_VECTOR = 10  # that take as much memory as a hit with its vector
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
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
    fields = [(name, value) for name, value in parts if isinstance(value, str) and value]
    if len(dict(files)) < len(files):
        detail = "Two file parts have the same name. Give each its own."
        raise InvalidInput("invalid-request", detail)
    if [name for name, _ in fields].count(QUERY) > 1:
        raise InvalidInput("invalid-request", "The form has several fields named query. Send one.")
    others = [name for name, _ in fields if name != QUERY]
    return Sent(dict(fields).get(QUERY), dict(files), others)


SentDep = Annotated[Sent, Depends(read_sent)]


def read_query(sent: Sent, settings: Settings) -> tuple[list[Example], SearchOptions]:
    """Return the examples and options of a search in JSON.

    Raises RequestValidationError, InvalidInput, TooLarge.
    """
    query = _parse(schemas.SearchQuery, sent)
    _check_unused(query.examples, sent.files)
    return make_examples(query.examples, sent.files, settings), make_options(query)


def read_inputs(sent: Sent, settings: Settings) -> tuple[list[Example], str | None]:
    """Return what to embed, and the space. Raises what ``read_query`` raises."""
    query = _parse(schemas.EmbedQuery, sent)
    _check_unused(query.examples, sent.files)
    return make_examples(query.examples, sent.files, settings), query.space


def read_batch(sent: Sent) -> list[schemas.SearchQuery | RequestValidationError]:
    """Return the searches of a batch, and an error in the place of each that is malformed.

    Raises what ``read_query`` raises.
    """
    queries = [_check_query(each) for each in _parse(schemas.SearchBatch, sent).queries]
    valid = [each for each in queries if isinstance(each, schemas.SearchQuery)]
    examples = [example for query in valid for example in query.examples]
    if len(examples) > _MOST_EXAMPLES:
        detail = f"The queries of a batch have at most {_MOST_EXAMPLES} examples together."
        raise InvalidInput("invalid-request", detail)
    if sum(map(_count_views, valid)) > _MOST_VIEWS:
        detail = (
            f"The images of a batch have at most {_MOST_VIEWS} views together; mirror and turns"
            " give each image several, and a query in several spaces has at least"
            f" {_VIEWS_OF_SPACES} in each orientation."
        )
        raise InvalidInput("invalid-request", detail)
    if sum(map(_count_hits, valid)) > MAX_REACH:
        detail = (
            f"offset + k of the queries of a batch is at most {MAX_REACH} together; with vectors, k"
            f" counts {_HITS_OF_A_VECTOR} times."
        )
        raise InvalidInput("invalid-request", detail)
    if len(valid) == len(queries):  # otherwise a file may be that of a malformed query
        _check_unused(examples, sent.files)
    return queries


def _count_views(query: schemas.SearchQuery) -> int:
    images = sum(each.upload is not None or each.master_id is not None for each in query.examples)
    orientations = len(list_orientations(mirror=query.mirror, turns=query.turns))
    if len({each.space for each in query.examples}) == 1:
        return images * orientations
    return max(images, _VIEWS_OF_SPACES) * orientations


def _count_hits(query: schemas.SearchQuery) -> int:
    k = query.k * query.group_size
    return query.offset + k * (_HITS_OF_A_VECTOR if "vector" in query.include else 1)


def _check_query(value: object) -> schemas.SearchQuery | RequestValidationError:
    try:
        return schemas.SearchQuery.model_validate(value)
    except ValidationError as error:
        return _request_error(error)


def chain_by_files(queries: Sequence[object]) -> list[list[int]]:
    """Group the numbers of searches that read the same files: a file has one position."""
    chains: list[tuple[set[str], list[int]]] = []
    for number, query in enumerate(queries):
        examples = query.examples if isinstance(query, schemas.SearchQuery) else []
        names = {each.upload for each in examples if each.upload is not None}
        numbers = [number]
        for joined in [chain for chain in chains if chain[0] & names]:
            chains.remove(joined)
            names |= joined[0]
            numbers = joined[1] + numbers
        chains.append((names, sorted(numbers)))
    return [numbers for _, numbers in chains]


def refuse_files(sent: Sent, known: str) -> None:
    """Raise InvalidInput if a form without a query has other file parts than the known one."""
    for name in sent.files:
        if name != known:
            detail = (
                f"{name[:60]}: there is no such file part. Only the field query can name others."
            )
            raise InvalidInput("unknown-field", detail)


def _parse(schema: type[_Body], sent: Sent) -> _Body:
    if sent.others:
        detail = f"Put {sent.others[0][:60]} into the JSON of query, or leave query out."
        raise InvalidInput("invalid-request", detail)
    try:
        return schema.model_validate(_parse_query(sent.query or ""))
    except ValidationError as error:
        raise _request_error(error) from None


def _parse_query(query: bytes | str) -> Any:
    """Parse the JSON of a query. Raises InvalidInput."""
    if isinstance(query, bytes):
        value, text = parse_json_body(query), query
    else:
        value, text = parse_json(query, "invalid-request", "query"), query.encode()
    if _SURROGATE.search(text):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            detail = "A string of the query has half a surrogate pair, which is no character."
            raise InvalidInput("invalid-request", detail) from None
    return value


def _request_error(error: ValidationError) -> RequestValidationError:
    """Return the errors of a query with their places in the body.

    Each takes far more memory than the few bytes that cause it, for example a member ``"a":0``.
    """
    if error.error_count() > _MOST_ERRORS:
        message = f"The query has {error.error_count()} errors. docs/queries.md describes a query."
        return RequestValidationError([{"type": "errors", "loc": ("body",), "msg": message}])
    errors = error.errors(include_url=False, include_input=False)
    return RequestValidationError([each | {"loc": ("body", *each["loc"])} for each in errors])


def _check_named(examples: Sequence[schemas.Input], files: Files) -> None:
    """Raise InvalidInput if an example names a file that was not sent."""
    for example in examples:
        if example.upload is not None and example.upload not in files:
            name = example.upload[:60]
            detail = (
                f"There is no file part named '{name}', which upload names. Send a form with the"
                " query in the field query, beside that file part."
            )
            raise InvalidInput("file-missing", detail)


def _check_unused(examples: Sequence[schemas.Input], files: Files) -> None:
    named = {example.upload for example in examples}
    for name in files:
        if name not in named:
            detail = f"No example has the upload {name[:60]}. Name it in one, or leave it out."
            raise InvalidInput("file-not-used", detail)


def make_options(query: schemas.SearchQuery) -> SearchOptions:
    """Return the options of a search in JSON. Raises InvalidInput."""
    return SearchOptions(
        collection=query.collection,
        k=query.k,
        offset=query.offset,
        max_distance=query.max_distance,
        filter=None if query.filter is None else _read_filter(query.filter),
        mirror=query.mirror,
        turns=query.turns,
        min_probability=query.min_probability,
        space=query.space,
        feedback=query.feedback,
        include=frozenset(query.include),
        results=make_results(
            query.group_by,
            query.group_size,
            query.collapse_duplicates,
            query.sort,
            query.facets,
            query.cursor,
        ),
    )


def _read_filter(value: dict[str, Any]) -> Filter:
    """Parse a filter that is not larger than one in a form. Raises InvalidInput."""
    if len(json.dumps(value)) > _MOST_FILTER_BYTES:
        detail = f"The filter has more than {_MOST_FILTER_BYTES // 1024} KiB of JSON."
        raise InvalidInput("invalid-filter", detail)
    return parse_filter_json(value)


def make_examples(
    examples: Sequence[schemas.Input], files: Files, settings: Settings
) -> list[Example]:
    """Return the examples with the files that they name. Raises InvalidInput, TooLarge."""
    _check_named(examples, files)
    return [_make_example(each, files, settings) for each in examples]


def _make_example(example: schemas.Input, files: Files, settings: Settings) -> Example:
    weight = example.weight if isinstance(example, schemas.Example) else 1.0
    given: dict[str, Any] = {"weight": weight, "space": example.space}
    box = Box(*example.box) if example.box else None
    if example.upload is not None:
        return FileExample(file_of(files[example.upload], settings), box, **given)
    if example.master_id is not None:
        return MasterExample(example.master_id, box, **given)
    if example.text is not None:
        return TextExample(example.text, **given)
    return VectorExample(example.vector or [], **given)


def list_inputs(
    file: BinaryIO | None, master_id: UUID | None, box: Box | None, text: str | None
) -> list[Example]:
    """Return the example of a form without a query. Raises InvalidInput."""
    if [file, master_id, text].count(None) != 2:
        detail = "Send one of sample (a file part), master_id and text."
        raise InvalidInput("invalid-request", detail)
    if text is not None:
        if box is not None:
            raise InvalidInput("invalid-request", "box needs an image. Leave it out.")
        return [TextExample(text)]
    if file is not None:
        return [FileExample(file, box)]
    return [MasterExample(cast("UUID", master_id), box)]
