"""The `models` command group: the encoder versions of a service, and weights as files."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from app.cli.console import (
    CommandError,
    make_table,
    on_interrupt,
    out,
    print_json,
    progress_bar,
)
from app.cli.options import DEFAULT_URL, JsonOption, KeyOption, UrlOption, connect

if TYPE_CHECKING:
    from app.cli.client import Client

_POLL_INTERVAL = 1.0  # seconds
_CONTINUES = "The service continues with what was started."
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
    as_json: JsonOption = False,
) -> None:
    """List the model versions, their state and their progress.

    Also shows how many running processes have loaded each version.
    """
    with on_interrupt(_CONTINUES), connect(url, api_key) as client:
        if watch:
            _wait_until_built(client)
        answer = client.models()
    if as_json:
        print_json(answer)
    else:
        _show_models(answer)


def add(
    weights: Annotated[
        Path, typer.Argument(metavar="FILE", help="A weights file.", exists=True, dir_okay=False)
    ],
    url: UrlOption = DEFAULT_URL,
    api_key: KeyOption = "",
) -> None:
    """Upload weights to the service, without using them yet.

    The service checks that it can run them, and stores them where all its processes can load them.
    """
    with connect(url, api_key) as client:
        version = client.add_weights(weights)
    out.print(f"{version} was added. Build its embeddings with: lookalike models start {version}")


def start(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="A weights file, or a version that was added before."),
    ],
    url: UrlOption = DEFAULT_URL,
    api_key: KeyOption = "",
) -> None:
    """Start embedding all images with another model.

    Searches keep using the active version. New uploads are embedded by both versions.
    """
    path = Path(model)
    if not path.is_file() and (path.suffix or len(path.parts) > 1):
        raise CommandError(f"there is no file {path}")
    with on_interrupt(_CONTINUES), connect(url, api_key) as client:
        version = client.add_weights(path) if path.is_file() else model
        client.change_model(version, "start")
    out.print(f"{version} is being built. Follow it with: lookalike models list --watch")


def activate(
    model: Annotated[
        str | None,
        typer.Argument(metavar="MODEL", help="Version to activate. Default: the one being built."),
    ] = None,
    url: UrlOption = DEFAULT_URL,
    api_key: KeyOption = "",
) -> None:
    """Switch all searches to the new model version.

    The service first checks that the version is complete and correct. Searches switch in one
    step, without downtime.
    """
    _switch("building", model, url, api_key)


def rollback(url: UrlOption = DEFAULT_URL, api_key: KeyOption = "") -> None:
    """Switch all searches back to the previous model version.

    The service runs the same checks as for `activate`.
    """
    _switch("previous", None, url, api_key)


def retire(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="The version being built, or the previous version."),
    ],
    url: UrlOption = DEFAULT_URL,
    api_key: KeyOption = "",
) -> None:
    """Delete a model version that is not active.

    Removes its embeddings, vectors and weights. This cannot be undone.
    """
    with connect(url, api_key) as client:
        client.change_model(model, "retire")
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
    model: WeightsArgument,
    images: Annotated[
        Path,
        typer.Argument(
            metavar="IMAGES",
            help="Directory of typical images, for calibration.",
            exists=True,
            file_okay=False,
        ),
    ],
    file: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="File to write.", dir_okay=False)
    ] = Path("int8.safetensors"),
) -> None:
    """Quantize weights to int8: faster, slightly less accurate.

    It is faster on CPUs with VNNI instructions. The result is a model version of its own.
    Needs the extra `train`.
    """
    from app.cli import model_files

    model_files.quantize(model, images, file)


def _switch(state: str, version: str | None, url: str, api_key: str) -> None:
    """Activate ``version``, or the only version in ``state``."""
    with on_interrupt(_CONTINUES), connect(url, api_key) as client:
        version = version or _find_version(client, state)
        with progress_bar() as progress:
            task = progress.add_task("Checking", total=None)
            for event in client.activate_model(version):
                if "checked" in event:
                    progress.update(task, completed=event["checked"])
    out.print(
        f"{version} is active: all searches use it now."
        " To switch back, run `lookalike models rollback`."
    )


def _find_version(client: Client, state: str) -> str:
    found = _first_in_state(client.models(), state)
    if found is None:
        wanted = "being built" if state == "building" else "kept as the previous one"
        raise CommandError(f"there is no model version that is {wanted}: see lookalike models list")
    return str(found["version"])


def _first_in_state(answer: dict[str, Any], state: str) -> dict[str, Any] | None:
    return next((each for each in answer["models"] if each["state"] == state), None)


def _wait_until_built(client: Client) -> None:
    with progress_bar() as progress:
        task = progress.add_task("Embedding", total=None)
        while building := _first_in_state(client.models(), "building"):
            done, total = building["indexed"] + building["dead"], building["masters"]
            progress.update(task, completed=done, total=max(done, total))
            if done >= total:
                return
            time.sleep(_POLL_INTERVAL)


def _show_models(answer: dict[str, Any]) -> None:
    right = ("embedded", "dead letters", "loaded by")
    table = make_table("model version", "state", *right, right=right)
    for each in answer["models"]:
        embedded = f"{each['indexed']} of {each['masters']}"
        loaded = f"{each['loaded']} of {answer['processes']} processes"
        table.add_row(each["version"], each["state"], embedded, str(each["dead"]), loaded)
    out.print(table)
    building = _first_in_state(answer, "building")
    if building is not None and building["indexed"] >= building["masters"]:
        out.print(
            f"{building['version']} is complete. Switch to it with: lookalike models activate"
        )
