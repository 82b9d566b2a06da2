"""Outages of a store: what still works, what is reported, and recovery without a restart."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.support.images import CAT, encoded, part_of
from tests.support.proxy import Proxy
from tests.support.requests import put, result_of, search
from tests.support.servers import free_ports
from tests.support.service import eventually
from tests.support.stack import Stack

_TIMEOUT = 2.0  # seconds that a call to a store may take
_PATIENCE = {"LOOKALIKE_STORE_TIMEOUT": str(_TIMEOUT)}
SETTINGS = {
    "metadata": "LOOKALIKE_DATABASE_URL",
    "objects": "LOOKALIKE_OBJECTS_URL",
    "vectors": "LOOKALIKE_VECTORS_URL",
}


@pytest.fixture
def proxies(stack: Stack) -> Iterator[dict[str, Proxy]]:
    """Put a proxy before each server and let the settings of the stack point to the proxies."""
    made = {}
    for store, setting in SETTINGS.items():
        url = stack.environment[setting]
        port = re.search(r"127\.0\.0\.1:(\d+)", url)
        assert port is not None
        made[store] = Proxy(int(port[1]))
        stack.environment[setting] = url.replace(port[0], f"127.0.0.1:{made[store].port}")
    yield made
    for proxy in made.values():
        proxy.close()


def timed(client: httpx.Client, content: bytes, path: str = "/masters") -> httpx.Response:
    """Upload or search; return the response, which must arrive within ten store timeouts."""
    part = "file" if path == "/masters" else "sample"
    start = time.monotonic()
    response = client.post(path, files={part: ("a.jpg", content)})
    assert time.monotonic() - start < 10 * _TIMEOUT
    return response


def wait_until_unready(client: httpx.Client, store: str) -> httpx.Response:
    """Return the answer of the readiness check once it has noticed the failure."""

    def is_unready() -> bool:
        return bool(client.get("/readyz").json()["checks"][store] != "ok")

    assert eventually(is_unready, 20)
    return client.get("/readyz")


def assert_says_so(response: httpx.Response, store: str) -> None:
    assert response.status_code == 503, response.text
    assert int(response.headers["retry-after"]) > 0
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert (problem["code"], store in problem["detail"]) == ("store-unavailable", True), problem


@pytest.mark.parametrize("failure", ["hold", "cut"])
def test_each_store_may_fail_and_come_back(
    stack: Stack, proxies: dict[str, Proxy], failure: str
) -> None:
    stack.start("worker", **_PATIENCE)
    with stack.replica(**_PATIENCE) as client:
        assert put(client, CAT).status_code == 201
        content = client.get("/masters").json()["masters"][0]["links"]["content"]
        for number, (store, proxy) in enumerate(proxies.items()):
            image = encoded(part_of("coffee", number))
            getattr(proxy, failure)()
            with ThreadPoolExecutor() as pool:  # most of these requests wait for a timeout
                uploading = pool.submit(timed, client, image)
                searching = pool.submit(timed, client, CAT, "/search")
                reading = pool.submit(client.get, content)
                checking = pool.submit(wait_until_unready, client, store)
            response = uploading.result()
            if store == "vectors":
                assert (response.status_code, result_of(response)["indexed"]) == (202, False), (
                    response.text
                )
                assert_says_so(searching.result(), "vector")
                assert reading.result().content == CAT
            else:
                named = {"metadata": "metadata", "objects": "object"}[store]
                assert_says_so(response, named)
                assert_says_so(reading.result(), named)
            ready = checking.result()
            assert ready.status_code == 503
            failing = {name for name, state in ready.json()["checks"].items() if state != "ok"}
            # The metadata database also records which model is active.
            assert failing == {store} | ({"model"} if store == "metadata" else set())
            assert client.get("/livez").status_code == 200

            proxy.heal()
            assert eventually(lambda: client.get("/readyz").status_code == 200, 30), stack.logs()
            again = eventually_put(client, image)
            assert again.status_code == (200 if store == "vectors" else 201), again.text
            assert eventually(
                lambda count=number + 2: len(search(client, CAT, k="10")) == count, 40
            ), stack.logs()  # type: ignore[misc]
        listed = client.get("/masters").json()
        assert listed["total"] == 4
        assert [
            client.get(master["links"]["content"]).status_code for master in listed["masters"]
        ] == [200] * 4


def eventually_put(client: httpx.Client, image: bytes) -> httpx.Response:
    """Upload an image and retry for up to 30 seconds while the service answers 503."""
    until = time.monotonic() + 30
    while (response := put(client, image)).status_code == 503 and time.monotonic() < until:
        time.sleep(0.5)
    return response


def test_another_worker_takes_over_from_one_that_was_killed(
    stack: Stack, proxies: dict[str, Proxy]
) -> None:
    direct = {"LOOKALIKE_VECTORS_URL": stack.environment["LOOKALIKE_VECTORS_URL"]}
    proxies["vectors"].hold()
    lease = {"LOOKALIKE_LEASE_SECONDS": "4"}
    nowhere = {"LOOKALIKE_VECTORS_URL": f"http://127.0.0.1:{free_ports(1)[0]}"}
    with stack.replica(**_PATIENCE, **nowhere) as client:
        masters = [
            result_of(put(client, encoded(part_of("coffee", seed))))["master"] for seed in range(3)
        ]
        client.delete(f"/masters/{masters[0]['id']}")
        # This worker acquires leases and then waits for Milvus.
        stuck = stack.start("worker", LOOKALIKE_STORE_TIMEOUT="60", **lease)
        assert eventually(lambda: "working" in stack.logs(), 30), stack.logs()
        time.sleep(1)
        stuck.kill()
        stuck.wait()
        proxies["vectors"].heal()
        stack.start("worker", **lease, **direct)

        def indexed() -> bool:
            return all(
                result_of(put(client, encoded(part_of("coffee", seed))))["indexed"]
                for seed in (1, 2)
            )

        assert eventually(indexed, 30), stack.logs()


@pytest.mark.parametrize("setting", ["LOOKALIKE_DATABASE_URL", "LOOKALIKE_OBJECTS_URL"])
def test_a_process_started_before_its_stores_waits_and_logs_it(stack: Stack, setting: str) -> None:
    port = free_ports(1)[0]
    url = {
        "LOOKALIKE_DATABASE_URL": f"mysql+pymysql://root@127.0.0.1:{port}/lookalike",
        "LOOKALIKE_OBJECTS_URL": f"s3://key:secret@127.0.0.1:{port}/lookalike?secure=false",
    }[setting]
    process = stack.start("serve", "--port", str(free_ports(1)[0]), **{setting: url}, **_PATIENCE)
    assert eventually(lambda: "waiting for a store" in stack.logs(), 30), stack.logs()
    assert process.poll() is None
    process.terminate()
    assert process.wait(10) != 0
