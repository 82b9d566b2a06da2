"""What endpoints are given: the services of the process, and its settings."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import Depends, Request

from app.container import Services
from app.metrics import Metrics
from app.services.attributes import Attributes
from app.services.captures import Captures
from app.services.changes import Changes
from app.services.collections import Collections
from app.services.dead_letters import DeadLetters
from app.services.duplicates import Duplicates
from app.services.explanations import Explanations
from app.services.health import Health
from app.services.ingest import Ingest
from app.services.masters import Masters
from app.services.reembed import Reembed
from app.services.resolving import Resolving
from app.services.scrub import Scrub
from app.services.search import Search
from app.services.spaces import Spaces
from app.services.stored_vectors import StoredVectors
from app.services.undo import Undo
from app.settings import Settings


def _of_services(name: str) -> Callable[[Request], Awaitable[Any]]:
    async def find(request: Request) -> Any:  # async, so that it does not cost a thread's turn
        services: Services = request.app.state.services
        return getattr(services, name)

    return find


SettingsDep = Annotated[Settings, Depends(_of_services("settings"))]
MetricsDep = Annotated[Metrics, Depends(_of_services("metrics"))]
AttributesDep = Annotated[Attributes, Depends(_of_services("attributes"))]
CapturesDep = Annotated[Captures, Depends(_of_services("captures"))]
ChangesDep = Annotated[Changes, Depends(_of_services("changes"))]
CollectionsDep = Annotated[Collections, Depends(_of_services("collections"))]
DeadLettersDep = Annotated[DeadLetters, Depends(_of_services("dead_letters"))]
DuplicatesDep = Annotated[Duplicates, Depends(_of_services("duplicates"))]
ExplanationsDep = Annotated[Explanations, Depends(_of_services("explanations"))]
HealthDep = Annotated[Health, Depends(_of_services("health"))]
IngestDep = Annotated[Ingest, Depends(_of_services("ingest"))]
MastersDep = Annotated[Masters, Depends(_of_services("masters"))]
ReembedDep = Annotated[Reembed, Depends(_of_services("reembed"))]
ResolvingDep = Annotated[Resolving, Depends(_of_services("resolving"))]
ScrubDep = Annotated[Scrub, Depends(_of_services("scrub"))]
SearchDep = Annotated[Search, Depends(_of_services("search"))]
SpacesDep = Annotated[Spaces, Depends(_of_services("spaces"))]
StoredVectorsDep = Annotated[StoredVectors, Depends(_of_services("stored_vectors"))]
UndoDep = Annotated[Undo, Depends(_of_services("undo"))]
