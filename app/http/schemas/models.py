"""Bodies about model versions and spaces."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field

from app.http.schemas.times import utc_time
from app.services.reembed import Progress
from storage import records


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
            created_at=utc_time(model.created_at),
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
