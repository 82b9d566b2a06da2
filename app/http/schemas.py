"""Request and response bodies of the HTTP API."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Annotated, Any, Literal, NotRequired, cast
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict  # pydantic cannot use that of Python 3.11

from app.services.attributes import AttributeSummary
from app.services.reembed import Progress
from storage import records

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


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
            created_at=_time(master.created_at),
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


class MasterChange(BaseModel):
    """New values for a master. A value that is left out stays as it is."""

    model_config = ConfigDict(extra="forbid")

    name: str | None = Field(None, max_length=10_000, description="New name of the master.")
    attributes: dict[str, Any] | None = Field(
        None, description="Replaces all attributes of the master."
    )


class ScrubOptions(BaseModel):
    """What a scrub does."""

    model_config = ConfigDict(extra="forbid")

    repair: bool = Field(False, description="Repair what is found; otherwise only report it.")
    full: bool = Field(
        False,
        description="Read every original; otherwise a thirtieth of them, a different part each"
        " day.",
    )
    allow_removal: bool = Field(
        False,
        description="Repair even if more than ten masters and more than 1 % of them would be moved"
        " to quarantine, or if the metadata database is empty or older than the catalogue.",
    )


class DeadLetter(BaseModel):
    """An embedding that failed too often."""

    master: Master
    model_version: str
    attempts: int = Field(description="Number of failed attempts.")
    failure: str = Field(description="Error of the last attempt.")

    @classmethod
    def of(cls, letter: records.DeadLetter) -> DeadLetter:
        return cls.model_construct(
            master=Master.of(letter.master),
            model_version=letter.model_version,
            attempts=letter.attempts,
            failure=letter.failure,
        )


class DeadLetters(BaseModel):
    """Embeddings that failed too often, oldest master first."""

    dead_letters: list[DeadLetter]
    total: int = Field(description="Number of all dead letters, listed or not.")


class Revived(BaseModel):
    """The result of retrying dead letters."""

    revived: int = Field(description="Number of embeddings that the worker retries.")


class Model(BaseModel):
    """A model version and its progress."""

    version: str
    state: str = Field(description="building, active, previous, or retired (being removed).")
    masters: int = Field(description="Number of all stored masters.")
    indexed: int = Field(description="Number of masters that have a vector of this version.")
    dead: int = Field(description="Number of masters that failed too often.")
    loaded: int = Field(description="Number of running processes that have loaded it.")
    created_at: datetime
    space: str = Field(description="Space in which its vectors are compared.")

    @classmethod
    def of(cls, progress: Progress, replicas: list[records.Replica]) -> Model:
        model = progress.model
        return cls(
            version=model.id,
            state=model.state,
            masters=progress.masters,
            indexed=progress.indexed,
            dead=progress.dead,
            loaded=sum(model.id in replica.loaded for replica in replicas),
            created_at=_time(model.created_at),
            space=model.space,
        )


class ModelList(BaseModel):
    """All model versions."""

    models: list[Model]
    processes: int = Field(description="Number of running API and worker processes.")


class Space(BaseModel):
    """A space, whose vectors a search can compare."""

    name: str
    model_version: str | None = Field(
        description="Version that searches use; null while the first one is being built."
    )
    dimension: int | None = Field(
        description="Length of the vectors; null if this process has not loaded the version."
    )
    text: Literal["encoder", "built-in"] | None = Field(
        description="What reads texts: the space's own encoder, or the built-in words. Null: the"
        " space takes images only."
    )
    calibrated: bool = Field(description="Whether hits have a probability.")


class SpaceList(BaseModel):
    """All spaces, `look` first."""

    spaces: list[Space]


class AddedModel(BaseModel):
    """The model version that the call added or changed."""

    version: str


class Problem(BaseModel):
    """An error (RFC 9457), whose `code` is for programs and whose `detail` is for people."""

    type: str
    title: str
    status: int
    detail: str
    code: str = Field(description="Stable identifier of the error.")
    request_id: str = Field(description="Identifies the request in the log.")


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
    error: Problem | None = None


class UploadResults(BaseModel):
    """The outcomes of an upload."""

    results: list[UploadResult] = Field(description="One per file, in the order they were sent.")


class Hit(BaseModel):
    """A master that a search found."""

    master: Master
    distance: float = Field(description="Cosine distance, from 0 (the same) to 2.")
    score: float = Field(description="100 x (1 - distance / 2), from 0 to 100.")
    exact: bool = Field(description="Whether the master has the same bytes as the sample.")
    probability: float | None = Field(
        description="Probability that both show the same thing; null with a text, and without a"
        " calibration."
    )


class SearchAnswer(BaseModel):
    """The result of a search."""

    hits: list[Hit] = Field(description="Hits, nearest first; equal distances in the order of ids.")
    model_version: str
    took_ms: float = Field(description="Duration of the search in milliseconds.")
    space: str = Field(description="Space that was searched.")
    understood: float | None = Field(
        description="How near the text is to what the built-in words know, from 0 to 1; below 0.5,"
        " the hits mean little. Null without a text, and in a space whose own encoder reads it."
    )
    warnings: list[str] = Field(
        description="`truncated`: the sample lacks its last bytes, and the search used the rest."
        " Otherwise empty."
    )


class Comparison(BaseModel):
    """The distance between two images."""

    distance: float = Field(description="Cosine distance, from 0 (the same) to 2.")
    score: float = Field(description="100 x (1 - distance / 2), from 0 to 100.")
    exact: bool = Field(description="Whether both have the same bytes.")
    probability: float | None = Field(
        description="Probability that both show the same thing; null without a calibration."
    )
    model_version: str
    warnings: list[str] = Field(
        description="`truncated`: one of the files lacks its last bytes, and the rest was compared."
        " Otherwise empty."
    )


class NewCollection(BaseModel):
    """A collection to create."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(description="1 to 63 characters: a-z, 0-9 and hyphens.")


