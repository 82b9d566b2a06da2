"""The `spaces` command group: the spaces that searches use beside `look`."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from app.cli.console import CommandError, make_table, on_interrupt, out, print_json
from app.cli.model_changes import (
    CONTINUES,
    LOOK,
    select_models,
    show_models,
    start_model,
    switch_model,
    wait_until_built,
)
from app.cli.options import DEFAULT_URL, JsonOption, KeyOption, UrlOption, connect

_SpaceArgument = Annotated[str, typer.Argument(metavar="SPACE", help="Name of the space.")]
_NAME = re.compile("[a-z0-9][a-z0-9-]{0,62}")
_TEXT = {"encoder": "yes", "built-in": "some words", None: "no"}


def create(
    space: Annotated[
        str, typer.Argument(metavar="SPACE", help="Name of the new space: a-z, 0-9 and hyphens.")
    ],
    encoder: Annotated[
        str,
        typer.Option(
            "--encoder",
            metavar="ENCODER",
            help="A bundle or a weights file, or a version that was added before.",
        ),
    ],
    url: UrlOption = DEFAULT_URL,
    api_key: KeyOption = "",
) -> None:
    """Create a space, and start embedding all images with its encoder.

    Searches can use the space after `lookalike spaces activate`. Searches by words use the space
    named `words`.
    """
    if not _NAME.fullmatch(space):
        raise CommandError(
            f"{space} cannot be the name of a space: use 1 to 63 of a-z, 0-9 and hyphens,"
            " and no hyphen at the start"
        )
    with on_interrupt(CONTINUES), connect(url, api_key) as client:
        if any(each["name"] == space for each in client.spaces()):
            raise CommandError(
                f"the space {space} exists. To change its encoder, run:"
                f" lookalike models start {encoder} --space {space}"
            )
        version = start_model(client, encoder, space)
    out.print(
        f"{version} is being built. Follow it with: lookalike spaces status {space} --watch\n"
        f"Then use it with: lookalike spaces activate {space}"
    )


def list_(
    url: UrlOption = DEFAULT_URL, api_key: KeyOption = "", as_json: JsonOption = False
) -> None:
    """List the spaces, their active model versions, and whether they take words."""
    with connect(url, api_key) as client:
        spaces = client.spaces()
    if as_json:
        print_json({"spaces": spaces})
        return
    table = make_table("space", "model version", "words", "dimension", right=("dimension",))
    for each in spaces:
        version = each["model_version"] or "none is active yet"
        dimension = "" if each["dimension"] is None else str(each["dimension"])
        table.add_row(each["name"], version, _TEXT.get(each["text"], ""), dimension)
    out.print(table)


def status(
    space: _SpaceArgument,
    url: UrlOption = DEFAULT_URL,
    api_key: KeyOption = "",
    watch: Annotated[
        bool, typer.Option("--watch", help="Show progress until the new version is complete.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """List the model versions of a space, their state and their progress."""
    with on_interrupt(CONTINUES), connect(url, api_key) as client:
        if watch:
            wait_until_built(client, space)
        answer = client.models()
    models = select_models(answer, space)
    if as_json:
        print_json(answer | {"models": models})
    else:
        show_models(models, answer["processes"])


def activate(space: _SpaceArgument, url: UrlOption = DEFAULT_URL, api_key: KeyOption = "") -> None:
    """Switch searches in a space to its new model version.

    The service first checks that the version is complete and correct. Searches switch in one
    step, without downtime.
    """
    switch_model("building", None, space, url, api_key)


def rollback(space: _SpaceArgument, url: UrlOption = DEFAULT_URL, api_key: KeyOption = "") -> None:
    """Switch searches in a space back to its previous model version.

    The service runs the same checks as for `activate`.
    """
    switch_model("previous", None, space, url, api_key)


def retire(
    space: _SpaceArgument,
    model: Annotated[
        str,
        typer.Option(
            "--model", metavar="MODEL", help="Remove only this version, and keep the space."
        ),
    ] = "",
    confirm: Annotated[
        str,
        typer.Option("--confirm", metavar="SPACE", help="Name of the space again, to remove it."),
    ] = "",
    url: UrlOption = DEFAULT_URL,
    api_key: KeyOption = "",
) -> None:
    """Remove a space, or one of its model versions, with its vectors and encoders.

    The images stay, and `create` can build the space again. The space `look` cannot be removed.
    """
    with connect(url, api_key) as client:
        models = select_models(client.models(), space)
        if model:
            retired = [each["version"] for each in models if each["version"] == model]
            if not retired:
                raise CommandError(f"the space {space} has no model version {model}")
        else:
            _check_removal(space, confirm)
            # The active version is last, because retiring it removes the space.
            live = [each for each in models if each["state"] != "retired"]
            live.sort(key=lambda each: each["state"] == "active")
            retired = [each["version"] for each in live]
            if not retired:
                raise CommandError(f"the space {space} is being removed already")
        for version in retired:
            client.retire_model(version)
    verb = "is" if len(retired) == 1 else "are"
    out.print(f"{', '.join(retired)} {verb} being removed.")


def _check_removal(space: str, confirm: str) -> None:
    if space == LOOK:
        raise CommandError("the space look cannot be removed")
    if confirm != space:
        raise CommandError(
            f"this removes the space {space} with all its vectors. To confirm, run:"
            f" lookalike spaces retire {space} --confirm {space}"
        )
