"""The documentation and the program agree: settings, endpoints, error codes, commands, links."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.http.problems import problem_of
from app.main import create_app
from app.settings import Settings
from docs import generate
from models.imaging import ImageRejected
from tests.support.error_codes import AppErrors, raised_codes

ROOT = Path(__file__).parent.parent.parent
PAGES = sorted((ROOT / "docs").glob("*.md"))
ENTRANCES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")]
ALL = [*ENTRANCES, *PAGES]
OUTSIDE = re.compile(r"https?:|mailto:")


def page(name: str) -> str:
    return (ROOT / "docs" / f"{name}.md").read_text()


def code_of(text: str) -> str:
    """Return what the fenced and indented blocks and the inline code of a page contain."""
    fenced = re.findall(r"^```.*?$(.*?)^```", text, re.MULTILINE | re.DOTALL)
    indented = re.findall(r"^    (.*)$", text, re.MULTILINE)
    inline = re.findall(r"`([^`\n]+)`", text)
    return "\n".join([*fenced, *indented, *inline])


# settings and commands
@pytest.mark.parametrize("name", ["settings", "cli", "formats"])
def test_a_generated_page_is_what_the_code_says(name: str) -> None:
    assert page(name) == generate.generated(page(name)), "run `make reference`"


def test_every_setting_is_documented() -> None:
    rows = re.findall(r"^\| `LOOKALIKE_(\w+)` \|", page("settings"), re.MULTILINE)
    assert rows == [name.upper() for name in Settings.model_fields]


def test_every_command_and_option_is_documented() -> None:
    text = page("cli")
    for name, command in generate.commands():
        section = re.search(rf"^## {name}$(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
        assert section, name
        for parameter in command.params:
            if parameter.param_type_name == "option" and parameter.name != "help":
                assert f"`{parameter.opts[0]}`" in section[1], f"{name} {parameter.opts[0]}"


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.name)
def test_every_command_that_a_page_names_exists(path: Path) -> None:
    names = [name.split() for name, _ in generate.commands()]
    used = re.findall(r"(?<![\w/.-])lookalike((?: [a-z][a-z0-9-]*)+)", code_of(path.read_text()))
    for words in (["lookalike", *call.split()] for call in used):
        fits = any(words[: len(name)] == name[: len(words)] for name in names)
        assert fits, f"there is no command {' '.join(words)}"


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.name)
def test_every_setting_that_a_page_names_exists(path: Path) -> None:
    known = {name.upper() for name in Settings.model_fields} | {"URL", "API_KEY"}
    assert set(re.findall(r"LOOKALIKE_([A-Z0-9_]+)", path.read_text())) <= known


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.name)
def test_every_make_target_that_a_page_names_exists(path: Path) -> None:
    used = set(re.findall(r"(?<!\w)make ([a-z-]+)", code_of(path.read_text())))
    assert used <= set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


# endpoints
def test_every_endpoint_has_a_section_with_an_example() -> None:
    sections = dict(
        re.findall(r"^### `([A-Z]+ /\S*)`$(.*?)(?=^##|\Z)", page("api"), re.MULTILINE | re.DOTALL)
    )
    paths = create_app(Settings(_env_file=None)).openapi()["paths"]
    endpoints = {f"{method.upper()} {path}" for path in paths for method in paths[path]}
    assert set(sections) == endpoints
    for name, text in sections.items():
        assert "    curl " in text, f"{name} has no example"


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.name)
def test_every_endpoint_that_a_page_names_exists(path: Path) -> None:
    paths = create_app(Settings(_env_file=None)).openapi()["paths"]
    known = {(method.upper(), re.sub(r"\{\w+\}", "{}", at)) for at in paths for method in paths[at]}
    used = re.findall(r"`(GET|POST|PUT|PATCH|DELETE) (/[^`? ]*)", path.read_text())
    assert {(method, re.sub(r"\{\w+\}", "{}", at)) for method, at in used} <= known


# error codes
def documented_codes() -> dict[str, str]:
    return dict(re.findall(r"^\| `([a-z-]+)` \| (\d+|any) \|", page("errors"), re.MULTILINE))


def sources() -> Iterator[ast.Module]:
    for package in ("app", "models", "storage"):
        for path in sorted((ROOT / package).rglob("*.py")):
            if path.relative_to(ROOT).parts[:2] != ("app", "cli"):  # clients have their own codes
                yield ast.parse(path.read_text())


def test_every_error_code_is_documented() -> None:
    assert set(documented_codes()) == set(raised_codes(sources()))


def test_the_documented_status_is_the_one_that_clients_get() -> None:
    for code, kinds in raised_codes(sources()).items():
        for kind in kinds:
            if kind is ImageRejected or kind in AppErrors.plain():
                assert documented_codes()[code] == str(problem_of(kind(code, "")).status), code


# links
def anchors(text: str) -> set[str]:
    headings = re.findall(
        r"^#+ (.*)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE
    )
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.name)
def test_links_resolve(path: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        if OUTSIDE.match(link):
            continue
        target, _, anchor = link.partition("#")
        found = (path.parent / target).resolve() if target else path
        assert found.exists(), link
        if anchor and found.suffix == ".md":
            assert anchor in anchors(found.read_text()), link


def test_every_page_is_in_the_navigation() -> None:
    listed = set(re.findall(r"(\w+\.md)", (ROOT / "mkdocs.yml").read_text()))
    assert listed == {path.name for path in PAGES}


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150
