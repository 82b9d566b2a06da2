"""The command that keeps one image of each group of duplicates."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from app.cli.changing import confirm, describe_images, follow, show_undo
from app.cli.console import CommandError, ExitCode, err, out, print_json
from app.cli.duplicates import parse_ids
from app.cli.options import (
    DEFAULT_URL,
    CollectionOption,
    JsonOption,
    KeyOption,
    UrlOption,
    connect,
)


class KeepRule(StrEnum):
    """The rules of the service for what to keep, whose own enumeration takes long to import."""

    RESOLUTION = "resolution"
    SIZE = "size"
    FORMAT = "format"
    OLDEST = "oldest"
    ATTRIBUTES = "attributes"


def resolve(
    masters: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="ID", help="Ids of 2 to 100 images, to resolve only these as one group."
        ),
    ] = None,
    url: UrlOption = DEFAULT_URL,
    api_key: KeyOption = "",
    collection: CollectionOption = "default",
    other: Annotated[
        str,
        typer.Option("--with", metavar="NAME", help="The other collection of a scan of two."),
    ] = "",
    space: Annotated[
        str | None, typer.Option(metavar="NAME", help="Space of the scan. Default: look.")
    ] = None,
    keep: Annotated[
        list[KeepRule] | None,
        typer.Option(
            metavar="RULE",
            help="Which image to keep: resolution (most pixels), size (most bytes), format"
            " (lossless), oldest, or attributes (most values). Repeatable, the most important rule"
            " first. Default: resolution, then size.",
        ),
    ] = None,
    merge_attributes: Annotated[
        bool,
        typer.Option(
            "--merge-attributes/--no-merge-attributes",
            help="Whether the kept image gets attributes that it lacks.",
        ),
    ] = True,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would be done.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
    as_json: JsonOption = False,
) -> ExitCode:
    """Keep the best image of each group of duplicates, and delete the others.

    Takes all groups that `lookalike duplicates scan` has found, or the images that are named. Shows
    what would be done and asks for confirmation. The deletion can be undone with `lookalike undo`
    for LOOKALIKE_UNDO_HOURS. You can interrupt the command and run it again to resume.

    Exit codes: 0 all groups were resolved; 1 some were left alone; 2 the command could not
    continue; 130 interrupted.
    """
    wanted: dict[str, Any] = {"merge_attributes": merge_attributes, "with": other or None}
    if masters:
        if space is not None:
            raise CommandError("--space belongs to a scan; leave it out where images are named")
        wanted["groups"] = [parse_ids(masters)]
    else:
        wanted |= {"all": True, "space": space or "look"}
    if keep:
        wanted["keep"] = keep
    with connect(url, api_key) as client:
        preview = client.preview_resolving(collection, wanted)
        if dry_run:
            _show_preview(preview, as_json)
            return ExitCode.OK
        groups, number = preview["groups"], preview["matched"]
        confirm(f"Keep {describe_images(groups)} and delete {number}?", yes)
        result = follow("Resolving", client.resolve_duplicates(collection, wanted, number), None)
    if as_json:
        print_json(result)
    else:
        _show_result(result)
    return ExitCode.FINDINGS if result["skipped"] or result["refused"] else ExitCode.OK


def _show_preview(preview: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(preview)
        return
    for choice in preview["choices"]:
        out.print(f"keep {choice['keep']}, delete {', '.join(choice['delete'])}")
    if preview["groups"] > len(preview["choices"]):
        out.print("...")
    kept, deleted = describe_images(preview["groups"]), describe_images(preview["matched"])
    out.print(f"Would keep {kept} and delete {deleted} of {preview['bytes']} bytes.")
    _show_left(preview)


def _show_result(result: dict[str, Any]) -> None:
    kept, deleted = describe_images(result["kept"]), describe_images(result["deleted"])
    out.print(f"Kept {kept} and deleted {deleted} of {result['bytes']} bytes.")
    show_undo(result)
    _show_left(result)


def _show_left(result: dict[str, Any]) -> None:
    """Show which groups are left alone."""
    if result["skipped"]:
        groups = "group is" if result["skipped"] == 1 else "groups are"
        err.print(f"{result['skipped']} {groups} left alone: others changed or deleted images.")
    for refused in result["examples"]:
        err.print(f"The group of {refused['id']} is left alone: {refused['reason']}")
    if result["refused"] > len(result["examples"]):
        err.print(
            f"In total, {result['refused']} groups are left alone because of their attributes."
        )
