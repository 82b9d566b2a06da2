"""/masters: put in, look at, change, delete."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote
from uuid import UUID

from fastapi import APIRouter, File, Form, Header, Query, Request, Response, UploadFile
from fastapi.responses import JSONResponse, RedirectResponse, StreamingResponse
from pydantic import BaseModel

from app.errors import InvalidInput
from app.http import schemas
from app.http.dependencies import CollectionsDep, IngestDep, MastersDep, WorkerDep
from app.http.forms import FormRoute, parse_cursor, parse_filter_text, parse_json
from app.http.problems import as_app_error, problem, request_id_of
from app.http.ranges import UnsatisfiableRange, parse_range
from app.http.security import Access, requires
from app.services.collections import DEFAULT
from app.services.ingest import Ingest
from storage.filters import MAX_SAFE_INTEGER
from storage.records import Master

router = APIRouter(route_class=FormRoute, tags=["masters"])
_IMMUTABLE = "private, max-age=31536000, immutable"
_HARMLESS = {  # whatever the bytes turn out to be, a browser shows them as an image or not at all
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
}
CollectionQuery = Annotated[str, Query(description="Name of the collection.")]


@router.post(
    "/masters",
    status_code=201,
    responses={200: {"model": schemas.UploadResults}, 207: {"model": schemas.UploadResults}},
)
@requires(Access.WRITE)
def put_in(
    request: Request,
    ingest: IngestDep,
    file: Annotated[list[UploadFile], File(description="One or many images.")],
    collection: Annotated[
        str, Form(description="Created if there is none of that name.")
    ] = DEFAULT,
    name: Annotated[
        str | None, Form(description="Instead of the file's name; for a single file.")
    ] = None,
    attributes: Annotated[
        str, Form(description='JSON object kept with each image, such as {"colour": "red"}.')
    ] = "{}",
) -> Response:
    """Put in one or many images. Sending one that is there already changes nothing and answers with it.

    A single file's status is the response's own; several whose statuses differ give 207.
    """
    if name is not None and len(file) > 1:
        raise InvalidInput(
            "invalid-request", "name goes with a single file; several keep their own names."
        )
    parsed = parse_json(attributes, "invalid-attributes", "attributes")
    results = [_put_one(request, ingest, part, collection, name, parsed) for part in file]
    if len(results) == 1 and results[0].error is not None:
        error = results[0].error
        headers = {"Retry-After": "5"} if error.status == 503 else None
        return JSONResponse(
            error.model_dump(), error.status, headers=headers, media_type="application/problem+json"
        )
    statuses = {result.status for result in results}
    body = schemas.UploadResults(results=results).model_dump_json(exclude_none=True)
    status = statuses.pop() if len(statuses) == 1 else 207
    headers = {"Retry-After": "5"} if status == 503 else None
    return Response(body, status, headers, media_type="application/json")


def _put_one(
    request: Request,
    ingest: Ingest,
    part: UploadFile,
    collection: str,
    name: str | None,
    attributes: object,
) -> schemas.UploadResult:
    try:
        done = ingest.put(
            part.file,
            collection=collection,
            name=name or part.filename or "",
            attributes=attributes,
        )
    except Exception as error:
        known = as_app_error(error)
        if known is None:
            raise
        body = problem(known.status, known.code, known.detail, request_id_of(request))
        return schemas.UploadResult(status=known.status, error=schemas.Problem(**body))
    status = (201 if done.indexed else 202) if done.created else 200
    return schemas.UploadResult(
        status=status,
        created=done.created,
        indexed=done.indexed,
        master=schemas.Master.of(done.master),
    )


@router.get("/masters", response_model=schemas.MasterPage)
@requires(Access.READ)
def list_masters(
    masters: MastersDep,
    collection: CollectionQuery = DEFAULT,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    cursor: Annotated[str | None, Query(description="next_cursor of the page before.")] = None,
    filter: Annotated[str | None, Query(description="Attribute filter, as in a search.")] = None,
    offset: Annotated[
        int,
        Query(
            ge=0,
            le=MAX_SAFE_INTEGER,
            description="Masters to skip, to jump; to walk through all, use the cursor.",
        ),
    ] = 0,
) -> Response:
    """Browse a collection, newest first."""
    page, total = masters.list(
        collection, parse_filter_text(filter), limit, parse_cursor(cursor), offset
    )
    next_cursor = str(page.next_after) if page.next_after else None
    body = schemas.MasterPage.model_construct(
        masters=[schemas.Master.of(master) for master in page.masters],
        next_cursor=next_cursor,
        total=total,
    )
    return _json(body)


@router.delete("/masters", status_code=204)
@requires(Access.WRITE)
def delete_all(
    collections: CollectionsDep,
    worker: WorkerDep,
    collection: CollectionQuery,
    confirm: Annotated[str, Query(description="The collection's name once more.")],
) -> None:
    """Delete all masters of a collection; the collection stays."""
    if confirm != collection:
        raise InvalidInput(
            "not-confirmed",
            "confirm must repeat the collection's name: this deletes all its masters.",
        )
    collections.empty(collection)
    worker.wake()


@router.get("/masters/{master_id}", response_model=schemas.Master)
@requires(Access.READ)
def get_master(masters: MastersDep, master_id: UUID) -> Response:
    """One master's metadata."""
    return _json(schemas.Master.of(masters.find(master_id)))


