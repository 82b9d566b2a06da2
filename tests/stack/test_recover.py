"""`lookalike recover` of a lost MySQL database, beside a Milvus that still has the vectors."""

from __future__ import annotations

import sqlalchemy as sa

from tests.support.decisions import decide, decisions_of
from tests.support.images import CAT
from tests.support.installations import IMAGES, answers, comes_to_show
from tests.support.service import eventually
from tests.support.stack import Stack


def empty_database(stack: Stack) -> None:
    url = sa.make_url(stack.environment["LOOKALIKE_DATABASE_URL"])
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        connection.execute(sa.text(f"DROP DATABASE {url.database}"))
        connection.execute(sa.text(f"CREATE DATABASE {url.database} CHARACTER SET utf8mb4"))
    engine.dispose()


def test_a_lost_database_comes_back_on_servers(stack: Stack) -> None:
    with stack.replica() as client:
        stack.start("worker")
        for number, image in enumerate(IMAGES):
            fields = {"attributes": f'{{"n": {number}, "half": {number / 2}}}'}
            files = {"file": (f"räume {number}.jpg", image)}
            assert client.post("/masters", files=files, data=fields).status_code == 201
        animals = {"collection": "animals"}
        client.post("/masters", files={"file": ("cat.jpg", CAT)}, data=animals)
        assert eventually(lambda: client.get("/collections").json()["pending"] == 0, 60)
        before = answers(client)
        with stack.open_stores() as stores:
            decided = decide(stores.metadata)
        written = stack.run("catalogue")
        assert (written.returncode, "13 masters" in written.stderr) == (0, True), written
        busy = stack.run("recover", "--apply")
        assert (busy.returncode, "processes are running" in busy.stderr) == (2, True), busy
    stack.stop()
    empty_database(stack)
    dry = stack.run("recover")
    assert (dry.returncode, "13 would be recovered with name" in dry.stdout) == (0, True), dry
    done = stack.run("recover", "--apply")
    assert (done.returncode, "13 were recovered with name" in done.stdout) == (0, True), done
    assert "3 decisions about duplicates were recovered" in done.stdout
    with stack.open_stores() as stores:
        assert decisions_of(stores.metadata) == decided
    with stack.replica() as client:
        stack.start("worker")
        assert comes_to_show(client, before, 60)
        assert stack.run("catalogue").returncode == 0
