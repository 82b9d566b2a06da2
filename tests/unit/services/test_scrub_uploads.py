"""A scrub ends uploads to the object store that a killed process left behind."""

from __future__ import annotations

import pytest

from tests.support.use_cases import UseCases


@pytest.mark.parametrize(
    ("repair", "days", "aborts"), [(True, 0, 5), (False, 30, 5), (False, 0, 0)]
)
def test_old_uploads_are_aborted_by_a_repair_and_by_the_worker(
    use_cases: UseCases, monkeypatch: pytest.MonkeyPatch, repair: bool, days: int, aborts: int
) -> None:
    asked: list[str] = []

    def abort(prefix: str, before: float) -> int:
        asked.append(prefix)
        return 1

    monkeypatch.setattr(use_cases.stores.objects, "abort_unfinished", abort)
    *_, report = use_cases.scrub.run_scrub(repair=repair, full=False, quarantine_days=days)
    assert report.aborted == aborts
    assert report.clean
    assert "" not in asked
