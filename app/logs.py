"""Configures logging: JSON lines on standard error, readable lines at a terminal."""

from __future__ import annotations

import logging
import sys

import stamina.instrumentation
import structlog

log: structlog.stdlib.BoundLogger = structlog.get_logger("lookalike")


def configure_logging(level: str) -> None:
    """Log records of ``level`` and above, from our own loggers and those of libraries.

    Each record is one JSON object per line, or a readable line if standard error is a terminal.
    """
    renderer = (
        structlog.dev.ConsoleRenderer()
        if sys.stderr.isatty()
        else structlog.processors.JSONRenderer()
    )
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
    stamina.instrumentation.set_on_retry_hooks([])  # the caller logs what is retried
    for name in ("uvicorn", "uvicorn.error"):
        logging.getLogger(name).handlers.clear()
    for name in list(logging.root.manager.loggerDict):
        # pymilvus logs each failed call in twenty lines; the service logs it in one
        if name.split(".")[0] == "pymilvus":
            logging.getLogger(name).handlers.clear()
            logging.getLogger(name).setLevel(logging.CRITICAL)
    for name in ("alembic", "httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)
