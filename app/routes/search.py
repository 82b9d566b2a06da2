"""/search and /compare: show a sample, get what looks like it."""

from __future__ import annotations

import time
from typing import Annotated, BinaryIO
from uuid import UUID

from fastapi import APIRouter, File, Form, Response, UploadFile

from app.errors import InvalidInput, TooLarge
from app.http import schemas
from app.http.dependencies import MastersDep, SearchDep, ServicesDep, SettingsDep
from app.http.forms import FormRoute, parse_box, parse_filter_text
from app.http.security import Access, requires
from app.services.collections import DEFAULT
from app.services.masters import Masters
from app.services.search import MAX_REACH, Options
from app.settings import MIB, Settings

router = APIRouter(route_class=FormRoute, tags=["search"])


@router.post("/search", response_model=schemas.SearchAnswer)
@requires(Access.READ)
def search(
    service: SearchDep,
    settings: SettingsDep,
    sample: Annotated[
        UploadFile | None, File(description="The image to search with; never stored.")
    ] = None,
    master_id: Annotated[
        UUID | None, Form(description="Search with this master instead of a sample.")
    ] = None,
    k: Annotated[int, Form(ge=1, le=1000, description="Number of hits.")] = 10,
    offset: Annotated[
        int, Form(ge=0, le=MAX_REACH, description="Hits to skip; offset + k at most 10 000.")
    ] = 0,
    collection: Annotated[str, Form()] = DEFAULT,
    max_distance: Annotated[
        float | None,
        Form(ge=0, le=2, allow_inf_nan=False, description="Nothing farther than this."),
    ] = None,
    filter: Annotated[
        str | None,
        Form(description='On attributes, as JSON: {"colour": "red", "price": {"$lt": 20}}.'),
    ] = None,
    box: Annotated[
        str | None,
        Form(
            description="x,y,width,height: search by that part of the sample, in its upright pixels."
        ),
    ] = None,
    mirror: Annotated[
        bool, Form(description="Try the mirrored sample too; the better distance counts.")
    ] = False,
    min_probability: Annotated[
        float | None,
        Form(
            ge=0,
            le=1,
            allow_inf_nan=False,
            description="Only what shows the same thing with that probability; perhaps nothing.",
        ),
    ] = None,
) -> Response:
    """The masters that look most like a sample, nearest first."""
    start = time.perf_counter()
    if offset + k > MAX_REACH:
        raise InvalidInput("invalid-request", f"offset + k is at most {MAX_REACH}.")
    options = Options(
        collection,
        k,
        offset,
        max_distance,
        parse_filter_text(filter),
        parse_box(box),
        mirror,
        min_probability,
    )
    if (sample is None) == (master_id is None):
        raise InvalidInput(
            "invalid-request", "Send either a file part named sample or the field master_id."
        )
    if sample is not None:
        answer = service.by_sample(_opened(sample, settings), options)
    else:
        assert master_id is not None  # noqa: S101 - for the type checker
        answer = service.by_master(master_id, options)
    hits = [
        schemas.Hit.model_construct(
            master=schemas.Master.of(hit.master),
            distance=hit.distance,
            score=schemas.score_of(hit.distance),
            exact=hit.exact,
            probability=hit.probability,
        )
        for hit in answer.hits
    ]
    took = round((time.perf_counter() - start) * 1000, 2)
    body = schemas.SearchAnswer.model_construct(
        hits=hits, model_version=answer.model_version, took_ms=took
    )
    return Response(body.model_dump_json(), media_type="application/json")


@router.post("/compare")
@requires(Access.READ)
def compare(
    services: ServicesDep,
    masters: MastersDep,
    a: Annotated[UploadFile | None, File(description="The first image.")] = None,
    b: Annotated[UploadFile | None, File(description="The second image.")] = None,
    a_id: Annotated[UUID | None, Form(description="A master instead of a.")] = None,
    b_id: Annotated[UUID | None, Form(description="A master instead of b.")] = None,
) -> schemas.Comparison:
    """The distance of two images, each a file or a master."""
    first = _image(a, a_id, "a", masters, services.settings)
    second = _image(b, b_id, "b", masters, services.settings)
    compared = services.search.distance(first, second)
    return schemas.Comparison(
        distance=compared.distance,
        score=schemas.score_of(compared.distance),
        exact=compared.exact,
        probability=compared.probability,
        model_version=compared.model_version,
    )


def _image(
    file: UploadFile | None, master_id: UUID | None, name: str, masters: Masters, settings: Settings
) -> BinaryIO:
    if file is not None and master_id is None:
        return _opened(file, settings)
    if master_id is not None and file is None:
        return masters.original(masters.find(master_id))
    raise InvalidInput(
        "invalid-request", f"Send either a file part named {name} or the field {name}_id."
    )


def _opened(file: UploadFile, settings: Settings) -> BinaryIO:
    if (file.size or 0) > settings.max_file_bytes:
        raise TooLarge(
            "file-too-large",
            f"The file is over the limit of {settings.max_file_bytes / MIB:g} MiB. Send a smaller version.",
        )
    return file.file
