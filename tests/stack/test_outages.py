"""A store that is down: what still works, what is said, and that it comes back without a restart."""

from __future__ import annotations

import time

import pytest

from tests.conftest import encoded, eventually, photograph
from tests.servers import free_ports
from tests.stack.conftest import Stack, result_of
from tests.stack.test_replicas import put, search

CAT = encoded(photograph("chelsea"))
_PATIENCE = {"LOOKALIKE_STORE_TIMEOUT": "2"}


def test_without_milvus_uploads_are_taken_and_become_searchable_later(stack: Stack) -> None:
    nowhere = f"http://127.0.0.1:{free_ports(1)[0]}"
    with stack.replica(LOOKALIKE_VECTORS_URL=nowhere, **_PATIENCE) as cut_off, stack.replica() as connected:
        start = time.monotonic()
        response = put(cut_off, CAT)
        assert (response.status_code, result_of(response)["indexed"]) == (202, False), response.text
        answer = cut_off.post("/search", files={"sample": ("a.jpg", CAT)})
        assert (answer.status_code, answer.json()["code"]) == (503, "store-unavailable")
        assert int(answer.headers["retry-after"]) > 0
        assert time.monotonic() - start < 30
        checks = cut_off.get("/readyz").json()["checks"]
        assert {name for name, state in checks.items() if state != "ok"} == {"vectors"}
        stack.start("worker")
        assert eventually(lambda: result_of(put(connected, CAT))["indexed"], 30)
        assert len(search(connected, CAT)) == 1


@pytest.mark.parametrize("setting", ["LOOKALIKE_DATABASE_URL", "LOOKALIKE_OBJECTS_URL"])
def test_a_start_before_its_stores_waits_and_says_so(stack: Stack, setting: str) -> None:
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
