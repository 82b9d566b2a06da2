"""Installations in the process of a test whose stores fail, and what is done to them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast
from uuid import UUID

import pytest

from app.container import Services
from app.errors import AppError
from app.settings import Settings
from models.capture.reading import READER
from models.embedder import Embedder, Encoder
from models.weights_file import WeightsFile
from storage.errors import StoreUnavailable
from storage.factory import open_stores
from storage.protocols import Stores
from storage.records import LOOK, VectorRecord, whole_image
from storage.store_urls import StoreUrls
from tests.crash.faults import Faults, Mode
from tests.crash.invariants import check_image
from tests.crash.journal import Journal
from tests.crash.operations import DirectOperations
from tests.support.memory_stores import open_memory_stores
from tests.support.metadata import PHONE_EXIF, jpeg_with
from tests.support.tiny_network import tiny_weights
from tests.support.use_cases import TinyEmbedder, UseCases, build_use_cases, colours

IMAGES = [colours(seed) for seed in range(6)]
_LEASE = 60.0  # seconds
LATER = 10_000.0  # seconds after which every lease and every pause has ended
LET_TIME_PASS = [
    f"UPDATE {table} SET {column} = {column} - {int(LATER * 1000)} WHERE {column} > 0"  # noqa: S608
    for table, column in (
        ("masters", "lease_until"),
        ("embeddings", "lease_until"),
        ("embeddings", "run_after"),
        ("leases", "until"),
    )
]
_SECOND = tiny_weights("second")
_PHOTOGRAPH = jpeg_with(exif=PHONE_EXIF)


class Clock:
    """The time of the stores in memory."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class World:
    """Stores, the services of one process on them, and what was acknowledged."""

    stores: Stores
    settings: Settings
    let_time_pass: Callable[[], None]
    journal: Journal = field(default_factory=Journal)
    process: UseCases | None = None

    def restart(self, stores: Stores | None = None) -> UseCases:
        """End the process and start another one, perhaps on stores that fail."""
        self.stop()
        self.process = build_use_cases(
            self.settings, stores or self.stores, TinyEmbedder("model-1"), _load
        )
        return self.process

    def stop(self) -> None:
        if self.process is not None:
            self.process.models.stop()
            self.process = None

    @property
    def operations(self) -> DirectOperations:
        return DirectOperations(cast("Services", self.process))

    def drain(self) -> None:
        """Run the worker until it has nothing left to do."""
        assert self.process is not None
        self.process.models.refresh()
        for _ in range(60):
            if not self.process.worker.run_round():
                return
        pytest.fail("I5: the worker does not come to an end")


def _load(encoder: Encoder) -> Embedder:
    return TinyEmbedder(encoder.version)


def begin(world: World) -> None:
    """Store four masters in two collections, and change one of them."""
    world.restart()
    for image, collection in ((0, "default"), (1, "default"), (2, "animals"), (3, "animals")):
        world.journal.upload(world.operations, IMAGES[image], collection, n=image)
    world.journal.change(world.operations, IMAGES[1], n=10)


def begin_removed(world: World) -> None:
    """Also delete the masters of a collection so that it can be undone."""
    begin(world)
    world.journal.remove_matching(world.operations, "animals")
    world.drain()


def begin_building(world: World) -> None:
    """Also build a second model, which is not active yet."""
    begin(world)
    version = world.operations.add_model(_SECOND)
    assert world.operations.start_model(version) == "started"
    world.drain()


def begin_with_work(world: World) -> None:
    """Leave deletions and embeddings to the worker."""
    begin(world)
    world.journal.delete(world.operations, IMAGES[0])
    world.journal.delete_collection(world.operations, "animals")
    (master_id,) = world.journal.image(IMAGES[1]).ids
    world.stores.metadata.update_master(UUID(master_id), name=None, attributes={"n": 11})
    world.journal.image(IMAGES[1]).attributes = [{"n": 11}]


