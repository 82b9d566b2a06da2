"""`lookalike catalogue`, beside a running service and on an older database."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from app.bootstrap import connect_stores
from app.services.catalogue_files import parse_chunk_key, read_chunk
from app.settings import Settings
from models.embedder import Embedder
from storage.protocols import Stores
from storage.records import Master, MasterRecord, MasterState, new_id
from tests.support.embedded import run_on
from tests.support.images import CAT
from tests.support.installations import remove_database
from tests.support.processes import CommandProcess
from tests.support.service import eventually, serving


def test_the_command_writes_beside_a_running_service(
    settings: Settings, embedder: Embedder
) -> None:
    with serving(settings, embedder) as service:
        master = service.put_master(CAT, "räume.jpg", attributes='{"n": 1.5}')
        for written in ("1 were written", "0 were written"):
            done = run_on(settings.data_dir, "catalogue")
            assert (done.returncode, written in done.stderr) == (0, True), done
        objects = service.stores.objects
        (key,) = [each.key for each in objects.list("catalogue/") if parse_chunk_key(each.key)]
        (row,) = read_chunk(objects, key)
        assert (str(row.id), row.name, row.attributes) == (master["id"], "räume.jpg", {"n": 1.5})


def test_the_worker_writes_it_in_time(settings: Settings, embedder: Embedder) -> None:
    often = settings.model_copy(update={"catalogue_interval": 0.2})
    with serving(often, embedder) as service:
        for number in range(2):
            service.put_master(CAT, collection=f"c-{number}")
            assert eventually(
                lambda most=number + 1: len(list(service.stores.objects.list("catalogue/"))) > most
            )


def test_an_older_database_does_not_overwrite_it(
    settings: Settings, embedder: Embedder, tmp_path: Path
) -> None:
    with serving(settings, embedder) as service:
        service.put_master(CAT)
    database, dump = settings.data_dir / "lookalike.db", tmp_path / "dump.db"
    shutil.copy(database, dump)
    assert run_on(settings.data_dir, "catalogue").returncode == 0
    remove_database(settings.data_dir)
    nowhere = run_on(settings.data_dir, "catalogue")
    assert (nowhere.returncode, "there is no installation" in nowhere.stderr) == (2, True)
    shutil.copy(dump, database)
    with serving(settings, embedder):
        refused = run_on(settings.data_dir, "catalogue")
        assert (refused.returncode, "lookalike recover" in refused.stderr) == (2, True), refused
        assert run_on(settings.data_dir, "catalogue", "--replace").returncode == 0


def insert_rows(stores: Stores, count: int) -> list[Master]:
    """Insert rows of masters without originals, which the catalogue does not read."""
    collection = stores.metadata.create_collection("many")
    values = {"size": 1, "mime": "image/png", "extension": "png", "width": 1, "height": 1}
    masters = []
    for number in range(count):
        id_ = new_id()
        masters.append(
            Master(
                id=id_,
                collection_id=collection.id,
                collection=collection.name,
                sha256=number.to_bytes(32, "big"),
                name=f"räume {number}.png",
                attributes={"n": number},
                revision=1,
                state=MasterState.STORED,
                created_at=1,
                updated_at=1,
                **values,
            )
        )
    stores.metadata.import_records([MasterRecord(master, {}) for master in masters])
    return sorted(masters, key=lambda each: each.id)


def read_rows(stores: Stores) -> list[Master]:
    keys = [info.key for info in stores.objects.list("catalogue/") if parse_chunk_key(info.key)]
    rows = [master for key in keys for master in read_chunk(stores.objects, key)]
    return sorted(rows, key=lambda each: each.id)


@pytest.mark.slow
def test_a_pass_that_is_killed_leaves_whole_chunks(settings: Settings) -> None:
    environment = os.environ | {"LOOKALIKE_DATA_DIR": str(settings.data_dir)}
    with connect_stores(settings) as stores:
        masters = insert_rows(stores, 5000)
    directory = settings.data_dir / "objects" / "catalogue"
    before = 0
    for wanted in range(1, 4):
        process = CommandProcess(
            "catalogue", environment=environment, stdout=Path(os.devnull), stderr=Path(os.devnull)
        )
        assert eventually(
            lambda most=wanted, running=process: (
                len(list(directory.rglob("*.gz"))) >= most or running.poll() is not None
            ),
            60,
        )
        process.kill()
        process.wait()
        with connect_stores(settings) as stores:
            rows = read_rows(stores)
            assert len(rows) >= max(1000, before)
            assert {each.id for each in rows} <= {each.id for each in masters}
            before = len(rows)
    done = run_on(settings.data_dir, "catalogue")
    assert (done.returncode, "5000 masters" in done.stderr) == (0, True), done
    with connect_stores(settings) as stores:
        assert read_rows(stores) == masters
        assert list((settings.data_dir / "objects" / ".incoming").iterdir()) == []
