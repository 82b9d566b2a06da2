"""/embed and /masters/{master_id}/vectors: the vectors themselves."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, File, Form, Response, UploadFile

from app.http import schemas
from app.http.api_route import ApiRoute
from app.http.dependencies import SearchDep, SettingsDep, StoredVectorsDep
from app.http.openapi import takes_json
from app.http.parameters import MasterId, parse_box
from app.http.search_queries import SentDep, list_inputs, read_inputs, refuse_files
from app.http.security import Access, requires
from app.http.uploads import file_of
from app.services.search import EmbeddedVector

router = APIRouter(route_class=ApiRoute)


@router.post(
    "/embed",
    response_model=schemas.EmbedAnswer,
    summary="Embed images and words",
    tags=["search"],
    openapi_extra=takes_json(schemas.EmbedQuery),
)
@requires(Access.READ)
def embed(
    search: SearchDep,
    settings: SettingsDep,
    sent: SentDep,
    sample: Annotated[UploadFile | None, File(description="Image to embed.")] = None,
    master_id: Annotated[UUID | None, Form(description="Master to embed.")] = None,
    text: Annotated[str | None, Form(description="Words to embed.")] = None,
    box: Annotated[
        str | None,
        Form(description="Part of the image: x,y,width,height in pixels of the upright image."),
    ] = None,
    space: Annotated[
        str | None,
        Form(
            description="Space to embed in. The default is `look`; for a text it is `words` if"
            " that space exists."
        ),
    ] = None,
    query: Annotated[
        str | None,
        Form(
            description="What to embed in JSON, as in a body of application/json, instead of all"
            " other fields. Its examples name file parts of the form."
        ),
    ] = None,
) -> Response:
    """Returns the vectors of images and words under the active model versions. Stores nothing.

    POST /search takes such a vector instead of what it was made from.
    """
    if sent.query is not None:
        examples, space = read_inputs(sent, settings)
    else:
        refuse_files(sent, known="sample")
        file = None if sample is None else file_of(sample, settings)
        examples = list_inputs(file, master_id, parse_box(box), text)
    found = [_embedded(each) for each in search.embed(examples, space or None)]
    body = schemas.EmbedAnswer.model_construct(vectors=found)
    return Response(body.model_dump_json(), media_type="application/json")


def _embedded(found: EmbeddedVector) -> schemas.Embedded:
    return schemas.Embedded.model_construct(
        space=found.space,
        model_version=found.version,
        vector=schemas.numbers_of(found.vector),
        understood=found.understood,
        warnings=list(found.warnings),
    )


@router.get(
    "/masters/{master_id}/vectors",
    response_model=schemas.MasterVectors,
    summary="Get the vectors of a master",
    tags=["masters"],
)
@requires(Access.READ)
def list_vectors(vectors: StoredVectorsDep, master_id: MasterId) -> Response:
    """Returns the vectors that are stored for a master under the active model versions."""
    parts = [
        schemas.Part.of(found.space, found.version, part, with_vector=True)
        for found in vectors.list_vectors(master_id)
        for part in found.parts
    ]
    body = schemas.MasterVectors.model_construct(vectors=parts)
    return Response(body.model_dump_json(), media_type="application/json")
