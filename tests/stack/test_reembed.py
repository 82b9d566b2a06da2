"""A model change under load on two replicas and a worker fails no request and loses nothing."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import sqlalchemy as sa

from app.services.encoder_files import encoder_key
from storage.database import Database, now
from storage.metadata import SqlModelRegistry
from storage.metadata.rows import REPLICAS
from tests.support.images import encoded, part_of
from tests.support.requests import put, result_of, search, search_answer
from tests.support.service import eventually
from tests.support.spaces import store_encoder
from tests.support.stack import Stack
from tests.support.tiny_encoders import make_text_bundle


def models(client: httpx.Client) -> dict[str, dict[str, Any]]:
    return {model["version"]: model for model in client.get("/admin/models").json()["models"]}


def activate(client: httpx.Client, version: str) -> None:
    response = client.post(f"/admin/models/{version}/activate")
    assert json.loads(response.text.splitlines()[-1]) == {"active": version}, response.text


def test_two_replicas_change_the_model_in_use(stack: Stack, other_weights: Path) -> None:
    samples = [encoded(part_of("coffee", seed), quality=60) for seed in range(4)]
    done, switched = threading.Event(), {"to": ""}
    seen: Counter[str] = Counter()
    wrong: list[object] = []

    def searching(client: httpx.Client, number: int) -> None:
        while not done.is_set():
            # Read before the request: the answer must use this version or a later one.
            required = switched["to"]
            answer = search_answer(client, samples[number], k="5")
            seen[answer["model_version"]] += 1
            first = answer["hits"][0]
            late = required and switched["to"] == required and answer["model_version"] != required
            if first["master"]["id"] != ids[number] or first["distance"] > 0.1 or late:
                wrong.append((required, answer))

    def uploading(near: httpx.Client, far: httpx.Client) -> None:
        for seed in range(100, 200):
            if done.is_set():
                return
            result = result_of(put(near, encoded(part_of("astronaut", seed))))
            hit = search(far, encoded(part_of("astronaut", seed), quality=60))[0]
            if result["indexed"] and (
                hit["master"]["id"] != result["master"]["id"] or hit["distance"] > 0.1
            ):
                wrong.append((result, hit))

    with stack.replica() as one, stack.replica() as two:
        stack.start("worker")
        ids = [
            result_of(put(one, encoded(part_of("coffee", seed))))["master"]["id"]
            for seed in range(4)
        ]
        (old,) = models(one)
        with ThreadPoolExecutor() as pool:
            tasks = [
                pool.submit(searching, one, 0),
                pool.submit(searching, two, 1),
                pool.submit(uploading, two, one),
            ]
            try:
                with other_weights.open("rb") as file:
                    new = one.post("/admin/models", files={"weights": file}).json()["version"]
                assert two.post(f"/admin/models/{new}/start").status_code == 202
                assert eventually(lambda: models(two)[new]["loaded"] == 3, 30), models(two)
                assert eventually(
                    lambda: models(two)[new]["indexed"] >= models(two)[new]["masters"] - 1, 60
                ), models(two)
                for client, version in ((one, new), (two, old), (one, new)):
                    switched["to"] = ""
                    activate(client, version)
                    switched["to"] = version
                    before = seen[version]
                    assert eventually(
                        lambda before=before, version=version: seen[version] > before + 4, 20
                    )  # type: ignore[misc]
            finally:
                done.set()
            for task in tasks:
                task.result()
        assert wrong == []
        assert set(seen) == {old, new}
        assert two.post(f"/admin/models/{old}/retire").status_code == 202
        assert eventually(lambda: list(models(one)) == [new], 30)
        report = one.post("/admin/scrub", json={"full": True}).text.splitlines()[-1]
        assert json.loads(report)["report"]["clean"], report


def test_a_suspended_replica_delays_activation_and_never_answers_by_the_old_version(
    stack: Stack, other_weights: Path
) -> None:
    content = encoded(part_of("coffee", 1))
    with stack.replica() as one:
        stack.start("worker")
        put(one, content)
        with other_weights.open("rb") as file:
            new = one.post("/admin/models", files={"weights": file}).json()["version"]
        with stack.replica() as two:
            (old,) = models(one)
            assert search_answer(two, content)["model_version"] == old
            asleep = stack.processes[-1]
            asleep.send_signal(signal.SIGSTOP)
            assert one.post(f"/admin/models/{new}/start").status_code == 202
            assert eventually(lambda: models(one)[new]["indexed"] == 1, 60)
            assert eventually(lambda: models(one)[new]["loaded"] == 2, 30)
            with ThreadPoolExecutor() as pool:
                activating = pool.submit(eventually, lambda: activated(one, new), 30)
                time.sleep(1)
                assert models(one)[old]["state"] == "active"  # as long as the heartbeat counts
                let_heartbeat_expire(stack.environment["LOOKALIKE_DATABASE_URL"], new)
                assert activating.result()
            asleep.send_signal(signal.SIGCONT)
            seen: Counter[str] = Counter()
            until = time.monotonic() + 30
            while seen[new] < 30 and time.monotonic() < until:
                response = two.post("/search", files={"sample": ("a.jpg", content)})
                answered = response.status_code == 200
                seen[response.json()["model_version"] if answered else response.text] += 1
                assert answered or response.status_code == 503, response.text
            assert seen[new] == 30
            assert old not in seen


def test_a_replica_without_the_encoder_of_a_space_serves_the_others(
    stack: Stack, tmp_path: Path
) -> None:
    content = encoded(part_of("coffee", 1))
    bundle = make_text_bundle(tmp_path / "words.bundle")

    def search_words(client: httpx.Client) -> httpx.Response:
        return client.post("/search", data={"text": "a red bicycle", "space": "words"})

    with stack.replica() as one, stack.open_stores() as stores:
        stack.start("worker")
        put(one, content)
        with bundle.open("rb") as file:
            new = one.post("/admin/models", files={"weights": file}).json()["version"]
        with stack.replica() as two:
            asleep = stack.processes[-1]
            asleep.send_signal(signal.SIGSTOP)
            started = one.post(f"/admin/models/{new}/start", params={"space": "words"})
            assert started.status_code == 202
            assert search_words(one).json()["code"] == "space-not-found"
            assert eventually(lambda: models(one)[new]["indexed"] == 1, 60)
            assert eventually(lambda: models(one)[new]["loaded"] == 2, 30)
            with ThreadPoolExecutor() as pool:
                activating = pool.submit(eventually, lambda: activated(one, new), 30)
                time.sleep(1)
                assert models(one)[new]["state"] == "building"
                stores.objects.delete(encoder_key(new))  # so that it cannot be loaded any more
                let_heartbeat_expire(stack.environment["LOOKALIKE_DATABASE_URL"], new)
                assert activating.result()
            asleep.send_signal(signal.SIGCONT)
            refused = search_words(two)
            assert (refused.status_code, refused.json()["code"]) == (503, "model-not-loaded")
            assert int(refused.headers["retry-after"]) > 0
            assert search_answer(two, content)["space"] == "look"
            assert put(two, encoded(part_of("coffee", 2))).status_code in (201, 202)
            assert two.get("/readyz").status_code == 200
            assert eventually(lambda: len(search_words(one).json()["hits"]) == 2, 30)
            store_encoder(stores, bundle)
            assert eventually(lambda: search_words(two).status_code == 200, 30)
            answer = search_words(two).json()
            assert (answer["space"], answer["model_version"], len(answer["hits"])) == (
                "words",
                new,
                2,
            )


def let_heartbeat_expire(database_url: str, version: str) -> None:
    """Let the only process that has not loaded a version send no heartbeat for 15 seconds."""
    with closing(Database(database_url)) as database:
        replicas = SqlModelRegistry(database).list_replicas()
        (asleep,) = (replica.id for replica in replicas if version not in replica.loaded)
        chosen = REPLICAS.c.id == asleep
        with database.write() as connection:
            left = connection.scalar(sa.select(REPLICAS.c.until - now()).where(chosen))
            assert left is not None
            assert 0 < left <= 15_000
            connection.execute(sa.update(REPLICAS).where(chosen).values(until=now()))


def activated(client: httpx.Client, version: str) -> bool:
    """Try to activate a version. The only accepted refusal is that a process has not loaded it."""
    said = json.loads(client.post(f"/admin/models/{version}/activate").text.splitlines()[-1])
    if "error" in said:
        assert "running processes have not loaded" in said["error"]["detail"], said
    return "active" in said
