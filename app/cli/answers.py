"""The parts of the service's answers that the command line relies on.

A service may be hostile, or something else may answer at its address, so each answer is checked
against one of these. app/http/schemas describes the whole answers.
"""

from __future__ import annotations

from typing import (
    Annotated,
    Any,
    NotRequired,  # pydantic cannot use those of Python 3.11
)
from uuid import UUID

from pydantic import Field
from typing_extensions import TypedDict

TRUNCATED = "truncated"  # a warning
NEAR_DUPLICATE = "near-duplicate"  # an error code


class Master(TypedDict):
    id: UUID
    sha256: str
    size: int
    name: str
    attributes: dict[str, Any]
    capture: NotRequired[dict[str, Any] | None]
    collection: str


class MasterPage(TypedDict):
    masters: list[Master]
    next_cursor: str | None
    total: int


class NearDuplicate(TypedDict):
    id: UUID
    distance: float
    common: int


class Problem(TypedDict):
    code: str
    detail: str
    near_duplicates: NotRequired[list[NearDuplicate]]


class UploadedMaster(TypedDict):
    id: UUID


class StoredUpload(TypedDict):
    status: int
    created: bool
    warnings: NotRequired[list[str]]  # as below: a service of an earlier commit has none
    master: NotRequired[UploadedMaster]
    near_duplicates: NotRequired[list[NearDuplicate]]


class FailedUpload(TypedDict):
    status: int
    error: Problem


class UploadResults(TypedDict):
    results: list[StoredUpload | FailedUpload]


class FailedUploads(TypedDict):
    """The answer if no file of a request with several was accepted."""

    results: Annotated[list[FailedUpload], Field(min_length=1)]


class Hit(TypedDict):
    master: Master
    distance: float
    score: float
    exact: bool
    probability: float | None


class SearchAnswer(TypedDict):
    hits: list[Hit]
    understood: float | None
    warnings: NotRequired[list[str]]


class Explanation(TypedDict):
    method: str
    similarity: float


class DeadLetter(TypedDict):
    master: Master
    model_version: str
    attempts: int
    failure: str


class DeadLetters(TypedDict):
    dead_letters: list[DeadLetter]
    total: int


class Revived(TypedDict):
    revived: int


class Stats(TypedDict):
    masters: int
    unread: int


class Reread(TypedDict):
    unread: int


class Model(TypedDict):
    version: str
    state: str
    space: str
    masters: int
    indexed: int
    dead: int
    loaded: int


class Collection(TypedDict):
    name: str
    masters: int


class CollectionList(TypedDict):
    collections: list[Collection]


class ModelList(TypedDict):
    models: list[Model]
    processes: int


class AddedModel(TypedDict):
    version: str


class Space(TypedDict):
    name: str
    model_version: str | None
    dimension: int | None
    text: str | None


class SpaceList(TypedDict):
    spaces: list[Space]


class ScrubReport(TypedDict):
    masters: int
    objects: int
    hashed: int
    vectors: int
    waiting: int
    seconds: float
    clean: bool
    repair: bool
    found: dict[str, int]
    repaired: dict[str, int]
    examples: dict[str, list[str]]


class ScrubEvent(TypedDict):
    """A line of a scrub's stream: what is done so far, or at last the report."""

    error: NotRequired[Problem]
    report: NotRequired[ScrubReport]
    looked_at: NotRequired[int]
    total: NotRequired[int]


class ActivationEvent(TypedDict):
    """A line of an activation's stream."""

    error: NotRequired[Problem]
    checked: NotRequired[int]
    active: NotRequired[str]


class MatchCount(TypedDict):
    matched: int


class RefusedChange(TypedDict):
    id: UUID
    reason: str


class ChangeResult(TypedDict):
    matched: int
    skipped: int
    changed: NotRequired[int]
    deleted: NotRequired[int]
    deletion: NotRequired[UUID]
    undo_until: NotRequired[str]
    unchanged: NotRequired[int]
    refused: NotRequired[int]
    examples: NotRequired[list[RefusedChange]]


class ChangeEvent(TypedDict):
    """A line of the stream of a change or a deletion by filter."""

    error: NotRequired[Problem]
    result: NotRequired[ChangeResult]
    done: NotRequired[int]
    total: NotRequired[int]
    deletion: NotRequired[UUID]
    undo_until: NotRequired[str]


class Deletion(TypedDict):
    id: UUID
    collection: str
    reason: str
    masters: int
    created_at: str
    undo_until: str


class DeletionList(TypedDict):
    deletions: list[Deletion]


class ResolvedGroup(TypedDict):
    keep: UUID
    delete: list[UUID]
    merged: bool


class ResolvePreview(TypedDict):
    """The answer to a dry run of resolving duplicates."""

    groups: int
    matched: int
    bytes: int
    merged: int
    skipped: int
    refused: int
    examples: list[RefusedChange]
    choices: list[ResolvedGroup]


class ResolveResult(TypedDict):
    groups: int
    kept: int
    deleted: int
    bytes: int
    merged: int
    skipped: int
    refused: int
    examples: list[RefusedChange]
    deletion: NotRequired[UUID]
    undo_until: NotRequired[str]


class ResolveEvent(TypedDict):
    """A line of the stream of resolving duplicates."""

    error: NotRequired[Problem]
    result: NotRequired[ResolveResult]
    done: NotRequired[int]
    total: NotRequired[int]
    deletion: NotRequired[UUID]
    undo_until: NotRequired[str]


class UndoConflict(TypedDict):
    id: UUID
    master: UUID


class UndoResult(TypedDict):
    restored: int
    conflicts: int
    held: int
    attributes_restored: int
    examples: list[UndoConflict]


class UndoEvent(TypedDict):
    """A line of the stream of an undone deletion."""

    error: NotRequired[Problem]
    result: NotRequired[UndoResult]
    done: NotRequired[int]
    total: NotRequired[int]


class DuplicateScan(TypedDict):
    state: str
    checked: int
    total: int
    pairs: int
    eta: float | None


class DuplicateMember(TypedDict):
    id: UUID
    name: str
    size: int
    width: int
    height: int
    common: int | None
    distance: float | None


class DuplicateGroup(TypedDict):
    id: UUID
    certainty: int
    members: list[DuplicateMember]


class DuplicatePage(TypedDict):
    scan: DuplicateScan
    groups: list[DuplicateGroup]
    next_cursor: str | None


class Decided(TypedDict):
    pairs: int


class DuplicateDecision(TypedDict):
    masters: list[UUID]
    decision: str


class DecisionPage(TypedDict):
    decisions: list[DuplicateDecision]
    next_cursor: str | None