def begin_damaged(world: World) -> None:
    """Lose a vector, and add one and an object that nobody knows."""
    begin(world)
    (version,) = world.stores.vectors.versions()
    (lost,) = world.journal.image(IMAGES[1]).ids
    stored = world.stores.vectors.fetch_vectors(version, [UUID(lost)])[UUID(lost)]
    world.stores.vectors.delete(version, [UUID(lost)])
    unknown = VectorRecord(
        UUID(int=1), stored.collection_id, whole_image(stored.parts[0].vector), {}, 1
    )
    world.stores.vectors.upsert(version, [unknown])


def begin_unread(world: World) -> None:
    """Store a picture with its position, and let the next process read all without positions."""
    begin(world)
    world.journal.upload(world.operations, _PHOTOGRAPH, n=20)
    world.stores.metadata.forget_readers(READER, 100)
    world.settings = world.settings.model_copy(update={"keep_gps": False})


def _version() -> str:
    return WeightsFile.parse(_SECOND).version


def upload(world: World) -> None:
    world.journal.upload(world.operations, IMAGES[4], n=4)


def upload_again(world: World) -> None:
    world.journal.upload(world.operations, IMAGES[0], n=9)


def upload_to_new_collection(world: World) -> None:
    world.journal.upload(world.operations, IMAGES[0], "new", n=5)


def change(world: World) -> None:
    world.journal.change(world.operations, IMAGES[0], n=7)


def change_matching(world: World) -> None:
    world.journal.change_matching(world.operations, "default", n=7)


def delete_matching(world: World) -> None:
    world.journal.delete_matching(world.operations, "default")


def remove_matching(world: World) -> None:
    world.journal.remove_matching(world.operations, "animals")


def undo(world: World) -> None:
    world.journal.undo(world.operations, "animals")


def delete(world: World) -> None:
    world.journal.delete(world.operations, IMAGES[0])


def delete_and_upload(world: World) -> None:
    world.journal.delete(world.operations, IMAGES[0])
    world.journal.upload(world.operations, IMAGES[0], n=8)


def delete_collection(world: World) -> None:
    world.journal.delete_collection(world.operations, "animals")


def empty_collection(world: World) -> None:
    world.journal.empty_collection(world.operations, "animals")


def search(world: World) -> None:
    assert world.operations.search(IMAGES[0], "default") is not None


def browse(world: World) -> None:
    (master_id,) = world.journal.image(IMAGES[0]).ids
    assert len(world.operations.list("default")) == 2
    assert world.operations.content(master_id) == IMAGES[0]


def work(world: World) -> None:
    assert world.process is not None
    for _ in range(6):
        world.process.worker.run_round()


def read_captures(world: World) -> None:
    work(world)


def scrub(world: World) -> None:
    world.operations.scrub(repair=False)


def repair(world: World) -> None:
    world.operations.scrub(repair=True)
    work(world)


def add_model(world: World) -> None:
    world.journal.do(world.operations, lambda target: target.add_model(_SECOND))


def build_model(world: World) -> None:
    world.journal.do(world.operations, lambda target: target.add_model(_SECOND))
    world.journal.do(world.operations, lambda target: target.start_model(_version()))
    assert world.process is not None
    world.process.models.refresh()
    work(world)


def activate_model(world: World) -> None:
    world.journal.do(world.operations, lambda target: target.activate_model(_version()))


def retire_model(world: World) -> None:
    world.journal.do(world.operations, lambda target: target.retire_model(_version()))
    work(world)


OPERATIONS: dict[Callable[[World], None], Callable[[World], None]] = {
    upload: begin,
    upload_again: begin,
    upload_to_new_collection: begin,
    change: begin,
    change_matching: begin,
    delete_matching: begin,
    remove_matching: begin,
    undo: begin_removed,
    delete: begin,
    delete_and_upload: begin,
    delete_collection: begin,
    empty_collection: begin,
    search: begin,
    browse: begin,
    work: begin_with_work,
    read_captures: begin_unread,
    scrub: begin,
    repair: begin_damaged,
    add_model: begin,
    build_model: begin,
    activate_model: begin_building,
    retire_model: begin_building,
}


