"""Bodies about the state of the service, and for its operator."""

from __future__ import annotations

from pydantic import BaseModel, Field

from app.http.schemas.bodies import Body
from app.http.schemas.masters import Master
from storage import records


class ScrubOptions(Body):
    """What a scrub does."""

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


class Loading(BaseModel):
    """How far the vectors of a model version have been read into memory."""

    loaded: int = Field(description="Number of vectors that have been read.")
    total: int = Field(description="Number of vectors to read; 0 until it is known.")


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
    loading: dict[str, Loading] = Field(
        description="Model versions whose vectors are still being read into memory. Searches with"
        " such a version wait, and uploads do not. The process is ready once those of the active"
        " versions are loaded."
    )
