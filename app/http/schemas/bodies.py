"""The base of the JSON bodies that clients send."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

Id = Annotated[UUID, Field(strict=False)]


class Body(BaseModel):
    """A JSON object without unknown members, and whose members have exactly their types.

    ``"5"`` and ``true`` are no numbers. Sets, tuples, ids and enumerations need
    ``Field(strict=False)``, because JSON has lists and strings for them.
    """

    model_config = ConfigDict(extra="forbid", strict=True)
