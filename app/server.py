"""Runs the app, the worker, or one command on the stores, with the settings of the environment."""

from __future__ import annotations

import difflib
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn
from pydantic import ValidationError

from app.bootstrap import connect_stores, run_service, run_worker, store_urls, wait_for_stores
from app.http.security import InsecureSettings, check_listening
from app.logs import configure_logging, log
from app.main import create_app
from app.metrics import Metrics
from app.services.backup_manifest import record_serving
from app.services.scrub import Scrub
from app.settings import Settings
from models.engines import EngineMissing
from models.weights_file import WeightsInvalid
from storage.errors import ConfigurationError, StoreUnavailable
from storage.factory import upgrade_schema

_GRACE = 8  # seconds for requests under way at a stop; container engines kill after 10
_UPGRADE_PATIENCE = 120.0  # seconds; a one-shot command must end some time
_OF_THE_CLIENT = {"LOOKALIKE_URL", "LOOKALIKE_API_KEY"}


def serve(**given: object) -> int:
    """Serve until a signal ends it; the exit code. ``given`` settings go before those of the environment."""
    return with_settings(_serve, given)


def work() -> int:
    """Run the worker alone until a signal ends it; the exit code."""
    return with_settings(_work, {})


def upgrade_database() -> int:
    """Bring the database's schema to this version; the exit code."""
    return with_settings(_upgrade_database, {})


def scrub(options: dict[str, bool], watch: Callable[[Iterator[dict[str, Any]]], int]) -> int:
    """Scrub the stores of the settings without a service; ``watch`` is given the events, and gives the exit code."""

    def run(settings: Settings) -> int:
        check_installation(settings)
        with connect_stores(settings) as stores:
            return watch(
                Scrub(stores, Metrics(), grace=settings.scrub_grace).stream_scrub(**options)
            )

    return with_settings(run, {})


def with_settings(run: Callable[[Settings], int], given: dict[str, object]) -> int:
    """Say what is wrong with settings or stores in words, with exit code 2."""
    try:
        settings = Settings(**given)  # type: ignore[arg-type]
        configure_logging(settings.log_level)
        _warn_of_unknown_settings()
        if store_urls(settings).mixed:
            log.warning(
                "the database is on a server, but not all stores are: is a setting missing?",
                **store_urls(settings).shown,
            )
        return run(settings)
    except ValidationError as error:
        for item in error.errors():
            name = f"LOOKALIKE_{'_'.join(str(part) for part in item['loc'])}".upper()
            print(f"lookalike: {name}: {item['msg']}", file=sys.stderr)  # noqa: T201
    except (
        InsecureSettings,
        ConfigurationError,
        WeightsInvalid,
        EngineMissing,
        StoreUnavailable,
        OSError,
    ) as error:
        print(f"lookalike: {error}", file=sys.stderr)  # noqa: T201 - for the person who started it
    return 2


def check_installation(settings: Settings) -> None:
    """Raises ConfigurationError where a command that looks for an installation would make an empty one."""
    if store_urls(settings).embedded and not (settings.data_dir / "lookalike.db").exists():
        raise ConfigurationError(
            f"there is no installation in {settings.data_dir}: set LOOKALIKE_DATA_DIR"
        )


def _serve(settings: Settings) -> int:
    check_listening(settings)
    record_serving(settings.data_dir)
    with run_service(settings) as services:
        config = uvicorn.Config(
            create_app(settings, services),
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=_GRACE,
        )
        server = uvicorn.Server(config)
        # uvicorn raises the signals again after its own shutdown; they must not end ours
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        server.run(sockets=[_listen(settings)])
    return 0 if server.started else 2


def _work(settings: Settings) -> int:
    with run_worker(settings) as worker:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: worker.request_stop())
        log.info("working", **store_urls(settings).shown)
        worker.run()
    return 0


def _upgrade_database(settings: Settings) -> int:
    wait_for_stores(store_urls(settings), upgrade_schema, timeout=_UPGRADE_PATIENCE)
    log.info("the database is up to date")
    return 0


def _listen(settings: Settings) -> socket.socket:
    try:
        family = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.create_server(
            (settings.host, settings.port), family=family, backlog=1024
        )
    except OSError as error:
        raise ConfigurationError(
            f"cannot listen on {settings.host}, port {settings.port}: {error.strerror}."
            " Stop what uses the port, or set LOOKALIKE_PORT to another one."
        ) from error
    host, port = listening.getsockname()[:2]
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    log.info("serving", url=url, docs=f"{url}/docs")
    return listening


def _warn_of_unknown_settings() -> None:
    known = {f"LOOKALIKE_{name.upper()}" for name in Settings.model_fields} | _OF_THE_CLIENT
    for name in sorted(os.environ):
        if name.upper().startswith("LOOKALIKE_") and name.upper() not in known:
            alike = difflib.get_close_matches(name.upper(), known, n=1)
            log.warning(
                "unknown setting is ignored", name=name, did_you_mean=alike[0] if alike else None
            )
