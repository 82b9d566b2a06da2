"""Writes the catalogue on command, and recovers a database from it; shows progress."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory

from app.bootstrap import connect_stores, store_urls, wait_for_stores
from app.cli.console import ExitCode, err, on_interrupt, out, progress_bar, show_printable
from app.server import check_installation, load_settings
from app.services.catalogue import Catalogue, CatalogueReport
from app.services.catalogue_rows import open_rows
from app.services.installation_id import claim_bucket
from app.services.recovery import Recovery, RecoveryCounts
from app.services.recovery_collections import RecoveryRefused
from app.settings import Settings
from models.embedder import read_encoder
from models.weights_file import DEFAULT_WEIGHTS
from storage.errors import ConfigurationError
from storage.factory import upgrade_schema
from storage.protocols import Stores


def write_catalogue(replace: bool) -> ExitCode:
    """Bring the catalogue up to date.

    Raises CatalogueRefused, ConfigurationError, StoreUnavailable.
    """
    settings = load_settings()
    check_installation(settings)
    report = CatalogueReport()
    with (
        connect_stores(settings, load_vectors=False, read_only=True) as stores,
        progress_bar() as progress,
    ):
        masters = sum(count for _, count in stores.metadata.list_collections())
        claim_bucket(stores)
        task = progress.add_task("Writing the catalogue", total=masters)
        for report in Catalogue(stores).write(replace_other=replace):
            progress.update(task, completed=report.masters, total=max(masters, report.masters))
    err.print(
        f"The catalogue shows {report.masters} masters in {report.chunks} files,"
        f" of which {report.written} were written."
    )
    return ExitCode.OK


def recover(*, apply: bool, allow_removal: bool, jobs: int) -> ExitCode:
    """Rebuild rows from the bucket of the settings, or report what that would do.

    Raises ConfigurationError, EncoderInvalid, RecoveryRefused, RemovalRefused, StoreUnavailable.
    """
    settings = load_settings()
    installed = read_encoder(settings.weights or DEFAULT_WEIGHTS).version
    with _open_for_recovery(settings, apply) as stores, open_rows() as rows:
        recovery = Recovery(
            stores,
            rows,
            installed=installed,
            jobs=jobs,
            grace=settings.scrub_grace,
            apply=apply,
            allow_removal=allow_removal,
            fail=_print_failure,
        )
        with on_interrupt("Run the same command again to resume."), progress_bar() as progress:
            task = progress.add_task("Reading the catalogue", total=None)
            total = recovery.prepare()
            progress.update(task, description="Recovering" if apply else "Checking", total=total)
            counts = recovery.recover_masters(lambda count: progress.advance(task, count))
    _show_counts(counts, apply)
    for space, version in recovery.active.items():
        out.print(f"Active model version of the space {space}: {version}")
    _show_next_step(counts, apply)
    return ExitCode.FINDINGS if counts.failed or counts.damaged else ExitCode.OK


@contextmanager
def _open_for_recovery(settings: Settings, apply: bool) -> Iterator[Stores]:
    """Open the stores. A lost embedded database is created, in a temporary place to look only."""
    urls = store_urls(settings)
    objects = settings.data_dir / "objects"
    if not settings.objects_url and not objects.is_dir():
        raise ConfigurationError(f"there are no originals in {objects}: set LOOKALIKE_DATA_DIR")
    with TemporaryDirectory(prefix="lookalike-recover-") as temporary:
        if not urls.embedded:
            wait_for_stores(urls, upgrade_schema)
        elif not apply and not (settings.data_dir / "lookalike.db").exists():
            update = {"database_url": f"sqlite:///{temporary}/lookalike.db"}
            settings = settings.model_copy(update=update)
        with connect_stores(settings, load_vectors=False) as stores:
            if apply and not urls.embedded and (running := stores.registry.list_replicas()):
                raise RecoveryRefused(
                    f"{len(running)} processes are running on these servers, or were killed within"
                    " the last 15 seconds: stop them, and run the command again"
                )
            yield stores


def _print_failure(what: str, reason: str) -> None:
    err.print(f"{show_printable(what)}: {reason}", style="red")


def _show_counts(counts: RecoveryCounts, apply: bool) -> None:
    done = "were" if apply else "would be"
    lines = [
        (counts.present, "masters are in the database already"),
        (counts.from_catalogue, f"{done} recovered with name and attributes"),
        (counts.from_key, f"{done} recovered from the original alone, without name and attributes"),
        (counts.updated, f"{done} updated to newer names and attributes"),
        (counts.damaged, "were recovered as damaged: upload the same bytes again, or delete them"),
        (counts.withdrawn, f"{done} deleted, because they were deleted after the dump was made"),
        (counts.left_deleted, "originals belong to deleted masters and are left alone"),
        (counts.without_bytes, "masters of the catalogue have no original: deleted since, or lost"),
        (counts.decisions, f"decisions about duplicates {done} recovered"),
        (counts.failed, "problems, see above"),
    ]
    for count, what in lines:
        if count or what.startswith("masters are"):
            out.print(f"{count:>8} {what}")


def _show_next_step(counts: RecoveryCounts, apply: bool) -> None:
    if not apply:
        out.print("Nothing was changed, and no original was read. To recover, add --apply.")
    elif counts.failed:
        out.print(
            "The catalogue is kept as it is. Run the command again after the problems are solved,"
            " or give up what is missing with `lookalike catalogue --replace`."
        )
    else:
        out.print("Next: start the service. The worker embeds the images again.")
