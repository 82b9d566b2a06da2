"""Exports a model of open_clip, both towers and the tokenizer, as a bundle."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import openvino as ov

from models.bundles.check import CheckedBundle
from models.bundles.importing import make_bundle
from models.bundles.open_clip_agreement import check_agreement
from models.bundles.open_clip_models import OpenClipModel, load_open_clip, silence
from models.bundles.open_clip_tokenizer import ConvertedTokenizer, convert_tokenizer
from models.errors import BundleInvalid

_RESIZE = {"shortest": "shortest-side", "squash": "squash", "longest": "pad"}


@dataclass(frozen=True)
class ExportRequest:
    """What to export, and what the manifest says about it.

    ``model`` and ``pretrained`` are open_clip's names, or ``pretrained`` is a file of weights whose
    preprocessing is that of the tag ``preprocessing``. ``name`` and ``source`` follow from them by
    default.
    """

    model: str
    pretrained: str | None = None
    preprocessing: str | None = None
    name: str | None = None
    licence: str = "see the model's page"
    source: str | None = None
    template: str = "{}"


def export_open_clip(request: ExportRequest, out: Path) -> CheckedBundle:
    """Write a bundle to ``out`` if it gives the vectors and tokens of open_clip.

    Nothing is written otherwise. Raises BundleInvalid, OSError, and EngineMissing if open_clip is
    not installed.
    """
    loaded = load_open_clip(request.model, request.pretrained, request.preprocessing)
    converted = convert_tokenizer(loaded.tokenizer)
    with TemporaryDirectory(prefix="lookalike-") as directory:
        folder = Path(directory)
        files, dimension = _write_towers(loaded, converted.context_length, folder)
        tokenizer = folder / "tokenizer.json"
        tokenizer.write_text(converted.tokenizer.to_str(), encoding="utf-8")
        draft = _draft_manifest(request, loaded, converted, dimension)
        verify = partial(check_agreement, loaded=loaded)
        return make_bundle(draft, [*files, tokenizer], out, verify=verify)


def _write_towers(loaded: OpenClipModel, context: int, folder: Path) -> tuple[list[Path], int]:
    """Write both networks as OpenVINO IR in half precision; return the files and the dimension."""
    import torch
    from timm.utils.model import reparameterize_model

    network = reparameterize_model(loaded.network)  # branches that only training needs are merged
    height, width = _read_size(loaded)
    towers = {
        "image": (network.encode_image, torch.zeros(1, 3, height, width)),
        "text": (network.encode_text, torch.zeros(1, context, dtype=torch.int64)),
    }
    files, dimension = [], 0
    for name, (encode, example) in towers.items():
        graph = _convert(encode, example, name)
        shape = graph.output(0).get_partial_shape()
        dimension = shape[-1].get_max_length()
        path = folder / f"{name}.xml"
        ov.save_model(graph, path, compress_to_fp16=True)
        files += [path, path.with_suffix(".bin")]
    return files, dimension


def _convert(encode: Callable[[Any], Any], example: Any, name: str) -> ov.Model:
    """Trace a tower and convert it for inputs of the example's shape.

    ``ov.convert_model`` does the same, but reports its use to the vendor over the network.
    """
    import torch
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    class Tower(torch.nn.Module):
        def forward(self, values: torch.Tensor) -> Any:
            return encode(values)

    try:
        with silence(), torch.no_grad():
            traced = torch.jit.trace(Tower().eval(), example, check_trace=False)
            frontend = FrontEndManager().load_by_framework("pytorch")
            graph = frontend.convert(frontend.load(TorchScriptPythonDecoder(traced)))
            graph.reshape(list(example.shape))
            return graph
    except Exception as error:  # PyTorch and OpenVINO raise RuntimeError and many others
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1][:300]
        raise BundleInvalid(
            f"The {name} tower cannot be converted to OpenVINO ({reason}). Choose another model."
        ) from error


def _draft_manifest(
    request: ExportRequest, loaded: OpenClipModel, converted: ConvertedTokenizer, dimension: int
) -> dict[str, Any]:
    height, width = _read_size(loaded)
    settings = loaded.settings
    resize = _RESIZE[settings["resize_mode"] or "shortest"]
    image = {
        "file": "image.xml",
        "width": width,
        "height": height,
        "mean": list(settings["mean"]),
        "std": list(settings["std"]),
        "resize": resize,
        "interpolation": "bilinear" if settings["interpolation"] == "bilinear" else "bicubic",
    }
    if resize == "pad":
        image["fill"] = [settings["fill_color"]] * 3
    weights = request.pretrained or ""
    label = Path(weights).stem if Path(weights).is_file() else weights
    return {
        "name": request.name or _make_name(request.model, label),
        "kind": "image-text",
        "dimension": dimension,
        "licence": request.licence,
        "source": request.source or f"open_clip {request.model} {label}".strip(),
        "image": image,
        "text": {
            "file": "text.xml",
            "context_length": converted.context_length,
            "pad_id": converted.pad_id,
            "clean": converted.clean,
            "template": request.template,
        },
    }


def _read_size(loaded: OpenClipModel) -> tuple[int, int]:
    """Return height and width of the input in pixels."""
    size = loaded.settings["size"]
    height, width = (size, size) if isinstance(size, int) else size
    return height, width


def _make_name(model: str, weights: str) -> str:
    """Return a name for the bundle, of 1 to 40 letters, digits and hyphens."""
    words = f"{re.split('[:/]', model)[-1]}-{weights}".lower()
    return re.sub(r"[^a-z0-9]+", "-", words).strip("-")[:40].strip("-") or "open-clip"
