"""The services of one process, and the stores and settings that they share."""

from __future__ import annotations

from dataclasses import dataclass

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
from app.services.loaded_models import LoadedModels
from app.services.masters import Masters
from app.services.reembed import Reembed
from app.services.resolving import Resolving
from app.services.scrub import Scrub
from app.services.search import Search
from app.services.spaces import Spaces
from app.services.stored_vectors import StoredVectors
from app.services.undo import Undo
from app.services.vision import Vision
from app.settings import Settings
from app.worker import Worker
from storage.protocols import Stores


@dataclass(frozen=True)
class Services:
    """The services of one process, and the stores and settings they were built from."""

    settings: Settings
    stores: Stores
    metrics: Metrics
    models: LoadedModels
    vision: Vision
    collections: Collections
    attributes: Attributes
    captures: Captures
    changes: Changes
    dead_letters: DeadLetters
    duplicates: Duplicates
    explanations: Explanations
    health: Health
    ingest: Ingest
    masters: Masters
    search: Search
    spaces: Spaces
    stored_vectors: StoredVectors
    scrub: Scrub
    reembed: Reembed
    resolving: Resolving
    undo: Undo
    worker: Worker
