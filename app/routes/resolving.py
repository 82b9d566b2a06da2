"""POST /collections/{name}/duplicates/resolve: keeps one master of each group."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response

from app.errors import InvalidInput
from app.http import schemas
from app.http.api_route import ApiRoute
from app.http.dependencies import ResolvingDep
from app.http.security import Access, requires
from app.http.streams import STREAMED, streamed
from app.routes.changes import undo_of
from app.services.resolving import Resolution

router = APIRouter(route_class=ApiRoute, tags=["duplicates"])
_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": STREAMED[200]["description"] + " A dry run returns a preview alone.",
        "content": STREAMED[200]["content"]
        | {"application/json": {"schema": {"$ref": "#/components/schemas/ResolvePreview"}}},
    },
    409: {"description": "Another number of masters would be deleted by now."},
}


@router.post(
    "/collections/{name}/duplicates/resolve",
    responses=_ANSWERS,
    response_class=Response,
    summary="Keep one master of each group of duplicates",
)
@requires(Access.WRITE)
def resolve_duplicates(
    request: Request,
    resolving: ResolvingDep,
    name: Annotated[str, Path(description="Name of the collection.")],
    wanted: schemas.GroupsToResolve,
) -> Response:
    """Keeps the best master of each group, by rules, and deletes the others.

    The groups are given, or all those of a scan.

    With `dry_run`, it only returns what would be done. `confirm` must repeat the number of masters
    to delete. Groups are resolved in small batches, each group completely or not at all. Closing
    the connection stops it after the current batch; the same request continues. The deletion can
    be undone until `undo_until`, which also takes the merged attributes back.
    """
    groups, merge = wanted.parsed(), wanted.merge_attributes
    if groups is None:
        task = resolving.plan_all(
            name, wanted.with_, wanted.space, wanted.keep, merge_attributes=merge
        )
    else:
        task = resolving.plan_groups(
            name, wanted.with_, groups, wanted.keep, merge_attributes=merge
        )
    if wanted.dry_run:
        preview = schemas.ResolvePreview.of(resolving.preview(task))
        return Response(preview.model_dump_json(), media_type="application/json")
    if wanted.confirm is None:
        detail = (
            "confirm takes the number of masters to delete: send the request with dry_run=true"
            " first, and repeat the number in matched."
        )
        raise InvalidInput("not-confirmed", detail)
    return streamed(request, _events(resolving.resolve(task, wanted.confirm)))


def _events(walk: Iterator[Resolution]) -> Iterator[dict[str, Any]]:
    """Yield the progress between batches, then the result."""
    for outcome in walk:
        if outcome.done < outcome.total:
            yield {"done": outcome.done, "total": outcome.total} | undo_of(outcome.deletion)
    result = {
        "groups": outcome.total,
        "kept": outcome.kept,
        "deleted": outcome.deleted,
        "bytes": outcome.bytes,
        "merged": outcome.merged,
        "skipped": outcome.skipped,
        "refused": outcome.refused,
        "examples": [{"id": str(id_), "reason": reason} for id_, reason in outcome.examples],
    }
    yield {"result": result | undo_of(outcome.deletion)}
