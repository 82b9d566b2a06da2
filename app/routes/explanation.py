"""/explain: which places of a sample and a master make them alike."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, File, Form, Response, UploadFile

from app.errors import InvalidInput
from app.http import schemas
from app.http.api_route import ApiRoute
from app.http.dependencies import ExplanationsDep, SettingsDep
from app.http.parameters import parse_box
from app.http.security import Access, requires
from app.http.uploads import file_of
from app.services.explanations import draw_png
from app.services.queries import FileExample, MasterExample

router = APIRouter(route_class=ApiRoute, tags=["search"])


@router.post(
    "/explain",
    response_model=schemas.Explanation,
    responses={200: {"content": {"image/png": {}}}},
    summary="Explain a hit",
)
@requires(Access.READ)
def explain(
    explanations: ExplanationsDep,
    settings: SettingsDep,
    master_id: Annotated[UUID, Form(description="The master that a search found.")],
    sample: Annotated[UploadFile | None, File(description="The image searched with.")] = None,
    sample_id: Annotated[UUID | None, Form(description="A master instead of a sample.")] = None,
    box: Annotated[
        str | None,
        Form(
            description="Part of the sample that was searched with: x,y,width,height in pixels of"
            " the upright image."
        ),
    ] = None,
    space: Annotated[str | None, Form(description="Space to compare in. Default: `look`.")] = None,
    overlay: Annotated[
        Literal["sample", "master", "both"] | None,
        Form(description="Answer with a PNG of this image, or of both, coloured by its grid."),
    ] = None,
) -> Response:
    """Returns for each image a grid of numbers: which places make the two alike.

    With overlay, the answer is a PNG of at most 512 pixels a side for each image.
    """
    part = parse_box(box)
    if (sample is None) == (sample_id is None):
        detail = "Send either a file part named sample or the field sample_id."
        raise InvalidInput("invalid-request", detail)
    example: FileExample | MasterExample
    if sample is not None:
        example = FileExample(file_of(sample, settings), part)
    elif sample_id is not None:
        example = MasterExample(sample_id, part)
    found = explanations.explain(example, master_id, space or None, overlays=overlay is not None)
    if overlay is None:
        body = schemas.Explanation.of(found).model_dump_json()
        return Response(body, media_type="application/json")
    images = {"sample": found.sample, "master": found.master}
    chosen = images.values() if overlay == "both" else [images[overlay]]
    return Response(draw_png(*chosen), media_type="image/png")
