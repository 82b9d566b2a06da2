"""The number of cores on every platform and every supported version of Python."""

from __future__ import annotations

import os

import pytest

from app.settings import Settings
from storage.cores import available_cores


def test_the_affinity_mask_limits_the_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "process_cpu_count", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 2, 5}, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    assert available_cores() == 3


@pytest.mark.parametrize(("counted", "expected"), [(8, 8), (None, 1)])
def test_macos_has_no_affinity_mask(
    monkeypatch: pytest.MonkeyPatch, counted: int | None, expected: int
) -> None:
    monkeypatch.delattr(os, "process_cpu_count", raising=False)
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: counted)
    assert available_cores() == expected
    assert Settings(_env_file=None).slots == expected


@pytest.mark.parametrize(("counted", "expected"), [(4, 4), (None, 1)])
def test_python_3_13_counts_for_the_process(
    monkeypatch: pytest.MonkeyPatch, counted: int | None, expected: int
) -> None:
    monkeypatch.setattr(os, "process_cpu_count", lambda: counted, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    assert available_cores() == expected
