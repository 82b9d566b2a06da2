"""Starts, follows and switches model versions, for the commands `models` and `spaces`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.cli.console import CommandError, make_table, on_interrupt, out, progress_bar
from app.cli.options import connect

if TYPE_CHECKING:
    from app.cli.client import Client

LOOK = "look"  # the space that every installation has
CONTINUES = "The service continues with what was started."
_POLL_INTERVAL = 1.0  # seconds


def start_model(client: Client, encoder: str, space: str) -> str:
    """Begin to build an encoder, uploaded if it is a file or "default"; return its version."""
    from models.weights_file import DEFAULT_WEIGHTS

    path = DEFAULT_WEIGHTS if encoder == "default" else Path(encoder)
    if not path.is_file() and (path.suffix or len(path.parts) > 1):
        raise CommandError(f"there is no file {path}")
    version = client.add_encoder(path) if path.is_file() else encoder
    client.start_model(version, space)
    return version


def switch_model(state: str, version: str | None, space: str, url: str, api_key: str) -> None:
    """Activate ``version``, or the version of the space that is in ``state``."""
    with on_interrupt(CONTINUES), connect(url, api_key) as client:
        activate_version(client, version or _find_version(client.models(), state, space), space)


def activate_version(client: Client, version: str, space: str) -> None:
    """Activate a version of the space, and print how to switch back."""
    replaces = first_in_state(client.models(), "active", space) is not None
    with progress_bar() as progress:
        task = progress.add_task("Checking", total=None)
        for event in client.activate_model(version):
            if "checked" in event:
                progress.update(task, completed=event["checked"])
    group = "models rollback" if space == LOOK else f"spaces rollback {space}"
    searches = "all searches" if space == LOOK else f"searches in the space {space}"
    back = f" To switch back, run `lookalike {group}`." if replaces else ""
    out.print(f"{version} is active: {searches} use it now.{back}")


def wait_until_built(client: Client, space: str) -> None:
    """Show progress until no version of the space is incomplete."""
    with progress_bar() as progress:
        task = progress.add_task("Embedding", total=None)
        while building := first_in_state(client.models(), "building", space):
            done, total = building["indexed"] + building["dead"], building["masters"]
            progress.update(task, completed=done, total=max(done, total))
            if done >= total:
                return
            time.sleep(_POLL_INTERVAL)


def first_in_state(answer: dict[str, Any], state: str, space: str) -> dict[str, Any] | None:
    """Return the first version of the space that is in the state."""
    found = (each for each in answer["models"] if (each["state"], each["space"]) == (state, space))
    return next(found, None)


def show_models(models: list[dict[str, Any]], processes: int) -> None:
    """Print a table of model versions, and what to do with those that are complete."""
    right = ("embedded", "dead letters", "processes")
    table = make_table("space", "model version", "state", *right, right=right)
    table.columns[1].no_wrap = True  # it is an argument of other commands
    table.columns[1].overflow = "fold"
    for each in models:
        embedded = f"{each['indexed']} of {each['masters']}"
        loaded = f"{each['loaded']} of {processes}"
        dead = str(each["dead"])
        table.add_row(each["space"], each["version"], each["state"], embedded, dead, loaded)
    out.print(table)
    for each in models:
        if each["state"] == "building" and each["indexed"] >= each["masters"]:
            space = each["space"]
            group = "models activate" if space == LOOK else f"spaces activate {space}"
            out.print(f"{each['version']} is complete. Switch to it with: lookalike {group}")


def select_models(answer: dict[str, Any], space: str) -> list[dict[str, Any]]:
    """Return the model versions of a space. Raises CommandError if there is no such space."""
    found = [each for each in answer["models"] if each["space"] == space]
    if not found:
        raise CommandError(f"there is no space {space}: see lookalike spaces list")
    return found


def _find_version(answer: dict[str, Any], state: str, space: str) -> str:
    select_models(answer, space)
    found = first_in_state(answer, state, space)
    if found is None:
        wanted = "being built" if state == "building" else "kept as the previous one"
        listed = "models list" if space == LOOK else f"spaces status {space}"
        raise CommandError(
            f"the space {space} has no model version that is {wanted}: see lookalike {listed}"
        )
    return str(found["version"])
