"""/masters/{master_id}/content and /thumbnail: what a browser shows of a master."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import RedirectResponse

from app.http.api_route import ApiRoute
from app.http.conditional import etag_matches, parse_range
from app.http.dependencies import MastersDep
from app.http.download import Download
from app.http.parameters import MasterId
from app.http.security import Access, requires
from app.services.originals import BLOCK
from storage.records import Master

router = APIRouter(route_class=ApiRoute, tags=["masters"])
_THUMBNAILS = 2  # raised whenever thumbnails of the same image change
_IMMUTABLE = "private, max-age=31536000, immutable"
_HARMLESS = {  # whatever the bytes are, a browser shows them as an image or not at all
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
}


@router.get(
    "/masters/{master_id}/content",
    response_class=Response,
    responses={200: {"content": {"image/*": {}}}, 206: {}, 304: {}, 307: {}, 416: {}},
    summary="Download the original",
)
@requires(Access.READ)
def get_content(
    request: Request,
    masters: MastersDep,
    master_id: MasterId,
    if_none_match: Annotated[str | None, Header()] = None,
    if_range: Annotated[str | None, Header()] = None,
    range: Annotated[str | None, Header()] = None,
) -> Response:
    """Returns the bytes that were uploaded.

    The ETag is their SHA-256. If LOOKALIKE_PUBLIC_OBJECTS_URL is set, redirects to the object store
    instead.
    """
    master = masters.find_master(master_id)
    etag = f'"{master.sha256.hex()}"'
    headers = _HARMLESS | {
        "ETag": etag,
        "Cache-Control": _IMMUTABLE,
        "Accept-Ranges": "bytes",
        "Content-Disposition": _disposition(master),
    }
    if etag_matches(if_none_match, etag):
        return Response(status_code=304, headers=headers)
    is_head = getattr(request.state, "head", False)
    if not is_head:  # the link is signed for GET only
        link = masters.link_content(master, headers["Content-Disposition"])
        if link is not None:
            return RedirectResponse(link, 307, headers={"Cache-Control": "no-store"})
    part = parse_range(range, master.size) if if_range in (None, etag) else None
    start, stop = part or (0, master.size)
    headers["Content-Length"] = str(stop - start)
    if part:
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{master.size}"
        if stop - start < master.size > BLOCK:  # nothing verifies these bytes
            headers["Cache-Control"] = "no-store"
    blocks = masters.read_content(master, start, stop - start)
    body = iter(()) if is_head else blocks
    return Download(body, 206 if part else 200, headers=headers, media_type=master.mime)


@router.get(
    "/masters/{master_id}/thumbnail",
    response_class=Response,
    responses={200: {"content": {"image/jpeg": {}}}, 304: {}},
    summary="Get a thumbnail",
)
@requires(Access.READ)
def get_thumbnail(
    masters: MastersDep,
    master_id: MasterId,
    size: Annotated[
        int, Query(ge=16, le=1024, description="Maximum length of the longer side, in pixels.")
    ] = 256,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """Returns a JPEG of at most `size` x `size` pixels, upright and without metadata."""
    master = masters.find_master(master_id)
    etag = f'"{master.sha256.hex()[:32]}-{size}-{_THUMBNAILS}"'
    headers = _HARMLESS | {"ETag": etag, "Cache-Control": _IMMUTABLE}
    if etag_matches(if_none_match, etag):
        return Response(status_code=304, headers=headers)
    return Response(masters.make_thumbnail(master, size), headers=headers, media_type="image/jpeg")


def _disposition(master: Master) -> str:
    """Name the file for a browser (RFC 6266): in ASCII for old ones, and percent-encoded."""
    plain = "".join(
        character if character.isascii() and (character.isalnum() or character in "._- ") else "_"
        for character in master.name
    )
    return f"inline; filename=\"{plain}\"; filename*=UTF-8''{quote(master.name, safe='')}"
