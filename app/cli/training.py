"""The commands that train and measure models: finetune and evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from app.cli.console import CommandError
from app.cli.options import DEFAULT_URL, JsonOption, KeyOption, UrlOption


def finetune(
    data: Annotated[
        Path | None,
        typer.Argument(
            metavar="DATA",
            help="Directory with one folder per class, at any depth. Or use --collection.",
            exists=True,
            file_okay=False,
        ),
    ] = None,
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            metavar="DIRECTORY",
            help="Directory for weights, model card and checkpoints.",
            file_okay=False,
        ),
    ] = Path("finetuned"),
    base: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Weights to start from, such as a ResNet-50 v1. Default: the shipped weights.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    test: Annotated[
        Path | None,
        typer.Option(
            metavar="DIRECTORY",
            help="Directory with other classes, on which both models are measured.",
            exists=True,
            file_okay=False,
        ),
    ] = None,
    collection: Annotated[
        str,
        typer.Option(
            "--collection", "-c", metavar="NAME", help="Collection of the service to train on."
        ),
    ] = "",
    by: Annotated[
        str,
        typer.Option(
            metavar="ATTRIBUTE",
            help="Attribute that holds the class; for --collection, or if DATA is an exported"
            " collection.",
        ),
    ] = "",
    loss: Annotated[
        Literal["multi-similarity", "proxy-anchor", "arcface", "supcon"] | None,
        typer.Option(help="Loss function. Default: supcon."),
    ] = None,
    tune: Annotated[
        Literal["projection", "layer4", "layer3", "all"] | None,
        typer.Option(
            help="First part of the network to train; `projection` takes minutes. Default: layer4."
        ),
    ] = None,
    pooling: Annotated[
        Literal["average", "gem"] | None,
        typer.Option(help="Pooling; gem is the generalised mean, learned. Default: gem."),
    ] = None,
    norms: Annotated[
        Literal["frozen", "tuned"] | None,
        typer.Option(help="Whether batch norms are trained. Default: frozen."),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Maximum number of training steps. Default: 300."),
    ] = None,
    classes: Annotated[
        int | None, typer.Option(metavar="N", min=2, help="Classes per batch. Default: 16.")
    ] = None,
    images: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Images per class in a batch. Default: 3."),
    ] = None,
    views: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Views per image: the image itself and augmented copies. Default: 6.",
        ),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(
            metavar="RATE",
            min=0,
            help="Learning rate of the backbone; the projection uses ten times as much."
            " Default: 1e-05.",
        ),
    ] = None,
    blend: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            min=0,
            max=1,
            help="Mix of the weights: 0 is the base model, 1 the trained one. Default: 1.0.",
        ),
    ] = None,
    held_out: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            min=0,
            max=0.9,
            help="Share of the classes kept for validation, at least two classes. Default: 0.2.",
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(metavar="N", min=0, help="Random seed. Default: 0.")
    ] = None,
    device: Annotated[
        Literal["auto", "cpu", "cuda"],
        typer.Option(help="Where to train; auto uses a GPU if there is one."),
    ] = "auto",
    url: UrlOption = DEFAULT_URL,
    api_key: KeyOption = "",
) -> None:
    """Train the model on your own images.

    Writes weights.safetensors and a model card with plots. Some classes are held out to decide
    when to stop. Needs the extra
    `train`.

    You can interrupt the command and run it again to resume. When it is done, you can delete
    the directory OUT/work.

    Exit codes: 0 done; 2 the command could not continue; 130 interrupted.
    """
    if (data is None) == (not collection) or (collection and not by):
        raise CommandError("name either a directory DATA, or --collection together with --by")
    from app.cli import finetuning
    from app.cli.client import Client

    recipe = {
        "loss": loss,
        "tune": tune,
        "pooling": pooling,
        "norms": norms,
        "steps": steps,
        "classes": classes,
        "images": images,
        "views": views,
        "rate": rate,
        "blend": blend,
        "held_out": held_out,
        "seed": seed,
    }
    given = {name: value for name, value in recipe.items() if value is not None}
    source = data or finetuning.CollectionSource(Client(url, api_key), collection)
    finetuning.finetune(source, by, out, base, given, test=test, device=device)


def evaluate(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A weights file, a bundle, or `default` for the shipped weights.",
        ),
    ],
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA",
            help="Directory with one folder per class, at any depth.",
            exists=True,
            file_okay=False,
        ),
    ],
    compare: Annotated[
        str,
        typer.Option(
            metavar="MODEL",
            help="Another model, to measure on the same images and compare with MODEL.",
        ),
    ] = "",
    gallery: Annotated[
        Path | None,
        typer.Option(
            metavar="DIRECTORY",
            help="Images to search in. Default: the other images of DATA.",
            exists=True,
            file_okay=False,
        ),
    ] = None,
    by: Annotated[
        str,
        typer.Option(
            metavar="ATTRIBUTE",
            help="Attribute that holds the class, if DATA and the gallery are exported"
            " collections.",
        ),
    ] = "",
    sheets: Annotated[
        Path | None,
        typer.Option(
            metavar="DIRECTORY",
            help="Write contact sheets of hits there, as PNG and HTML.",
            file_okay=False,
        ),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Skip the search for altered copies.")
    ] = False,
    engine: Annotated[
        Literal["openvino", "torch"], typer.Option(help="Library that runs the network.")
    ] = "openvino",
    as_json: JsonOption = False,
) -> None:
    """Measure how well a model finds images of the same class.

    Reports R@1, R@5, R@10, mAP and mAP@R with 95 % confidence intervals, robustness to altered
    copies, and speed. If the model takes words, also searches for the names of the classes, and
    reports P@10 and mAP.

    With --compare, also reports the difference: MODEL minus the other model.
    """
    from app.cli import evaluation

    models = [model, compare] if compare else [model]
    evaluation.evaluate(
        models, data, gallery, sheets, as_json=as_json, by=by, engine=engine, quick=quick
    )
