"""Runs the app, the worker, or one command on the stores, with the settings of the environment."""

from __future__ import annotations

import difflib
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import uvicorn
from dotenv import dotenv_values
from pydantic import ValidationError
from rich.console import Console

from app.main import build_services, create_app, opened_model, opened_stores, store_urls, waited_for
from app.observability import Metrics, configure_logging, log
from app.security import InsecureSettings, check_listening
from app.services.migration import Migration, MigrationRefused
from app.services.scrub import Scrub
from app.settings import Settings
from app.transfer import progress_bar
from models.engines import EngineMissing
from models.weights_file import WeightsInvalid
from storage.factory import ConfigurationError, upgrade_schema
from storage.protocols import Master, StoreUnavailable

_GRACE = 8  # seconds for requests under way at a stop; container engines kill after 10
_UPGRADE_PATIENCE = 120.0  # seconds; a one-shot command must end some time
_OF_THE_CLIENT = {"LOOKALIKE_URL", "LOOKALIKE_API_KEY"}


def serve(**given: object) -> int:
    """Serve until a signal ends it; the exit code. ``given`` settings go before those of the environment."""
    return _with_settings(_serve, given)


def work() -> int:
    """Run the worker alone until a signal ends it; the exit code."""
    return _with_settings(_work, {})


def upgrade_database() -> int:
    """Bring the database's schema to this version; the exit code."""
    return _with_settings(_upgrade_database, {})


def migrate(directory: Path, target: Path | None, jobs: int) -> int:
    """Copy the embedded installation in ``directory`` to the servers of the settings (of that file); the exit code."""
    given: dict[str, object] = {}
    if target is not None:  # the file goes before the environment
        prefix = "lookalike_"
        values = {name.lower(): value for name, value in dotenv_values(target).items()}
        given = {name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)}
    return _with_settings(lambda settings: _migrate(directory, settings, jobs), given)


def scrub(options: dict[str, bool], watch: Callable[[Iterator[dict[str, Any]]], int]) -> int:
    """Scrub the stores of the settings without a service; ``watch`` is given the events, and gives the exit code."""

    def run(settings: Settings) -> int:
        with opened_stores(settings) as stores:
            return watch(Scrub(stores, Metrics(), grace=settings.scrub_grace).events(**options))

    return _with_settings(run, {})


def _with_settings(run: Callable[[Settings], int], given: dict[str, object]) -> int:
    """Say what is wrong with settings or stores in words, with exit code 2."""
    try:
        settings = Settings(**given)  # type: ignore[arg-type]
        configure_logging(settings.log_level)
        _warn_of_unknown_settings()
        if store_urls(settings).mixed:
            log.warning(
                "the database is on a server, but not all stores are: is a setting missing?", **store_urls(settings).shown
            )
        return run(settings)
    except ValidationError as error:
        for item in error.errors():
            name = f"LOOKALIKE_{'_'.join(str(part) for part in item['loc'])}".upper()
            print(f"lookalike: {name}: {item['msg']}", file=sys.stderr)  # noqa: T201
    except (InsecureSettings, ConfigurationError, WeightsInvalid, EngineMissing, StoreUnavailable) as error:
        print(f"lookalike: {error}", file=sys.stderr)  # noqa: T201 - for the person who started it
    return 2


def _serve(settings: Settings) -> int:
    check_listening(settings)
    with opened_stores(settings) as stores:
        config = uvicorn.Config(
            create_app(settings, stores, opened_model(settings)),
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=_GRACE,
        )
        server = uvicorn.Server(config)
        server.run(sockets=[_listen(settings)])
    return 0 if server.started else 2


def _work(settings: Settings) -> int:
    with opened_stores(settings) as stores:
        services, model = build_services(settings, stores), opened_model(settings)
        worker = services.worker
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: worker.stop_soon())
        services.models.start(model)
        log.info("working", **store_urls(settings).shown)
        try:
            worker.run()
        finally:
            services.models.stop()
    return 0


def _upgrade_database(settings: Settings) -> int:
    waited_for(store_urls(settings), upgrade_schema, patience=_UPGRADE_PATIENCE)
    log.info("the database is up to date")
    return 0


def _migrate(directory: Path, settings: Settings, jobs: int) -> int:
    if not (directory / "lookalike.db").exists():
        raise ConfigurationError(f"there is no installation in {directory}: name its LOOKALIKE_DATA_DIR with --from")
    urls = store_urls(settings)
    if urls.embedded:
        raise ConfigurationError(
            "migrate copies to servers: set LOOKALIKE_DATABASE_URL, LOOKALIKE_OBJECTS_URL and LOOKALIKE_VECTORS_URL,"
            " or name a file with these settings with --to"
        )
    waited_for(urls, upgrade_schema)
    source_settings = settings.model_copy(
        update={"data_dir": directory.absolute(), "database_url": "", "objects_url": "", "vectors_url": "embedded:"}
    )
    console = Console(stderr=True, highlight=False, markup=False)
    with opened_stores(source_settings) as source, opened_stores(settings) as stores, progress_bar() as progress:

        def failed(master: Master, reason: str) -> None:
            progress.console.print(
                f"{master.id} ({master.name}) is not copied: {reason}", style="red", markup=False, soft_wrap=True
            )

        migration = Migration(source, stores, jobs=jobs, lease=settings.lease_seconds, fail=failed)
        task = progress.add_task("Finishing", total=None, rate="")
        try:
            migration.drain(lambda left: progress.update(task, rate=f"{left} left"))
            start = time.monotonic()
            progress.update(task, description="Copying", total=migration.total(), rate="")

            def advance(count: int) -> None:
                rate = (progress.tasks[0].completed + count) / max(1e-3, time.monotonic() - start)
                progress.update(task, advance=count, rate=f"{rate:.0f}/s")

            tally = migration.run(advance)
        except MigrationRefused as error:
            raise ConfigurationError(str(error)) from error
        except StoreUnavailable:
            console.print("Stopped. Run the same command again to go on.")
            raise
        except KeyboardInterrupt:
            console.print("Interrupted. Run the same command again to go on.")
            return 130
    console.print(
        f"{tally.copied} masters copied and verified, {tally.there_already} were there already, {tally.failed} failed."
        + (f" The servers hold {tally.only_there} more, put in there or deleted here since." if tally.only_there else ""),
        soft_wrap=True,
    )
    if not tally.failed:
        console.print("Next: start `lookalike serve` and `lookalike worker` with the servers' settings.")
    return 1 if tally.failed else 0


def _listen(settings: Settings) -> socket.socket:
    try:
        family = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.create_server((settings.host, settings.port), family=family, backlog=1024)
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
            log.warning("unknown setting is ignored", name=name, did_you_mean=alike[0] if alike else None)
