"""/admin: checks, repairs and model changes, for whoever operates the service."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, File, Path, Query, Request, Response, UploadFile
from fastapi.responses import StreamingResponse

from app.http import schemas
from app.http.api_route import ApiRoute
from app.http.dependencies import CapturesDep, DeadLettersDep, ReembedDep, ScrubDep
from app.http.download import Download
from app.http.security import Access, requires
from app.http.streams import STREAMED, streamed
from storage.records import LOOK

_SPACE = "^[a-z0-9][a-z0-9-]{0,62}$"
router = APIRouter(route_class=ApiRoute, tags=["admin"])
VersionPath = Annotated[
    str, Path(pattern="^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", description="Model version.")
]


@router.post(
    "/admin/scrub",
    response_class=StreamingResponse,
    responses=STREAMED,
    summary="Check the stores against each other",
)
@requires(Access.ADMIN)
def scrub(request: Request, scrub: ScrubDep, options: schemas.ScrubOptions) -> StreamingResponse:
    """Checks that every master has its bytes and its vector, and that nothing is left over.

    With `repair`, it also repairs what can be repaired. If that would remove more than a small
    share, nothing is changed and `refused` in the report says why. `allow_removal` repairs anyway.
    Closing the connection stops the scrub.
    """
    scrub.count_items()  # raises if a store is down, while the status can still say so
    return streamed(request, scrub.stream_scrub(**options.model_dump()))


@router.get("/admin/dead-letters", summary="List embeddings that failed too often")
@requires(Access.ADMIN)
def list_dead_letters(
    dead_letters: DeadLettersDep,
    limit: Annotated[int, Query(ge=1, le=1000, description="Maximum number of entries.")] = 100,
) -> schemas.DeadLetters:
    """Returns masters that could not be indexed, and the reasons.

    They are kept, but no search finds them. LOOKALIKE_INDEX_ATTEMPTS is the number of attempts.
    """
    letters, total = dead_letters.list_dead_letters(limit)
    listed = [schemas.DeadLetter.of(letter) for letter in letters]
    return schemas.DeadLetters(dead_letters=listed, total=total)


@router.post("/admin/dead-letters/retry", summary="Retry embeddings that failed too often")
@requires(Access.ADMIN)
def retry_dead_letters(dead_letters: DeadLettersDep) -> schemas.Revived:
    """Retries all dead letters, and returns their number."""
    return schemas.Revived(revived=dead_letters.retry_dead_letters())


@router.post("/admin/capture/reread", status_code=202, summary="Read all files again")
@requires(Access.ADMIN)
def reread_captures(captures: CapturesDep) -> schemas.Reread:
    """Makes the worker read the capture metadata of all files again.

    Until then, a master keeps its earlier metadata. `GET /stats` shows the progress.
    """
    return schemas.Reread(unread=captures.reread())


@router.get("/admin/models", summary="List model versions")
@requires(Access.ADMIN)
def list_models(reembed: ReembedDep) -> schemas.ModelList:
    """Returns the model versions, their progress, and how many processes have loaded each."""
    progress, replicas = reembed.list_progress()
    models = [schemas.Model.of(each, replicas) for each in progress]
    return schemas.ModelList(models=models, processes=len(replicas))


@router.post("/admin/models", status_code=201, summary="Add an encoder")
@requires(Access.ADMIN)
def add_encoder(
    reembed: ReembedDep,
    weights: Annotated[
        UploadFile,
        File(description="A weights file of Lookalike (safetensors), or an encoder bundle."),
    ],
) -> schemas.AddedModel:
    """Checks an encoder and stores it where every process finds it, without using it yet.

    The networks of a bundle are first run in a process with limits on memory and time.
    """
    return schemas.AddedModel(version=reembed.add_encoder(weights.file))


@router.get(
    "/admin/models/{version}/encoder",
    response_class=Response,
    responses={200: {"content": {"application/octet-stream": {}}}},
    summary="Download an encoder",
)
@requires(Access.ADMIN)
def download_encoder(request: Request, reembed: ReembedDep, version: VersionPath) -> Response:
    """Returns the weights file or the bundle of a model version, as it was added."""
    size, chunks = reembed.read_encoder(version)
    headers = {"Content-Length": str(size), "X-Content-Type-Options": "nosniff"}
    body = iter(()) if getattr(request.state, "head", False) else chunks
    return Download(body, headers=headers, media_type="application/octet-stream")


@router.post("/admin/models/{version}/start", status_code=202, summary="Build a model version")
@requires(Access.ADMIN)
def start_model(
    reembed: ReembedDep,
    version: VersionPath,
    space: Annotated[
        str,
        Query(
            pattern=_SPACE,
            description="Space to build it for. A new name makes a new space.",
        ),
    ] = LOOK,
) -> schemas.AddedModel:
    """Builds a version beside the active one of its space, or as the first of a new space.

    Workers embed every master with it, and new uploads are embedded with both versions. Searches
    use the active version until another one is activated.
    """
    reembed.start_building(version, space)
    return schemas.AddedModel(version=version)


@router.post(
    "/admin/models/{version}/activate",
    response_class=StreamingResponse,
    responses=STREAMED,
    summary="Switch to a model version",
)
@requires(Access.ADMIN)
def activate_model(
    request: Request, reembed: ReembedDep, version: VersionPath
) -> StreamingResponse:
    """Checks a version and switches every search to it in one step.

    The version that was active is kept as the previous one, and activating it again rolls back.
    """
    reembed.check_registered(version)
    return streamed(request, reembed.activate_version(version))


@router.post("/admin/models/{version}/retire", status_code=202, summary="Remove a model version")
@requires(Access.ADMIN)
def retire_model(reembed: ReembedDep, version: VersionPath) -> schemas.AddedModel:
    """Removes the version being built, or the previous one, with its vectors and its file.

    The active version of a space other than `look` can be removed too, if it is the only one,
    which removes the space.
    """
    reembed.retire_version(version)
    return schemas.AddedModel(version=version)
