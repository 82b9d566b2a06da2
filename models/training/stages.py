"""The network in two parts: a frozen trunk, whose output is kept on disk, and what is trained on top of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from models.labelled_images import Advance, batches, load
from models.resnet import EmbeddingNetwork
from models.training.augment import augmented
from models.transforms import INPUT_SIDE, to_input

Tune = Literal["projection", "layer4", "layer3", "all"]
_SHAPES: dict[Tune, tuple[int, ...]] = {  # of what the trunk gives for one image
    "projection": (2048,),
    "layer4": (14, 14, 1024),
    "layer3": (28, 28, 512),
    "all": (INPUT_SIDE, INPUT_SIDE, 3),
}
_BATCH = 32


def has_bfloat16(device: str) -> bool:
    """Whether the device computes in bfloat16 itself; without that it takes ten times as long as float32."""
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return any(
        torch.cpu.get_capabilities().get(name) for name in ("avx512_bf16", "amx_bf16", "bf16")
    )  # "bf16": on Arm


class Parts:
    """``trunk`` and ``head`` of a network, by what of it is tuned. What follows the convolutions runs in float32."""

    def __init__(self, network: EmbeddingNetwork, tune: Tune, device: str) -> None:
        self.network = network.to(device, memory_format=torch.channels_last)
        self.tune = tune
        self.device = device
        self.shape = _SHAPES[tune]
        self._autocast = torch.autocast(device, dtype=torch.bfloat16, enabled=has_bfloat16(device))
        names = ["stem", "layer1", "layer2", "layer3", "layer4"]
        first = {"projection": 5, "layer4": 4, "layer3": 3, "all": 0}[tune]
        self._frozen, self._tuned = names[:first], names[first:]

    def trunk(self, pixels: NDArray[np.uint8]) -> NDArray[Any]:
        """``(n, 224, 224, 3)`` uint8 -> ``(n, *shape)`` float16 (uint8 where nothing is frozen)."""
        if not self._frozen:
            return pixels
        with torch.inference_mode():
            x = self._through(torch.from_numpy(pixels).to(self.device), self._frozen)
            if self.tune == "projection":
                x = self.network.pool(x.float()).flatten(1)
            else:
                x = x.float().permute(0, 2, 3, 1).contiguous()
            given: NDArray[Any] = x.half().cpu().numpy()
            return given

    def features(self, given: NDArray[Any]) -> torch.Tensor:
        """What the trunk gave -> ``(n, 2048)`` float32 pooled features, with their gradients."""
        x = torch.from_numpy(np.ascontiguousarray(given)).to(self.device)
        if self.tune == "projection":
            return x.float()
        if self._frozen:
            x = x.permute(0, 3, 1, 2).float()
        return self.network.pool(self._through(x, self._tuned).float()).flatten(1)

    def head(self, given: NDArray[Any]) -> torch.Tensor:
        """What the trunk gave -> ``(n, 512)`` float32 embeddings of length 1."""
        return nn.functional.normalize(self.network.projection(self.features(given)))

    def tuned(self) -> list[nn.Parameter]:
        """The parameters of the backbone that are trained."""
        modules = (
            [self.network.backbone.conv1, self.network.backbone.bn1]
            if "stem" in self._tuned
            else []
        )
        modules += [getattr(self.network.backbone, name) for name in self._tuned if name != "stem"]
        return [parameter for module in modules for parameter in module.parameters()]

    def _through(self, x: torch.Tensor, names: Sequence[str]) -> torch.Tensor:
        net = self.network.backbone
        with self._autocast:
            for name in names:
                if name == "stem":
                    x = (x.permute(0, 3, 1, 2).float() - self.network.mean) / self.network.std
                    x = net.maxpool(
                        net.relu(
                            net.bn1(net.conv1(x.contiguous(memory_format=torch.channels_last)))
                        )
                    )
                else:
                    x = getattr(net, name)(x)
        return x


def digest_of(paths: list[Path], *about: Any) -> str:
    """SHA-256 of the files' paths, sizes and times of change and of all else: what tells whether it is still the same."""
    files = [[str(path), (found := path.stat()).st_size, found.st_mtime_ns] for path in paths]
    return hashlib.sha256(json.dumps([files, *about]).encode()).hexdigest()


class TrunkCache:
    """What the trunk gives for each image in ``views`` views: 0 as the service sees it, the others altered. Resumable."""

    def __init__(
        self, directory: Path, paths: list[Path], views: int, parts: Parts, seed: int, key: str
    ) -> None:
        """``key`` names everything else that the numbers depend on; with another one, the cache is made anew."""
        directory.mkdir(parents=True, exist_ok=True)
        self._paths, self._views, self._parts, self._seed = paths, views, parts, seed
        self._state = directory / "state.json"
        self._about = digest_of(paths, key, views, seed, parts.shape)
        state = self._read()
        file = directory / "trunk.npy"
        kind = np.uint8 if parts.tune == "all" else np.float16
        if state.get("about") == self._about and file.exists():
            self._done: int = state["done"]
            self._rows = np.lib.format.open_memmap(file, "r+")
        else:
            self._done = 0
            self._state.unlink(
                missing_ok=True
            )  # first: it speaks of what is about to be overwritten
            self._rows = np.lib.format.open_memmap(
                file, "w+", kind, (views * len(paths), *parts.shape)
            )

    def fill(self, advance: Advance) -> None:
        total = len(self._rows)
        todo = [
            range(some.start + self._done, some.stop + self._done)
            for some in batches(total - self._done, _BATCH)
        ]
        with ThreadPoolExecutor() as pool:
            coming = [pool.submit(self._view, row) for row in todo[0]] if todo else []
            for number, some in enumerate(todo):
                pixels = [future.result() for future in coming]
                coming = (
                    [pool.submit(self._view, row) for row in todo[number + 1]]
                    if number + 1 < len(todo)
                    else []
                )
                self._rows[some.start : some.stop] = self._parts.trunk(np.stack(pixels))
                self._done = some.stop
                if number % 20 == 0 or number + 1 == len(todo):
                    self._keep()
                advance("frozen stages", self._done, total)

    def get(self, images: NDArray[np.intp], views: NDArray[np.intp] | int = 0) -> NDArray[Any]:
        """``(n, *shape)`` of these images, each in its view."""
        chosen: NDArray[Any] = self._rows[np.asarray(views) * len(self._paths) + images]
        return chosen

    def _keep(self) -> None:
        self._rows.flush()  # first: the state speaks of rows that are there
        partial = self._state.with_suffix(".partial")
        partial.write_text(json.dumps({"about": self._about, "done": self._done}))
        partial.replace(self._state)

    def _read(self) -> dict[str, Any]:
        try:
            state: dict[str, Any] = json.loads(self._state.read_text())
        except (OSError, ValueError):
            return {}
        return state

    def _view(self, row: int) -> NDArray[np.uint8]:
        view, image = divmod(row, len(self._paths))
        picture: Image.Image = load(self._paths[image])
        return (
            to_input(picture)
            if view == 0
            else augmented(picture, np.random.default_rng([self._seed, view, image]))
        )
