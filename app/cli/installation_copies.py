"""Copies an installation to servers, to a backup directory, or from one; shows progress."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from dotenv import dotenv_values

from app.bootstrap import connect_stores, store_urls, wait_for_stores
from app.cli.console import ExitCode, err, on_interrupt, progress_bar
from app.server import check_installation, load_settings
from app.services.backup_manifest import read_manifest, write_manifest
from app.services.catalogue import Catalogue, CatalogueRefused
from app.services.deletion import BACKUP_LEASE
from app.services.installation_copy import CopyCounts, InstallationCopy
from app.services.installation_id import (
    claim_bucket,
    read_bucket_identity,
    take_over_installation_id,
)
from app.services.marks import has_reached, set_mark
from app.services.mirroring import CopyRefused, MirrorRules
from app.services.removed_objects import RemovedObjects
from app.settings import Settings
from storage.errors import ConfigurationError, StoreUnavailable
from storage.factory import upgrade_schema
from storage.private_files import make_private_directory
from storage.protocols import Stores

_LEASE = 300.0  # seconds a backup may take per batch; removals stay paused that long after a kill
_MARK = "backup-mark"
_RESUME = "Run the same command again to resume."


def copy(directory: Path, target: Path | None, jobs: int) -> ExitCode:
    """Copy the embedded installation in ``directory`` to the servers of the settings.

    Settings in the file ``target`` override the environment. Raises ConfigurationError.
    """
    settings = load_settings(**(_read_settings_file(target) if target else {}))
    _check_installation(directory, "name its LOOKALIKE_DATA_DIR with --from")
    if store_urls(settings).embedded:
        raise ConfigurationError(
            "copy needs servers as its target: set LOOKALIKE_DATABASE_URL, LOOKALIKE_OBJECTS_URL"
            " and LOOKALIKE_VECTORS_URL, or name a file with these settings with --to"
        )
    counts = _copy_to_settings(directory, settings, jobs)
    if counts.only_in_target:
        err.print(
            f"The servers hold {counts.only_in_target} more: uploaded there, or deleted here since."
        )
    if not counts.failed:
        err.print("Next: start `lookalike serve` and `lookalike worker` with these settings.")
    return _exit_code(counts)


@dataclass(frozen=True)
class BackupOptions:
    """What a backup contains and what it may remove."""

    vectors: bool
    verify: bool
    allow_removal: bool
    keep_removed: int  # days


def backup(directory: Path, jobs: int, options: BackupOptions) -> ExitCode:
    """Make ``directory`` a copy of the installation of the settings, which may be in use.

    Raises ConfigurationError, CopyRefused, StoreUnavailable.
    """
    settings = load_settings()
    check_installation(settings)
    manifest = _check_backup_target(directory, settings)
    make_private_directory(directory)
    if manifest is None:
        write_manifest(directory, complete=False, vectors=options.vectors)
    owner = f"backup-{uuid4().hex}"
    with connect_stores(settings, load_vectors=False, read_only=True) as source:

        def hold_lease() -> bool:
            return source.metadata.acquire_lease(BACKUP_LEASE, owner, _LEASE)

        if not hold_lease():
            raise ConfigurationError(
                "another backup is running, or was killed within the last five minutes: retry later"
            )
        try:
            with connect_stores(_embedded_in(directory, settings), load_vectors=False) as target:
                copying = InstallationCopy(
                    source,
                    target,
                    jobs=jobs,
                    lease=settings.lease_seconds,
                    fail=_print_failure,
                    vectors=options.vectors,
                    mirror=True,
                    verify=options.verify,
                    rules=_mirror_rules(source, manifest or {}, options.allow_removal),
                )
                copying.check_removals()
                _write_backup_manifest(directory, source, options, complete=False)
                counts = _run_copy(copying, drain=target, hold_lease=hold_lease)
                # Remove what the installation has deleted since the last backup.
                copying.finish_deletions(target, lambda left: None)
                RemovedObjects(target.objects).expire(options.keep_removed)
                _update_catalogue(target)
                _write_backup_manifest(
                    directory, source, options, complete=True, failed=counts.failed
                )
        finally:
            source.metadata.release_lease(BACKUP_LEASE, owner)
    err.print(f"{_summarize(counts)} {counts.changed} changed, {counts.only_in_target} removed.")
    _print_decisions(counts)
    err.print(
        f"The backup is in {directory}. You can serve it as it is, but then it accepts no further"
        f" backup: LOOKALIKE_DATA_DIR={directory} lookalike serve"
    )
    return _exit_code(counts)


def _update_catalogue(target: Stores) -> None:
    """Let the backup survive the loss of its own database. Raises StoreUnavailable."""
    try:
        for _ in Catalogue(target).write():
            pass
    except CatalogueRefused as error:  # its database was replaced by hand
        err.print(f"In the backup, {error}.", style="yellow")


def _mirror_rules(source: Stores, manifest: dict[str, Any], allow_removal: bool) -> MirrorRules:
    """Compare the source with what the last run recorded about it."""
    id_ = claim_bucket(source)
    known, mark = manifest.get("installation"), manifest.get("mark")
    return MirrorRules(
        same_installation=None if known is None else known == id_,
        is_current=mark is None or has_reached(source.metadata, _MARK, mark),
        allow_removal=allow_removal,
    )


def _write_backup_manifest(
    directory: Path, source: Stores, options: BackupOptions, **fields: object
) -> None:
    write_manifest(
        directory,
        **fields,
        vectors=options.vectors,
        installation=claim_bucket(source),
        mark=set_mark(source.metadata, _MARK),
    )


def restore(directory: Path, jobs: int, *, incomplete: bool) -> ExitCode:
    """Copy a backup into the empty stores of the settings.

    Raises ConfigurationError, CopyRefused, StoreUnavailable.
    """
    settings = load_settings()
    mark = read_manifest(directory)
    if mark is None:
        raise ConfigurationError(f"there is no backup in {directory}")
    if not mark["complete"] and not incomplete:
        raise ConfigurationError(
            f"the backup in {directory} was interrupted: run `lookalike backup` again,"
            " or restore what is there with --incomplete"
        )
    if directory.resolve() == settings.data_dir.resolve():
        raise ConfigurationError(
            "the target is the backup itself: set LOOKALIKE_DATA_DIR to another directory,"
            " or serve the backup as it is"
        )
    hint = f"the backup has lost its database: LOOKALIKE_DATA_DIR={directory} lookalike recover"
    _check_installation(directory, hint)
    counts = _copy_to_settings(directory, settings, jobs, mark)
    if counts.only_in_target:
        err.print(
            f"The target holds {counts.only_in_target} more: uploaded since, or deleted from the"
            " backup."
        )
    if counts.to_embed:
        err.print(
            f"{counts.to_embed} have no vector in the backup. Searches find them once the worker"
            " has embedded them."
        )
    return _exit_code(counts)


def _read_settings_file(path: Path) -> dict[str, Any]:
    prefix = "lookalike_"
    values = {name.lower(): value for name, value in dotenv_values(path).items()}
    return {
        name.removeprefix(prefix): value
        for name, value in values.items()
        if name.startswith(prefix)
    }


def _check_backup_target(directory: Path, settings: Settings) -> dict[str, Any] | None:
    """Return the manifest of the backup in ``directory``, if there is one already.

    Raises ConfigurationError if a backup into it could destroy something.
    """
    if directory.resolve().is_relative_to(settings.data_dir.resolve()):
        raise ConfigurationError(
            "a backup cannot lie in the installation itself: name another directory"
        )
    mark = read_manifest(directory)
    if mark is None and directory.exists() and any(directory.iterdir()):
        raise ConfigurationError(
            f"{directory} is not empty, and not a backup:"
            " name a new directory, or the directory of a backup"
        )
    if mark and mark.get("served"):
        raise ConfigurationError(
            f"the backup in {directory} has been served, and images uploaded to it would be lost:"
            " name another directory"
        )
    return mark


def _check_installation(directory: Path, hint: str) -> None:
    database = directory / "lookalike.db"
    if not database.exists() or not database.stat().st_size:
        raise ConfigurationError(f"there is no installation in {directory}: {hint}")


def _copy_to_settings(
    directory: Path, settings: Settings, jobs: int, manifest: dict[str, Any] | None = None
) -> CopyCounts:
    """Copy the unused embedded installation in ``directory`` to the stores of the settings.

    The copy takes the place of the source, or of the installation that the backup with this
    ``manifest`` was made of.
    """
    urls = store_urls(settings)
    if not urls.embedded:
        wait_for_stores(urls, upgrade_schema)
    with (
        connect_stores(_embedded_in(directory, settings), load_vectors=False) as source,
        connect_stores(settings, load_vectors=False) as target,
    ):
        _claim_target(source, target, manifest)
        copying = InstallationCopy(
            source, target, jobs=jobs, lease=settings.lease_seconds, fail=_print_failure
        )
        counts = _run_copy(copying, drain=source)
        _take_over_identity(source, target, manifest)
    err.print(_summarize(counts))
    _print_decisions(counts)
    return counts


def _claim_target(source: Stores, target: Stores, manifest: dict[str, Any] | None) -> None:
    """Claim the target's bucket, which gets the id of the installation if it has none.

    Raises BucketRefused, StoreUnavailable.
    """
    if manifest:
        claim_bucket(target, manifest.get("installation"))
    else:
        bucket = read_bucket_identity(source.objects)
        claim_bucket(target, bucket.id if bucket else None)


def _take_over_identity(source: Stores, target: Stores, manifest: dict[str, Any] | None) -> None:
    """Give the target the id and the mark by which the next backup recognises it."""
    if manifest and "installation" in manifest:
        take_over_installation_id(target.objects, manifest["installation"])
    mark = manifest.get("mark") if manifest else source.metadata.find_lease_end(_MARK)
    if mark is not None:
        set_mark(target.metadata, _MARK, mark)


def _embedded_in(directory: Path, settings: Settings) -> Settings:
    embedded = {
        "data_dir": directory.absolute(),
        "database_url": "",
        "objects_url": "",
        "vectors_url": "embedded:",
    }
    return settings.model_copy(update=embedded)


def _run_copy(
    copying: InstallationCopy, drain: Stores, hold_lease: Callable[[], bool] = lambda: True
) -> CopyCounts:
    """Finish the deletions of ``drain``, then copy, with a progress bar.

    ``hold_lease`` renews the lease after each batch; it returns False if the lease was lost.
    """
    try:
        with on_interrupt(_RESUME), progress_bar() as progress:
            task = progress.add_task("Finishing deletions", total=None)
            copying.finish_deletions(
                drain,
                lambda left: progress.update(task, description=f"Finishing {left} deletions"),
            )
            progress.remove_task(task)
            task = progress.add_task("Copying", total=copying.count_masters())

            def advance(count: int) -> None:
                if not hold_lease():
                    raise CopyRefused("another backup has started since: retry later")
                progress.advance(task, count)

            return copying.copy_masters(advance)
    except StoreUnavailable:
        err.print(f"Stopped. {_RESUME}")
        raise


def _print_failure(what: str, reason: str) -> None:
    err.print(f"{what} is not copied: {reason}", style="red")


def _summarize(counts: CopyCounts) -> str:
    return (
        f"{counts.copied} masters copied and verified, {counts.unchanged} were already present,"
        f" {counts.failed} failed."
    )


def _print_decisions(counts: CopyCounts) -> None:
    if counts.decisions:
        err.print(f"{counts.decisions} decisions about duplicates copied.")


def _exit_code(counts: CopyCounts) -> ExitCode:
    return ExitCode.FINDINGS if counts.failed else ExitCode.OK
