"""/compare: the distance between two images."""

from __future__ import annotations

from typing import Annotated, BinaryIO
from uuid import UUID

from fastapi import APIRouter, File, Form, UploadFile

from app.errors import InvalidInput
from app.http import schemas
from app.http.api_route import ApiRoute
from app.http.dependencies import MastersDep, SearchDep, SettingsDep
from app.http.security import Access, requires
from app.http.uploads import file_of
from app.services.masters import Masters
from app.settings import Settings

router = APIRouter(route_class=ApiRoute, tags=["search"])


@router.post("/compare", summary="Compare two images")
@requires(Access.READ)
def compare(
    search: SearchDep,
    masters: MastersDep,
    settings: SettingsDep,
    a: Annotated[UploadFile | None, File(description="The first image.")] = None,
    b: Annotated[UploadFile | None, File(description="The second image.")] = None,
    a_id: Annotated[UUID | None, Form(description="A master as the first image.")] = None,
    b_id: Annotated[UUID | None, Form(description="A master as the second image.")] = None,
) -> schemas.Comparison:
    """Returns the distance between two images, each of which is a file or a master."""
    first = _image(a, a_id, "a", masters, settings)
    second = _image(b, b_id, "b", masters, settings)
    compared = search.compare_images(first, second)
    return schemas.Comparison(
        distance=compared.distance,
        score=schemas.score_of(compared.distance),
        exact=compared.exact,
        probability=compared.probability,
        model_version=compared.model_version,
        warnings=list(compared.warnings),
    )


def _image(
    file: UploadFile | None,
    master_id: UUID | None,
    name: str,
    masters: Masters,
    settings: Settings,
) -> BinaryIO:
    if file is not None and master_id is None:
        return file_of(file, settings)
    if master_id is not None and file is None:
        return masters.read_verified(masters.find_master(master_id))
    detail = f"Send either a file part named {name} or the field {name}_id."
    raise InvalidInput("invalid-request", detail)
