"""What an operator sees: JSON logs with a request id, Prometheus metrics."""

from __future__ import annotations

import logging
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import uuid4

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.process_collector import ProcessCollector
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from storage.protocols import StoreUnavailable

log: structlog.stdlib.BoundLogger = structlog.get_logger("lookalike")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
_QUIET = ("/livez", "/readyz", "/metrics")


def configure_logging(level: str) -> None:
    """On standard error, from our own loggers and the libraries' alike: one JSON object a line; readable lines at a terminal."""
    renderer = structlog.dev.ConsoleRenderer() if sys.stderr.isatty() else structlog.processors.JSONRenderer()
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        *([] if sys.stderr.isatty() else [structlog.processors.format_exc_info]),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
            foreign_pre_chain=shared,
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in ("uvicorn", "uvicorn.error"):
        logging.getLogger(name).handlers.clear()
    for name in list(logging.root.manager.loggerDict):
        if name.split(".")[0] == "pymilvus":  # tells each failed call in twenty lines of its own; we tell it in one
            logging.getLogger(name).handlers.clear()
            logging.getLogger(name).setLevel(logging.CRITICAL)
    for name in ("alembic", "httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)


class Metrics:
    """The metrics of one service, on a registry of their own. Times are in seconds."""

    def __init__(self, count_pending: Callable[[], int] | None = None, count_dead: Callable[[], int] | None = None) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = Counter(
            "lookalike_http_requests", "Requests answered", ["method", "route", "status"], registry=self.registry
        )
        self.request_seconds = Histogram(
            "lookalike_http_request_seconds", "Time to answer", ["method", "route"], buckets=_BUCKETS, registry=self.registry
        )
        self.uploads = Counter("lookalike_uploads", "Files uploaded, by outcome", ["outcome"], registry=self.registry)
        self.searches = Counter("lookalike_searches", "Searches answered", registry=self.registry)
        self.stages = Histogram(
            "lookalike_stage_seconds", "Time of each stage of the work", ["stage"], buckets=_BUCKETS, registry=self.registry
        )
        self.store_errors = Counter("lookalike_store_errors", "Failed calls to a store", ["store"], registry=self.registry)
        self.index_failures = Counter("lookalike_index_failures", "Failed attempts to index a master", registry=self.registry)
        self.pending = Gauge("lookalike_pending_embeddings", "Embeddings waiting to be indexed", registry=self.registry)
        self.scrub_findings = Gauge(
            "lookalike_scrub_findings", "What the last scrub of this process found, by kind", ["kind"], registry=self.registry
        )
        self.scrub_ended = Gauge(
            "lookalike_scrub_ended_timestamp_seconds", "When this process last ended a scrub", registry=self.registry
        )
        self.dead = Gauge("lookalike_dead_letters", "Embeddings given up after too many attempts", registry=self.registry)
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


class RequestContext:
    """ASGI: gives each request an id (the client's own if it is sane), logs its end, counts it."""

    def __init__(self, app: ASGIApp, metrics: Callable[[], Metrics | None]) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else uuid4().hex
        scope["request_id"] = request_id
        status = 500
        start = time.perf_counter()

        async def tagged(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = request_id
                headers.setdefault("X-Content-Type-Options", "nosniff")
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self._app(scope, receive, tagged)
            except Exception:
                log.exception("request failed", method=scope["method"], path=scope["path"])
                raise
            finally:
                self._record(scope, status, time.perf_counter() - start)

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "unmatched")
        metrics = self._metrics()
        if metrics is not None:
            metrics.requests.labels(scope["method"], route, status).inc()
            metrics.request_seconds.labels(scope["method"], route).observe(seconds)
        level = logging.DEBUG if route in _QUIET else logging.INFO
        log.log(level, "request", method=scope["method"], path=scope["path"], status=status, ms=round(seconds * 1000, 1))
