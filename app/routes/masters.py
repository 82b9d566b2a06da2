"""/masters: upload, browse, change and delete images."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from anyio import to_thread
from fastapi import APIRouter, File, Form, Header, Query, Request, Response, UploadFile
from pydantic import BaseModel

from app.errors import InvalidInput
from app.http import schemas
from app.http.api_route import ApiRoute
from app.http.conditional import etag_matches, parse_if_match, revision_etag
from app.http.cursors import parse_cursor, write_cursor
from app.http.dependencies import IngestDep, MastersDep
from app.http.file_threads import FileThreads
from app.http.parameters import (
    CollectionQuery,
    FilterQuery,
    MasterId,
    parse_filter_text,
    parse_json,
    parse_sort_text,
)
from app.http.problems import EXPECTED, Problem, problem_of, request_id_of
from app.http.security import Access, requires
from app.services.collections import DEFAULT
from app.services.duplicate_comparison import MAX_DISTANCE
from app.services.ingest import UploadOutcome
from app.services.near_duplicates import NearCheck
from storage.filters import MAX_SAFE_INTEGER
from storage.records import Master

router = APIRouter(route_class=ApiRoute, tags=["masters"])
IfMatch = Annotated[
    list[str] | None,
    Header(description="ETag of the master as it was seen. If it has changed since: 412."),
]
_TAGGED: dict[int | str, dict[str, Any]] = {
    200: {"headers": {"ETag": {"description": "Its revision.", "schema": {"type": "string"}}}}
}
_OUTDATED: dict[int | str, dict[str, Any]] = {
    412: {"description": "The master has another revision than If-Match names."}
}
_UPLOAD_STATUSES: dict[int | str, dict[str, Any]] = {
    status: {"model": schemas.UploadResults, "description": description}
    for status, description in {
        200: "The collection has these bytes already. Nothing was changed.",
        201: "The images are stored, and searches find them.",
        202: "The images are stored. Searches find them once the worker has indexed them.",
        207: "The statuses of the files differ. Each result has its own.",
    }.items()
}


@router.post(
    "/masters",
    status_code=201,
    responses=_UPLOAD_STATUSES,
    summary="Upload images",
)
@requires(Access.WRITE)
async def upload(
    request: Request,
    ingest: IngestDep,
    file: Annotated[list[UploadFile], File(description="One or more images.")],
    collection: Annotated[
        str, Form(description="Name of the collection. It is created if it does not exist.")
    ] = DEFAULT,
    name: Annotated[
        str | None,
        Form(description="Name of the master, for a single file. Default: the file's name."),
    ] = None,
    attributes: Annotated[
        str, Form(description='JSON object to keep with each image, such as {"colour": "red"}.')
    ] = "{}",
    on_near_duplicate: Annotated[
        Literal["store", "report", "reject"],
        Form(
            description="What to do with an image that is nearly identical to a master: `store`"
            " checks nothing, `report` stores it and lists the masters in `near_duplicates`, and"
            " `reject` answers 409 `near-duplicate` and stores nothing."
        ),
    ] = "store",
    near_duplicate_distance: Annotated[
        float | None,
        Form(
            ge=0,
            le=2,
            allow_inf_nan=False,
            description="Maximum distance in `look` of a near duplicate. Default: 0.65.",
        ),
    ] = None,
) -> Response:
    """Uploads one or more images to a collection.

    Uploading bytes that the collection has already changes nothing and returns the existing master.
    The response of a single file that fails is its error.
    """
    if name is not None and len(file) > 1:
        detail = "name is for a single file. Several files keep their own names."
        raise InvalidInput("invalid-request", detail)
    parsed = parse_json(attributes, "invalid-attributes", "attributes")
    near_check = _choose_near_check(on_near_duplicate, near_duplicate_distance)

    def upload_one(part: UploadFile) -> UploadOutcome | Problem:
        part_name = name or part.filename or ""
        try:
            return ingest.upload_image(
                part.file,
                collection=collection,
                name=part_name,
                attributes=parsed,
                near_check=near_check,
            )
        except EXPECTED as error:
            return problem_of(error)

    def answer(outcomes: list[UploadOutcome | Problem]) -> Response:
        return _answer_upload(outcomes, request_id_of(request))

    if len(file) == 1:
        return await to_thread.run_sync(lambda: answer([upload_one(file[0])]))
    threads: FileThreads = request.app.state.file_threads
    return await to_thread.run_sync(answer, await threads.map_files(upload_one, file))


def _choose_near_check(choice: str, distance: float | None) -> NearCheck | None:
    """Return how to check for near duplicates; None for not at all. Raises InvalidInput."""
    if choice == "store":
        if distance is not None:
            detail = (
                "near_duplicate_distance needs on_near_duplicate=report or reject. Send one of"
                " them, or leave it out."
            )
            raise InvalidInput("invalid-request", detail)
        return None
    return NearCheck(choice == "reject", MAX_DISTANCE if distance is None else distance)


def _answer_upload(outcomes: list[UploadOutcome | Problem], request_id: str) -> Response:
    if len(outcomes) == 1 and isinstance(outcomes[0], Problem):
        return outcomes[0].response(request_id)
    results = [_upload_result(outcome, request_id) for outcome in outcomes]
    statuses = {result.status for result in results}
    status = statuses.pop() if len(statuses) == 1 else 207
    headers = {}
    if len(results) == 1 and results[0].master is not None:
        headers["ETag"] = revision_etag(results[0].master.revision)
    if status == 503:
        waits = [int(each.headers["Retry-After"]) for each in outcomes if isinstance(each, Problem)]
        headers["Retry-After"] = str(max(waits))
    body = schemas.UploadResults(results=results).model_dump_json(exclude_none=True)
    return Response(body, status, headers, media_type="application/json")


def _upload_result(outcome: UploadOutcome | Problem, request_id: str) -> schemas.UploadResult:
    if isinstance(outcome, Problem):
        error = schemas.UploadProblem(**outcome.body(request_id))
        return schemas.UploadResult(status=outcome.status, error=error)
    status = (201 if outcome.indexed else 202) if outcome.created else 200
    return schemas.UploadResult(
        status=status,
        created=outcome.created,
        indexed=outcome.indexed,
        master=schemas.Master.of(outcome.master),
        warnings=list(outcome.warnings),
        near_duplicates=_list_near_duplicates(outcome),
    )


def _list_near_duplicates(outcome: UploadOutcome) -> list[schemas.NearDuplicate] | None:
    if outcome.near_duplicates is None:
        return None
    return [schemas.NearDuplicate(**each.describe()) for each in outcome.near_duplicates]


@router.get("/masters", response_model=schemas.MasterPage, summary="Browse masters")
@requires(Access.READ)
def list_masters(
    masters: MastersDep,
    collection: CollectionQuery = DEFAULT,
    limit: Annotated[int, Query(ge=1, le=1000, description="Masters per page.")] = 100,
    cursor: Annotated[
        str | None, Query(description="The next_cursor of the previous page.")
    ] = None,
    filter: FilterQuery = None,
    sort: Annotated[
        str | None,
        Query(
            description="Path to sort by: created_at, name, capture.time, or the path of any"
            " attribute or built-in field as in a filter. A hyphen before it reverses the order."
            " Default: -created_at."
        ),
    ] = None,
    offset: Annotated[
        int,
        Query(
            ge=0,
            le=MAX_SAFE_INTEGER,
            description="Number of masters to skip. To read all masters, use the cursor instead.",
        ),
    ] = 0,
) -> Response:
    """Returns the masters of a collection a page at a time, newest first unless `sort` is given.

    Masters without a value come last. A cursor is valid only with the same `sort`.
    """
    conditions, order = parse_filter_text(filter), parse_sort_text(sort)
    after = parse_cursor(cursor, order)
    page = masters.list_masters(collection, conditions, limit, after, offset, order)
    body = schemas.MasterPage.model_construct(
        masters=[schemas.Master.of(master) for master in page.masters],
        next_cursor=write_cursor(page.next_after, order) if page.next_after else None,
        total=page.total,
    )
    return _json(body)


@router.get(
    "/masters/{master_id}",
    response_model=schemas.Master,
    responses=_TAGGED | {304: {}},
    summary="Get a master",
)
@requires(Access.READ)
def get_master(
    masters: MastersDep,
    master_id: MasterId,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """Returns the metadata of one master. Its revision is the ETag."""
    master = masters.find_master(master_id)
    etag = revision_etag(master.revision)
    if etag_matches(if_none_match, etag):
        return Response(status_code=304, headers={"ETag": etag})
    return _tagged_json(master)


@router.patch(
    "/masters/{master_id}",
    response_model=schemas.Master,
    responses=_TAGGED | _OUTDATED,
    summary="Change a master",
)
@requires(Access.WRITE)
def change_master(
    masters: MastersDep,
    master_id: MasterId,
    change: schemas.MasterChange,
    if_match: IfMatch = None,
) -> Response:
    """Changes the name, or replaces all attributes.

    With If-Match, it changes nothing if somebody else has changed the master in the meantime.
    """
    revisions = parse_if_match(if_match)
    return _tagged_json(masters.update_master(master_id, change.name, change.attributes, revisions))


@router.delete(
    "/masters/{master_id}", status_code=204, responses=_OUTDATED, summary="Delete a master"
)
@requires(Access.WRITE)
def delete_master(masters: MastersDep, master_id: MasterId, if_match: IfMatch = None) -> None:
    """Deletes one master. Once this has answered, no request finds it any more."""
    masters.delete_master(master_id, parse_if_match(if_match))


def _tagged_json(master: Master) -> Response:
    """Return a master's metadata with its entity tag."""
    return _json(schemas.Master.of(master), {"ETag": revision_etag(master.revision)})


def _json(body: BaseModel, headers: dict[str, str] | None = None) -> Response:
    """Return a model that needs no second validation on its way out."""
    return Response(body.model_dump_json(), headers=headers, media_type="application/json")