@router.patch("/masters/{master_id}", response_model=schemas.Master)
@requires(Access.WRITE)
def change_master(masters: MastersDep, master_id: UUID, change: schemas.MasterChange) -> Response:
    """Change the name, or replace the attributes."""
    return _json(schemas.Master.of(masters.update(master_id, change.name, change.attributes)))


@router.delete("/masters/{master_id}", status_code=204)
@requires(Access.WRITE)
def delete_master(masters: MastersDep, worker: WorkerDep, master_id: UUID) -> None:
    """Delete one master. It is gone for everybody when the answer comes."""
    masters.delete(master_id)
    worker.wake()


@router.get(
    "/masters/{master_id}/content",
    response_class=Response,
    responses={200: {"content": {"image/*": {}}}, 206: {}, 304: {}, 307: {}},
)
@requires(Access.READ)
def get_content(
    request: Request,
    masters: MastersDep,
    master_id: UUID,
    if_none_match: Annotated[str | None, Header()] = None,
    if_range: Annotated[str | None, Header()] = None,
    range: Annotated[str | None, Header()] = None,
) -> Response:
    """The original bytes."""
    master = masters.find(master_id)
    etag = f'"{master.sha256.hex()}"'
    headers = _HARMLESS | {
        "ETag": etag,
        "Cache-Control": _IMMUTABLE,
        "Accept-Ranges": "bytes",
        "Content-Disposition": _disposition(master),
    }
    if _matches_etag(if_none_match, etag):
        return Response(status_code=304, headers=headers)
    link = (
        None
        if getattr(request.state, "head", False)
        else masters.link(master, headers["Content-Disposition"])
    )
    if link is not None:  # a link is signed for GET alone
        return RedirectResponse(link, 307, headers={"Cache-Control": "no-store"})
    try:
        asked = parse_range(range, master.size) if if_range in (None, etag) else None
    except UnsatisfiableRange:
        return Response(
            status_code=416, headers=headers | {"Content-Range": f"bytes */{master.size}"}
        )
    start, stop = asked or (0, master.size)
    headers["Content-Length"] = str(stop - start)
    if asked:
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{master.size}"
    body = masters.content(master, start, stop - start)
    return StreamingResponse(body, 206 if asked else 200, headers=headers, media_type=master.mime)


@router.get(
    "/masters/{master_id}/thumbnail",
    response_class=Response,
    responses={200: {"content": {"image/jpeg": {}}}, 304: {}},
)
@requires(Access.READ)
def get_thumbnail(
    masters: MastersDep,
    master_id: UUID,
    size: Annotated[
        int, Query(ge=16, le=1024, description="Pixels of the longer side, at most.")
    ] = 256,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """A JPEG of at most `size` x `size` pixels: upright, without metadata."""
    master = masters.find(master_id)
    etag = f'"{master.sha256.hex()[:32]}-{size}"'
    headers = _HARMLESS | {"ETag": etag, "Cache-Control": _IMMUTABLE}
    if _matches_etag(if_none_match, etag):
        return Response(status_code=304, headers=headers)
    return Response(masters.thumbnail(master, size), headers=headers, media_type="image/jpeg")


def _json(body: BaseModel) -> Response:
    """A response of a model that needs no second validation on its way out."""
    return Response(body.model_dump_json(), media_type="application/json")


def _matches_etag(if_none_match: str | None, etag: str) -> bool:
    """RFC 9110, 13.1.2: weak comparison with each of the list."""
    tags = [tag.strip().removeprefix("W/") for tag in (if_none_match or "").split(",")]
    return etag in tags or "*" in tags


def _disposition(master: Master) -> str:
    """RFC 6266: an ASCII name for old clients, the real one percent-encoded."""
    plain = "".join(
        character if character.isascii() and (character.isalnum() or character in "._- ") else "_"
        for character in master.name
    )
    return f"inline; filename=\"{plain}\"; filename*=UTF-8''{quote(master.name, safe='')}"
