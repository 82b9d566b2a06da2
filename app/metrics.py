"""Prometheus metrics of one service."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.process_collector import ProcessCollector

from storage.errors import StoreUnavailable

_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


class Metrics:
    """The metrics of one process, on a registry of their own. Times are in seconds."""

    def __init__(
        self,
        count_pending: Callable[[], int] | None = None,
        count_dead: Callable[[], int] | None = None,
        count_unread: Callable[[], int] | None = None,
    ) -> None:
        """The functions are called whenever the metrics are read."""
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = Counter(
            "lookalike_http_requests",
            "Number of HTTP requests",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self.request_seconds = Histogram(
            "lookalike_http_request_seconds",
            "Time from a request to its response",
            ["method", "route"],
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self.uploads = Counter(
            "lookalike_uploads",
            "Number of uploaded files, by outcome",
            ["outcome"],
            registry=self.registry,
        )
        self.searches = Counter("lookalike_searches", "Number of searches", registry=self.registry)
        self.stages = Histogram(
            "lookalike_stage_seconds",
            "Time of each stage of requests and of the worker",
            ["stage"],
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self.store_errors = Counter(
            "lookalike_store_errors",
            "Number of failed calls to a store",
            ["store"],
            registry=self.registry,
        )
        self.index_failures = Counter(
            "lookalike_index_failures",
            "Number of failed attempts to index a master",
            registry=self.registry,
        )
        self.pending = Gauge(
            "lookalike_pending_embeddings",
            "Number of embeddings that are not indexed yet",
            registry=self.registry,
        )
        self.scrub_findings = Gauge(
            "lookalike_scrub_findings",
            "Findings of the last scrub of this process, by kind",
            ["kind"],
            registry=self.registry,
        )
        self.scrub_refused = Gauge(
            "lookalike_scrub_refused",
            "Whether the last repair of this process was refused, because it would remove too much",
            registry=self.registry,
        )
        self.scrub_ended = Gauge(
            "lookalike_scrub_ended_timestamp_seconds",
            "Unix time at which the last scrub of this process ended",
            registry=self.registry,
        )
        self.dead = Gauge(
            "lookalike_dead_letters",
            "Number of embeddings that failed too often",
            registry=self.registry,
        )
        self.unread = Gauge(
            "lookalike_unread_masters",
            "Number of masters whose files have not been read for their metadata",
            registry=self.registry,
        )
        self._counting = threading.Lock()
        self._counts = [
            (self.pending, count_pending),
            (self.dead, count_dead),
            (self.unread, count_unread),
        ]

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Observe the time of the block, and count a StoreUnavailable that it raises."""
        start = time.perf_counter()
        try:
            yield
        except StoreUnavailable as error:
            self.store_errors.labels(error.store).inc()
            raise
        finally:
            self.stages.labels(name).observe(time.perf_counter() - start)

    def exposition(self) -> bytes:
        """Return all metrics in Prometheus' text format.

        A gauge whose store does not answer is NaN. While another call waits for a store, the gauges
        have their last values, so that only one thread waits.
        """
        if self._counting.acquire(blocking=False):
            try:
                self._count()
            finally:
                self._counting.release()
        return generate_latest(self.registry)

    def _count(self) -> None:
        for gauge, count in self._counts:
            if count is not None:
                try:
                    gauge.set(count())
                except StoreUnavailable as error:
                    self.store_errors.labels(error.store).inc()
                    gauge.set(float("nan"))
