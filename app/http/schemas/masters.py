"""Bodies about masters: metadata, pages, changes and uploads."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, NotRequired, cast
from uuid import UUID

from pydantic import BaseModel, Field
from typing_extensions import TypedDict  # pydantic cannot use that of Python 3.11

from app.http.schemas.bodies import Body
from app.http.schemas.times import local_time, utc_time
from app.services.collections import DEFAULT
from storage import records


class Links(BaseModel):
    """Paths of what belongs to a master."""

    self: str = Field(description="The master's metadata.")
    content: str = Field(description="The original bytes.")
    thumbnail: str = Field(description="A small JPEG of it.")


class Position(TypedDict):
    """Where a picture was taken, in WGS 84."""

    latitude: Annotated[float, Field(description="Degrees north.")]
    longitude: Annotated[float, Field(description="Degrees east.")]
    altitude: NotRequired[Annotated[float, Field(description="Metres above sea level.")]]


class Capture(TypedDict):
    """Capture metadata, from EXIF, IPTC and XMP; members that the file lacks are left out."""

    time: NotRequired[
        Annotated[
            str,
            Field(
                description="When the picture was taken (ISO 8601), with the offset from UTC if it"
                " is known."
            ),
        ]
    ]
    camera: NotRequired[Annotated[str, Field(description="Make and model.")]]
    lens: NotRequired[str]
    focal_length: NotRequired[Annotated[float, Field(description="Millimetres.")]]
    exposure: NotRequired[Annotated[float, Field(description="Exposure time in seconds.")]]
    aperture: NotRequired[Annotated[float, Field(description="f-number.")]]
    iso: NotRequired[Annotated[int, Field(description="Sensitivity (ISO 12232).")]]
    gps: NotRequired[Position]
    software: NotRequired[str]
    creator: NotRequired[str]
    copyright: NotRequired[str]
    caption: NotRequired[str]
    keywords: NotRequired[list[str]]
    rating: NotRequired[
        Annotated[int, Field(description="0 to 5, or -1 for a picture that was rejected.")]
    ]


class Master(BaseModel):
    """An uploaded image that searches can find."""

    id: UUID = Field(description="Identifier; never used for another master.")
    sha256: str = Field(description="SHA-256 of the original bytes, in hexadecimal.")
    size: int = Field(description="Size of the original in bytes.")
    width: int = Field(description="Width of the upright image in pixels.")
    height: int = Field(description="Height of the upright image in pixels.")
    mime: str = Field(description="Media type of the original, such as image/jpeg.")
    name: str = Field(description="Name for people: the file's name unless another was given.")
    attributes: dict[str, Any] = Field(description="JSON object that filters select by.")
    capture: Capture | None = Field(
        description="Capture metadata of the file; null until the file has been read."
    )
    collection: str = Field(description="Name of its collection.")
    revision: int = Field(description="Raised by every change. In quotes, it is the ETag.")
    created_at: datetime = Field(description="Time of the upload.")
    links: Links

    @classmethod
    def of(cls, master: records.Master) -> Master:
        path = f"/masters/{master.id}"
        return cls.model_construct(
            id=master.id,
            sha256=master.sha256.hex(),
            size=master.size,
            width=master.width,
            height=master.height,
            mime=master.mime,
            name=master.name,
            attributes=master.attributes,
            capture=_capture_of(master.capture),
            collection=master.collection,
            revision=master.revision,
            created_at=utc_time(master.created_at),
            links=Links.model_construct(
                self=path, content=f"{path}/content", thumbnail=f"{path}/thumbnail"
            ),
        )


class MasterPage(BaseModel):
    """A page of masters."""

    masters: list[Master]
    next_cursor: str | None = Field(
        description="Pass it as `cursor` to get the next page; null on the last page."
    )
    total: int = Field(description="Number of masters on all pages.")


class MasterChange(Body):
    """New values for a master. A value that is left out stays as it is."""

    name: str | None = Field(None, max_length=10_000, description="New name of the master.")
    attributes: dict[str, Any] | None = Field(
        None, description="Replaces all attributes of the master."
    )


class FilterChange(Body):
    """A change of all masters of a collection that match a filter."""

    collection: str = Field(DEFAULT, description="Name of the collection.")
    filter: Any = Field(description="Which masters to change, as in a search.")
    set: dict[str, Any] = Field(
        default_factory=dict,
        description="Attributes to merge into those of each master (RFC 7396): objects are merged,"
        " other values are replaced, and null removes.",
    )
    unset: list[str] = Field(
        default_factory=list,
        description="Paths of attributes to remove before that, as a filter spells them.",
    )
    dry_run: bool = Field(False, description="Only count the masters that match.")
    confirm: int | None = Field(
        None, ge=0, strict=True, description="Repeats the number that match, to confirm the change."
    )


class MatchCount(BaseModel):
    """The answer to a dry run."""

    matched: int = Field(description="Number of masters that match.")


class Problem(BaseModel):
    """An error (RFC 9457), whose `code` is for programs and whose `detail` is for people."""

    type: str
    title: str
    status: int
    detail: str
    code: str = Field(description="Stable identifier of the error.")
    request_id: str = Field(description="Identifies the request in the log.")


class NearDuplicate(BaseModel):
    """A master that is nearly identical to an uploaded image."""

    id: UUID = Field(description="Id of the master.")
    distance: float = Field(description="Distance in `look`, from 0 to 2.")
    common: int = Field(description="Number of local features that both have, at least 15.")


class UploadProblem(Problem):
    """The error of an uploaded file."""

    near_duplicates: list[NearDuplicate] | None = Field(
        None, description="With `near-duplicate`: the masters, nearest first."
    )


class UploadResult(BaseModel):
    """The outcome for one file: either a master or an error."""

    status: int = Field(
        description="201: new. 202: new, and searchable soon. 200: the collection has it already."
        " Otherwise the status of the error."
    )
    created: bool | None = Field(None, description="Whether the master is new.")
    indexed: bool | None = Field(None, description="Whether searches find the master.")
    master: Master | None = None
    warnings: list[str] | None = Field(
        None,
        description="`truncated`: the file lacks its last bytes, and was accepted because"
        " LOOKALIKE_ACCEPT_TRUNCATED allows it. Otherwise empty.",
    )
    near_duplicates: list[NearDuplicate] | None = Field(
        None,
        description="With `on_near_duplicate=report`: the masters to which a new one is nearly"
        " identical, nearest first.",
    )
    error: UploadProblem | None = None


class UploadResults(BaseModel):
    """The outcomes of an upload."""

    results: list[UploadResult] = Field(description="One per file, in the order they were sent.")


def _capture_of(stored: records.Capture | None) -> Capture | None:
    """Return capture metadata as clients get it: the time, with its offset, as a string."""
    if stored is None or "time" not in stored:
        return cast("Capture | None", stored)
    local = local_time(stored["time"], stored.get("offset"))
    others = {name: value for name, value in stored.items() if name != "offset"}
    return cast("Capture", others | {"time": local.isoformat()})
