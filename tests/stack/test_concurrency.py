"""Concurrent uploads, deletions and searches on two replicas lose and duplicate nothing."""

from __future__ import annotations

from tests.support.load import Load
from tests.support.service import eventually
from tests.support.stack import Stack

CLIENTS, SECONDS = 64, 10.0


def test_64_clients_on_two_replicas(stack: Stack) -> None:
    stack.create_collections()
    with stack.replica() as one, stack.replica() as two:
        stack.start("worker")
        urls = [str(one.base_url), str(two.base_url)]
        load = Load(urls, CLIENTS)
        load.run(SECONDS)
        assert load.failures == []
        assert load.acknowledged > 100
        assert eventually(lambda: load.drained(one), 60)
        assert load.lost(one) == []
        assert load.scrub(one) == {}
