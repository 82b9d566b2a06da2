"""Exports a model of open_clip, both towers and the tokenizer, as a bundle."""

from __future__ import annotations

import re
import textwrap
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
    examples = {
        "image": torch.zeros(1, 3, height, width),
        "text": torch.zeros(1, context, dtype=torch.int64),
    }
    files, dimension = [], 0
    for name, example in examples.items():
        path = folder / f"{name}.xml"
        dimension = _write_tower(network, name, example, path)
        files += [path, path.with_suffix(".bin")]
    return files, dimension


def _write_tower(network: Any, tower: str, example: Any, path: Path) -> int:
    """Write the tower ``image`` or ``text`` for inputs of the example's shape.

    Returns the dimension. ``ov.convert_model`` does the same, but reports its use to the vendor
    over the network.
    """
    import torch
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    class Tower(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, values: torch.Tensor) -> Any:
            return getattr(self.network, f"encode_{tower}")(values)

    try:
        with silence(), torch.no_grad():
            traced = torch.jit.trace(Tower().eval(), example, check_trace=False)
            decoder = TorchScriptPythonDecoder(traced)  # holds the weights until they are written
            frontend = FrontEndManager().load_by_framework("pytorch")
            graph = frontend.convert(frontend.load(decoder))
            graph.reshape(list(example.shape))
            _fold_constants(graph)
            dimension: int = graph.output(0).get_partial_shape()[-1].get_max_length()
            ov.save_model(graph, path, compress_to_fp16=True)
    except Exception as error:  # PyTorch and OpenVINO raise RuntimeError and many others
        reason = textwrap.shorten(str(error) or type(error).__name__, 300, placeholder=" …")
        raise BundleInvalid(
            f"The {tower} tower cannot be converted to OpenVINO ({reason}). Choose another model."
        ) from error
    return dimension


def _fold_constants(graph: ov.Model) -> None:
    """Compute what depends on weights alone, such as the query of SigLIP's pooling.

    Otherwise OpenVINO computes it from the half-precision weights when it loads the network. Its
    CPU plugin (2026.4) then keeps it in memory that a later layer overwrites.
    """
    from openvino.passes import ConstantFolding, Manager

    passes = Manager()
    passes.register_pass(ConstantFolding())
    passes.run_passes(graph)


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
