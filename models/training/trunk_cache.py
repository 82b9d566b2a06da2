"""Caches the output of the frozen trunk on disk, so that each training step runs only the head."""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.labelled_images import load_image
from models.progress import ProgressCallback
from models.training.augment import augment_image
from models.training.split_network import SplitNetwork
from models.transforms import prepare_input
from storage.cores import available_cores

_BATCH = 32  # inputs per run of the trunk
_SAVE_EVERY = 20  # batches


def fingerprint_inputs(paths: list[Path], *others: Any) -> str:
    """Hash what a cached result depends on, as SHA-256 in hex.

    That is the path, size and modification time of each file, and ``others``, which must be
    serializable as JSON.
    """
    files = [[str(path), (found := path.stat()).st_size, found.st_mtime_ns] for path in paths]
    return hashlib.sha256(json.dumps([files, *others]).encode()).hexdigest()


class TrunkCache:
    """The trunk's activations for every image in several views.

    View 0 is the image as the service sees it; the others are altered at random. Filling the cache
    resumes where an interrupted run stopped.
    """

    def __init__(
        self,
        directory: Path,
        paths: list[Path],
        views: int,
        split: SplitNetwork,
        seed: int,
        network_key: str,
    ) -> None:
        """Open the cache in ``directory``, or start a new one if it was made from other inputs.

        ``network_key`` identifies the frozen network.
        """
        directory.mkdir(parents=True, exist_ok=True)
        self._paths, self._split, self._seed = paths, split, seed
        self._state_file = directory / "state.json"
        self._fingerprint = fingerprint_inputs(paths, network_key, views, seed, split.trunk_shape)
        state = self._read_state()
        file = directory / "trunk.npy"
        if state.get("fingerprint") == self._fingerprint and file.exists():
            self._done: int = state["done"]
            self._rows = np.lib.format.open_memmap(file, "r+")
        else:
            self._done = 0
            # The state goes first, because it describes the rows that are about to be overwritten.
            self._state_file.unlink(missing_ok=True)
            dtype = np.uint8 if split.tune == "all" else np.float16
            shape = (views * len(paths), *split.trunk_shape)
            self._rows = np.lib.format.open_memmap(file, "w+", dtype, shape)

    def fill(self, progress: ProgressCallback) -> None:
        """Compute the rows that are missing, and save the state every few batches.

        Threads prepare the inputs of the next batch while the trunk runs.
        """
        total = len(self._rows)
        batches = [
            range(start, min(start + _BATCH, total)) for start in range(self._done, total, _BATCH)
        ]
        with ThreadPoolExecutor(available_cores()) as pool:

            def submit(number: int) -> list[Any]:
                rows = batches[number] if number < len(batches) else []
                return [pool.submit(self._prepare_view, row) for row in rows]

            pending = submit(0)
            for number, rows in enumerate(batches):
                pixels = [future.result() for future in pending]
                pending = submit(number + 1)
                self._rows[rows.start : rows.stop] = self._split.run_trunk(np.stack(pixels))
                self._done = rows.stop
                if number % _SAVE_EVERY == 0 or number + 1 == len(batches):
                    self._save_state()
                progress("frozen layers", self._done, total)

    def load_activations(
        self, images: NDArray[np.intp], views: NDArray[np.intp] | int = 0
    ) -> NDArray[Any]:
        """Return ``(n, *trunk_shape)``: the activations of these ``(n,)`` images in these views."""
        chosen: NDArray[Any] = self._rows[np.asarray(views) * len(self._paths) + images]
        return chosen

    def _save_state(self) -> None:
        self._rows.flush()  # before the state, which must never describe rows that are not there
        partial = self._state_file.with_suffix(".partial")
        partial.write_text(json.dumps({"fingerprint": self._fingerprint, "done": self._done}))
        partial.replace(self._state_file)

    def _read_state(self) -> dict[str, Any]:
        try:
            state: dict[str, Any] = json.loads(self._state_file.read_text())
        except (OSError, ValueError):
            return {}
        return state

    def _prepare_view(self, row: int) -> NDArray[np.uint8]:
        view, image = divmod(row, len(self._paths))
        original = load_image(self._paths[image])
        if view == 0:
            return prepare_input(original)
        return augment_image(original, np.random.default_rng([self._seed, view, image]))
