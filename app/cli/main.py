"""lookalike: serve, and talk over HTTP to a running service: import, search, export."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from app.cli.client import Client, ServiceError
from app.cli.transfer import Exporter, Importer, UnreadableInput

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    help="Visual search: put pictures in, show one, get those that look like it.",
)
database = typer.Typer(no_args_is_help=True, help="The metadata database.")
app.add_typer(database, name="db")
reembed = typer.Typer(
    no_args_is_help=True,
    help="Change the model without downtime. Start a new one, watch it being built, activate it; roll back, or retire the old.",
)
app.add_typer(reembed, name="reembed")
models = typer.Typer(
    no_args_is_help=True,
    help="Model versions: what the service has, and weights for it or for others.",
)
app.add_typer(models, name="models")
DEFAULT_URL = "http://127.0.0.1:8000"

UrlOption = Annotated[
    str, typer.Option("--url", envvar="LOOKALIKE_URL", help="Address of the service.")
]
KeyOption = Annotated[
    str,
    typer.Option(
        "--api-key", envvar="LOOKALIKE_API_KEY", help="API key, if the service asks for one."
    ),
]
CollectionOption = Annotated[
    str, typer.Option("--collection", "-c", help="Name of the collection.")
]

console = Console()
errors = Console(stderr=True)


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
) -> None:
    """Serve over HTTP, with the settings of the environment."""
    from app.server import serve as run

    given = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    raise typer.Exit(run(**given))


@app.command()
def worker() -> None:
    """Run the worker alone, beside API processes on the same servers."""
    from app.server import work

    raise typer.Exit(work())


@database.command()
def upgrade() -> None:
    """Bring the schema of LOOKALIKE_DATABASE_URL to this version. (The embedded database does so itself.)"""
    from app.server import upgrade_database

    raise typer.Exit(upgrade_database())


@app.command()
def migrate(
    source: Annotated[
        Path,
        typer.Option(
            "--from",
            metavar="DIRECTORY",
            help="Data directory of a stopped embedded installation.",
            file_okay=False,
        ),
    ] = Path("lookalike-data"),
    target: Annotated[
        Path | None,
        typer.Option(
            "--to",
            metavar="FILE",
            help="Settings that name the servers, as lines LOOKALIKE_…=…. Default: those of the environment.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    jobs: Annotated[
        int,
        typer.Option(
            "--jobs", "-j", metavar="N", min=1, max=64, help="Originals copied at a time."
        ),
    ] = 8,
) -> None:
    """Copy an embedded installation to servers. Masters keep ids, bytes and vectors; nothing is embedded again.

    Every original and vector is read back and compared. Safe to interrupt and to run again. The source stays as it is,
    but for deletions under way, which are carried out first.

    Exit code 0: all are there; 1: some are not; 2: could not go on; 130: interrupted.
    """
    from app.cli.installations import migrate as run

    raise typer.Exit(run(source, target, jobs))


@app.command()
def backup(
    directory: Annotated[
        Path, typer.Argument(help="Where the backup is, or goes.", file_okay=False)
    ],
    vectors: Annotated[
        bool,
        typer.Option(
            "--vectors",
            help="Back the vectors up, too; else a restored service embeds all images again.",
        ),
    ] = False,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify",
            help="Read and hash what the backup has already, too, and copy anew what is wrong.",
        ),
    ] = False,
    jobs: Annotated[
        int,
        typer.Option(
            "--jobs", "-j", metavar="N", min=1, max=64, help="Originals copied at a time."
        ),
    ] = 8,
) -> None:
    """Copy an installation, which may be in use, to a directory. It is the one that the settings name.

    Every original is hashed on the way and read back. Run again, it copies what is new, takes over what changed, and removes what
    was deleted: for older states, keep several directories. Safe to interrupt and to run again.

    Exit code 0: all are there; 1: some are not; 2: could not go on; 130: interrupted.
    """
    from app.cli.installations import backup as run

    raise typer.Exit(run(directory, jobs, vectors=vectors, verify=verify))


@app.command()
def restore(
    directory: Annotated[Path, typer.Argument(help="The backup.", exists=True, file_okay=False)],
    incomplete: Annotated[
        bool, typer.Option("--incomplete", help="Take a backup that was interrupted.")
    ] = False,
    jobs: Annotated[
        int,
        typer.Option(
            "--jobs", "-j", metavar="N", min=1, max=64, help="Originals copied at a time."
        ),
    ] = 8,
) -> None:
    """Copy a backup into empty stores. They are those of the settings: a stopped embedded installation, or servers.

    Every original is hashed on the way and read back; ids stay as they were. Safe to interrupt and to run again.

    Exit code 0: all are there; 1: some are not; 2: could not go on; 130: interrupted.
    """
    from app.cli.installations import restore as run

    raise typer.Exit(run(directory, jobs, incomplete=incomplete))


@app.command()
def scrub(
    url: UrlOption = DEFAULT_URL,
    api_key: KeyOption = "",
    repair: Annotated[
        bool, typer.Option("--repair", help="Repair what can be; else only report.")
    ] = False,
    full: Annotated[
        bool,
        typer.Option("--full", help="Read every original; else a thirtieth, another one each day."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Check the stores against each other. Every master has its bytes and its vector, and nothing is left over.

    Asks the service at --url; where none answers, it opens the stores of the settings itself. Safe while the service is used.

    Exit code 0: nothing found; 1: something was found (and repaired, with --repair); 2: could not go on; 130: interrupted.
    """
    from app.cli.operations import scrub as run

    raise typer.Exit(run(url, api_key, {"repair": repair, "full": full}, as_json=as_json))


