"""Bodies about deletions that can be undone."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from pydantic import BaseModel, Field

from app.http.schemas.times import utc_time
from storage import protocols


class Deletion(BaseModel):
    """A deletion that can be undone."""

    id: UUID
    collection: str = Field(
        description="Name of the collection, or of the other one if that was deleted."
    )
    reason: str = Field(description="Why the masters were deleted: `filter` or `duplicates`.")
    masters: int = Field(description="Number of deleted masters.")
    created_at: datetime
    undo_until: datetime = Field(description="When the deletion becomes permanent.")

    @classmethod
    def of(cls, deletion: protocols.Deletion) -> Deletion:
        return cls(
            id=deletion.id,
            collection=deletion.collection,
            reason=deletion.reason,
            masters=deletion.masters,
            created_at=utc_time(deletion.created_at),
            undo_until=utc_time(deletion.undo_until),
        )


class DeletionList(BaseModel):
    """The deletions that can be undone."""

    deletions: list[Deletion] = Field(description="Deletions, the newest first.")
