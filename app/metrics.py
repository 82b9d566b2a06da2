"""Prometheus metrics of one service."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.process_collector import ProcessCollector

from storage.errors import StoreUnavailable

_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


class Metrics:
    """The metrics of one service, on a registry of their own. Times are in seconds."""

    def __init__(
        self,
        count_pending: Callable[[], int] | None = None,
        count_dead: Callable[[], int] | None = None,
    ) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = Counter(
            "lookalike_http_requests",
            "Requests answered",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self.request_seconds = Histogram(
            "lookalike_http_request_seconds",
            "Time to answer",
            ["method", "route"],
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self.uploads = Counter(
            "lookalike_uploads", "Files uploaded, by outcome", ["outcome"], registry=self.registry
        )
        self.searches = Counter("lookalike_searches", "Searches answered", registry=self.registry)
        self.stages = Histogram(
            "lookalike_stage_seconds",
            "Time of each stage of the work",
            ["stage"],
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self.store_errors = Counter(
            "lookalike_store_errors", "Failed calls to a store", ["store"], registry=self.registry
        )
        self.index_failures = Counter(
            "lookalike_index_failures", "Failed attempts to index a master", registry=self.registry
        )
        self.pending = Gauge(
            "lookalike_pending_embeddings",
            "Embeddings waiting to be indexed",
            registry=self.registry,
        )
        self.scrub_findings = Gauge(
            "lookalike_scrub_findings",
            "What the last scrub of this process found, by kind",
            ["kind"],
            registry=self.registry,
        )
        self.scrub_ended = Gauge(
            "lookalike_scrub_ended_timestamp_seconds",
            "When this process last ended a scrub",
            registry=self.registry,
        )
        self.dead = Gauge(
            "lookalike_dead_letters",
            "Embeddings given up after too many attempts",
            registry=self.registry,
        )
        self._counts = [(self.pending, count_pending), (self.dead, count_dead)]

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        except StoreUnavailable as error:
            self.store_errors.labels(error.store).inc()
            raise
        finally:
            self.stages.labels(name).observe(time.perf_counter() - start)

    def exposition(self) -> bytes:
        """Prometheus' text format."""
        for gauge, count in self._counts:
            if count is not None:
                try:
                    gauge.set(count())
                except StoreUnavailable as error:
                    self.store_errors.labels(error.store).inc()
                    gauge.set(float("nan"))
        return generate_latest(self.registry)
