"""/search, /spaces and /compare: find the masters nearest to a sample, a text, or both."""

from __future__ import annotations

import time
from typing import Annotated, BinaryIO
from uuid import UUID

from fastapi import APIRouter, File, Form, Response, UploadFile

from app.errors import InvalidInput, TooLarge
from app.http import schemas
from app.http.api_route import ApiRoute
from app.http.dependencies import MastersDep, SearchDep, SettingsDep, SpacesDep
from app.http.parameters import parse_box, parse_filter_text
from app.http.security import Access, requires
from app.services.collections import DEFAULT
from app.services.masters import Masters
from app.services.ranking import MAX_REACH, Hit, SearchOptions
from app.services.search import Search, SearchResult
from app.services.texts import MAX_LENGTH
from app.settings import MIB, Settings

router = APIRouter(route_class=ApiRoute, tags=["search"])


@router.post(
    "/search", response_model=schemas.SearchAnswer, summary="Find masters by image or words"
)
@requires(Access.READ)
def search(
    search: SearchDep,
    settings: SettingsDep,
    sample: Annotated[
        UploadFile | None, File(description="Image to search with. It is not stored.")
    ] = None,
    master_id: Annotated[
        UUID | None, Form(description="Master to search with, instead of a sample.")
    ] = None,
    text: Annotated[
        str | None,
        Form(
            description=f"Words to search with, instead of an image or together with one: 1 to"
            f" {MAX_LENGTH} characters."
        ),
    ] = None,
    k: Annotated[int, Form(ge=1, le=1000, description="Number of hits.")] = 10,
    offset: Annotated[
        int,
        Form(ge=0, le=MAX_REACH, description="Hits to skip. offset + k is at most 10 000."),
    ] = 0,
    collection: Annotated[str, Form(description="Collection to search in.")] = DEFAULT,
    max_distance: Annotated[
        float | None,
        Form(ge=0, le=2, allow_inf_nan=False, description="Maximum distance of a hit."),
    ] = None,
    filter: Annotated[
        str | None,
        Form(
            description="Filter in JSON on attributes and built-in fields:"
            ' {"colour": "red", "capture.time": {"$gte": "2024-05-01"}}.'
        ),
    ] = None,
    box: Annotated[
        str | None,
        Form(
            description="Part of the image to search with: x,y,width,height in pixels of the"
            " upright image."
        ),
    ] = None,
    mirror: Annotated[
        bool,
        Form(description="Search with the mirrored image, too. The smaller distance counts."),
    ] = False,
    min_probability: Annotated[
        float | None,
        Form(
            ge=0,
            le=1,
            allow_inf_nan=False,
            description="Minimum probability that a hit shows the same thing. There may be no hit.",
        ),
    ] = None,
    space: Annotated[
        str | None,
        Form(
            description="Space to compare in. The default is `look`; for a text it is `words` if"
            " that space exists."
        ),
    ] = None,
    text_weight: Annotated[
        float | None,
        Form(
            ge=0,
            le=1,
            allow_inf_nan=False,
            description="Share of the text in a search with an image and a text. Default: 0.5.",
        ),
    ] = None,
    feedback: Annotated[
        bool,
        Form(
            description="Move the text towards its own first hits, which finds more of the same."
            " It is ignored if the text is hardly understood."
        ),
    ] = False,
) -> Response:
    """Returns the masters nearest to an image, to a text, or to both, nearest first.

    With both, the query is the unit vector of (1 - text_weight) x image + text_weight x text.
    Distances between texts and images are larger than those between images, and depend on the
    space; such hits have no probability.
    """
    start = time.perf_counter()
    if offset + k > MAX_REACH:
        raise InvalidInput("invalid-request", f"offset + k is at most {MAX_REACH}.")
    conditions, part = parse_filter_text(filter), parse_box(box)
    options = SearchOptions(
        collection=collection,
        k=k,
        offset=offset,
        max_distance=max_distance,
        filter=conditions,
        box=part,
        mirror=mirror,
        min_probability=min_probability,
        space=space or None,
        text=text,
        text_weight=text_weight,
        feedback=feedback,
    )
    answer = _search(search, settings, sample, master_id, options)
    hits = [_hit(hit) for hit in answer.hits]
    took = round((time.perf_counter() - start) * 1000, 2)
    body = schemas.SearchAnswer.model_construct(
        hits=hits,
        model_version=answer.model_version,
        took_ms=took,
        space=answer.space,
        understood=answer.understood,
        warnings=list(answer.warnings),
    )
    return Response(body.model_dump_json(), media_type="application/json")


def _search(
    search: Search,
    settings: Settings,
    sample: UploadFile | None,
    master_id: UUID | None,
    options: SearchOptions,
) -> SearchResult:
    if sample is not None and master_id is None:
        return search.search_by_sample(_file_of(sample, settings), options)
    if master_id is not None and sample is None:
        return search.search_by_master(master_id, options)
    if sample is None and options.text is not None:
        return search.search_by_text(options)
    detail = "Send sample (a file part), master_id or text; a text can go with one of the others."
    raise InvalidInput("invalid-request", detail)


def _hit(hit: Hit) -> schemas.Hit:
    return schemas.Hit.model_construct(
        master=schemas.Master.of(hit.master),
        distance=hit.distance,
        score=schemas.score_of(hit.distance),
        exact=hit.exact,
        probability=hit.probability,
    )


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
        return _file_of(file, settings)
    if master_id is not None and file is None:
        return masters.read_verified(masters.find_master(master_id))
    detail = f"Send either a file part named {name} or the field {name}_id."
    raise InvalidInput("invalid-request", detail)


def _file_of(upload: UploadFile, settings: Settings) -> BinaryIO:
    limit = settings.max_file_bytes
    if (upload.size or 0) > limit:
        detail = f"The file is larger than the limit of {limit / MIB:g} MiB. Send a smaller one."
        raise TooLarge("file-too-large", detail)
    return upload.file
