"""The commands that change and delete all images that match a filter, and undo deletions."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Annotated, Any
from uuid import UUID

import typer

from app.cli.console import (
    CommandError,
    ExitCode,
    err,
    on_interrupt,
    out,
    print_json,
    progress_bar,
)
from app.cli.options import (
    DEFAULT_URL,
    CollectionOption,
    JsonOption,
    KeyOption,
    UrlOption,
    connect,
    parse_filter,
    parse_id,
)

_FilterOption = Annotated[
    str,
    typer.Option("--filter", metavar="JSON", help='Which images: \'{"colour": "red"}\'.'),
]
_DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Only count the images.")]
_YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]


def delete(
    filter: _FilterOption,
    url: UrlOption = DEFAULT_URL,
    api_key: KeyOption = "",
    collection: CollectionOption = "default",
    dry_run: _DryRunOption = False,
    permanent: Annotated[
        bool, typer.Option("--permanent", help="Delete for good; it cannot be undone.")
    ] = False,
    yes: _YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Delete all images of a collection that match a filter.

    Shows how many these are and asks for confirmation. Unless it is permanent, a deletion can be
    undone with `lookalike undo` for LOOKALIKE_UNDO_HOURS. You can interrupt the command; what it
    has deleted until then stays deleted.
    """
    params = {"collection": collection, "filter": json.dumps(parse_filter(filter))}
    params |= {"permanent": "true"} if permanent else {}
    with connect(url, api_key) as client:
        number = client.count_deletions(params)
        if dry_run:
            return _show_count(number, as_json)
        confirm(f"Delete {describe_images(number)}{' for good' if permanent else ''}?", yes)
        result = follow("Deleting", client.delete_masters(params, number), number)
    if as_json:
        return print_json(result)
    out.print(f"Deleted {describe_images(result['deleted'])}.")
    _show_skipped(result)
    show_undo(result)
    return None


def change(
    filter: _FilterOption,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="PATH=VALUE",
            help="Set an attribute: sale=true, size.width=12, colour=red. The value is JSON, or"
            " else text. Repeatable.",
        ),
    ] = None,
    unset: Annotated[
        list[str] | None,
        typer.Option("--unset", metavar="PATH", help="Remove an attribute. Repeatable."),
    ] = None,
    url: UrlOption = DEFAULT_URL,
    api_key: KeyOption = "",
    collection: CollectionOption = "default",
    dry_run: _DryRunOption = False,
    yes: _YesOption = False,
    as_json: JsonOption = False,
) -> ExitCode:
    """Change attributes of all images of a collection that match a filter.

    Shows how many these are and asks for confirmation. Other attributes stay as they are. You can
    interrupt the command and run it again to resume.

    Exit codes: 0 all were changed; 1 some were refused, because their attributes would break a
    rule; 2 the command could not continue; 130 interrupted.
    """
    wanted = {
        "collection": collection,
        "filter": parse_filter(filter),
        "set": _parse_assignments(set_ or []),
        "unset": unset or [],
    }
    with connect(url, api_key) as client:
        number = client.count_changes(wanted)
        if dry_run:
            _show_count(number, as_json)
            return ExitCode.OK
        confirm(f"Change {describe_images(number)}?", yes)
        result = follow("Changing", client.change_masters(wanted, number), number)
    if as_json:
        print_json(result)
    else:
        out.print(
            f"Changed {describe_images(result['changed'])}; {result['unchanged']} needed no change."
        )
        _show_skipped(result)
        for refused in result["examples"]:
            err.print(f"{refused['id']} was refused: {refused['reason']}")
        if result["refused"] > len(result["examples"]):
            err.print(f"{result['refused']} were refused in all.")
    return ExitCode.FINDINGS if result["refused"] else ExitCode.OK


