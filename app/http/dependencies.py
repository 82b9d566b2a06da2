"""What handlers are given: the services, and parsed forms of parameters that several routes share."""

from __future__ import annotations

from typing import Annotated, cast

from fastapi import Depends, Request

from app.container import Services
from app.services.attributes import Attributes
from app.services.collections import Collections
from app.services.ingest import Ingest
from app.services.masters import Masters
from app.services.reembed import Reembed
from app.services.scrub import Scrub
from app.services.search import Search
from app.settings import Settings
from app.worker import Worker


async def services(
    request: Request,
) -> Services:  # async: a plain function would cost a hop to another thread each
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
