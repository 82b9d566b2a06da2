"""The network in PyTorch: ResNet-50, pooling, a linear projection to 512 numbers, L2 normalisation.

Training, the ONNX export and the PyTorch engine use it. OpenVINO builds its own graph in
``engines``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from models.torchvision_import import import_torchvision
from models.transforms import PIXEL_MEAN, PIXEL_STD
from models.weights_file import (
    BATCH_NORM_EPS,
    EMBEDDING_DIM,
    FEATURE_DIM,
    WeightsFile,
    save_weights,
)


def build_resnet50_v1() -> nn.Module:
    """Build ResNet-50 as published (He et al. 2015), without its classifier.

    This original "v1" has the stride of a stage in its first 1x1 convolution; torchvision has it
    in the 3x3 convolution.
    """
    network: nn.Module = import_torchvision("torchvision.models.resnet").resnet50(weights=None)
    for stage in (network.layer2, network.layer3, network.layer4):
        first = stage[0]
        first.conv1.stride, first.conv2.stride = (2, 2), (1, 1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = BATCH_NORM_EPS
    network.fc = nn.Identity()
    return network


def _name_convolution_before(norm: str) -> str:
    """Return the name of the convolution whose output the batch norm ``norm`` normalises."""
    return norm.replace("bn", "conv") if "bn" in norm else norm.removesuffix("1") + "0"


class GeM(nn.Module):
    """Generalised mean pooling with a learned exponent ``p`` (Radenović et al. 2018, eq. 3).

    With p = 1 it is average pooling.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.tensor([p]))

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Pool ``(n, channels, height, width)`` to ``(n, channels)``."""
        return maps.clamp(min=1e-6).pow(self.p).mean(dim=(2, 3)).pow(1.0 / self.p)


class EmbeddingNetwork(nn.Module):
    """Maps ``(n, 224, 224, 3)`` uint8 RGB to ``(n, 512)`` float32 with rows of length 1."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, pooling: str = "average", gem_p: float = 3.0) -> None:
        super().__init__()
        self.backbone = build_resnet50_v1()
        self.pooling = pooling
        self.backbone.avgpool = nn.Identity()
        self.pool: nn.Module = GeM(gem_p) if pooling == "gem" else nn.AdaptiveAvgPool2d(1)
        self.projection = nn.Linear(FEATURE_DIM, EMBEDDING_DIM)
        for name, values in (("mean", PIXEL_MEAN), ("std", PIXEL_STD)):
            channels = torch.tensor(values).view(1, 3, 1, 1) * 255
            self.register_buffer(name, channels, persistent=False)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Compute the pooled ``(n, 2048)`` features before the projection."""
        pixels = (images.permute(0, 3, 1, 2).float() - self.mean) / self.std
        net = self.backbone
        x = net.maxpool(net.relu(net.bn1(net.conv1(pixels))))
        x = net.layer4(net.layer3(net.layer2(net.layer1(x))))
        return self.pool(x).flatten(1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return nn.functional.normalize(self.projection(self.features(images)))

    def fold_batch_norms(self) -> None:
        """Fold each batch norm into the convolution before it; the embeddings stay the same.

        The network must be in evaluation mode, and can neither be trained nor saved afterwards.
        """
        convolutions: dict[str, nn.Conv2d] = {}
        for name, module in list(self.backbone.named_modules()):
            if isinstance(module, nn.Conv2d):
                convolutions[name] = module
            elif isinstance(module, nn.BatchNorm2d):
                before = _name_convolution_before(name)
                folded = fuse_conv_bn_eval(convolutions[before], module)
                self.backbone.set_submodule(before, folded)
                self.backbone.set_submodule(name, nn.Identity())

    @classmethod
    def from_weights(cls, weights: WeightsFile) -> EmbeddingNetwork:
        """Build the network in float32 and evaluation mode.

        If the weights have no projection, it keeps its random initialisation. Raises ValueError if
        the tensors do not fit ResNet-50.
        """
        network = cls(pooling=weights.pooling, gem_p=weights.gem_p)
        state = {
            name: torch.from_numpy(tensor.astype("float32"))
            for name, tensor in weights.tensors.items()
        }
        backbone = {
            name: tensor
            for name, tensor in state.items()
            if not name.startswith(("projection.", "pool.", "fc."))
        }
        missing, unexpected = network.backbone.load_state_dict(backbone, strict=False)
        missing = [name for name in missing if not name.endswith("num_batches_tracked")]
        if missing or unexpected:
            raise ValueError(
                f"The weights do not fit ResNet-50: missing tensors {', '.join(missing[:3])};"
                f" unexpected tensors {', '.join(unexpected[:3])}."
            )
        if weights.has_projection:
            network.projection.weight.data = state["projection.weight"]
            network.projection.bias.data = state["projection.bias"]
        network.eval()
        return network

    def save(self, path: Path, metadata: dict[str, str]) -> str:
        """Write a weights file and return its model version.

        Convolutions and the projection are stored in float16, everything else in float32.
        """
        tensors = {}
        for name, tensor in self.state_dict().items():
            if name.endswith("num_batches_tracked") or name == "pool.p":
                continue
            values = tensor.detach().cpu().numpy()
            dtype = np.float16 if values.ndim > 1 else np.float32
            # Training lays the tensors out channels-last; safetensors needs them contiguous.
            tensors[name.removeprefix("backbone.")] = np.ascontiguousarray(values, dtype=dtype)
        pooling = {"pooling": self.pooling}
        if isinstance(self.pool, GeM):
            pooling["gem_p"] = str(self.pool.p.item())
        return save_weights(path, tensors, pooling | metadata)
