"""Bodies about collections: their attributes and their timeline."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, Field

from app.http.schemas.bodies import Body
from app.http.schemas.times import utc_time
from app.services.attributes import AttributeSummary
from storage import records
from storage.list_records import Months


class NewCollection(Body):
    """A collection to create."""

    name: str = Field(description="1 to 63 characters: a-z, 0-9 and hyphens.")


class Collection(BaseModel):
    """A named set of masters."""

    name: str
    masters: int = Field(description="Number of masters.")
    created_at: datetime

    @classmethod
    def of(cls, collection: records.Collection, masters: int) -> Collection:
        return cls(
            name=collection.name, masters=masters, created_at=utc_time(collection.created_at)
        )


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
    def of(cls, counted: Months) -> Timeline:
        months = [Month(month=month, masters=masters) for month, masters in counted.months]
        return cls(months=months, undated=counted.undated, unread=counted.unread)
