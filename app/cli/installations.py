"""Copies an installation: to servers, to a backup directory, from one. With progress, and resumable."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from dotenv import dotenv_values
from rich.console import Console

from app.bootstrap import connect_stores, store_urls, wait_for_stores
from app.cli.transfer import progress_bar
from app.server import with_settings
from app.services.backup_manifest import read_manifest, write_manifest
from app.services.deletion import BACKUP_LEASE
from app.services.installation_copy import CopyCounts, CopyRefused, InstallationCopy
from app.settings import Settings
from storage.errors import ConfigurationError, StoreUnavailable
from storage.factory import upgrade_schema
from storage.protocols import Stores

_LEASE = 300.0  # seconds a backup may take for a batch; so long are removals held back after one that was killed
_console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)


def migrate(directory: Path, target: Path | None, jobs: int) -> int:
    """Copy the embedded installation in ``directory`` to the servers of the settings (of that file); the exit code."""
    given: dict[str, object] = {}
    if target is not None:  # the file goes before the environment
        prefix = "lookalike_"
        values = {name.lower(): value for name, value in dotenv_values(target).items()}
        given = {
            name.removeprefix(prefix): value
            for name, value in values.items()
            if name.startswith(prefix)
        }
    return with_settings(lambda settings: _migrate(directory, settings, jobs), given)


def backup(directory: Path, jobs: int, *, vectors: bool, verify: bool) -> int:
    """Make ``directory`` a copy of the installation of the settings, which may be in use; the exit code."""
    return with_settings(
        lambda settings: _backup(settings, directory, jobs, vectors=vectors, verify=verify), {}
    )


def restore(directory: Path, jobs: int, *, incomplete: bool) -> int:
    """Copy a backup into the empty stores of the settings; the exit code."""
    return with_settings(
        lambda settings: _restore(directory, settings, jobs, incomplete=incomplete), {}
    )


def _migrate(directory: Path, settings: Settings, jobs: int) -> int:
    _check_installation(directory, "name its LOOKALIKE_DATA_DIR with --from")
    if store_urls(settings).embedded:
        raise ConfigurationError(
            "migrate copies to servers: set LOOKALIKE_DATABASE_URL, LOOKALIKE_OBJECTS_URL and LOOKALIKE_VECTORS_URL,"
            " or name a file with these settings with --to"
        )
    tally = _copied(directory, settings, jobs)
    if tally.only_in_target:
        _console.print(
            f"The servers hold {tally.only_in_target} more, put in there or deleted here since."
        )
    if not tally.failed:
        _console.print(
            "Next: start `lookalike serve` and `lookalike worker` with the servers' settings."
        )
    return 1 if tally.failed else 0


def _backup(settings: Settings, directory: Path, jobs: int, *, vectors: bool, verify: bool) -> int:
    if store_urls(settings).embedded:
        _check_installation(settings.data_dir, "set LOOKALIKE_DATA_DIR")
    if directory.resolve().is_relative_to(settings.data_dir.resolve()):
        raise ConfigurationError(
            "a backup cannot lie in the installation itself: name another directory"
        )
    mark = read_manifest(directory)
    if mark is None and directory.exists() and any(directory.iterdir()):
        raise ConfigurationError(
            f"{directory} is not empty, and not a backup: name a new directory, or that of a backup"
        )
    if mark and mark.get("served"):
        raise ConfigurationError(
            f"the backup in {directory} has been served: what was put into it would be removed. Name another directory"
        )
    directory.mkdir(parents=True, exist_ok=True)
    write_manifest(directory, complete=False, vectors=vectors)
    owner = f"backup-{uuid4().hex}"
    with connect_stores(settings, load_vectors=False, read_only=True) as source:
        if not source.metadata.acquire_lease(BACKUP_LEASE, owner, _LEASE):
            raise ConfigurationError(
                "another backup is running, or was killed within the last five minutes: try again later"
            )
        try:
            with (
                connect_stores(_embedded_in(directory, settings), load_vectors=False) as target,
                _reported() as fail,
            ):
                copying = InstallationCopy(
                    source,
                    target,
                    jobs=jobs,
                    lease=settings.lease_seconds,
                    fail=fail,
                    vectors=vectors,
                    mirror=True,
                    verify=verify,
                )
                tally = _watched(
                    copying,
                    drain=target,
                    held=lambda: source.metadata.acquire_lease(BACKUP_LEASE, owner, _LEASE),
                )
                copying.finish_deletions(
                    target, lambda left: None
                )  # what the installation has deleted since the last backup
                write_manifest(directory, complete=True, vectors=vectors, failed=tally.failed)
        finally:
            source.metadata.release_lease(BACKUP_LEASE, owner)
    _console.print(_summary(tally) + f" {tally.changed} changed, {tally.only_in_target} removed.")
    _console.print(
        f"The backup is in {directory}. It can be served as it is: LOOKALIKE_DATA_DIR={directory} lookalike serve"
    )
    return 1 if tally.failed else 0


def _restore(directory: Path, settings: Settings, jobs: int, *, incomplete: bool) -> int:
    mark = read_manifest(directory)
    if mark is None:
        raise ConfigurationError(f"there is no backup in {directory}")
    if not mark["complete"] and not incomplete:
        raise ConfigurationError(
            f"the backup in {directory} was interrupted: run `lookalike backup` again, or restore what is there with --incomplete"
        )
    if directory.resolve() == settings.data_dir.resolve():
        raise ConfigurationError(
            "that is where the backup lies: set LOOKALIKE_DATA_DIR to where it is to go, or serve it as it is"
        )
    _check_installation(directory, "the backup has lost its database")
    tally = _copied(directory, settings, jobs)
    if tally.only_in_target:
        _console.print(
            f"There are {tally.only_in_target} more, put in since, or deleted from the backup."
        )
    if tally.to_embed:
        _console.print(
            f"Of those copied now, {tally.to_embed} have no vector in the backup: the worker makes them, then they are found."
        )
    return 1 if tally.failed else 0


def _copied(directory: Path, settings: Settings, jobs: int) -> CopyCounts:
    """From the embedded installation in a directory, which nobody uses, into the stores of the settings."""
    urls = store_urls(settings)
    if not urls.embedded:
        wait_for_stores(urls, upgrade_schema)
    with (
        connect_stores(_embedded_in(directory, settings), load_vectors=False) as source,
        connect_stores(settings, load_vectors=False) as target,
        _reported() as fail,
    ):
        copying = InstallationCopy(
            source, target, jobs=jobs, lease=settings.lease_seconds, fail=fail
        )
        tally = _watched(copying, drain=source)
    _console.print(_summary(tally))
    return tally


def _check_installation(directory: Path, hint: str) -> None:
    database = directory / "lookalike.db"
    if not database.exists() or not database.stat().st_size:
        raise ConfigurationError(f"there is no installation in {directory}: {hint}")


def _embedded_in(directory: Path, settings: Settings) -> Settings:
    embedded = {
        "data_dir": directory.absolute(),
        "database_url": "",
        "objects_url": "",
        "vectors_url": "embedded:",
    }
    return settings.model_copy(update=embedded)


@contextmanager
def _reported() -> Iterator[Callable[[str, str], None]]:
    """Says what is not copied and why, and in words what ends the whole; raises ConfigurationError for what is refused."""
    errors = Console(stderr=True, style="red", highlight=False, markup=False, soft_wrap=True)
    try:
        yield lambda what, reason: errors.print(f"{what} is not copied: {reason}")
    except CopyRefused as error:
        raise ConfigurationError(str(error)) from error
    except StoreUnavailable:
        _console.print("Stopped. Run the same command again to go on.")
        raise


def _watched(
    copying: InstallationCopy, drain: Stores, held: Callable[[], bool] = lambda: True
) -> CopyCounts:
    """Carry out the deletions of ``drain``, then copy, with a progress bar; ``held`` is called again and again."""
    try:
        with progress_bar() as progress:
            task = progress.add_task("Finishing", total=None, rate="")
            copying.finish_deletions(drain, lambda left: progress.update(task, rate=f"{left} left"))
            start = time.monotonic()
            progress.update(task, description="Copying", total=copying.count_masters(), rate="")

            def advance(count: int) -> None:
                if not held():
                    raise CopyRefused("another backup has begun meanwhile: try again later")
                rate = (progress.tasks[0].completed + count) / max(1e-3, time.monotonic() - start)
                progress.update(task, advance=count, rate=f"{rate:.0f}/s")

            return copying.copy_masters(advance)
    except KeyboardInterrupt:
        _console.print("Interrupted. Run the same command again to go on.")
        raise SystemExit(130) from None


def _summary(tally: CopyCounts) -> str:
    return f"{tally.copied} masters copied and verified, {tally.unchanged} were there already, {tally.failed} failed."
