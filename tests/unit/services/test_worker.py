"""The worker: its duties, what it does when a store is down, and the scheduled scrub."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

import app.worker as worker_module
from app.services.scrub_report import ScrubReport
from app.settings import Settings
from app.worker import Worker
from storage.records import Master, ModelState, ModelVersion
from tests.support.use_cases import DOWN, FakeClock, UseCases, colours, raising


@pytest.fixture
def pending(use_cases: UseCases) -> list[Master]:
    """Six masters whose embeddings are left to the worker."""
    masters = []
    for seed in range(6):
        master = use_cases.upload(colours(seed)).master
        changed = use_cases.stores.metadata.update_master(
            master.id, name=None, attributes={"n": seed}
        )
        assert changed is not None
        masters.append(changed)
    return masters


def make_worker(use_cases: UseCases, **changed: Any) -> Worker:
    settings: Settings = use_cases.settings.model_copy(update=changed)
    return Worker(
        settings,
        use_cases.stores,
        use_cases.indexing,
        use_cases.captures,
        use_cases.scanning,
        use_cases.scrub,
        use_cases.metrics,
        use_cases.wake,
    )


def count_pending(use_cases: UseCases) -> int:
    return use_cases.collections.count_pending_embeddings()


def test_a_round_indexes_and_deletes(use_cases: UseCases, pending: list[Master]) -> None:
    use_cases.masters.delete_master(pending[0].id)
    assert use_cases.worker.run_round()
    assert count_pending(use_cases) == 0
    assert use_cases.stores.metadata.count_unfinished() == 0
    assert not use_cases.worker.run_round()


def test_a_duty_that_fails_does_not_stop_the_others(
    use_cases: UseCases, pending: list[Master], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(use_cases.stores.metadata, "expire_reservations", raising(DOWN))
    monkeypatch.setattr(use_cases.stores.registry, "list_models", raising(RuntimeError("a fault")))
    assert use_cases.worker.run_round()
    assert count_pending(use_cases) == 0


def test_a_vector_store_that_is_down_postpones_the_batch(
    use_cases: UseCases, pending: list[Master], monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts = []

    def fail(*given: Any) -> None:
        attempts.append(given)
        raise DOWN

    with monkeypatch.context() as patched:
        patched.setattr(use_cases.stores.vectors, "upsert", fail)
        assert not use_cases.worker.run_round()
    assert len(attempts) == 3
    assert count_pending(use_cases) == 6
    assert not use_cases.worker.run_round()  # they are due again in five seconds
    assert use_cases.dead_letters.list_dead_letters(10) == ([], 0)


def test_a_master_that_fails_too_often_becomes_a_dead_letter(
    use_cases: UseCases, monkeypatch: pytest.MonkeyPatch
) -> None:
    master = use_cases.upload(colours(1)).master
    use_cases.stores.metadata.update_master(master.id, name=None, attributes={})
    metadata, delays = use_cases.stores.metadata, []
    retry = metadata.retry_embedding

    def retry_at_once(task: Any, owner: str, failure: str, delay: float | None) -> None:
        delays.append(delay)
        retry(task, owner, failure, None if delay is None else 0.0)

    monkeypatch.setattr(metadata, "retry_embedding", retry_at_once)
    monkeypatch.setattr(use_cases.indexing, "index_embedding", raising(ValueError("broken")))
    worker = make_worker(use_cases, index_attempts=10)
    for _ in range(12):
        worker.run_round()
    assert delays == [2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 300.0, None]
    (letter,), _ = use_cases.dead_letters.list_dead_letters(10)
    assert (letter.attempts, letter.failure) == (10, "ValueError: broken")
    failures = use_cases.metrics.registry.get_sample_value("lookalike_index_failures_total")
    assert failures == 10


def test_a_worker_that_stops_releases_what_it_has_not_begun(
    use_cases: UseCases, pending: list[Master], monkeypatch: pytest.MonkeyPatch
) -> None:
    index = use_cases.indexing.index_embedding

    def stop_after_the_first(*given: Any) -> bool:
        use_cases.worker.request_stop()
        return index(*given)

    monkeypatch.setattr(use_cases.indexing, "index_embedding", stop_after_the_first)
    use_cases.worker.run()
    assert count_pending(use_cases) == 5
    claimed = use_cases.stores.metadata.claim_embeddings(["model-1"], "another", 10, 60.0)
    assert len(claimed) == 5
    assert use_cases.worker.run_round()  # it reports work left, and begins none


def test_a_worker_runs_in_a_thread_until_it_is_stopped(
    use_cases: UseCases, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds = threading.Semaphore(0)
    monkeypatch.setattr(use_cases.worker, "run_round", rounds.release)
    monkeypatch.setattr(use_cases.stores.metadata, "release_owned_leases", raising(DOWN))
    use_cases.worker.start()
    assert rounds.acquire(timeout=10)
    use_cases.wake.set()
    assert rounds.acquire(timeout=10)  # woken, long before the interval is over
    use_cases.worker.stop()
    assert not use_cases.worker._thread.is_alive()


def test_stopping_a_worker_that_never_ran_returns(use_cases: UseCases) -> None:
    use_cases.worker.stop()


def test_the_active_version_of_every_space_is_indexed_first(
    use_cases: UseCases, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ModelVersion("words-1", ModelState.ACTIVE, 0, "words")
    monkeypatch.setattr(use_cases.models, "_live", [*use_cases.models._live, words])
    worker, batches = make_worker(use_cases), []
    monkeypatch.setattr(worker, "_index_batch", batches.append)
    worker.run_round()
    assert batches == [["model-1", "words-1"], []]


@pytest.mark.parametrize(("rate", "pause"), [(8.0, 2.0), (0.0, 0.0)])
def test_other_versions_are_indexed_at_a_limited_rate(
    use_cases: UseCases, monkeypatch: pytest.MonkeyPatch, rate: float, pause: float
) -> None:
    clock = FakeClock()
    monkeypatch.setattr(worker_module, "time", clock)
    batches = []

    def index_batch(versions: list[str]) -> bool:
        batches.append(versions)
        return bool(versions)

    building = ModelVersion("model-2", ModelState.BUILDING, 0)
    monkeypatch.setattr(use_cases.models, "_live", [*use_cases.models._live, building])
    worker = make_worker(use_cases, reembed_rate=rate)
    monkeypatch.setattr(worker, "_index_batch", index_batch)
    worker.run_round()
    worker.run_round()
    assert batches.count(["model-2"]) == (1 if pause else 2)
    clock.now += pause
    worker.run_round()
    assert batches.count(["model-2"]) == (2 if pause else 3)
    assert batches.count(["model-1"]) == 3


class TestScheduledScrub:
    """Runs with a fake clock: an interval of 100 s, at 10 items per second."""

    @pytest.fixture
    def clock(self, monkeypatch: pytest.MonkeyPatch) -> FakeClock:
        clock = FakeClock()
        monkeypatch.setattr(worker_module, "time", clock)
        return clock

    @pytest.fixture
    def runs(self, use_cases: UseCases, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """What happened to the scrubs that began."""
        runs: list[str] = []
        run = use_cases.scrub.run_scrub

        def recorded(**options: bool) -> Iterator[Any]:
            runs.append("begun")
            yield from run(**options)
            runs.append("finished")

        monkeypatch.setattr(use_cases.scrub, "run_scrub", recorded)
        return runs

    def worker(self, use_cases: UseCases) -> Worker:
        return make_worker(use_cases, scrub_interval=100.0, scrub_rate=10.0, scrub_repair=True)

    def test_it_begins_when_it_is_due_and_pauses_between_batches(
        self, use_cases: UseCases, clock: FakeClock, runs: list[str]
    ) -> None:
        master = use_cases.upload(colours(1)).master
        use_cases.stores.vectors.delete("model-1", [master.id])
        worker = self.worker(use_cases)
        for _ in range(3):
            worker.run_round()
        assert runs == []
        clock.now += 60
        worker.run_round()  # begins
        worker.run_round()  # the masters
        assert runs == ["begun"]
        for _ in range(3):
            worker.run_round()  # pauses for a tenth of a second per item
        assert runs == ["begun"]
        for _ in range(10):
            clock.now += 1
            worker.run_round()
        assert runs == ["begun", "finished"]
        assert use_cases.stores.vectors.fetch_vectors("model-1", [master.id])  # repaired

    def test_it_logs_an_error_if_it_refuses_to_repair(
        self, use_cases: UseCases, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        report = ScrubReport(repair=True)

        def refuse(**options: Any) -> Iterator[ScrubReport]:
            assert options == {"repair": True, "full": False, "quarantine_days": 30}
            yield report
            report.refuse("the database is empty")
            yield report
            yield report

        errors = []
        monkeypatch.setattr(use_cases.scrub, "run_scrub", refuse)
        monkeypatch.setattr(
            worker_module.log, "error", lambda what, **named: errors.append((what, named))
        )
        worker = self.worker(use_cases)
        for _ in range(6):
            clock.now += 60
            worker.run_round()
        assert errors == [("the scrub repairs nothing", {"reason": "the database is empty"})]

    def test_one_process_scrubs_per_interval(
        self, use_cases: UseCases, clock: FakeClock, runs: list[str]
    ) -> None:
        workers = [self.worker(use_cases) for _ in range(2)]
        for _ in range(90):
            clock.now += 1
            for worker in workers:
                worker.run_round()
        assert runs == ["begun", "finished"]

    def test_a_store_that_is_down_ends_it_and_frees_the_lease(
        self,
        use_cases: UseCases,
        clock: FakeClock,
        runs: list[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        worker = self.worker(use_cases)
        clock.now += 60
        worker.run_round()
        with monkeypatch.context() as patched:
            patched.setattr(use_cases.stores.metadata, "list_records", raising(DOWN))
            worker.run_round()
        assert not use_cases.stores.metadata.is_leased("scrub")
        for _ in range(70):
            clock.now += 1
            worker.run_round()
        assert runs == ["begun", "begun", "finished"]

    def test_without_an_interval_there_is_none(
        self, use_cases: UseCases, clock: FakeClock, runs: list[str]
    ) -> None:
        worker = make_worker(use_cases, scrub_interval=0.0)
        clock.now += 1_000_000
        worker.run_round()
        assert runs == []


def test_a_stop_of_the_service_is_no_failed_attempt(
    use_cases: UseCases, pending: list[Master]
) -> None:
    for version in use_cases.models.live_versions:
        use_cases.stores.vectors.delete(version, [master.id for master in pending])
    use_cases.vision.stop()
    use_cases.worker.run_round()
    assert count_pending(use_cases) == len(pending)
    assert use_cases.metrics.index_failures._value.get() == 0
