"""The network in two parts: a frozen trunk, and the head that is trained on top of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from models.resnet import EmbeddingNetwork
from models.training.recipe import Tune
from models.transforms import INPUT_SIDE

_TRUNK_SHAPES: dict[Tune, tuple[int, ...]] = {  # of the trunk's output for one image
    "projection": (2048,),
    "layer4": (14, 14, 1024),
    "layer3": (28, 28, 512),
    "all": (INPUT_SIDE, INPUT_SIDE, 3),
}
_PARTS = ("stem", "layer1", "layer2", "layer3", "layer4")
_FROZEN_PARTS: dict[Tune, int] = {"projection": 5, "layer4": 4, "layer3": 3, "all": 0}


def supports_bfloat16(device: str) -> bool:
    """Whether the device has bfloat16 instructions.

    Without them, bfloat16 is emulated and takes ten times as long as float32.
    """
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    names = ("avx512_bf16", "amx_bf16", "bf16")  # the last one on Arm
    return any(torch.cpu.get_capabilities().get(name) for name in names)


class SplitNetwork:
    """Splits a network before the first part that ``tune`` names.

    Convolutions run in bfloat16 where the device supports it; everything after them in float32.
    """

    def __init__(self, network: EmbeddingNetwork, tune: Tune, device: str) -> None:
        """Move the network to ``device`` (``cpu`` or ``cuda``)."""
        self.network = network.to(device, memory_format=torch.channels_last)
        self.tune = tune
        self.device = device
        self.trunk_shape = _TRUNK_SHAPES[tune]
        self._autocast = torch.autocast(
            device, dtype=torch.bfloat16, enabled=supports_bfloat16(device)
        )
        first = _FROZEN_PARTS[tune]
        self._frozen, self._tuned = _PARTS[:first], _PARTS[first:]

    def run_trunk(self, pixels: NDArray[np.uint8]) -> NDArray[Any]:
        """Compute the activations ``(n, *trunk_shape)`` of ``(n, 224, 224, 3)`` uint8 inputs.

        They are float16, or the uint8 inputs themselves if nothing is frozen.
        """
        if not self._frozen:
            return pixels
        with torch.inference_mode():
            x = self._run_parts(torch.from_numpy(pixels).to(self.device), self._frozen)
            if self.tune == "projection":
                x = self.network.pool(x.float()).flatten(1)
            else:
                x = x.float().permute(0, 2, 3, 1).contiguous()
            activations: NDArray[Any] = x.half().cpu().numpy()
            return activations

    def compute_features(self, activations: NDArray[Any]) -> torch.Tensor:
        """Compute the pooled ``(n, 2048)`` float32 features, with gradients."""
        x = torch.from_numpy(np.ascontiguousarray(activations)).to(self.device)
        if self.tune == "projection":
            return x.float()
        if self._frozen:
            x = x.permute(0, 3, 1, 2).float()
        return self.network.pool(self._run_parts(x, self._tuned).float()).flatten(1)

    def embed_activations(self, activations: NDArray[Any]) -> torch.Tensor:
        """Compute the ``(n, 512)`` float32 embeddings of length 1, with gradients."""
        features = self.compute_features(activations)
        return nn.functional.normalize(self.network.projection(features))

    def tuned_parameters(self) -> list[nn.Parameter]:
        """List the parameters of the backbone that are trained."""
        backbone = self.network.backbone
        modules = [backbone.conv1, backbone.bn1] if "stem" in self._tuned else []
        modules += [getattr(backbone, name) for name in self._tuned if name != "stem"]
        return [parameter for module in modules for parameter in module.parameters()]

    def _run_parts(self, x: torch.Tensor, names: Sequence[str]) -> torch.Tensor:
        net = self.network.backbone
        with self._autocast:
            for name in names:
                if name == "stem":
                    x = (x.permute(0, 3, 1, 2).float() - self.network.mean) / self.network.std
                    x = net.conv1(x.contiguous(memory_format=torch.channels_last))
                    x = net.maxpool(net.relu(net.bn1(x)))
                else:
                    x = getattr(net, name)(x)
        return x
