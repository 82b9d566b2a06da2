"""A second space beside `look`, made through the services of a running process."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from app.container import Services
from app.services.encoder_files import EncoderFiles
from models.embedder import read_encoder
from storage.protocols import Stores
from tests.support.service import eventually

WORDS = "words"


def store_encoder(stores: Stores, path: Path) -> str:
    """Store an encoder without the checks of an upload, which take seconds; return its version."""
    version = read_encoder(path).version
    with path.open("rb") as file:
        EncoderFiles(stores.objects).store(version, file)
    return version


def build_version(services: Services, path: Path, space: str = WORDS) -> str:
    """Start a version of a space, wait until it has all vectors, and return it."""
    version = store_encoder(services.stores, path)
    services.reembed.start_building(version, space)
    assert eventually(lambda: is_built(services, version), 30)
    return version


def is_built(services: Services, version: str) -> bool:
    """Report whether a version has a vector of every master, and all processes have loaded it."""
    progress, replicas = services.reembed.list_progress()
    (its,) = (each for each in progress if each.model.id == version)
    return its.indexed == its.masters and all(version in each.loaded for each in replicas)


def create_space(services: Services, path: Path, space: str = WORDS) -> str:
    """Create a space with the encoder of a file; return its active version."""
    version = build_version(services, path, space)
    *_, last = services.reembed.activate_version(version)
    assert last == {"active": version}
    return version


def vectors_of(stores: Stores, version: str) -> dict[UUID, NDArray[np.float32]]:
    """Return the first vector of each master under a version."""
    ids = [record.master.id for record in stores.metadata.list_records(None, 1000)]
    records = stores.vectors.fetch_vectors(version, ids)
    return {id_: record.parts[0].vector for id_, record in records.items()}


def search_itself(stores: Stores, version: str) -> set[bool]:
    """Search with the vector of each master under a version; report which find their master.

    Images that differ have different vectors, so the answer is {True} if all is well.
    """
    found = set()
    for id_, vector in vectors_of(stores, version).items():
        master = stores.metadata.find_master(id_)
        assert master is not None
        hits = stores.vectors.search(version, master.collection_id, vector, 1)
        found.add([hit.master_id for hit in hits] == [id_])
    return found
