"""Quantizes the active encoder of a service, builds the int8 version and switches to it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from app.cli.console import CommandError, on_interrupt, out, show_stages
from app.cli.model_changes import (
    CONTINUES,
    LOOK,
    activate_version,
    first_in_state,
    select_models,
    wait_until_built,
)
from app.cli.model_files import show_quantized
from app.cli.service_errors import HopelessError, ServiceError
from models.bundles.archive import is_bundle
from models.bundles.check import check_bundle
from models.labelled_images import find_image_files
from models.progress import ProgressCallback
from models.quantizing import (
    MOST_IMAGES,
    check_installed,
    check_not_quantized,
    quantize_network,
)
from models.weights_file import WeightsFile

if TYPE_CHECKING:
    from app.cli.client import Client
    from models.embedder import Encoder

_DOWNLOADS = 4  # at the same time
_PREFIX = "lookalike-quantize-"
_NOTHING_CHANGED = "The service has changed nothing."


def quantize_active(
    client: Client, space: str, images: Path | None, file: Path | None, *, activate: bool
) -> None:
    """Quantize the active encoder of a space, build the int8 version, and activate it.

    ``images`` is a directory to calibrate with; None means masters of the service. ``file`` keeps
    the int8 encoder. Raises CommandError, EncoderInvalid, EngineMissing, UnusableData.
    """
    with on_interrupt(_NOTHING_CHANGED), TemporaryDirectory(prefix=_PREFIX) as temporary:
        check_installed()
        directory = Path(temporary)
        version = _find_active(client, space, activate=activate)
        encoder = _download_encoder(client, version, directory)
        check_not_quantized(encoder)
        out.print(f"Quantizing {version}, the active encoder of the space {space}.")
        with show_stages() as advance:
            paths = (
                _download_sample(client, directory, advance)
                if images is None
                else find_image_files(images)
            )
            target = file or directory / "int8"
            quantized = quantize_network(encoder, paths, target, advance)
        show_quantized(quantized)
        if file is not None:
            out.print(f"Written: {file}")
        client.add_encoder(target)
    with on_interrupt(CONTINUES):
        client.start_model(quantized.version, space)
        _finish(client, quantized.version, space, activate=activate)


def _finish(client: Client, version: str, space: str, *, activate: bool) -> None:
    follow = "models list --watch" if space == LOOK else f"spaces status {space} --watch"
    switch = "models activate" if space == LOOK else f"spaces activate {space}"
    if not activate:
        out.print(
            f"{version} is being built. Follow it with: lookalike {follow}\n"
            f"Then use it with: lookalike {switch}"
        )
        return
    out.print(
        f"{version} is being built and will then be activated. If you stop here, activate it with:"
        f" lookalike {switch}"
    )
    wait_until_built(client, space)
    activate_version(client, version, space)


def _find_active(client: Client, space: str, *, activate: bool) -> str:
    """Return the active version of a space in which another can be built, and perhaps activated.

    Raises CommandError.
    """
    answer = client.models()
    select_models(answer, space)
    if building := first_in_state(answer, "building", space):
        raise CommandError(
            f"{building['version']} is being built in the space {space}: activate it, or remove it"
            f" with `lookalike models retire {building['version']}`"
        )
    if activate and (previous := first_in_state(answer, "previous", space)):
        raise CommandError(
            f"{previous['version']} is kept as the previous version: remove it with `lookalike"
            f" models retire {previous['version']}`, or use --no-activate"
        )
    active = first_in_state(answer, "active", space)
    if active is None:
        raise CommandError(f"the space {space} has no active encoder: see lookalike spaces list")
    return str(active["version"])


def _download_encoder(client: Client, version: str, directory: Path) -> Encoder:
    path = directory / "encoder"
    with path.open("w+b") as output:
        client.download_encoder(version, output)
    # whatever the service sent, its networks are first run in a process with limits
    encoder = check_bundle(path).bundle if is_bundle(path) else WeightsFile.load(path)
    if encoder.version != version:
        raise CommandError(
            f"the service sent {encoder.version} in place of {version}. Run `lookalike scrub`"
        )
    return encoder


def _download_sample(client: Client, directory: Path, advance: ProgressCallback) -> list[Path]:
    """Download originals that are spread evenly over all masters. Raises CommandError."""
    chosen = _choose_masters(client, advance)
    if not chosen:
        raise CommandError(
            "the service has no images to calibrate with: upload some first, or name a directory of"
            " typical ones: lookalike models quantize active IMAGES"
        )

    def fetch(master: dict[str, Any]) -> Path | None:
        path = directory / str(master["id"])
        try:
            with path.open("w+b") as output:
                client.content(master, output)
        except HopelessError:
            raise
        except ServiceError:  # it was deleted meanwhile, or is damaged
            return None
        return path

    paths = []
    with ThreadPoolExecutor(_DOWNLOADS) as pool:
        for done, path in enumerate(pool.map(fetch, chosen), start=1):
            paths += [path] if path is not None else []
            advance("downloading", done, len(chosen))
    return paths


def _choose_masters(client: Client, advance: ProgressCallback) -> list[dict[str, Any]]:
    """Return masters at even distances in the list of all of them, collection by collection."""
    collections = client.collections()
    ends = list(accumulate(each["masters"] for each in collections))
    total = ends[-1] if ends else 0
    places = np.unique(np.linspace(0, total - 1, min(MOST_IMAGES, total)).astype(np.int64))
    chosen: list[dict[str, Any]] = []
    for collection, end in zip(collections, ends, strict=True):
        start = end - collection["masters"]
        wanted = {int(place) - start for place in places if start <= place < end}
        if not wanted:
            continue
        for place, (master, _) in enumerate(client.masters(collection["name"])):
            if place in wanted:
                chosen.append(master)
                advance("choosing images", len(chosen), len(places))
            if place >= max(wanted):
                break
    return chosen
