"""backup.json: what a backup's directory says of itself."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from app.logs import log
from storage.durable_files import write_durably

_NAME = "backup.json"


def read_mark(directory: Path) -> dict[str, Any] | None:
    """None where there is no backup."""
    try:
        mark: dict[str, Any] = json.loads((directory / _NAME).read_text())
    except (OSError, ValueError):
        return None
    return mark if isinstance(mark, dict) and "complete" in mark else None


def write_mark(directory: Path, **about: object) -> None:
    """Written anew whole: a backup that was cut off says so."""
    content = json.dumps(about | {"at": datetime.now(UTC).isoformat(timespec="seconds")}) + "\n"
    write_durably(directory / _NAME, content.encode())


def note_serving(directory: Path) -> None:
    """From now on it may hold what no other place holds: the next backup must not go there."""
    mark = read_mark(directory)
    if mark is None:
        return
    if not mark["complete"]:
        log.warning(
            "this is a backup that was interrupted: masters are missing", directory=str(directory)
        )
    if not mark.get("served"):
        try:
            write_mark(directory, **mark | {"served": True})
        except (
            OSError
        ) as error:  # a medium or a disk that takes nothing can be looked at all the same
            log.warning(
                "it cannot be noted that this backup is served",
                directory=str(directory),
                reason=str(error),
            )
