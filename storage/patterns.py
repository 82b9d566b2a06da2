"""Patterns of text, as in SQL: ``%`` stands for any text, ``_`` for one character, ``\\`` escapes.

They are case-sensitive and match by code point.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from functools import lru_cache
from itertools import groupby

Piece = tuple[str | None, ...]  # characters; None stands for any one of them

MAX_LENGTH = 255
MAX_ANY = 8  # ``%`` in a pattern


@lru_cache(256)
def split_pattern(pattern: str) -> tuple[Piece, ...]:
    """Return what stands before, between and behind each ``%``.

    Raises ValueError, with the reason, if the pattern ends with a backslash or is too long.
    """
    if len(pattern) > MAX_LENGTH:
        raise ValueError(f"a pattern has at most {MAX_LENGTH} characters")
    pieces: list[list[str | None]] = [[]]
    characters = iter(pattern)
    for character in characters:
        if character == "%":
            pieces.append([])
        elif character == "\\":
            escaped = next(characters, None)
            if escaped is None:
                raise ValueError("the pattern ends with a backslash, which escapes nothing")
            pieces[-1].append(escaped)
        else:
            pieces[-1].append(None if character == "_" else character)
    if len(pieces) - 1 > MAX_ANY:
        raise ValueError(f"a pattern has at most {MAX_ANY} wildcards %")
    return tuple(map(tuple, pieces))


def escape_pattern(text: str) -> str:
    """Return the pattern that only this text matches."""
    return re.sub(r"[%_\\]", r"\\\g<0>", text)


def find_literal(pattern: str) -> str | None:
    """Return the only text that matches, or None if several do."""
    pieces = split_pattern(pattern)
    characters = [character for character in pieces[0] if character is not None]
    return "".join(characters) if len(pieces) == 1 and len(characters) == len(pieces[0]) else None


def find_start(pattern: str) -> str:
    """Return the text with which every text that matches begins."""
    start = ""
    for character in split_pattern(pattern)[0]:
        if character is None:
            break
        start += character
    return start


def find_end(start: str) -> str | None:
    """Return the least text above all that begin with ``start``, or None if there is none."""
    kept = start.rstrip(chr(sys.maxunicode))
    if not kept:
        return None
    following = ord(kept[-1]) + 1
    return kept[:-1] + chr(0xE000 if following == 0xD800 else following)  # no half of a pair


def fits_pattern(pattern: str, text: str) -> bool:
    """Return whether the whole text matches."""
    return _fits(compile_pattern(pattern), text)


def _fits(pieces: list[tuple[re.Pattern[str], int]], text: str) -> bool:
    """Return whether the pieces take the whole text.

    Each piece takes the first place where it fits, so no choice is ever made again.
    """
    (first, start), *others = pieces
    if not others:
        return len(text) == start and first.match(text) is not None
    *middle, (last, length) = others
    end = len(text) - length
    if first.match(text) is None:
        return False
    for piece, _ in middle:
        found = piece.search(text, start, end)
        if found is None:
            return False
        start = found.end()
    return start <= end and last.match(text, end) is not None


def make_matcher(pattern: str) -> Callable[[str], bool]:
    """Return ``fits_pattern`` for one pattern, which is quick for texts that do not match."""
    pieces = split_pattern(pattern)
    start = find_start(pattern)
    if len(pieces) == 2 and len(start) == len(pieces[0]) and not pieces[1]:
        return lambda text: text.startswith(start)
    runs = ("".join(character or "%" for character in piece).split("%") for piece in pieces)
    longest = max((run for each in runs for run in each), key=len)
    compiled = compile_pattern(pattern)
    return lambda text: longest in text and _fits(compiled, text)


@lru_cache(256)
def compile_pattern(pattern: str) -> list[tuple[re.Pattern[str], int]]:
    """Return an expression and a length for each piece.

    An expression repeats nothing but any character, and that a fixed number of times, which is one
    step. So it cannot backtrack.
    """
    return [
        (re.compile("".join(map(_expression, _runs(piece))), re.DOTALL), len(piece))
        for piece in split_pattern(pattern)
    ]


def _runs(piece: Piece) -> list[Piece]:
    """Split a piece into runs of characters and runs of wildcards."""
    return [tuple(run) for _, run in groupby(piece, key=lambda character: character is None)]


def _expression(run: Piece) -> str:
    characters = [character for character in run if character is not None]
    return re.escape("".join(characters)) if characters else f".{{{len(run)}}}"
