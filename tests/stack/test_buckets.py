"""A bucket on a server belongs to one metadata database."""

from __future__ import annotations

from uuid import uuid4

import pytest
import sqlalchemy as sa

from app.services.installation_id import INSTALLATION_KEY, read_bucket_identity
from tests.support.images import CAT
from tests.support.requests import put, result_of
from tests.support.service import eventually
from tests.support.stack import Stack


@pytest.fixture
def other_database(stack: Stack) -> str:
    """Another database with the newest schema, as if the settings had been copied."""
    url = sa.make_url(stack.environment["LOOKALIKE_DATABASE_URL"])
    other = url.set(database=f"test_{uuid4().hex}")
    server = sa.create_engine(url)
    with server.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {other.database} CHARACTER SET utf8mb4"))
    server.dispose()
    rendered = other.render_as_string(hide_password=False)
    assert stack.run("db", "upgrade", LOOKALIKE_DATABASE_URL=rendered).returncode == 0
    return rendered


def test_processes_that_start_at_once_share_a_new_bucket(stack: Stack) -> None:
    workers = [stack.start("worker") for _ in range(4)]
    with stack.replica() as client, stack.open_stores() as stores:
        assert client.get("/readyz").status_code == 200
        bucket = read_bucket_identity(stores.objects)
        assert bucket is not None
        assert bucket.database == stores.metadata.find_database_id() is not None
    assert [worker.poll() for worker in workers] == [None] * 4


def test_another_database_neither_serves_nor_repairs_the_bucket(
    stack: Stack, other_database: str
) -> None:
    other = {"LOOKALIKE_DATABASE_URL": other_database, "LOOKALIKE_SCRUB_GRACE": "0"}
    with stack.replica() as client:
        master = result_of(put(client, CAT))["master"]
        for command in (["serve", "--port", "0"], ["worker"], ["scrub", "--repair"], ["catalogue"]):
            refused = stack.run(*command, LOOKALIKE_URL="http://127.0.0.1:1", **other)
            assert refused.returncode == 2, refused
            for part in ("another metadata database", "lookalike recover"):
                assert part in " ".join(refused.stderr.split()), refused
        assert client.get(f"/masters/{master['id']}/content").content == CAT


def test_a_recovered_database_owns_the_bucket_and_the_former_one_repairs_nothing(
    stack: Stack, other_database: str
) -> None:
    with stack.replica() as client:
        first = result_of(put(client, CAT))["master"]
        recovered = stack.run("recover", "--apply", LOOKALIKE_DATABASE_URL=other_database)
        assert recovered.returncode == 0, recovered
        answer = client.post("/admin/scrub", json={"repair": True})
        assert "other-bucket" in answer.text
    with stack.replica(LOOKALIKE_DATABASE_URL=other_database) as client:
        assert client.get(f"/masters/{first['id']}/content").content == CAT
    assert stack.run("worker").returncode == 2


def test_an_installation_of_an_earlier_version_claims_its_bucket(
    stack: Stack, other_database: str
) -> None:
    with stack.replica() as client:
        result_of(put(client, CAT))
    stack.stop()
    with stack.open_stores() as stores:
        stores.objects.delete(INSTALLATION_KEY)
    engine = sa.create_engine(stack.environment["LOOKALIKE_DATABASE_URL"])
    with engine.begin() as connection:
        connection.execute(sa.text("DELETE FROM identity"))
    engine.dispose()
    new = stack.run("serve", "--port", "0", LOOKALIKE_DATABASE_URL=other_database)
    assert (new.returncode, "knows none" in " ".join(new.stderr.split())) == (2, True), new
    with stack.replica() as client:
        assert eventually(lambda: client.get("/readyz").status_code == 200)
