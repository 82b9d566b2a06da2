"""Makes a bundle from exported files and a manifest without their hashes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from models.bundles.archive import Bundle, write_bundle
from models.bundles.check import CheckedBundle, check_bundle
from models.errors import BundleInvalid
from storage.durable_files import flush_directory, make_durable_directory


def read_draft(path: Path) -> dict[str, Any]:
    """Read a manifest that a person wrote; it needs no ``files``. Raises BundleInvalid, OSError."""
    try:
        draft = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise BundleInvalid(f"{path} is not valid JSON ({error}).") from error
    if not isinstance(draft, dict):
        raise BundleInvalid(f"{path} is not a manifest: it must be a JSON object.")
    return draft


def make_bundle(
    draft: Mapping[str, Any],
    files: list[Path],
    out: Path,
    *,
    precision: str = "auto",
    verify: Callable[[Bundle], None] = lambda bundle: None,
) -> CheckedBundle:
    """Write a bundle to ``out`` if ``check_bundle`` accepts it, and nothing otherwise.

    The manifest's ``format``, ``files`` and ``colour_profiles`` are filled in. ``verify`` may
    refuse the bundle for further reasons, by raising BundleInvalid. Raises BundleInvalid and
    OSError.
    """
    named = {file.name: file for file in files}
    if len(named) < len(files):
        raise BundleInvalid("Two of the files have the same name. Rename one.")
    make_durable_directory(out.parent)
    with TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as directory:
        written = Path(directory) / out.name
        write_bundle(written, _complete(draft), named)
        checked = check_bundle(written, precision=precision)
        verify(checked.bundle)
        os.replace(written, out)
        flush_directory(out.parent)
    return replace(checked, bundle=replace(checked.bundle, path=out))


def _complete(draft: Mapping[str, Any]) -> dict[str, Any]:
    """Add what a new bundle says unless its draft does.

    A manifest without ``colour_profiles`` ignores them, because older ones do.
    """
    image = draft.get("image")
    if isinstance(image, dict):
        draft = {**draft, "image": {"colour_profiles": "convert", **image}}
    return {"format": 1, **draft}
