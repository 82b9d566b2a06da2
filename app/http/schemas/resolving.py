"""Bodies about resolving groups of near-identical masters."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, Field

from app.errors import InvalidInput
from app.http.schemas.bodies import Body, Id
from app.services.keeping import Choice, Rule
from app.services.resolving import Group, Resolution
from storage.records import LOOK

MAX_GROUPS = 1000
_Ids = Annotated[list[Id], Field(min_length=2, max_length=100)]


class GroupToResolve(Body):
    """A group, and which of its masters to keep."""

    masters: _Ids = Field(description="Ids of the masters.")
    keep: Id | None = Field(None, description="The one to keep; the rules decide by default.")


class GroupsToResolve(Body):
    """Groups of near-identical masters of which one each is kept."""

    groups: list[_Ids | GroupToResolve] | None = Field(
        None,
        min_length=1,
        max_length=MAX_GROUPS,
        description="Groups: lists of ids, or objects that name the master to keep.",
    )
    all: bool = Field(False, description="Resolve all groups of a scan instead.")
    with_: str | None = Field(
        None, alias="with", description="Name of a second collection that has some of the masters."
    )
    space: str = Field(LOOK, description="Space of the scan, with `all`.")
    keep: list[Annotated[Rule, Field(strict=False)]] = Field(
        default_factory=lambda: [Rule.RESOLUTION, Rule.SIZE],
        max_length=len(Rule),
        description="What makes a master the one to keep, the most important rule first: most"
        " pixels, most bytes, a lossless format, uploaded first, most attributes. Of equal ones,"
        " the oldest is kept.",
    )
    merge_attributes: bool = Field(
        True, description="Add attributes that the kept master lacks from the deleted ones."
    )
    dry_run: bool = Field(False, description="Only return what would be done.")
    confirm: int | None = Field(
        None,
        ge=0,
        strict=True,
        description="Repeats `matched`, the number of masters to delete, to confirm it.",
    )

    def parsed(self) -> list[Group] | None:
        """Return the groups as the service takes them, or None for all. Raises InvalidInput."""
        if self.all == (self.groups is not None):
            raise InvalidInput("invalid-groups", "Give either groups or all, which must be true.")
        return [
            Group(tuple(each)) if isinstance(each, list) else Group(tuple(each.masters), each.keep)
            for each in self.groups or ()
        ] or None


class ResolvedGroup(BaseModel):
    """What would be done to a group."""

    keep: UUID = Field(description="The master to keep.")
    delete: list[Id] = Field(description="The others, the best first.")
    merged: bool = Field(description="Whether the master that is kept gets attributes.")

    @classmethod
    def of(cls, choice: Choice) -> ResolvedGroup:
        others = [master.id for master in choice.others]
        return cls(keep=choice.kept.id, delete=others, merged=choice.attributes is not None)


class RefusedGroup(BaseModel):
    """A group that is not resolved, because the merged attributes would break a rule."""

    id: UUID = Field(description="The master to keep.")
    reason: str


class ResolvePreview(BaseModel):
    """The answer to a dry run."""

    groups: int = Field(description="Number of groups that would be resolved.")
    matched: int = Field(description="Number of masters that would be deleted.")
    bytes: int = Field(description="Size of their files.")
    merged: int = Field(description="Number of masters that would get attributes.")
    skipped: int = Field(description="Number of groups of which fewer than two masters are left.")
    refused: int = Field(description="Number of groups whose attributes cannot be merged.")
    examples: list[RefusedGroup] = Field(description="Up to 20 of these, with the reasons.")
    choices: list[ResolvedGroup] = Field(description="The first 100 groups.")

    @classmethod
    def of(cls, planned: Resolution) -> ResolvePreview:
        return cls(
            groups=planned.kept,
            matched=planned.deleted,
            bytes=planned.bytes,
            merged=planned.merged,
            skipped=planned.skipped,
            refused=planned.refused,
            examples=[RefusedGroup(id=id_, reason=reason) for id_, reason in planned.examples],
            choices=[ResolvedGroup.of(choice) for choice in planned.choices],
        )
