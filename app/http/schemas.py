"""Request and response models: the HTTP face of the service's values."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from app.services.attributes import AttributeSummary
from app.services.reembed import Progress
from storage import records


class Links(BaseModel):
    self: str
    content: str
    thumbnail: str


class Master(BaseModel):
    id: UUID
    sha256: str = Field(description="Of the original bytes, in hexadecimal.")
    size: int = Field(description="Bytes.")
    width: int = Field(description="Pixels, after EXIF turning.")
    height: int
    mime: str
    name: str
    attributes: dict[str, Any]
    collection: str
    created_at: datetime
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
            collection=master.collection,
            created_at=_time(master.created_at),
            links=Links.model_construct(
                self=path, content=f"{path}/content", thumbnail=f"{path}/thumbnail"
            ),
        )


class MasterPage(BaseModel):
    masters: list[Master]
    next_cursor: str | None = Field(
        description="Pass it as `cursor` for the next page; null on the last one."
    )
    total: int


class MasterChange(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str | None = Field(None, max_length=10_000)
    attributes: dict[str, Any] | None = Field(None, description="Replaces all attributes there.")


class ScrubOptions(BaseModel):
    model_config = ConfigDict(extra="forbid")

    repair: bool = Field(False, description="Repair what is found; else only report it.")
    full: bool = Field(
        False, description="Read every object; else a thirtieth of them, another one each day."
    )


class DeadLetter(BaseModel):
    master: Master
    model_version: str
    attempts: int
    failure: str = Field(description="Of the last attempt.")

    @classmethod
    def of(cls, letter: records.DeadLetter) -> DeadLetter:
        return cls.model_construct(
            master=Master.of(letter.master),
            model_version=letter.model_version,
            attempts=letter.attempts,
            failure=letter.failure,
        )


class DeadLetters(BaseModel):
    dead_letters: list[DeadLetter]
    total: int


class Revived(BaseModel):
    revived: int = Field(description="Embeddings that the worker tries again now.")


class Model(BaseModel):
    version: str
    state: str = Field(description="building, active, previous, or retired (being removed).")
    masters: int = Field(description="That there are.")
    indexed: int = Field(description="Of them, those that a search by this version finds.")
    dead: int = Field(description="Of them, those that could not be embedded.")
    loaded: int = Field(description="Running processes that have loaded it.")
    created_at: datetime

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
        )


class ModelList(BaseModel):
    models: list[Model]
    processes: int = Field(description="Running API and worker processes.")


class AddedModel(BaseModel):
    version: str


class Problem(BaseModel):
    """An error (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    code: str = Field(description="Stable; for programs.")
    request_id: str


class UploadResult(BaseModel):
    status: int = Field(
        description="201 new, 202 new and searchable soon, 200 there already, else the error's."
    )
    created: bool | None = None
    indexed: bool | None = Field(None, description="Whether a search finds it by now.")
    master: Master | None = None
    error: Problem | None = None


class UploadResults(BaseModel):
    results: list[UploadResult] = Field(description="One per file, in the order they were sent.")


class Hit(BaseModel):
    master: Master
    distance: float = Field(description="Cosine distance, 0 (same) to 2.")
    score: float = Field(description="100 x (1 - distance / 2), for people.")
    exact: bool = Field(description="The same bytes as the sample.")
    probability: float | None = Field(
        description="That it shows the same thing; null by a model without calibration."
    )


class SearchAnswer(BaseModel):
    hits: list[Hit] = Field(description="Nearest first; ties by id.")
    model_version: str
    took_ms: float


class Comparison(BaseModel):
    distance: float
    score: float
    exact: bool
    probability: float | None = Field(
        description="That both show the same thing; null by a model without calibration."
    )
    model_version: str


class NewCollection(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str


class Collection(BaseModel):
    name: str
    masters: int
    created_at: datetime

    @classmethod
    def of(cls, collection: records.Collection, masters: int) -> Collection:
        return cls(name=collection.name, masters=masters, created_at=_time(collection.created_at))


class CollectionList(BaseModel):
    collections: list[Collection]
    pending: int = Field(
        description="Embeddings that are still to be made, in all collections and for all model versions."
    )


class AttributeValue(BaseModel):
    value: bool | int | float | str
    masters: int


class Attribute(BaseModel):
    key: str = Field(
        description="As a filter spells it; keys of nested objects are joined by dots."
    )
    masters: int = Field(description="That have it.")
    types: list[str] = Field(description="Of string, number, boolean, list.")
    values: list[AttributeValue] = Field(description="The most frequent, of a list its items.")
    distinct: int = Field(description="Different values; those beyond 10 000 are not counted.")
    minimum: float | None = Field(description="Of the numbers.")
    maximum: float | None

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
    attributes: list[Attribute] = Field(description="By number of masters.")
    masters: int = Field(description="That were looked at: the newest 100 000 at most.")


class Readiness(BaseModel):
    ready: bool
    checks: dict[str, str] = Field(description="Each store and the model: `ok`, or what is wrong.")
    model_version: str


def score_of(distance: float) -> float:
    return round(100.0 * (1.0 - distance / 2.0), 4)


def _time(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
