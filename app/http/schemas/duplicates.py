"""Bodies about near-identical masters: scans, groups and decisions."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from app.http.schemas.bodies import Body, Id
from app.http.schemas.masters import Master
from app.http.schemas.times import utc_time
from app.services.duplicates import MOST_DECIDED, Member, ScanState, ShownGroup
from storage import protocols
from storage.protocols import Decision
from storage.records import LOOK


class NewDuplicateScan(Body):
    """A search for near-identical masters to start."""

    with_: str | None = Field(
        None,
        alias="with",
        description="Name of another collection, to compare the two with each other.",
    )
    space: str = Field(LOOK, description="Space whose vectors tell which masters to compare.")
    max_distance: FiniteFloat | None = Field(
        None,
        ge=0,
        le=2,
        description="Maximum distance of masters that are compared. Default: that of the scan, or"
        " 0.65 in the space `look`. A different value starts the scan over.",
    )


class DuplicateScan(BaseModel):
    """A search for near-identical masters, which the worker keeps up to date."""

    model_config = ConfigDict(populate_by_name=True)

    collection: str = Field(description="Name of the collection.")
    with_: str | None = Field(
        alias="with", description="Name of the other collection; null within one."
    )
    space: str
    max_distance: float
    state: Literal["running", "complete"]
    checked: int = Field(description="Number of masters that were compared.")
    total: int = Field(description="Number of masters to compare.")
    pairs: int = Field(description="Number of pairs found, without regard to decisions.")
    eta: float | None = Field(
        description="Seconds until all are compared; null if that is not known, or complete."
    )

    @classmethod
    def of(cls, state: ScanState) -> DuplicateScan:
        other = None if state.other == state.collection else state.other.name
        return cls(
            collection=state.collection.name,
            with_=other,
            space=state.scan.space,
            max_distance=state.scan.max_distance,
            state="complete" if state.is_complete else "running",
            checked=state.checked,
            total=state.total,
            pairs=state.pairs,
            eta=state.eta,
        )


class DuplicateMember(Master):
    """A master of a group."""

    common: int | None = Field(
        description="Local features that it shares with the first member of the group; null for"
        " that one."
    )
    distance: float | None = Field(description="Distance from the first member; null for it.")

    @classmethod
    def of_member(cls, member: Member) -> DuplicateMember:
        master = Master.of(member.master)
        values = {name: getattr(master, name) for name in Master.model_fields}
        return cls.model_construct(**values, common=member.common, distance=member.distance)


class DuplicateGroup(BaseModel):
    """Masters that show one photograph. Each was compared with the first one."""

    id: UUID = Field(description="Id of the master with which the others were compared.")
    certainty: int = Field(description="The smallest number of features that a member shares.")
    members: list[DuplicateMember] = Field(description="Two or more, the most similar ones first.")

    @classmethod
    def of(cls, group: ShownGroup) -> DuplicateGroup:
        members = [DuplicateMember.of_member(member) for member in group.members]
        return cls.model_construct(id=group.id, certainty=group.certainty, members=members)


class DuplicatePage(BaseModel):
    """A scan and a page of the groups that it has found so far."""

    scan: DuplicateScan
    groups: list[DuplicateGroup]
    undo_hours: float = Field(
        description="Hours for which a deletion of duplicates can be undone; 0: it is permanent."
    )
    next_cursor: str | None = Field(
        description="Pass it as `cursor` to get the next page; null on the last page."
    )


_Masters = Annotated[
    list[Id],
    Field(min_length=2, max_length=MOST_DECIDED, description="Ids of 2 to 100 masters."),
]


class NewDecision(Body):
    """A decision about every two of several masters."""

    masters: _Masters
    decision: Decision = Field(
        strict=False,
        description="`different`: they do not show one photograph. `keep`: they do, and all of them"
        " are to stay.",
    )


class WithdrawnDecision(Body):
    """The masters about which nothing is decided any more."""

    masters: _Masters


class Decided(BaseModel):
    """The number of pairs of masters that a request was about."""

    pairs: int


class DuplicateDecision(BaseModel):
    """What somebody decided about two masters."""

    masters: list[UUID] = Field(description="The two ids.")
    decision: Decision
    decided_at: datetime

    @classmethod
    def of(cls, decided: protocols.DecidedPair) -> DuplicateDecision:
        return cls(
            masters=list(decided.masters),
            decision=decided.decision,
            decided_at=utc_time(decided.decided_at),
        )


class DecisionPage(BaseModel):
    """A page of decisions."""

    decisions: list[DuplicateDecision]
    next_cursor: str | None = Field(
        description="Pass it as `cursor` to get the next page; null on the last page."
    )
