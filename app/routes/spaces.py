"""/spaces: what a search can compare in."""

from __future__ import annotations

from fastapi import APIRouter

from app.http import schemas
from app.http.api_route import ApiRoute
from app.http.dependencies import SpacesDep
from app.http.security import Access, requires

router = APIRouter(route_class=ApiRoute, tags=["search"])


@router.get("/spaces", summary="List spaces")
@requires(Access.READ)
def list_spaces(spaces: SpacesDep) -> schemas.SpaceList:
    """Returns the spaces that a search can compare in, and whether each takes words."""
    listed = [
        schemas.Space(
            name=space.name,
            model_version=space.version,
            dimension=space.dimension,
            text=space.text,
            calibrated=space.calibrated,
        )
        for space in spaces.list_spaces()
    ]
    return schemas.SpaceList(spaces=listed)
