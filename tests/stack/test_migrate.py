"""`lookalike copy` copies an embedded installation to servers without embedding it again."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from app.settings import Settings
from models.embedder import Embedder
from storage.database import Database
from storage.metadata import SqlMetadataStore
from storage.records import NewMaster
from tests.support.decisions import decide, decisions_of
from tests.support.images import CAT, encoded, photograph
from tests.support.installations import IMAGES, answers
from tests.support.requests import put, result_of
from tests.support.service import eventually, serving
from tests.support.spaces import create_space
from tests.support.stack import Stack
from tests.support.tiny_encoders import make_text_bundle

MigrateCommand = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory, embedder: Embedder) -> Path:
    """A stopped installation with two collections, a changed master and a deleted one."""
    directory = tmp_path_factory.mktemp("installed") / "data"
    with serving(Settings(data_dir=directory, worker="off", _env_file=None), embedder) as service:
        for number, image in enumerate(IMAGES):
            service.put_master(
                image, f"räume {number}.jpg", attributes=f'{{"n": {number}, "half": {number / 2}}}'
            )
        service.put_master(CAT, "cat.jpg", collection="animals")
        gone = service.put_master(encoded(photograph("rocket")))
        service.client.delete(f"/masters/{gone['id']}")
        changed = service.client.get("/masters?limit=1").json()["masters"][0]
        service.client.patch(f"/masters/{changed['id']}", json={"attributes": {"n": -1}})
    return directory


@pytest.fixture
def installation(installed: Path, settings: Settings) -> Path:
    """A copy of the installation, which the test may change."""
    return Path(shutil.copytree(installed, settings.data_dir))


@pytest.fixture
def migrate(stack: Stack, installation: Path) -> MigrateCommand:
    def run(**settings: str) -> subprocess.CompletedProcess[str]:
        return stack.run(
            "copy",
            "--from",
            str(installation),
            LOOKALIKE_WEIGHTS="no-model-is-needed",
            **settings,
        )

    return run


def found_by_words(client: httpx.Client) -> list[tuple[str, float]] | str:
    """Return the hits of a search in the space `words`, or the code of its error."""
    answer = client.post("/search", data={"text": "a red dog", "k": "20", "space": "words"}).json()
    if "hits" not in answer:
        return str(answer["code"])
    return [(hit["master"]["id"], round(hit["distance"], 3)) for hit in answer["hits"]]


def test_everything_is_copied_and_answers_are_the_same(
    stack: Stack,
    installation: Path,
    migrate: MigrateCommand,
    settings: Settings,
    embedder: Embedder,
    tmp_path: Path,
) -> None:
    stack.create_collections()
    with serving(settings, embedder) as service:
        create_space(service.services, make_text_bundle(tmp_path / "words.bundle"))
        before = answers(service.client)
        before_in_words = found_by_words(service.client)
        decided = decide(service.stores.metadata)
    done = migrate()
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert "13 masters copied and verified, 0 were already present, 0 failed." in done.stderr
    assert "3 decisions about duplicates copied." in done.stderr
    with stack.open_stores() as stores:
        assert decisions_of(stores.metadata) == decided
    with stack.replica() as client:
        assert answers(client) == before
        assert eventually(lambda: found_by_words(client) == before_in_words, 30)
        assert [put(client, image).status_code for image in IMAGES] == [200] * len(IMAGES)
        assert put(client, encoded(photograph("rocket"))).status_code == 201
    again = migrate()
    assert again.returncode == 0
    assert "0 masters copied and verified, 13 were already present, 0 failed." in again.stderr
    assert "The servers hold 1 more" in again.stderr


def test_a_killed_copy_is_resumed(
    stack: Stack, installation: Path, migrate: MigrateCommand
) -> None:
    metadata = SqlMetadataStore(Database(stack.environment["LOOKALIKE_DATABASE_URL"]))

    def copied() -> int:
        return sum(count for _, count in metadata.list_collections())

    process = stack.start("copy", "--from", str(installation))
    # Wait until the first collection is committed.
    assert eventually(lambda: copied() > 0 or process.poll() is not None, 30)
    process.kill()
    process.wait()
    before = copied()
    metadata.close()
    assert before > 0
    done = migrate()
    assert (
        f"{13 - before} masters copied and verified, {before} were already present" in done.stderr
    )
    assert done.returncode == 0


def test_unfinished_uploads_and_deletions_are_finished_first(
    installation: Path, migrate: MigrateCommand
) -> None:
    database = Database(f"sqlite:///{installation}/lookalike.db")
    metadata = SqlMetadataStore(database)
    collection = metadata.find_collection("animals")
    assert collection is not None
    metadata.reserve_master(
        collection.id, NewMaster(b"\x01" * 32, 1, "image/jpeg", "jpg", 1, 1, "a", {}), "killed", 2.0
    )
    assert metadata.count_unfinished() == 2
    done = migrate()
    assert "13 masters copied" in done.stderr
    assert metadata.count_unfinished() == 0
    assert len(list((installation / "objects").rglob("*.jpg"))) == 13
    database.close()


def test_a_damaged_original_is_named_and_the_others_are_copied(
    stack: Stack, installation: Path, migrate: MigrateCommand
) -> None:
    damaged, missing, *_ = sorted((installation / "objects").rglob("*.jpg"))
    damaged.write_bytes(b"something else")
    missing.unlink()
    done = migrate()
    assert done.returncode == 1
    assert "11 masters copied and verified, 0 were already present, 2 failed." in done.stderr
    words = " ".join(done.stderr.split())
    assert f"{damaged.stem} (" in words
    assert "its bytes are not those that were uploaded" in words
    assert f"{missing.stem} (" in words
    with stack.replica() as client:
        assert client.get(f"/masters/{damaged.stem}").status_code == 404


def test_servers_with_masters_of_their_own_are_refused_and_an_empty_default_is_not(
    stack: Stack, migrate: MigrateCommand
) -> None:
    with stack.replica() as client:
        master = result_of(put(client, CAT))["master"]
        refused = migrate()
        assert refused.returncode == 2
        assert (
            "the target has a collection default already, with other masters in it"
            in refused.stderr
        )
        client.delete(f"/masters/{master['id']}")
        assert migrate().returncode == 0


def test_a_running_installation_and_missing_servers_are_refused(
    stack: Stack,
    installation: Path,
    migrate: MigrateCommand,
    settings: Settings,
    embedder: Embedder,
    tmp_path: Path,
) -> None:
    with serving(settings, embedder):
        running = migrate()
    assert (running.returncode, "another process serves" in running.stderr) == (2, True)
    nowhere = stack.run("copy", "--from", str(tmp_path / "empty"))
    assert (nowhere.returncode, "there is no installation" in nowhere.stderr) == (2, True)
    embedded = migrate(LOOKALIKE_VECTORS_URL="embedded:")
    assert (embedded.returncode, "copy needs servers" in embedded.stderr) == (2, True)
    servers = tmp_path / "servers.env"
    servers.write_text("".join(f"{name}={value}\n" for name, value in stack.environment.items()))
    # The file takes precedence over the environment.
    elsewhere = dict.fromkeys(stack.environment, "http://not-these-servers")
    assert (
        Stack(elsewhere, tmp_path)
        .run("copy", "--from", str(installation), "--to", str(servers))
        .returncode
        == 0
    )


def test_a_master_that_is_marked_as_damaged_is_named_each_time(
    installation: Path, migrate: MigrateCommand
) -> None:
    metadata = SqlMetadataStore(Database(f"sqlite:///{installation}/lookalike.db"))
    damaged = metadata.list_records(None, 1)[0].master
    assert metadata.mark_damaged(damaged.id)  # its bytes are intact, so a scrub would heal it
    metadata.close()
    for said in (
        "12 masters copied and verified, 0 were already present, 1 failed.",
        "0 masters copied and verified, 12 were already present, 1 failed.",
    ):
        done = migrate()
        assert (done.returncode, said in done.stderr, str(damaged.id) in done.stderr) == (
            1,
            True,
            True,
        ), done.stderr
        assert "The servers hold" not in done.stderr
