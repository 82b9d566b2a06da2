"""/collections: named sets of masters."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from app.http import schemas
from app.http.dependencies import AttributesDep, CollectionsDep, ServicesDep, WorkerDep
from app.http.forms import FormRoute
from app.http.security import Access, requires

router = APIRouter(route_class=FormRoute, tags=["collections"])


@router.get("/collections")
@requires(Access.READ)
def list_collections(services: ServicesDep) -> schemas.CollectionList:
    """All collections, by name, with their number of masters."""
    found = [
        schemas.Collection.of(collection, masters)
        for collection, masters in services.collections.list()
    ]
    return schemas.CollectionList(
        collections=found, pending=services.stores.metadata.count_pending_embeddings()
    )


@router.post("/collections", status_code=201)
@requires(Access.WRITE)
def create_collection(
    collections: CollectionsDep, new: schemas.NewCollection
) -> schemas.Collection:
    """Create an empty collection. (An upload that names a new one creates it, too.)"""
    return schemas.Collection.of(collections.create(new.name), 0)


@router.get("/collections/{name}/attributes")
@requires(Access.READ)
def list_attributes(
    attributes: AttributesDep,
    name: str,
    values: Annotated[
        int, Query(ge=0, le=1000, description="Most frequent values given of each key.")
    ] = 20,
) -> schemas.AttributeList:
    """What attributes the masters have: keys, types, how many, and their most frequent values."""
    summaries, looked_at = attributes.summary(name)
    return schemas.AttributeList(
        attributes=[schemas.Attribute.of(summary, values) for summary in summaries],
        masters=looked_at,
    )


@router.delete("/collections/{name}", status_code=204)
@requires(Access.WRITE)
def delete_collection(collections: CollectionsDep, worker: WorkerDep, name: str) -> None:
    """Delete a collection with all its masters. The name is free at once."""
    collections.delete(name)
    worker.wake()
