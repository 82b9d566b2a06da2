"""Cheap training for tests of the training procedure, not of what the network learns.

Only sizes change: the network has one block per stage of ResNet-50 and an eighth of the channels,
and takes inputs of 64 x 64 pixels. The code that trains it is all real.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from models.resnet import EmbeddingNetwork
from models.torchvision_import import import_torchvision
from models.weights_file import WeightsFile

_SLIMMER = 8  # times fewer channels
_FEATURES = 2048 // _SLIMMER
_DIMENSIONS = {"FEATURE_DIM": _FEATURES, "EMBEDDING_DIM": 64}
_SIDE = 64  # pixels
_SHAPES = {  # of the trunk's output for one image
    "projection": (_FEATURES,),
    "layer4": (_SIDE // 16, _SIDE // 16, _FEATURES // 2),
    "layer3": (_SIDE // 8, _SIDE // 8, _FEATURES // 4),
    "all": (_SIDE, _SIDE, 3),
}


def reduce_dimensions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every module of ``models`` project 256 features to 64 numbers."""
    _replace_constants(monkeypatch, _DIMENSIONS)


def slim_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every module of ``models`` build the slim network, for small inputs."""
    resnet = import_torchvision("torchvision.models.resnet")

    class SlimResNet(resnet.ResNet):  # type: ignore[misc]
        def _make_layer(self, block: Any, planes: int, _: int, *options: Any, **more: Any) -> Any:
            return super()._make_layer(block, planes // _SLIMMER, 1, *options, **more)

    def build(**_: Any) -> nn.Module:
        return SlimResNet(resnet.Bottleneck, [1, 1, 1, 1])

    monkeypatch.setattr(resnet, "resnet50", build)
    reduce_dimensions(monkeypatch)
    _replace_constants(monkeypatch, {"INPUT_SIDE": _SIDE, "_TRUNK_SHAPES": _SHAPES})


def make_slim_weights(path: Path) -> WeightsFile:
    """Write random weights of the slim network to ``path``, and load them.

    Its batch norms have the statistics of noise, so that tuning them does not change everything.
    """
    torch.manual_seed(0)
    network = EmbeddingNetwork(pooling="gem").train()
    with torch.no_grad():
        for _ in range(20):
            network.features(torch.randint(256, (8, _SIDE, _SIDE, 3)))
    network.save(path, {})
    return WeightsFile.load(path)


def _replace_constants(monkeypatch: pytest.MonkeyPatch, values: Mapping[str, object]) -> None:
    import models.training.finetune  # noqa: F401 - loads every module that has them

    for module_name, module in list(sys.modules.items()):
        if module_name.startswith("models."):
            for name in values.keys() & vars(module).keys():
                monkeypatch.setattr(module, name, values[name])
