"""/collections: named sets of masters."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query

from app.http import schemas
from app.http.api_route import ApiRoute
from app.http.dependencies import AttributesDep, CollectionsDep, MastersDep
from app.http.parameters import (
    ConfirmQuery,
    FilterQuery,
    check_confirmed,
    parse_filter_text,
)
from app.http.security import Access, requires

router = APIRouter(route_class=ApiRoute, tags=["collections"])
CollectionName = Annotated[str, Path(description="Name of the collection.")]


@router.get("/collections", summary="List collections")
@requires(Access.READ)
def list_collections(collections: CollectionsDep) -> schemas.CollectionList:
    """Returns all collections in the order of their names, each with its number of masters."""
    listed = [
        schemas.Collection.of(collection, masters)
        for collection, masters in collections.list_collections()
    ]
    return schemas.CollectionList(
        collections=listed, pending=collections.count_pending_embeddings()
    )


@router.post("/collections", status_code=201, summary="Create a collection")
@requires(Access.WRITE)
def create_collection(
    collections: CollectionsDep, new: schemas.NewCollection
) -> schemas.Collection:
    """Creates an empty collection. An upload that names a collection creates it, too."""
    return schemas.Collection.of(collections.create_collection(new.name), 0)


@router.get("/collections/{name}/attributes", summary="Summarise attributes")
@requires(Access.READ)
def list_attributes(
    attributes: AttributesDep,
    name: CollectionName,
    values: Annotated[
        int, Query(ge=0, le=1000, description="Number of most frequent values to return per key.")
    ] = 20,
) -> schemas.AttributeList:
    """Returns the attribute keys of a collection, with their types and most frequent values.

    `fields` has the same summary for the built-in fields.
    """
    summary = attributes.summarize_attributes(name)
    return schemas.AttributeList(
        attributes=[schemas.Attribute.of(each, values) for each in summary.attributes],
        fields=[schemas.Attribute.of(each, values) for each in summary.fields],
        masters=summary.masters,
    )


@router.get("/collections/{name}/timeline", summary="Count masters by month")
@requires(Access.READ)
def get_timeline(
    masters: MastersDep, name: CollectionName, filter: FilterQuery = None
) -> schemas.Timeline:
    """Returns the number of masters that were taken in each month (UTC), newest month first."""
    return schemas.Timeline.of(masters.count_months(name, parse_filter_text(filter)))


@router.delete("/collections/{name}", status_code=204, summary="Delete a collection")
@requires(Access.WRITE)
def delete_collection(
    collections: CollectionsDep, name: CollectionName, confirm: ConfirmQuery
) -> None:
    """Deletes a collection with all its masters. The name can be used again at once."""
    check_confirmed(name, confirm)
    collections.delete_collection(name)
