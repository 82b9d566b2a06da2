"""Reads and writes backup.json, which describes the backup in its directory."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from app.logs import log
from storage.durable_files import write_durably

_NAME = "backup.json"


def read_manifest(directory: Path) -> dict[str, Any] | None:
    """Return the manifest of the backup in ``directory``, or None if there is no valid one."""
    try:
        manifest: dict[str, Any] = json.loads((directory / _NAME).read_text())
    except (OSError, ValueError):
        return None
    return manifest if isinstance(manifest, dict) and "complete" in manifest else None


def write_manifest(directory: Path, **fields: object) -> None:
    """Replace the manifest by ``fields`` and the current time, atomically and durably.

    Raises OSError.
    """
    content = fields | {"at": datetime.now(UTC).isoformat(timespec="seconds")}
    write_durably(directory / _NAME, (json.dumps(content) + "\n").encode(), private=True)


def record_serving(directory: Path) -> None:
    """Record in a backup that it is being served; nothing if ``directory`` is no backup.

    A served backup may receive uploads that exist nowhere else, so the next backup must not
    overwrite it. A directory that cannot be written to is served all the same.
    """
    manifest = read_manifest(directory)
    if manifest is None:
        return
    if not manifest["complete"]:
        log.warning(
            "serving a backup that was interrupted: masters are missing", directory=str(directory)
        )
    if not manifest.get("served"):
        try:
            write_manifest(directory, **manifest | {"served": True})
        except OSError as error:
            log.warning(
                "cannot record that this backup is being served",
                directory=str(directory),
                reason=str(error),
            )
