"""/collections: named sets of masters."""

from __future__ import annotations

from fastapi import APIRouter

from app import schemas
from app.dependencies import CollectionsDep, WorkerDep
from app.limits import FormRoute
from app.security import Access, requires

router = APIRouter(route_class=FormRoute, tags=["collections"])


@router.get("/collections")
@requires(Access.READ)
def list_collections(collections: CollectionsDep) -> schemas.CollectionList:
    """All collections, by name, with their number of masters."""
    return schemas.CollectionList(collections=[schemas.Collection.of(found, masters) for found, masters in collections.list()])


@router.post("/collections", status_code=201)
@requires(Access.WRITE)
def create_collection(collections: CollectionsDep, new: schemas.NewCollection) -> schemas.Collection:
    """Create an empty collection. (An upload that names a new one creates it, too.)"""
    return schemas.Collection.of(collections.create(new.name), 0)


@router.delete("/collections/{name}", status_code=204)
@requires(Access.WRITE)
def delete_collection(collections: CollectionsDep, worker: WorkerDep, name: str) -> None:
    """Delete a collection with all its masters. The name is free at once."""
    collections.delete(name)
    worker.wake()