@app.command("dead-letters")
def dead_letters(
    url: UrlOption = DEFAULT_URL,
    api_key: KeyOption = "",
    retry: Annotated[bool, typer.Option("--retry", help="Have all of them tried again.")] = False,
) -> None:
    """List the masters that could not be indexed, and why. Exit code 0: none; 1: there are some; 2: could not go on."""
    with _service(url, api_key) as client:
        if retry:
            console.print(f"{client.retry_dead_letters()} are tried again.", highlight=False)
            return
        answer = client.dead_letters(1000)
    for letter in answer["dead_letters"]:
        master = letter["master"]
        said = f"{master['id']} {master['collection']}/{master['name']}: {letter['attempts']} attempts, {letter['failure']}"
        console.print(said, markup=False, highlight=False, soft_wrap=True)
    console.print(
        f"{answer['total']} dead letters." if answer["total"] else "No dead letters.",
        highlight=False,
    )
    raise typer.Exit(1 if answer["total"] else 0)


@contextmanager
def _service(url: str, api_key: str) -> Iterator[Client]:
    """What the service refuses is said in words, with exit code 2."""
    try:
        with Client(url, api_key) as client:
            yield client
    except (ServiceError, OSError) as error:
        errors.print(str(error), style="red", markup=False, highlight=False)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        errors.print("Interrupted. What was started goes on in the service.")
        raise typer.Exit(130) from None


@reembed.command("start")
def reembed_start(
    model: Annotated[
        str,
        typer.Argument(help="A weights file (safetensors), or a model version the service knows."),
    ],
    url: UrlOption = DEFAULT_URL,
    api_key: KeyOption = "",
) -> None:
    """Build a new model version beside the active one. Searches stay as they are; uploads are embedded by both."""
    from app.cli.operations import start_model

    with _service(url, api_key) as client:
        start_model(client, model)


