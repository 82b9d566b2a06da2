"""Parses docker-compose.yml, .env.example and the Dockerfile, without Docker."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
OUR_IMAGE = "lookalike:local"
VARIABLE = re.compile(r"\$\{(\w+)(:?[-?+])?([^}]*)\}|(\$\$)")


def compose() -> dict[str, Any]:
    parsed: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return parsed


def example_variables(text: str | None = None) -> dict[str, str]:
    """Return the variables of .env.example, or of ``text`` in the same format."""
    lines = (ROOT / ".env.example").read_text() if text is None else text
    return dict(re.findall(r"^(\w+)=(.*)$", lines, flags=re.MULTILINE))


def interpolated(node: Any, variables: dict[str, str]) -> Any:
    """Replace ${NAME:?message}, ${NAME:-default} and $$ as Compose does.

    Raises KeyError if a required variable is empty.
    """

    def value(found: re.Match[str]) -> str:
        name, operator, rest, dollar = found.groups()
        if dollar:
            return "$"
        if not variables.get(name) and operator == ":?":
            raise KeyError(name)
        return variables.get(name) or rest

    if isinstance(node, dict):
        return {key: interpolated(child, variables) for key, child in node.items()}
    if isinstance(node, list):
        return [interpolated(child, variables) for child in node]
    return VARIABLE.sub(value, node) if isinstance(node, str) else node


@dataclass
class Stage:
    """One stage of a Dockerfile, with everything inherited from the stages it is built on."""

    name: str
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def all(self, keyword: str) -> list[str]:
        return [text for found, text in self.instructions if found == keyword]

    def last(self, keyword: str) -> str:
        """Return the arguments of the last such instruction, which takes effect, or ""."""
        return next(reversed(self.all(keyword)), "")

    def argv(self, keyword: str) -> list[str]:
        """Return the words of an instruction in exec form, such as ENTRYPOINT."""
        words: list[str] = json.loads(self.last(keyword))
        return words

    @property
    def environment(self) -> dict[str, str]:
        return dict(pair.split("=", 1) for text in self.all("ENV") for pair in shlex.split(text))

    @property
    def healthcheck(self) -> list[str]:
        words: list[str] = json.loads(self.last("HEALTHCHECK").partition("CMD ")[2])
        return words


def dockerfile(text: str | None = None) -> list[Stage]:
    """Return the stages in order. A build without --target makes the last one."""
    lines = (ROOT / "Dockerfile").read_text() if text is None else text
    lines = re.sub(r"^\s*#.*\n", "", lines, flags=re.MULTILINE)
    stages: list[Stage] = []
    for line in filter(None, re.sub(r"\\\n\s*", "", lines).splitlines()):
        keyword, _, rest = line.partition(" ")
        if keyword == "FROM":
            base, _, name = rest.partition(" AS ")
            inherited = next((stage.instructions for stage in stages if stage.name == base), [])
            stages.append(Stage(name, [*inherited, ("FROM", base)]))
        else:
            stages[-1].instructions.append((keyword, rest))
    return stages
