"""The map from masters to rows, compared with a dictionary."""

from __future__ import annotations

import random
from uuid import UUID

import numpy as np
import pytest

from storage import master_positions
from storage.master_positions import MasterPositions


@pytest.mark.parametrize("most_recent", [1, 7, 10_000])
def test_it_agrees_with_a_dictionary(most_recent: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(master_positions, "_MOST_RECENT", most_recent)
    rng = random.Random(5)
    # Few different high halves, so that many ids share one.
    ids = [UUID(int=rng.choice([0, 1, 2**63, 2**64 - 1]) << 64 | low) for low in range(40)]
    loaded = np.array([divmod(each.int, 1 << 64) for each in ids[:20]], dtype=np.uint64)
    positions, expected = MasterPositions(), dict(zip(ids[:20], range(20), strict=True))
    positions.add_many(loaded, np.arange(20))
    for step in range(3000):
        master_id = rng.choice(ids)
        assert positions.pop(master_id) == expected.pop(master_id, None)
        if rng.random() < 0.7:
            positions.add(master_id, step)
            expected[master_id] = step
    assert {each: positions.pop(each) for each in ids} == {each: expected.get(each) for each in ids}
