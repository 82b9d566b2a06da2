"""The commands for what repairs have moved to quarantine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.console import (
    CommandError,
    ExitCode,
    err,
    on_interrupt,
    out,
    print_json,
    show_printable,
)
from app.cli.options import JsonOption

if TYPE_CHECKING:
    from app.services.removed_objects import RemovedObject, RemovedObjects
    from app.settings import Settings


def list_(as_json: JsonOption = False) -> ExitCode:
    """List the objects in quarantine: the day, the size in bytes and the key.

    A repair moves an original there that belongs to no master (`lookalike scrub --repair`). The
    worker's scrub deletes it after LOOKALIKE_QUARANTINE_DAYS.
    """
    count = size = 0
    with _open_quarantine() as (quarantine, settings):
        for each in quarantine.list():
            count, size = count + 1, size + each.size
            if as_json:
                print_json(_as_json(each), indent=None)
            else:
                out.print(f"{each.day} {each.size:>12} {show_printable(each.key)}")
    days = settings.quarantine_days
    kept = f"They are deleted after {days} days." if days else "They are kept for ever."
    err.print(f"{count} objects, {size} bytes. {kept}" if count else "The quarantine is empty.")
    return ExitCode.OK


def restore(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY]...", help="Keys of the objects, or IDs of their masters."),
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="Restore everything in quarantine.")] = False,
) -> ExitCode:
    """Move objects from quarantine back to their keys.

    An object is copied, verified, and then removed from quarantine. One whose key has other bytes
    now is left alone. The service may be in use, and the command can be interrupted and run again.

    `lookalike recover --apply` then brings back the masters whose rows are gone.

    Exit codes: 0 everything was restored; 1 some objects were not; 2 the command could not
    continue; 130 interrupted.
    """
    wanted = set(names or ())
    if bool(wanted) == all_:
        raise CommandError("name the objects to restore, or restore everything with --all")
    with (
        _open_quarantine() as (quarantine, _),
        on_interrupt("Run the same command again to resume."),
    ):
        restored, missed = _restore_wanted(quarantine, None if all_ else wanted)
    err.print(f"{restored} objects were restored.")
    if restored:
        err.print(
            "If the rows of their masters are gone, stop the service and run `lookalike recover`"
            " now: after LOOKALIKE_SCRUB_GRACE, a repair moves them to quarantine again."
        )
    return ExitCode.FINDINGS if missed else ExitCode.OK


def expire(
    days: Annotated[
        int,
        typer.Option("--days", metavar="N", min=0, help="Keep what was moved in the last N days."),
    ],
) -> ExitCode:
    """Delete from quarantine what has been there for more than a number of days, for good.

    The worker's scrub does so by itself after LOOKALIKE_QUARANTINE_DAYS.
    """
    with _open_quarantine() as (quarantine, _):
        err.print(f"{quarantine.expire(days)} objects were deleted.")
    return ExitCode.OK


@contextmanager
def _open_quarantine() -> Iterator[tuple[RemovedObjects, Settings]]:
    """Open only the object store, because the database may be lost."""
    from app.bootstrap import store_urls, wait_for_stores
    from app.server import load_settings
    from app.services.removed_objects import QUARANTINE_PREFIX, RemovedObjects
    from storage.factory import open_objects

    settings = load_settings()
    directory = settings.data_dir / "objects"
    if not settings.objects_url and not directory.is_dir():
        raise CommandError(f"there are no originals in {directory}: set LOOKALIKE_DATA_DIR")
    objects = wait_for_stores(store_urls(settings), partial(open_objects, shared=True))
    with closing(objects):
        yield RemovedObjects(objects, QUARANTINE_PREFIX), settings


def _restore_wanted(quarantine: RemovedObjects, wanted: set[str] | None) -> tuple[int, int]:
    """Restore what is wanted, or everything, and return how many were restored and were not."""
    from app.services.removed_objects import RestoreRefused

    restored = refused = 0
    found: set[str] = set()
    for each in quarantine.list():
        names = {each.place, each.key, PurePosixPath(each.key).stem}
        if wanted is not None and not names & wanted:
            continue
        found |= names
        try:
            quarantine.restore(each)
            restored += 1
        except RestoreRefused as error:
            err.print(f"{show_printable(each.place)}: {error}", style="red")
            refused += 1
    unknown = sorted((wanted or set()) - found)
    for name in unknown:
        err.print(f"{show_printable(name)}: not in quarantine", style="red")
    return restored, refused + len(unknown)


def _as_json(each: RemovedObject) -> dict[str, object]:
    return {"day": str(each.day), "size": each.size, "key": each.key, "place": each.place}
