"""/search and /search/batch: find the masters nearest to images, texts and vectors."""

from __future__ import annotations

from typing import Annotated, BinaryIO
from uuid import UUID

from anyio import to_thread
from fastapi import APIRouter, File, Form, Request, Response, UploadFile
from fastapi.exceptions import RequestValidationError

from app.errors import InvalidInput
from app.http import schemas
from app.http.api_route import ApiRoute
from app.http.dependencies import SearchDep, SettingsDep
from app.http.file_threads import FileThreads
from app.http.openapi import takes_json
from app.http.parameters import parse_box, parse_filter_text
from app.http.problems import EXPECTED, problem_of, request_id_of
from app.http.result_options import ResultsDep
from app.http.search_answers import answer_search
from app.http.search_queries import (
    SentDep,
    chain_by_files,
    make_examples,
    make_options,
    read_batch,
    read_query,
    refuse_files,
)
from app.http.security import Access, requires
from app.http.uploads import file_of
from app.services.collections import DEFAULT
from app.services.queries import (
    MAX_REACH,
    Example,
    FileExample,
    Include,
    MasterExample,
    ResultOptions,
    SearchOptions,
    TextExample,
)
from app.services.texts import MAX_LENGTH
from models.imaging import Box

DEFAULT_TEXT_WEIGHT = 0.5

router = APIRouter(route_class=ApiRoute, tags=["search"])


@router.post(
    "/search",
    response_model=schemas.SearchAnswer,
    summary="Find masters by image or words",
    openapi_extra=takes_json(schemas.SearchQuery),
)
@requires(Access.READ)
def search(
    search: SearchDep,
    settings: SettingsDep,
    sent: SentDep,
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
        Form(description="Also search with the mirrored image. The smaller distance counts."),
    ] = False,
    turns: Annotated[
        bool,
        Form(
            description="Also search with the image turned by 90, 180 and 270 degrees. With mirror,"
            " it has eight views."
        ),
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
    include: Annotated[
        set[Include],
        Form(
            description="What to return of the part of each hit that is nearest: `box`, its place"
            " in the image, and `vector`."
        ),
    ] = set(),  # noqa: B006 - it is not changed
    results: ResultsDep = ResultOptions(),  # noqa: B008 - it is not changed
    query: Annotated[
        str | None,
        Form(
            description="The search in JSON, as in a body of application/json, instead of all other"
            " fields. Its examples name file parts of the form."
        ),
    ] = None,
) -> Response:
    """Returns the masters nearest to the examples, nearest first.

    In a form, the example is a sample, a master or a text, or one of the first two with a text.
    Their weights are then 1 - text_weight and text_weight. JSON takes up to 20 examples, each with
    a weight, which is negative for those that hits are to be unlike, and with a space. Masters are
    ordered by the weighted sum of their similarities with the examples.

    Distances between texts and images are larger than those between images, and depend on the
    space. Only hits of a search with a single image have a probability.
    """
    if sent.query is not None:
        examples, options = read_query(sent, settings)
    else:
        refuse_files(sent, known="sample")
        file = None if sample is None else file_of(sample, settings)
        examples = _list_examples(file, master_id, parse_box(box), text, text_weight)
        options = SearchOptions(
            collection=collection,
            k=k,
            offset=offset,
            max_distance=max_distance,
            filter=parse_filter_text(filter),
            mirror=mirror,
            turns=turns,
            min_probability=min_probability,
            space=space or None,
            feedback=feedback,
            include=frozenset(include),
            results=results,
        )
    answer = answer_search(search, examples, options)
    return Response(answer.model_dump_json(), media_type="application/json")


def _list_examples(
    file: BinaryIO | None,
    master_id: UUID | None,
    box: Box | None,
    text: str | None,
    text_weight: float | None,
) -> list[Example]:
    """Return the examples of a form without a query. Raises InvalidInput."""
    if (file is None) == (master_id is None) and (text is None or file is not None):
        detail = (
            "Send sample (a file part), master_id or text; a text can go with one of the others."
        )
        raise InvalidInput("invalid-request", detail)
    if text is None and text_weight is not None:
        raise InvalidInput(
            "invalid-request", "text_weight needs a text. Send one, or leave it out."
        )
    has_image = file is not None or master_id is not None
    if not has_image and (box is not None or text_weight is not None):
        detail = "box and text_weight need an image. Send a sample too, or leave them out."
        raise InvalidInput("invalid-request", detail)
    share = DEFAULT_TEXT_WEIGHT if text_weight is None else text_weight
    examples: list[Example] = []
    if has_image:
        weight = 1.0 if text is None else 1 - share
        if file is not None:
            examples.append(FileExample(file, box, weight=weight))
        elif master_id is not None:
            examples.append(MasterExample(master_id, box, weight=weight))
    if text is not None:
        examples.append(TextExample(text, weight=share if has_image else 1.0))
    return examples


@router.post(
    "/search/batch",
    response_model=schemas.BatchAnswer,
    summary="Search several times",
    openapi_extra=takes_json(schemas.SearchBatch),
)
@requires(Access.READ)
async def search_batch(
    request: Request,
    search: SearchDep,
    settings: SettingsDep,
    sent: SentDep,
    query: Annotated[
        str | None,
        Form(
            description="The batch in JSON, as in a body of application/json. Its examples name"
            " file parts of the form."
        ),
    ] = None,
) -> Response:
    """Returns the answers of up to 100 searches, which run at the same time.

    A search that fails has its error in the place of its answer, and does not affect the others.
    """
    request_id = request_id_of(request)

    def answer_one(each: schemas.SearchQuery | RequestValidationError) -> schemas.BatchResult:
        try:
            if isinstance(each, RequestValidationError):
                raise each
            examples = make_examples(each.examples, sent.files, settings)
            answer = answer_search(search, examples, make_options(each))
        except (*EXPECTED, RequestValidationError) as error:
            problem = problem_of(error)
            body = schemas.Problem(**problem.body(request_id))
            return schemas.BatchResult(status=problem.status, error=body)
        return schemas.BatchResult.model_construct(status=200, answer=answer, error=None)

    def make_response(results: list[schemas.BatchResult]) -> Response:
        body = schemas.BatchAnswer.model_construct(results=results)
        return Response(body.model_dump_json(), media_type="application/json")

    queries = await to_thread.run_sync(read_batch, sent)
    threads: FileThreads = request.app.state.file_threads
    results = await threads.map_chains(answer_one, queries, chain_by_files(queries))
    return await to_thread.run_sync(make_response, results)
