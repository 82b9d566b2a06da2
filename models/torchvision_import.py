"""Imports torchvision and libraries on top of it, also beside a CPU-only torch."""

from __future__ import annotations

import importlib
from typing import Any

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_kept: list[Any] = []  # the schemas exist as long as the library that declares them


def import_torchvision(module: str = "torchvision") -> Any:
    """Import torchvision or one of its modules. Raises ImportError if it is not installed.

    torchvision from PyPI is a CUDA build. Beside a CPU-only torch its compiled operators do not
    load, and the import fails because the schemas of ``nms`` and ``qnms`` are missing. Declaring
    them is enough for networks and preprocessing, which never call these operators. A library that
    needs torchvision, such as timm or open_clip, must be imported after this.
    """
    try:
        return importlib.import_module(module)
    except RuntimeError:
        import torch

        library = torch.library.Library("torchvision", "DEF")
        for schema in _SCHEMAS:
            library.define(schema)
        _kept.append(library)
        return importlib.import_module(module)
