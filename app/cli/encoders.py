"""The `encoders` command group: encoders as files, most of them bundles."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.console import make_table, out, print_json, show_printable
from app.cli.options import JsonOption

if TYPE_CHECKING:
    from models.bundles.check import CheckedBundle
    from models.embedder import Encoder

_EncoderArgument = Annotated[
    Path,
    typer.Argument(
        metavar="FILE", help="A bundle, or a weights file.", exists=True, dir_okay=False
    ),
]


def show(encoder: _EncoderArgument, as_json: JsonOption = False) -> None:
    """Describe an encoder: name, version, dimension, input, licence, source.

    Checks that the file is complete, but does not run its network; `check` does.
    """
    from models.embedder import read_encoder

    _print_facts(_describe(read_encoder(encoder)), as_json)


def check(encoder: _EncoderArgument, as_json: JsonOption = False) -> None:
    """Check an encoder as the service does before it accepts one.

    Runs the networks of a bundle in a process with limits on memory and time. The vectors must have
    the dimension that the bundle states, be finite, and be equal for equal inputs.

    Exit codes: 0 the service would accept it; 2 it would not.
    """
    from models.bundles.archive import Bundle
    from models.bundles.check import check_bundle
    from models.embedder import load_embedder, read_encoder

    read = read_encoder(encoder)
    facts = _describe(read)
    if isinstance(read, Bundle):
        facts |= _describe_cost(check_bundle(encoder))
    else:
        load_embedder(read)
    _print_facts(facts, as_json)
    if not as_json:
        out.print("The encoder can be served.")


def import_onnx(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILES",
            help="The files that the manifest names: ONNX networks, each in one file, and"
            " tokenizer.json. OpenVINO IR is accepted too.",
            exists=True,
            dir_okay=False,
        ),
    ],
    manifest: Annotated[
        Path,
        typer.Option(
            "--manifest",
            metavar="FILE",
            help="The manifest, a JSON file. Sizes and hashes of the files are added to it.",
            exists=True,
            dir_okay=False,
        ),
    ],
    bundle: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="Bundle to write.", dir_okay=False)
    ],
) -> None:
    """Make a bundle from ONNX files, as published for CLIP, SigLIP or DINOv2.

    Checks the bundle as `check` does. Nothing is written if a check fails.
    """
    from models.bundles.importing import make_bundle, read_draft

    _print_made(make_bundle(read_draft(manifest), files, bundle))


def export_open_clip(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="open_clip's name of the architecture, such as ViT-B-32; or a place that also has"
            " the weights: hf-hub:ORGANISATION/NAME or local-dir:DIRECTORY.",
        ),
    ],
    pretrained: Annotated[
        str | None,
        typer.Argument(
            metavar="PRETRAINED",
            help="open_clip's name of the weights, such as laion2b_s34b_b79k, which it downloads;"
            " or a file of weights: .safetensors, or .pt, .pth or .bin with tensors only.",
        ),
    ] = None,
    *,
    bundle: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="Bundle to write.", dir_okay=False)
    ],
    name: Annotated[
        str | None,
        typer.Option("--name", help="Name of the bundle. Default: from MODEL and PRETRAINED."),
    ] = None,
    licence: Annotated[
        str, typer.Option("--licence", help="Licence of the weights.")
    ] = "see the model's page",
    source: Annotated[
        str | None,
        typer.Option(
            "--source", help="Where the weights come from. Default: open_clip MODEL PRETRAINED."
        ),
    ] = None,
    template: Annotated[
        str,
        typer.Option("--template", help="Sentence to embed for a query, which replaces {} in it."),
    ] = "{}",
    preprocessing: Annotated[
        str | None,
        typer.Option(
            "--preprocessing",
            metavar="PRETRAINED",
            help="For a file of weights: open_clip's name of weights with the same preprocessing."
            " Default: what all weights of MODEL have in common.",
        ),
    ] = None,
) -> None:
    """Make a bundle from a model of open_clip: CLIP, SigLIP, MobileCLIP and others.

    Writes both towers in half precision and the tokenizer. Compares vectors and tokens with those
    of open_clip, and checks the bundle as `check` does. Nothing is written if a check fails.
    Needs the extra `clip`.
    """
    from models.bundles.open_clip_export import ExportRequest, export_open_clip

    request = ExportRequest(
        model,
        pretrained,
        preprocessing=preprocessing,
        name=name,
        licence=licence,
        source=source,
        template=template,
    )
    _print_made(export_open_clip(request, bundle))


def _print_made(checked: CheckedBundle) -> None:
    _print_facts(_describe(checked.bundle) | _describe_cost(checked), as_json=False)
    out.print(f"Written: {checked.bundle.path}")


def _describe(encoder: Encoder) -> dict[str, Any]:
    from models.transforms import INPUT_SIDE
    from models.weights_file import EMBEDDING_DIM, WeightsFile

    if isinstance(encoder, WeightsFile):
        return {
            "version": encoder.version,
            "name": "rn50",
            "kind": "image",
            "dimension": EMBEDDING_DIM,
            "width": INPUT_SIDE,
            "height": INPUT_SIDE,
            "resize": "shortest-side",
            "text": False,
            "calibrated": encoder.calibration is not None,
        }
    manifest = encoder.manifest
    return {
        "version": encoder.version,
        "name": manifest.name,
        "kind": manifest.kind,
        "dimension": manifest.dimension,
        "width": manifest.image.width,
        "height": manifest.image.height,
        "resize": manifest.image.resize,
        "text": manifest.text is not None,
        "calibrated": manifest.calibration is not None,
        "licence": manifest.licence,
        "source": manifest.source,
        "bytes": encoder.size,
    }


def _describe_cost(checked: CheckedBundle) -> dict[str, Any]:
    return {
        "image_seconds": checked.image_seconds,
        "text_seconds": checked.text_seconds,
        "memory_bytes": checked.memory_bytes,
    }


def _print_facts(facts: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(facts)
        return
    table = make_table("", "")
    table.show_header = False
    for label, value in _label_facts(facts):
        table.add_row(label, value)
    out.print(table)


def _label_facts(facts: dict[str, Any]) -> list[tuple[str, str]]:
    size = f"{facts['width']} x {facts['height']} pixels, resize rule {facts['resize']}"
    rows = [
        ("name", show_printable(facts["name"])),
        ("version", facts["version"]),
        ("dimension", str(facts["dimension"])),
        ("input", size),
        ("text", "yes" if facts["text"] else "no"),
        ("probabilities", "yes" if facts["calibrated"] else "no, it is not calibrated"),
    ]
    rows += [(key, show_printable(facts[key])) for key in ("licence", "source") if key in facts]
    if "bytes" in facts:
        rows.append(("size", f"{facts['bytes'] / 1e6:.1f} MB"))
    if "image_seconds" in facts:
        rows.append(("time per image", f"{facts['image_seconds'] * 1000:.1f} ms on one core"))
        if facts["text_seconds"] is not None:
            rows.append(("time per text", f"{facts['text_seconds'] * 1000:.1f} ms on one core"))
        rows.append(("memory", f"{facts['memory_bytes'] / 1e6:.0f} MB with OpenVINO"))
    return rows
