"""The network in PyTorch: ResNet-50 -> pooling -> linear projection to 512 -> L2 (training, export, GPU)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from models.weights_file import (
    BATCH_NORM_EPS,
    EMBEDDING_DIM,
    FEATURE_DIM,
    WeightsFile,
    save_weights,
)


def _import_torchvision_resnet() -> Any:
    """Import torchvision beside a CPU-only torch.

    torchvision from PyPI is a CUDA build whose compiled operators do not load there, and its import fails on the missing
    schema of ``nms``; declaring the two schemas is enough for models and transforms.
    """
    try:
        from torchvision.models import resnet
    except RuntimeError:
        library = torch.library.Library("torchvision", "DEF")
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _import_torchvision_resnet.library = library  # type: ignore[attr-defined]
        from torchvision.models import resnet
    return resnet


def resnet50_v1() -> nn.Module:
    """ResNet-50 as published (He et al. 2015, "v1"): stride in the first 1x1 convolution of a stage, not in the 3x3."""
    network: nn.Module = _import_torchvision_resnet().resnet50(weights=None)
    for stage in (network.layer2, network.layer3, network.layer4):
        first = stage[0]
        first.conv1.stride, first.conv2.stride = (2, 2), (1, 1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = BATCH_NORM_EPS
    network.fc = nn.Identity()
    return network


class GeM(nn.Module):
    """Generalised mean pooling with a learned exponent (Radenovic et al. 2018, eq. 3); p = 1 is average pooling."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.tensor([p]))

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return maps.clamp(min=1e-6).pow(self.p).mean(dim=(2, 3)).pow(1.0 / self.p)


class EmbeddingNetwork(nn.Module):
    """``(n, 224, 224, 3)`` uint8 RGB -> ``(n, 512)`` float32, rows of length 1."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, pooling: str = "average", gem_p: float = 3.0) -> None:
        super().__init__()
        self.backbone = resnet50_v1()
        self.pooling = pooling
        self.backbone.avgpool = nn.Identity()
        self.pool: nn.Module = GeM(gem_p) if pooling == "gem" else nn.AdaptiveAvgPool2d(1)
        self.projection = nn.Linear(FEATURE_DIM, EMBEDDING_DIM)
        self.register_buffer(
            "mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1) * 255, persistent=False
        )
        self.register_buffer(
            "std", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1) * 255, persistent=False
        )

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """The pooled ``(n, 2048)`` features before the projection."""
        pixels = (images.permute(0, 3, 1, 2).float() - self.mean) / self.std
        net = self.backbone
        x = net.maxpool(net.relu(net.bn1(net.conv1(pixels))))
        x = net.layer4(net.layer3(net.layer2(net.layer1(x))))
        return self.pool(x).flatten(1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return nn.functional.normalize(self.projection(self.features(images)))

    @classmethod
    def from_weights(cls, weights: WeightsFile) -> EmbeddingNetwork:
        """The network in evaluation mode with the weights of a file, in float32."""
        network = cls(pooling=weights.pooling, gem_p=weights.gem_p)
        state = {
            name: torch.from_numpy(tensor.astype("float32"))
            for name, tensor in weights.tensors.items()
        }
        backbone = {
            k: v for k, v in state.items() if not k.startswith(("projection.", "pool.", "fc."))
        }
        missing, unexpected = network.backbone.load_state_dict(backbone, strict=False)
        missing = [name for name in missing if not name.endswith("num_batches_tracked")]
        if missing or unexpected:
            raise ValueError(
                f"weights do not fit ResNet-50: missing {missing[:3]}, unexpected {unexpected[:3]}"
            )
        if weights.projected:
            network.projection.weight.data = state["projection.weight"]
            network.projection.bias.data = state["projection.bias"]
        network.eval()
        return network

    def save(self, path: Path, metadata: dict[str, str]) -> str:
        """Write a weights file, convolutions and projection in float16; its model version."""
        tensors = {}
        for name, tensor in self.state_dict().items():
            if name.endswith("num_batches_tracked") or name == "pool.p":
                continue
            values = tensor.detach().cpu().numpy()
            kind = np.float16 if values.ndim > 1 else np.float32
            tensors[name.removeprefix("backbone.")] = np.ascontiguousarray(
                values, dtype=kind
            )  # they lie channels last
        about = {"pooling": self.pooling}
        if isinstance(self.pool, GeM):
            about["gem_p"] = str(self.pool.p.item())
        return save_weights(path, tensors, about | metadata)