def undo(
    deletion: Annotated[
        UUID | None,
        typer.Argument(
            metavar="ID",
            parser=parse_id,
            help="Id of the deletion. Without it, those that can be undone are listed.",
        ),
    ] = None,
    url: UrlOption = DEFAULT_URL,
    api_key: KeyOption = "",
    as_json: JsonOption = False,
) -> ExitCode:
    """Restore the images of a deletion, or list the deletions that can be undone.

    Images whose files were uploaded again meanwhile stay deleted. You can interrupt the command and
    run it again to resume.

    Exit codes: 0 all images were restored; 1 some stay deleted; 2 the command could not continue;
    130 interrupted.
    """
    with connect(url, api_key) as client:
        if deletion is None:
            _list_deletions(client.deletions(), as_json)
            return ExitCode.OK
        result = follow("Restoring", client.undo_deletion(deletion), None)
    if as_json:
        print_json(result)
    else:
        out.print(f"Restored {describe_images(result['restored'])}.")
        for conflict in result["examples"]:
            err.print(f"{conflict['id']} stays deleted: {conflict['master']} has the same file")
        if result["held"]:
            err.print(
                f"{describe_images(result['held'])} are in use by a worker: run the command again."
            )
    return ExitCode.FINDINGS if result["conflicts"] or result["held"] else ExitCode.OK


def _list_deletions(deletions: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        return print_json({"deletions": deletions})
    if not deletions:
        out.print("There is no deletion that can be undone.")
        return None
    for each in deletions:
        what = f"{describe_images(each['masters'])} of {each['collection']} ({each['reason']})"
        out.print(f"{each['id']}  {what}, until {each['undo_until']}")
    return None


def _parse_assignments(texts: list[str]) -> dict[str, Any]:
    """Return the merge patch for PATH=VALUE; null would remove, which is for --unset."""
    patch: dict[str, Any] = {}
    for text in texts:
        path, equals, value = text.partition("=")
        if not equals or not path:
            raise CommandError(f"--set {text}: write PATH=VALUE, such as colour=red")
        *parents, key = path.split(".")
        inside = patch
        for parent in parents:
            inside = inside.setdefault(parent, {})
            if not isinstance(inside, dict):
                raise CommandError(f"--set {text}: another --set gives {parent} a value")
        if key in inside:
            raise CommandError(f"--set {text}: another --set gives {path} a value")
        inside[key] = _parse_value(value)
    return patch


def _parse_value(text: str) -> Any:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    if value is None:
        raise CommandError("--set cannot set null: remove an attribute with --unset PATH")
    return value


def confirm(question: str, yes: bool) -> None:
    """Ask the question unless ``yes``. Raises CommandError without a yes."""
    if yes:
        return
    if not _is_answered():
        raise CommandError(f"{question} Nobody can answer here: confirm with --yes.")
    if not typer.confirm(question, err=True):
        raise CommandError("nothing was done")


def _is_answered() -> bool:
    return sys.stdin.isatty()


def follow(title: str, events: Iterator[dict[str, Any]], number: int | None) -> dict[str, Any]:
    """Show the progress and return the result. ``number`` is the total, if it is known."""
    result: dict[str, Any] = {}
    hint = "What is done stays done; run the command again to go on with the rest."
    with on_interrupt(hint), progress_bar() as progress:
        task = progress.add_task(title, total=number)
        for event in events:
            if "result" in event:
                result = event["result"]
            else:
                progress.update(task, completed=event.get("done", 0), total=event.get("total"))
    if not result:
        raise CommandError(f"the service stopped before the end. {hint}")
    return result


def _show_count(number: int, as_json: bool) -> None:
    if as_json:
        print_json({"matched": number})
    else:
        out.print(f"{describe_images(number)} match. Nothing was changed.")


def _show_skipped(result: dict[str, Any]) -> None:
    if result["skipped"]:
        out.print(
            f"Left {describe_images(result['skipped'])} alone: others changed them meanwhile."
        )


def show_undo(result: dict[str, Any]) -> None:
    """Show how to undo a deletion, unless it is permanent."""
    if "deletion" in result:
        out.print(f"To undo this until {result['undo_until']}: lookalike undo {result['deletion']}")


def describe_images(number: int) -> str:
    """Return the number with the word for it."""
    return f"{number} image{'' if number == 1 else 's'}"
