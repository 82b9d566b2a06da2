"""Old command names. They are hidden, and are removed after one release."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import typer

from app.cli import installations, models
from app.cli.console import err


def add_deprecated_names(app: typer.Typer, models_group: typer.Typer) -> None:
    """Add each old name to the group it was in."""
    reembed = typer.Typer(no_args_is_help=True, help="Deprecated: use `lookalike models`.")
    app.add_typer(reembed, name="reembed", hidden=True)
    _add(app, "migrate", "migrate", "copy", installations.copy)
    _add(reembed, "start", "reembed start", "models start", models.start)
    _add(reembed, "status", "reembed status", "models list", models.list_)
    _add(reembed, "activate", "reembed activate", "models activate", models.activate)
    _add(reembed, "rollback", "reembed rollback", "models rollback", models.rollback)
    _add(reembed, "retire", "reembed retire", "models retire", models.retire)
    _add(models_group, "import", "models import", "models add", models.add)
    _add(models_group, "int8", "models int8", "models quantize", models.quantize)


def _add(group: typer.Typer, name: str, old: str, new: str, command: Callable[..., Any]) -> None:
    @wraps(command)
    def alias(*arguments: Any, **options: Any) -> Any:
        err.print(f"`lookalike {old}` is deprecated; use `lookalike {new}`.")
        return command(*arguments, **options)

    group.command(name, hidden=True)(alias)