@contextmanager
def in_memory(tmp_path: Path) -> Iterator[World]:
    clock = Clock()
    stores = open_memory_stores(clock)

    def let_time_pass() -> None:
        clock.now += LATER

    world = World(stores, settings_in(tmp_path), let_time_pass)
    try:
        yield world
    finally:
        world.stop()


@contextmanager
def embedded(tmp_path: Path) -> Iterator[World]:
    directory = tmp_path / "data"
    directory.mkdir(parents=True)
    url = f"sqlite:///{directory}/lookalike.db"
    with closing(open_stores(StoreUrls(url, f"file://{directory}/objects", "embedded:"))) as stores:

        def let_time_pass() -> None:
            database = sqlite3.connect(directory / "lookalike.db", timeout=10)
            with closing(database), database:
                for statement in LET_TIME_PASS:
                    database.execute(statement)

        world = World(stores, settings_in(tmp_path), let_time_pass)
        try:
            yield world
        finally:
            world.stop()


def settings_in(directory: Path) -> Settings:
    return Settings(
        data_dir=directory / "data",
        lease_seconds=_LEASE,
        upload_wait=0.01,
        scrub_grace=0.0,
        scrub_interval=0.0,
        _env_file=None,
    )


def fail_at(
    world: World, operation: Callable[[World], None], call: int, mode: Mode
) -> tuple[bool, str]:
    """Run an operation whose n-th call fails; return whether it was reached, and its name.

    Every other error than those that are mapped to an answer fails the test.
    """
    OPERATIONS[operation](world)
    faults = Faults(call, mode)
    world.restart(faults.wrap(world.stores))
    faults.armed = True
    with suppress(AppError, StoreUnavailable):
        operation(world)
    faults.end()
    return faults.reached, faults.failed


def recover(world: World, *, is_clean: bool) -> None:
    """Restart, drain, repair and check; retry what was not acknowledged, and check again.

    ``is_clean`` means that the order of writes leaves nothing for the first scrub.
    """
    world.let_time_pass()
    world.restart()
    world.drain()
    found = world.operations.scrub(repair=True)
    assert found == {} or not is_clean, "I5: the first scrub finds something"
    world.drain()
    check(world)
    world.journal.retry(world.operations)
    world.let_time_pass()
    world.drain()
    assert world.operations.scrub(repair=True) == {}, "I5: a second scrub finds something"
    check(world)


def check(world: World) -> None:
    for image in world.journal.images.values():
        check_image(world.journal, world.operations, image, [LOOK])
    for master_id in world.journal.dead:
        assert not world.operations.exists(master_id), "I3: by id"
    records = []
    while batch := world.stores.metadata.list_records(
        records[-1].master.id if records else None, 100
    ):
        records += batch
    kept = {record.master.id: record.master for record in records}
    assert world.stores.metadata.count_unread(READER) == 0, "I9: a file was not read"
    for master in kept.values():
        kept_gps = bool((master.capture or {}).get("gps")) and not world.settings.keep_gps
        assert not kept_gps, "I9: what a file says"
    objects = {info.key for info in world.stores.objects.list("masters")}
    removed = [
        record.master
        for deletion in world.stores.metadata.list_deletions(None, 100)
        for record in world.stores.metadata.find_records(
            world.stores.metadata.list_removed(deletion.id)
        ).values()
    ]
    assert objects == {each.object_key for each in (*kept.values(), *removed)}, "I5: objects"
    for version in world.stores.vectors.versions():
        ids = {id_ for batch in world.stores.vectors.iterate_ids(version) for id_ in batch}
        assert ids == set(kept), f"I5: vectors of {version}"
        for id_, vector in world.stores.vectors.fetch_vectors(version, list(ids)).items():
            found = vector.attributes, vector.revision
            assert found == (kept[id_].indexed_fields, kept[id_].revision), "I9"
    assert world.stores.metadata.count_unfinished() == 0, "I8: something is unfinished"
