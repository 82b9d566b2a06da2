"""Runs the service, the worker, or one command on the stores, with settings from the environment.

Errors are raised to the caller: the command line prints them and sets the exit code.
"""

from __future__ import annotations

import difflib
import os
import signal
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from types import FrameType
from typing import Any

import uvicorn

from app.bootstrap import connect_stores, run_services, run_worker, store_urls, wait_for_stores
from app.container import Services
from app.given_model import GivenModel
from app.http.connections import BACKLOG, server_config
from app.http.security import check_listening
from app.logs import configure_logging, log
from app.main import create_app
from app.metrics import Metrics
from app.process_memory import return_memory_early
from app.services.backup_manifest import record_serving
from app.services.installation_id import claim_bucket
from app.services.scrub import Scrub
from app.settings import Settings
from storage.errors import ConfigurationError
from storage.factory import upgrade_schema
from storage.store_locks import find_database_file

_SHUTDOWN_TIMEOUT = 8  # seconds for open requests; container engines kill after 10
_UPGRADE_TIMEOUT = 120.0  # seconds to wait for the database; this command has to end
_CLIENT_VARIABLES = {"LOOKALIKE_URL", "LOOKALIKE_API_KEY"}


class _Server(uvicorn.Server):
    """Refuses images that wait as soon as a signal arrives, so that the process ends soon."""

    def __init__(self, config: uvicorn.Config, services: Services) -> None:
        super().__init__(config)
        self._vision = services.vision

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop. In a signal handler, waiting for a lock could take for ever."""
        threading.Thread(target=self._vision.stop).start()
        super().handle_exit(sig, frame)


def load_settings(**given: Any) -> Settings:
    """Read the settings, configure logging, and warn about unknown and doubtful settings.

    Values in ``given`` override the environment. Raises pydantic.ValidationError.
    """
    settings = Settings(**given)
    _configure_logging(settings)
    return settings


def serve(settings: Settings, loading: Future[GivenModel]) -> bool:
    """Serve with the model that is being loaded, until a signal ends it.

    Return whether the server started. Raises InsecureSettings, ConfigurationError, EncoderInvalid,
    EngineMissing, StoreUnavailable.
    """
    _configure_logging(settings)
    check_listening(settings)
    record_serving(settings.data_dir)
    with (
        connect_stores(settings) as stores,
        run_services(settings, stores, loading.result()) as services,
    ):
        config = server_config(
            create_app(settings, services), settings, timeout_graceful_shutdown=_SHUTDOWN_TIMEOUT
        )
        server = _Server(config, services)
        # uvicorn raises each signal again after its shutdown; that must not interrupt ours.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        server.run(sockets=[_listen(settings)])
    return server.started


def work() -> None:
    """Run the worker alone until a signal ends it. Raises what ``serve`` raises."""
    return_memory_early()
    settings = load_settings()
    with run_worker(settings) as worker:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: worker.request_stop())
        log.info("working", **store_urls(settings).shown)
        worker.run()


def upgrade_database() -> None:
    """Upgrade the database schema to this version. Raises ConfigurationError, StoreUnavailable."""
    urls = store_urls(load_settings())
    wait_for_stores(urls, upgrade_schema, timeout=_UPGRADE_TIMEOUT)
    log.info("the database is up to date")


def scrub(options: dict[str, bool]) -> Iterator[dict[str, Any]]:
    """Scrub the stores of the settings without a service, and yield its events.

    Raises ConfigurationError, StoreUnavailable.
    """
    settings = load_settings()
    check_installation(settings)
    with connect_stores(settings, load_vectors=False) as stores:
        if options["repair"]:
            claim_bucket(stores)
        yield from Scrub(stores, Metrics(), grace=settings.scrub_grace).stream_scrub(**options)


def check_installation(settings: Settings) -> None:
    """Raise ConfigurationError if a command would create an empty installation by accident."""
    database = find_database_file(settings.effective_database_url)
    if database is None or (database.exists() and database.stat().st_size):
        return
    if settings.database_url:
        raise ConfigurationError(f"there is no database {database}: set LOOKALIKE_DATABASE_URL")
    raise ConfigurationError(
        f"there is no installation in {settings.data_dir}: set LOOKALIKE_DATA_DIR"
    )


def _listen(settings: Settings) -> socket.socket:
    """Return a socket that listens on the configured address. Raises ConfigurationError."""
    try:
        family = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.create_server(
            (settings.host, settings.port), family=family, backlog=BACKLOG
        )
    except OSError as error:
        raise ConfigurationError(
            f"cannot listen on {settings.host}, port {settings.port}: {error.strerror}."
            " Stop the program that uses the port, or set LOOKALIKE_PORT to another one."
        ) from error
    host, port = listening.getsockname()[:2]
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    log.info("serving", url=url, docs=f"{url}/docs")
    return listening


def _configure_logging(settings: Settings) -> None:
    """Configure logging, and warn about unknown and doubtful settings."""
    configure_logging(settings.log_level)
    _warn_of_unknown_settings()
    urls = store_urls(settings)
    if urls.mixed:
        log.warning(
            "the database is on a server, but not all stores are: is a setting missing?",
            **urls.shown,
        )


def _warn_of_unknown_settings() -> None:
    known = {f"LOOKALIKE_{name.upper()}" for name in Settings.model_fields} | _CLIENT_VARIABLES
    for name in sorted(os.environ):
        if name.upper().startswith("LOOKALIKE_") and name.upper() not in known:
            alike = difflib.get_close_matches(name.upper(), known, n=1)
            log.warning(
                "unknown setting is ignored", name=name, did_you_mean=alike[0] if alike else None
            )
