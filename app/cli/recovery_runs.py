"""Writes the catalogue on command, and shows progress."""

from __future__ import annotations

from app.bootstrap import connect_stores
from app.cli.console import ExitCode, err, progress_bar
from app.server import check_installation, load_settings
from app.services.catalogue import Catalogue, CatalogueReport


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
        task = progress.add_task("Writing the catalogue", total=masters)
        for report in Catalogue(stores).write(replace_other=replace):
            progress.update(task, completed=report.masters, total=max(masters, report.masters))
    err.print(
        f"The catalogue shows {report.masters} masters in {report.chunks} files,"
        f" of which {report.written} were written."
    )
    return ExitCode.OK