class Collection(BaseModel):
    """A named set of masters."""

    name: str
    masters: int = Field(description="Number of masters.")
    created_at: datetime

    @classmethod
    def of(cls, collection: records.Collection, masters: int) -> Collection:
        return cls(name=collection.name, masters=masters, created_at=_time(collection.created_at))


class CollectionList(BaseModel):
    """All collections, in the order of their names."""

    collections: list[Collection]
    pending: int = Field(
        description="Number of pending embeddings, of all collections and model versions."
    )


class AttributeValue(BaseModel):
    """A value of an attribute, or an item of a list."""

    value: bool | int | float | str
    masters: int = Field(description="Number of occurrences; a list may contain it more than once.")


class Attribute(BaseModel):
    """The values that masters have under one key."""

    key: str = Field(
        description="Key as filters write it; keys of nested objects are joined by dots."
    )
    masters: int = Field(description="Number of masters that have the key.")
    types: list[str] = Field(description="Types of the values: string, number, boolean, list.")
    values: list[AttributeValue] = Field(
        description="Most frequent values; a list counts by its items."
    )
    distinct: int = Field(description="Number of different values, at most 10 000.")
    minimum: float | None = Field(description="Smallest number.")
    maximum: float | None = Field(description="Largest number.")

    @classmethod
    def of(cls, summary: AttributeSummary, limit: int) -> Attribute:
        return cls(
            key=summary.key,
            masters=summary.masters,
            types=sorted(summary.types),
            values=[
                AttributeValue(value=value, masters=count)
                for value, count in summary.most_frequent(limit)
            ],
            distinct=len(summary.counts),
            minimum=summary.minimum,
            maximum=summary.maximum,
        )


class AttributeList(BaseModel):
    """The attribute keys of a collection."""

    attributes: list[Attribute] = Field(description="Keys, the most widespread first.")
    fields: list[Attribute] = Field(
        description="The same summary for the built-in fields, such as `capture.camera`. Fields"
        " that differ in nearly every master, such as `name`, have no values. Times are in"
        " milliseconds since 1970."
    )
    masters: int = Field(
        description="Number of masters that were read: the newest 100 000 at most."
    )


class Month(BaseModel):
    """A month in which masters were taken."""

    month: str = Field(description="Year and month (UTC), such as 2024-05.")
    masters: int = Field(description="Number of masters.")


class Timeline(BaseModel):
    """The number of masters that were taken in each month."""

    months: list[Month] = Field(description="Months with masters, the newest first.")
    undated: int = Field(description="Number of masters whose files have no capture time.")
    unread: int = Field(description="Number of masters whose files have not been read yet.")

    @classmethod
    def of(cls, counted: records.Months) -> Timeline:
        months = [Month(month=month, masters=masters) for month, masters in counted.months]
        return cls(months=months, undated=counted.undated, unread=counted.unread)


class Stats(BaseModel):
    """Counts for the whole installation."""

    masters: int = Field(description="Number of masters of all collections.")
    pending: int = Field(description="Number of pending embeddings, of all model versions.")
    dead_letters: int = Field(description="Number of embeddings that failed too often.")
    unread: int = Field(
        description="Number of masters whose capture metadata the worker has yet to read."
    )


class Reread(BaseModel):
    """The result of making all files unread."""

    unread: int = Field(description="Number of masters whose files the worker will read.")


class Readiness(BaseModel):
    """Whether the process can answer requests."""

    ready: bool
    checks: dict[str, str] = Field(
        description="Each store and the model: `ok`, or the reason why it does not work."
    )
    model_version: str
    warnings: list[str] = Field(
        description="Problems that were found when the process started, and that an operator should"
        " solve although the process is ready."
    )


def score_of(distance: float) -> float:
    """Turn a cosine distance, 0 to 2, into a score, 100 to 0."""
    return round(100.0 * (1.0 - distance / 2.0), 4)


def _capture_of(stored: records.Capture | None) -> Capture | None:
    """Return capture metadata as clients get it: the time, with its offset, as a string."""
    if stored is None or "time" not in stored:
        return cast("Capture | None", stored)
    offset = stored.get("offset")
    zone = None if offset is None else timezone(timedelta(minutes=offset))
    moment = _EPOCH + timedelta(milliseconds=stored["time"])  # a timestamp may be negative
    local = moment.replace(tzinfo=None) if zone is None else moment.astimezone(zone)
    others = {name: value for name, value in stored.items() if name != "offset"}
    return cast("Capture", others | {"time": local.isoformat()})


def _time(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
