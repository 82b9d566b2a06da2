"""The `models` command group: the model versions of a service, and weights as files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from app.cli.console import CommandError, on_interrupt, out, print_json
from app.cli.model_changes import (
    CONTINUES,
    LOOK,
    show_models,
    start_model,
    switch_model,
    wait_until_built,
)
from app.cli.options import DEFAULT_URL, JsonOption, KeyOption, UrlOption, connect

_SpaceOption = Annotated[
    str, typer.Option("--space", metavar="NAME", help="Space that the version belongs to.")
]
WeightsArgument = Annotated[
    str,
    typer.Argument(metavar="MODEL", help="A weights file, or `default` for the shipped weights."),
]


def list_(
    url: UrlOption = DEFAULT_URL,
    api_key: KeyOption = "",
    watch: Annotated[
        bool, typer.Option("--watch", help="Show progress until the new version is complete.")
    ] = False,
    space: _SpaceOption = LOOK,
    as_json: JsonOption = False,
) -> None:
    """List the model versions of all spaces, their state and their progress.

    Also shows how many running processes have loaded each version. --space selects the version that
    --watch waits for.
    """
    with on_interrupt(CONTINUES), connect(url, api_key) as client:
        if watch:
            wait_until_built(client, space)
        answer = client.models()
    if as_json:
        print_json(answer)
    else:
        show_models(answer["models"], answer["processes"])


def add(
    encoder: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="A weights file, or a bundle.", exists=True, dir_okay=False
        ),
    ],
    url: UrlOption = DEFAULT_URL,
    api_key: KeyOption = "",
) -> None:
    """Upload an encoder to the service, without using it yet.

    The service checks that it can run it, and stores it where all its processes can load it.
    """
    with connect(url, api_key) as client:
        version = client.add_encoder(encoder)
    out.print(f"{version} was added. Build its embeddings with: lookalike models start {version}")


def start(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A weights file, a bundle, `default` for the shipped weights, or a version that"
            " was added before.",
        ),
    ],
    url: UrlOption = DEFAULT_URL,
    api_key: KeyOption = "",
    space: _SpaceOption = LOOK,
) -> None:
    """Start embedding all images with another model.

    Searches keep using the active version. New uploads are embedded by both versions.
    """
    with on_interrupt(CONTINUES), connect(url, api_key) as client:
        version = start_model(client, model, space)
    follow = "models list --watch" if space == LOOK else f"spaces status {space} --watch"
    out.print(f"{version} is being built. Follow it with: lookalike {follow}")


def activate(
    model: Annotated[
        str | None,
        typer.Argument(metavar="MODEL", help="Version to activate. Default: the one being built."),
    ] = None,
    url: UrlOption = DEFAULT_URL,
    api_key: KeyOption = "",
    space: _SpaceOption = LOOK,
) -> None:
    """Switch searches to the new model version.

    The service first checks that the version is complete and correct. Searches switch in one
    step, without downtime.
    """
    switch_model("building", model, space, url, api_key)


def rollback(
    url: UrlOption = DEFAULT_URL, api_key: KeyOption = "", space: _SpaceOption = LOOK
) -> None:
    """Switch searches back to the previous model version.

    The service runs the same checks as for `activate`.
    """
    switch_model("previous", None, space, url, api_key)


def retire(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="The version being built, or the previous version."),
    ],
    url: UrlOption = DEFAULT_URL,
    api_key: KeyOption = "",
) -> None:
    """Delete a model version that is not active.

    Removes its embeddings, vectors and file. This cannot be undone.
    """
    with connect(url, api_key) as client:
        client.retire_model(model)
    out.print(f"{model} is being removed.")


def export(
    model: WeightsArgument,
    directory: Annotated[
        Path,
        typer.Option(
            "--out", metavar="DIRECTORY", help="Where to write the files.", file_okay=False
        ),
    ] = Path(),
    format: Annotated[
        Literal["openvino", "onnx"],
        typer.Option("--format", help="OpenVINO IR, or ONNX (needs the extra `train`)."),
    ] = "openvino",
) -> None:
    """Export the network for use in other programs.

    Its input is images, (n, 224, 224, 3) uint8 RGB. Its output is embeddings of length 1,
    (n, 512) float32.
    """
    from app.cli import model_files

    model_files.export(model, directory, format)


def quantize(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="`active` for the active model of the service; or a weights file, a bundle, or"
            " `default` for the shipped weights, of which only a file is made.",
        ),
    ] = "active",
    images: Annotated[
        Path | None,
        typer.Argument(
            metavar="IMAGES",
            help="Directory of typical images, for calibration. Default: masters of the service.",
            exists=True,
            file_okay=False,
        ),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE",
            help="File to write. Default: int8.safetensors or int8.bundle; none for `active`.",
            dir_okay=False,
        ),
    ] = None,
    activate: Annotated[
        bool,
        typer.Option(
            "--activate/--no-activate",
            help="Whether searches are switched to the new version once it is built.",
        ),
    ] = True,
    url: UrlOption = DEFAULT_URL,
    api_key: KeyOption = "",
    space: _SpaceOption = LOOK,
) -> None:
    """Quantize a model to int8: faster, slightly less accurate.

    Without arguments, quantizes the active model of the service, shows how far its vectors move,
    builds the int8 version from all images, and switches searches to it. It is a model version of
    its own: `lookalike models rollback` switches back. It is faster on CPUs with VNNI or AMX
    instructions. Needs the extra `train`.
    """
    if model == "active":
        from app.cli.quantizing import quantize_active

        with connect(url, api_key) as client:
            quantize_active(client, space, images, file, activate=activate)
        return
    if images is None:
        raise CommandError(
            "name a directory of typical images: lookalike models quantize MODEL IMAGES"
        )
    from app.cli import model_files

    model_files.quantize(model, images, file)


def update_preprocessing(
    model: WeightsArgument,
    file: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="File to write.", dir_okay=False)
    ] = Path("updated.safetensors"),
) -> None:
    """Make weights of an earlier release use the preprocessing of this one.

    The network stays as it is. The result is a model version of its own.
    """
    from app.cli import model_files

    model_files.update_preprocessing(model, file)
