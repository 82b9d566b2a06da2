"""What handlers are given: the services, and parsed forms of parameters that several routes share."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, Any, cast
from uuid import UUID

from fastapi import Depends, Request

from app.errors import InvalidInput
from app.observability import Metrics
from app.services.attributes import Attributes
from app.services.collections import Collections
from app.services.ingest import Ingest
from app.services.masters import Masters
from app.services.models import Models
from app.services.reembed import Reembed
from app.services.scrub import Scrub
from app.services.search import Search
from app.services.vision import Vision
from app.settings import Settings
from app.worker import Worker
from models.imaging import Box
from storage.filters import Filter, InvalidFilter, parse_filter
from storage.protocols import Stores


@dataclass(frozen=True)
class Services:
    """All use cases of a running service, built once by the composition root."""

    settings: Settings
    stores: Stores
    metrics: Metrics
    models: Models
    vision: Vision
    collections: Collections
    attributes: Attributes
    ingest: Ingest
    masters: Masters
    search: Search
    scrub: Scrub
    reembed: Reembed
    worker: Worker


async def services(request: Request) -> Services:  # async: a plain function would cost a hop to another thread each
    return cast("Services", request.app.state.services)


ServicesDep = Annotated[Services, Depends(services)]


async def _settings(services: ServicesDep) -> Settings:
    return services.settings


async def _ingest(services: ServicesDep) -> Ingest:
    return services.ingest


async def _masters(services: ServicesDep) -> Masters:
    return services.masters


async def _search(services: ServicesDep) -> Search:
    return services.search


async def _collections(services: ServicesDep) -> Collections:
    return services.collections


async def _attributes(services: ServicesDep) -> Attributes:
    return services.attributes


async def _scrub(services: ServicesDep) -> Scrub:
    return services.scrub


async def _reembed(services: ServicesDep) -> Reembed:
    return services.reembed


async def _worker(services: ServicesDep) -> Worker:
    return services.worker


SettingsDep = Annotated[Settings, Depends(_settings)]
IngestDep = Annotated[Ingest, Depends(_ingest)]
MastersDep = Annotated[Masters, Depends(_masters)]
SearchDep = Annotated[Search, Depends(_search)]
CollectionsDep = Annotated[Collections, Depends(_collections)]
AttributesDep = Annotated[Attributes, Depends(_attributes)]
ScrubDep = Annotated[Scrub, Depends(_scrub)]
ReembedDep = Annotated[Reembed, Depends(_reembed)]
WorkerDep = Annotated[Worker, Depends(_worker)]


def parse_json(text: str, code: str, what: str) -> Any:
    """Raises InvalidInput with ``code``."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(code, f"{what} is not JSON: {str(error)[:200]}") from None


def parse_filter_text(text: str | None) -> Filter | None:
    """An empty or missing filter is none."""
    if not text:
        return None
    try:
        return parse_filter(parse_json(text, "invalid-filter", "filter"))
    except InvalidFilter as error:
        raise InvalidInput("invalid-filter", str(error)) from None


def parse_box(text: str | None) -> Box | None:
    if not text:
        return None
    parts = text.split(",")
    if len(parts) != 4 or not all(part.strip().isascii() and part.strip().isdigit() and len(part) < 10 for part in parts):
        raise InvalidInput(
            "invalid-box", "box takes x,y,width,height in whole pixels of the upright sample, for example 10,20,200,100."
        )
    return Box(*(int(part) for part in parts))


def parse_cursor(text: str | None) -> UUID | None:
    if not text:
        return None
    try:
        return UUID(text)
    except ValueError:
        raise InvalidInput("invalid-cursor", "cursor takes the next_cursor of the page before.") from None
