"""Writes the parts of the documentation that come from the code: settings, commands, formats.

Run it with `make reference`. A test fails while a page differs from what this would write.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import typer
import typer.main

from app.cli.main import app as cli
from app.settings import Settings, default_text
from tests.support.image_cases import ALL_CASES

PAGES = Path(__file__).parent
_SECTIONS = {  # the first setting of each section
    "host": "Network and access",
    "data_dir": "Stores",
    "milvus_token": "Milvus",
    "worker": "Processing",
    "max_file_bytes": "Limits on requests",
    "lease_seconds": "Worker and scrub",
    "thumbnail_cache_bytes": "Other",
}
_VALUES: dict[object, str] = {int: "N", float: "X", str: "TEXT", Path: "PATH"}
_MARKED = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def settings_reference() -> str:
    """Return the tables of all settings, in the order of the class."""
    lines: list[str] = []
    for name, field in Settings.model_fields.items():
        if name in _SECTIONS:
            lines += ["", f"## {_SECTIONS[name]}", ""]
            lines += ["| variable | default | meaning |", "|---|---|---|"]
        lines.append(f"| `LOOKALIKE_{name.upper()}` | {default_text(name)} | {field.description} |")
    return "\n".join([*lines, ""])


def commands() -> Iterator[tuple[str, Any]]:
    """Yield every visible command that does something, with its whole name."""
    yield from _commands("lookalike", typer.main.get_command(cli))


def _commands(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    members = getattr(command, "commands", None)
    if members is None:
        yield name, command
        return
    for member, child in members.items():
        if not child.hidden:
            yield from _commands(f"{name} {member}", child)


def command_reference() -> str:
    """Return a section for every command, with its arguments and options."""
    return "".join(_section(name, command) for name, command in commands())


def _section(name: str, command: Any) -> str:
    types = get_type_hints(inspect.unwrap(command.callback))
    shown = [each for each in command.params if each.name != "help" and not each.hidden]
    arguments = [each for each in shown if each.param_type_name == "argument"]
    usage = " ".join([name, *(["[OPTIONS]"] if shown else []), *map(_argument, arguments)])
    lines = ["", f"## {name}", "", inspect.cleandoc(command.help or ""), "", f"    {usage}"]
    if shown:
        lines += ["", "| argument or option | default | meaning |", "|---|---|---|"]
        lines += [_row(each, types.get(each.name, str)) for each in shown]
    return "\n".join([*lines, ""])


def _argument(parameter: Any) -> str:
    text = (parameter.metavar or parameter.name).upper() + ("..." if parameter.nargs < 0 else "")
    return text if parameter.required else f"[{text}]"


def _row(parameter: Any, kind: object) -> str:
    flag = getattr(parameter, "is_flag", False)
    if parameter.param_type_name == "argument":
        name = f"`{_argument(parameter)}`"
    else:
        name = ", ".join(f"`{option}`" for option in parameter.opts)
        name += "" if flag else f" {_value(parameter, kind)}"
    text = (parameter.help or "").replace("|", "\\|")
    if parameter.envvar:
        text += f" Environment variable: `{parameter.envvar}`."
    nothing = flag or parameter.required or parameter.default in (None, "")
    default = "" if nothing else f"`{parameter.default}`"
    return f"| {name} | {default} | {text.strip()} |"


def _value(parameter: Any, kind: object) -> str:
    """What an option takes: its choices, or the name of its value."""
    if parameter.metavar:
        return f"`{parameter.metavar}`"
    kinds = [each for each in get_args(kind) if each is not type(None)] or [kind]
    if get_origin(kinds[0]) is Literal:
        kinds = list(get_args(kinds[0]))
    if all(isinstance(each, str) for each in kinds):
        return ", ".join(f"`{each}`" for each in kinds)
    return f"`{_VALUES[kinds[0]]}`"


def format_reference() -> str:
    """Return a table for every format, with what happens to each variant."""
    lines: list[str] = []
    for name, cases in groupby(ALL_CASES, lambda case: case.format):
        lines += ["", f"### {name}", "", "| variant | result |", "|---|---|"]
        lines += dict.fromkeys(case.line for case in cases)
    return "\n".join([*lines, ""])


REFERENCES = {
    "settings": settings_reference,
    "commands": command_reference,
    "formats": format_reference,
}


def generated(page: str) -> str:
    """Return the text of a page with its marked parts regenerated."""
    return _MARKED.sub(lambda match: match[1] + REFERENCES[match[2]]() + "\n" + match[3], page)


def main() -> None:
    """Rewrite every page that has a marked part."""
    for path in sorted(PAGES.glob("*.md")):
        text = path.read_text()
        path.write_text(generated(text))


if __name__ == "__main__":
    main()
