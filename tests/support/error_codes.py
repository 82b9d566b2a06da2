"""Finds the error codes that the program can return, by reading its source."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterable, Iterator

from app.errors import AppError
from app.http import errors as http_errors
from models.imaging import ImageRejected


class AppErrors:
    """The error classes that have a code."""

    @staticmethod
    def all() -> set[type[Exception]]:
        """Return every error class of the service, and that of the decoder."""
        found: set[type[Exception]] = {ImageRejected}
        waiting: list[type[AppError]] = [AppError]
        while waiting:
            kind = waiting.pop()
            found.add(kind)
            waiting += kind.__subclasses__()
        return found

    @staticmethod
    def plain() -> set[type[Exception]]:
        """Return the classes that are created from a code and a message."""
        return AppErrors.all() - {AppError, ImageRejected, http_errors.RangeNotSatisfiable}


def raised_codes(modules: Iterable[ast.Module]) -> dict[str, set[type[Exception]]]:
    """Return every error code in the modules, with the error classes that are raised with it.

    A code is a literal in the place of a parameter named ``code`` (of an error class, a function,
    or a dataclass), or a value of a table whose name ends in ``_CODES``.
    """
    trees = list(modules)
    kinds = {kind.__name__: kind for kind in AppErrors.all()}
    places = dict.fromkeys(kinds, 0) | {name: at for tree in trees for name, at in _places(tree)}
    codes: dict[str, set[type[Exception]]] = defaultdict(set)
    for tree in trees:
        for name, code in _codes(tree, places):
            codes[code] |= {kinds[name]} if name in kinds else set()
    return dict(codes)


def _places(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Return functions and dataclasses with a parameter ``code``, and its position."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name != "__init__":
            names = [argument.arg for argument in node.args.args if argument.arg != "self"]
        elif isinstance(node, ast.ClassDef) and _is_dataclass(node):
            names = [
                line.target.id
                for line in node.body
                if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name)
            ]
        else:
            continue
        if "code" in names:
            yield node.name, names.index("code")


def _is_dataclass(node: ast.ClassDef) -> bool:
    return any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list)


def _codes(tree: ast.Module, places: dict[str, int]) -> Iterator[tuple[str, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and any(
            isinstance(base, ast.Name) and base.id in places for base in node.bases
        ):
            yield from (("", code) for code in _of_subclass(node))
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]).endswith("_CODES"):
            yield from (("", code) for code in _strings(getattr(node.value, "values", [])))
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name.endswith("_CODES.get"):
                yield from (("", code) for code in _strings(node.args[1:]))
            last = name.rpartition(".")[2]
            if last in places:
                given = [word.value for word in node.keywords if word.arg == "code"]
                at = places[last]
                yield from ((last, code) for code in _strings([*node.args[at : at + 1], *given]))


def _of_subclass(node: ast.ClassDef) -> Iterator[str]:
    """Return the code that an error class passes to its base class."""
    for call in ast.walk(node):
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "super().__init__":
            yield from _strings(call.args[:1])


def _strings(nodes: Iterable[ast.expr]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.IfExp):
            yield from _strings([node.body, node.orelse])
