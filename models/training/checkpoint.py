"""The checkpoint from which an interrupted training resumes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch


class CheckpointFile:
    """One file, which each save replaces atomically."""

    def __init__(self, path: Path, fingerprint: str, device: str) -> None:
        """``fingerprint`` identifies the images, the base and the recipe of this run."""
        self._path = path
        self._fingerprint = fingerprint
        self._device = device

    def save(self, modules: dict[str, Any], **values: Any) -> None:
        """Write the state of the modules, and ``values`` of plain types. Raises OSError."""
        content = {name: module.state_dict() for name, module in modules.items()}
        content |= values | {"fingerprint": self._fingerprint}
        partial = self._path.with_suffix(".partial")
        try:
            torch.save(content, partial)
        except RuntimeError as error:  # torch raises it instead of OSError if a write fails
            partial.unlink(missing_ok=True)
            raise OSError(
                f"The checkpoint {self._path} cannot be written ({error}). Check the free space"
                " and the permissions of its directory."
            ) from error
        partial.replace(self._path)

    def load(self, modules: dict[str, Any]) -> dict[str, Any] | None:
        """Restore the state of the modules and return the saved values.

        Returns None, and changes nothing, if there is no checkpoint or it belongs to a run with
        other images, another base or another recipe.
        """
        if not self._path.exists():
            return None
        content: dict[str, Any] = torch.load(
            self._path, map_location=self._device, weights_only=True
        )
        if content.pop("fingerprint", None) != self._fingerprint:
            return None
        for name, module in modules.items():
            module.load_state_dict(content.pop(name))
        return content
