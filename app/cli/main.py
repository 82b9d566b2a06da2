"""Assembles the command line: command groups, their order in the help, and --version."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from app import __version__
from app.cli import (
    captures,
    changing,
    duplicates,
    encoders,
    explaining,
    images,
    installations,
    listing,
    models,
    operations,
    quarantine,
    recovery,
    resolving,
    searching,
    serve,
    spaces,
    training,
)
from app.cli.aliases import add_deprecated_names
from app.cli.console import ExitCode, exit_on_error, out


class _RootGroup(TyperGroup):
    """Lists the commands in sections, reports errors, and turns results into exit codes."""

    def invoke(self, ctx: Any) -> None:
        """Run a command. It returns an ExitCode, or None for OK."""
        with exit_on_error():
            code = super().invoke(ctx)
        ctx.exit(code or ExitCode.OK)  # outside, because it raises an exception

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        sections: dict[str, list[Any]] = {}
        for name in self.list_commands(ctx):
            command: Any = self.get_command(ctx, name)
            if not command.hidden:
                sections.setdefault(command.rich_help_panel, []).append(command)
        widest = max(len(command.name) for each in sections.values() for command in each)
        for title, commands in sections.items():
            with formatter.section(title):
                formatter.write_dl(
                    (
                        command.name.ljust(widest),
                        command.get_short_help_str(formatter.width - widest - 4),
                    )
                    for command in commands
                )


def _new_group(help: str) -> typer.Typer:
    return typer.Typer(no_args_is_help=True, rich_markup_mode=None, help=help)


app = typer.Typer(cls=_RootGroup, no_args_is_help=True, add_completion=False, rich_markup_mode=None)
_database = _new_group("Upgrade the database schema.")
_duplicates = _new_group("Find copies of one photograph, and decide about them.")
_quarantine = _new_group("List and restore what repairs have moved to quarantine.")
_models = _new_group("Change the model without downtime; export and quantize models.")
_spaces = _new_group(
    "Manage spaces: further encoders beside that of `look`, for words or other networks."
)
_encoders = _new_group("Describe, check and make encoder bundles.")
_encoder_export = _new_group("Make a bundle from a model of another library.")

_RUN, _IMAGES = "Run the service", "Add and find images"
_OPERATE, _TRAIN = "Operate an installation", "Models and training"

app.command("serve", rich_help_panel=_RUN)(serve.serve)
app.command("worker", rich_help_panel=_RUN)(serve.worker)
app.add_typer(_database, name="db", rich_help_panel=_RUN)
app.command("import", rich_help_panel=_IMAGES)(images.import_)
app.command("search", rich_help_panel=_IMAGES)(searching.search)
app.command("explain", rich_help_panel=_IMAGES)(explaining.explain)
app.command("list", rich_help_panel=_IMAGES)(listing.list_)
app.command("change", rich_help_panel=_IMAGES)(changing.change)
app.command("delete", rich_help_panel=_IMAGES)(changing.delete)
app.command("undo", rich_help_panel=_IMAGES)(changing.undo)
app.add_typer(_duplicates, name="duplicates", rich_help_panel=_IMAGES)
app.command("export", rich_help_panel=_IMAGES)(images.export)
app.command("backup", rich_help_panel=_OPERATE)(installations.backup)
app.command("restore", rich_help_panel=_OPERATE)(installations.restore)
app.command("copy", rich_help_panel=_OPERATE)(installations.copy)
app.command("catalogue", rich_help_panel=_OPERATE)(recovery.catalogue)
app.command("recover", rich_help_panel=_OPERATE)(recovery.recover)
app.command("scrub", rich_help_panel=_OPERATE)(operations.scrub)
app.add_typer(_quarantine, name="quarantine", rich_help_panel=_OPERATE)
app.command("capture", rich_help_panel=_OPERATE)(captures.capture)
app.command("dead-letters", rich_help_panel=_OPERATE)(operations.dead_letters)
app.add_typer(_models, name="models", rich_help_panel=_TRAIN)
app.add_typer(_spaces, name="spaces", rich_help_panel=_TRAIN)
app.add_typer(_encoders, name="encoders", rich_help_panel=_TRAIN)
app.command("finetune", rich_help_panel=_TRAIN)(training.finetune)
app.command("evaluate", rich_help_panel=_TRAIN)(training.evaluate)

_database.command("upgrade")(serve.upgrade)

_duplicates.command("scan")(duplicates.scan)
_duplicates.command("list")(duplicates.list_)
_duplicates.command("resolve")(resolving.resolve)
_duplicates.command("decide")(duplicates.decide)
_duplicates.command("decisions")(duplicates.decisions)
_duplicates.command("end")(duplicates.end)

_quarantine.command("list")(quarantine.list_)
_quarantine.command("restore")(quarantine.restore)
_quarantine.command("expire")(quarantine.expire)

_models.command("list")(models.list_)
_models.command("add")(models.add)
_models.command("start")(models.start)
_models.command("activate")(models.activate)
_models.command("rollback")(models.rollback)
_models.command("retire")(models.retire)
_models.command("export")(models.export)
_models.command("quantize")(models.quantize)
_models.command("update-preprocessing")(models.update_preprocessing)

_spaces.command("create")(spaces.create)
_spaces.command("list")(spaces.list_)
_spaces.command("status")(spaces.status)
_spaces.command("activate")(spaces.activate)
_spaces.command("rollback")(spaces.rollback)
_spaces.command("retire")(spaces.retire)

_encoders.command("show")(encoders.show)
_encoders.command("check")(encoders.check)
_encoders.command("import-onnx")(encoders.import_onnx)
_encoders.add_typer(_encoder_export, name="export")
_encoder_export.command("open-clip")(encoders.export_open_clip)

add_deprecated_names(app, _models)


def _print_version(wanted: bool) -> None:
    if wanted:
        out.print(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Visual search: upload images, then find them by another image, by words, or by both.

    Start the service with `lookalike serve`. The commands that add and find images connect to
    it at --url.
    """


def main(arguments: list[str] | None = None) -> None:
    """Run the command line with ``arguments``, or those of the process, and exit."""
    app(arguments, prog_name="lookalike")


if __name__ == "__main__":
    main()