@reembed.command("status")
def reembed_status(
    url: UrlOption = DEFAULT_URL,
    api_key: KeyOption = "",
    watch: Annotated[
        bool, typer.Option("--watch", help="Show progress until what is being built is complete.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Show the model versions and how far they are. Also how many running processes have loaded them."""
    from app.cli.operations import watch_models

    with _service(url, api_key) as client:
        watch_models(client, watch=watch, as_json=as_json)


@reembed.command("activate")
def reembed_activate(
    model: Annotated[
        str | None, typer.Argument(help="Model version. Default: the one that is being built.")
    ] = None,
    url: UrlOption = DEFAULT_URL,
    api_key: KeyOption = "",
) -> None:
    """Switch every search to the new model version. It is checked to be complete and right first; it is one step."""
    from app.cli.operations import activate_model

    with _service(url, api_key) as client:
        activate_model(client, "building", model)


@reembed.command("rollback")
def reembed_rollback(url: UrlOption = DEFAULT_URL, api_key: KeyOption = "") -> None:
    """Switch back to the previous model version. The same checks hold."""
    from app.cli.operations import activate_model

    with _service(url, api_key) as client:
        activate_model(client, "previous", None)


@reembed.command("retire")
def reembed_retire(
    model: Annotated[
        str, typer.Argument(help="Model version that is being built, or the previous one.")
    ],
    url: UrlOption = DEFAULT_URL,
    api_key: KeyOption = "",
) -> None:
    """Remove a model version that is not active. Its embeddings, vectors and weights go; there is no way back."""
    with _service(url, api_key) as client:
        client.change_model(model, "retire")
        console.print(f"{model} is being removed.", markup=False, highlight=False)


@models.command("list")
def models_list(
    url: UrlOption = DEFAULT_URL,
    api_key: KeyOption = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Show the model versions of the service and how far they are."""
    from app.cli.operations import watch_models

    with _service(url, api_key) as client:
        watch_models(client, watch=False, as_json=as_json)


@models.command("import")
def models_import(
    weights: Annotated[Path, typer.Argument(help="A weights file.", exists=True, dir_okay=False)],
    url: UrlOption = DEFAULT_URL,
    api_key: KeyOption = "",
) -> None:
    """Put weights where every process of the service finds them. They are tried first, and not used until they are started."""
    with _service(url, api_key) as client:
        version = client.add_weights(weights)
        console.print(
            f"{version} is there. Build its embeddings with: lookalike reembed start {version}",
            highlight=False,
        )


@models.command("activate")
def models_activate(
    model: Annotated[
        str | None, typer.Argument(help="Model version. Default: the one that is being built.")
    ] = None,
    url: UrlOption = DEFAULT_URL,
    api_key: KeyOption = "",
) -> None:
    """The same as `lookalike reembed activate`: switch every search to a version that is complete and right."""
    reembed_activate(model, url, api_key)


@models.command("export")
def models_export(
    model: Annotated[str, typer.Argument(help="A weights file, or `default`: the shipped one.")],
    out: Annotated[Path, typer.Option("--out", help="Directory.", file_okay=False)] = Path(),
    format: Annotated[Literal["openvino", "onnx"], typer.Option("--format")] = "openvino",
) -> None:
    """Write the network for other programs: images (n, 224, 224, 3) uint8 to embeddings (n, 512)."""
    from app.cli.training import export as run

    raise typer.Exit(run(model, out, format))


@models.command("int8")
def models_int8(
    model: Annotated[str, typer.Argument(help="A weights file, or `default`: the shipped one.")],
    images: Annotated[
        Path,
        typer.Argument(
            help="Images like those to be searched, to fit ranges on.", exists=True, file_okay=False
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="File.", dir_okay=False)] = Path(
        "int8.safetensors"
    ),
) -> None:
    """Quantise weights: faster on CPUs with VNNI, a little less exact, and a model version of its own."""
    from app.cli.training import quantise as run

    raise typer.Exit(run(model, images, out))


@app.command()
def finetune(
    data: Annotated[
        Path | None,
        typer.Argument(
            help="A folder for each class, at any depth. Or name a --collection.",
            exists=True,
            file_okay=False,
        ),
    ] = None,
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            help="Where weights and model card go, and what lets it go on.",
            file_okay=False,
        ),
    ] = Path("finetuned"),
    base: Annotated[
        Path | None,
        typer.Option(
            help="Weights to begin with. Default: the shipped ones. A ResNet-50 v1 will do.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    test: Annotated[
        Path | None,
        typer.Option(
            help="Other classes, to score the base and what came out on.",
            exists=True,
            file_okay=False,
        ),
    ] = None,
    collection: Annotated[
        str, typer.Option("--collection", "-c", help="Learn from the masters of a collection.")
    ] = "",
    by: Annotated[
        str,
        typer.Option(
            help="Attribute that names their class; also for an exported collection as DATA."
        ),
    ] = "",
    loss: Annotated[
        Literal["multi-similarity", "proxy-anchor", "arcface", "supcon"] | None,
        typer.Option(help="Of the classes. Default: supcon."),
    ] = None,
    tune: Annotated[
        Literal["projection", "layer4", "layer3", "all"] | None,
        typer.Option(
            help="From where on the network is tuned; the projection alone takes minutes. Default: layer4."
        ),
    ] = None,
    pooling: Annotated[
        Literal["average", "gem"] | None,
        typer.Option(help="gem: the generalised mean, its exponent learned. Default: gem."),
    ] = None,
    norms: Annotated[
        Literal["frozen", "tuned"] | None, typer.Option(help="The batch norms. Default: frozen.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Of training, at most. Default: 300.")
    ] = None,
    classes: Annotated[int | None, typer.Option(min=2, help="In a batch. Default: 16.")] = None,
    images: Annotated[
        int | None, typer.Option(min=1, help="Of each class in a batch. Default: 3.")
    ] = None,
    views: Annotated[
        int | None,
        typer.Option(min=1, help="Kept of each image: 1 as it is, the others altered. Default: 6."),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Learning rate of the backbone; the projection's is ten times that. Default: 1e-05.",
        ),
    ] = None,
    blend: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="0: the base; 1: the tuned weights. Default: 1.0."),
    ] = None,
    held_out: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=0.9,
            help="Share of the classes not to learn from, but two at least. Default: 0.2.",
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of all chance. Default: 0.")] = None,
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option()] = "auto",
    url: UrlOption = DEFAULT_URL,
    api_key: KeyOption = "",
) -> None:
    """Fine-tune the network on photographs of yours. Writes weights.safetensors and a model card with plots.

    Classes held out decide when it stops. Safe to interrupt: the same command goes on. The copy of the network's frozen part in
    OUT/work can be removed when it is done.

    Exit code 0: done; 2: could not go on; 130: interrupted.
    """
    if (data is None) == (not collection) or (collection and not by):
        errors.print("Give a folder of classes, or --collection and --by.", style="red")
        raise typer.Exit(2)
    from app.cli.training import Source
    from app.cli.training import finetune as run

    recipe = {
        "loss": loss, "tune": tune, "pooling": pooling, "norms": norms, "steps": steps, "classes": classes, "images": images,
        "views": views, "rate": rate, "blend": blend, "held_out": held_out, "seed": seed,
    }  # fmt: skip
    given = {name: value for name, value in recipe.items() if value is not None}
    source = Source(Client(url, api_key), collection, by)
    raise typer.Exit(run(data, out, base, given, source, test=test, device=device))


@app.command()
def evaluate(
    model: Annotated[str, typer.Argument(help="A weights file, or `default`: the shipped one.")],
    data: Annotated[
        Path,
        typer.Argument(help="A folder for each class, at any depth.", exists=True, file_okay=False),
    ],
    gallery: Annotated[
        Path | None,
        typer.Option(
            help="Look in these images, not among the others of DATA.", exists=True, file_okay=False
        ),
    ] = None,
    by: Annotated[
        str,
        typer.Option(
            help="DATA and the gallery are exported collections; the attribute that names the class."
        ),
    ] = "",
    sheets: Annotated[
        Path | None,
        typer.Option(help="Write contact sheets there, as PNG and as a page.", file_okay=False),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Without the altered copies.")] = False,
    engine: Annotated[Literal["openvino", "torch"], typer.Option()] = "openvino",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Measure how well a model retrieves: R@1, R@5, R@10, mAP, mAP@R with 95 % intervals, altered copies, speed."""
    from app.cli.training import evaluate as run

    raise typer.Exit(
        run(model, data, gallery, sheets, as_json=as_json, by=by, engine=engine, quick=quick)
    )


@app.command("import")
def import_(
    paths: Annotated[
        list[Path], typer.Argument(help="Images, directories and zip files.", exists=True)
    ],
    url: UrlOption = DEFAULT_URL,
    api_key: KeyOption = "",
    collection: CollectionOption = "default",
    glob: Annotated[
        str,
        typer.Option(
            help="Only names that fit, such as '*.jpg'. Default: all that look like images."
        ),
    ] = "",
    jobs: Annotated[
        int, typer.Option("--jobs", "-j", metavar="N", min=1, max=64, help="Uploads at a time.")
    ] = 4,
    attributes_from_folder: Annotated[
        bool,
        typer.Option(
            "--attributes-from-folder",
            help='Give each image the attribute "folder": the name of its folder.',
        ),
    ] = False,
    report: Annotated[
        Path, typer.Option(help="Where to write what failed, one JSON object a line.")
    ] = Path("lookalike-import-errors.jsonl"),
) -> None:
    """Upload images. Safe to interrupt and to run again: what is there already is not put in twice.

    Exit code 0: all are in; 1: some failed, see the report; 2: could not go on; 130: interrupted.
    """
    try:
        with Client(url, api_key) as client:
            outcome = Importer(client, collection, attributes_from_folder, jobs, report).run(
                paths, glob
            )
    except (ServiceError, UnreadableInput) as error:
        errors.print(str(error), style="red", markup=False, highlight=False)
        raise typer.Exit(2) from None
    console.print(outcome.summary(), highlight=False)
    if outcome.failed:
        console.print(f"What failed is in {report}.", highlight=False)
    raise typer.Exit(outcome.exit_code)


@app.command()
def search(
    image: Annotated[Path, typer.Argument(help="The sample.", exists=True, dir_okay=False)],
    url: UrlOption = DEFAULT_URL,
    api_key: KeyOption = "",
    collection: CollectionOption = "default",
    k: Annotated[
        int, typer.Option("--k", "-k", metavar="N", min=1, max=1000, help="Number of hits.")
    ] = 10,
    filter: Annotated[
        str, typer.Option(help='On attributes, as JSON: \'{"colour": "red"}\'.')
    ] = "",
    offset: Annotated[int, typer.Option(metavar="N", min=0, help="Hits to skip.")] = 0,
    max_distance: Annotated[
        float | None, typer.Option(metavar="D", min=0, max=2, help="Nothing farther than this.")
    ] = None,
    min_probability: Annotated[
        float | None,
        typer.Option(
            metavar="P", min=0, max=1, help="Only what shows the same thing with that probability."
        ),
    ] = None,
    box: Annotated[
        str,
        typer.Option(
            metavar="X,Y,W,H", help="Search by that part of the image, in upright pixels."
        ),
    ] = "",
    mirror: Annotated[bool, typer.Option("--mirror", help="Try the mirrored sample too.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the service's answer as JSON.")
    ] = False,
) -> None:
    """Find the masters that look most like an image."""
    fields = {
        "k": str(k),
        "offset": str(offset),
        "collection": collection,
        "mirror": str(mirror).lower(),
    }
    given = {
        "filter": filter,
        "box": box,
        "max_distance": max_distance,
        "min_probability": min_probability,
    }
    fields |= {name: str(value) for name, value in given.items() if value not in (None, "")}
    try:
        with Client(url, api_key) as client:
            answer = client.search(image, fields)
    except (ServiceError, OSError) as error:
        errors.print(str(error), style="red", markup=False, highlight=False)
        raise typer.Exit(2) from None
    if as_json:
        sys.stdout.write(json.dumps(answer, indent=2, ensure_ascii=False) + "\n")
        return
    table = Table(box=None, header_style="bold")
    calibrated = any(hit["probability"] is not None for hit in answer["hits"])
    for column in ("score", "distance", *(["probability"] if calibrated else [])):
        table.add_column(column, justify="right", vertical="top")
    table.add_column("master", no_wrap=True, overflow="ellipsis")
    for hit in answer["hits"]:
        master = hit["master"]
        described = Text(master["name"])
        if master["attributes"]:
            described.append(
                "\n" + json.dumps(master["attributes"], ensure_ascii=False), style="dim"
            )
        described.append("\n" + master["id"], style="dim")
        likely = [f"{hit['probability']:.0%}"] if calibrated else []
        table.add_row(
            f"{hit['score']:.1f}",
            "same" if hit["exact"] else f"{hit['distance']:.4f}",
            *likely,
            described,
        )
    limit = (
        f" with a probability of {min_probability} or more" if min_probability is not None else ""
    )
    nothing = f"Nothing found: the collection {collection} holds nothing that fits{limit}."
    console.print(table if answer["hits"] else nothing, highlight=False)


@app.command()
def export(
    directory: Annotated[
        Path, typer.Argument(help="Where the images and masters.jsonl go.", file_okay=False)
    ],
    url: UrlOption = DEFAULT_URL,
    api_key: KeyOption = "",
    collection: CollectionOption = "default",
    jobs: Annotated[
        int, typer.Option("--jobs", "-j", metavar="N", min=1, max=64, help="Downloads at a time.")
    ] = 4,
) -> None:
    """Download a collection: every original, and masters.jsonl with the metadata. Safe to interrupt and to run again."""
    try:
        with Client(url, api_key) as client:
            outcome = Exporter(client, collection, jobs).run(directory)
    except (ServiceError, OSError) as error:
        errors.print(str(error), style="red", markup=False, highlight=False)
        raise typer.Exit(2) from None
    console.print(outcome.summary(), highlight=False)
    raise typer.Exit(outcome.exit_code)


def main() -> None:
    try:
        app()
    except KeyboardInterrupt:
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
