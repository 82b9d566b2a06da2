"""Patterns of text: what they match, and that no pattern takes long."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.patterns import (
    compile_pattern,
    escape_pattern,
    find_end,
    find_literal,
    find_start,
    fits_pattern,
    make_matcher,
    split_pattern,
)

TEXTS = st.text("ab%_\\\n", max_size=12)
PATTERNS = st.lists(st.sampled_from(["a", "b", "%", "%", "_", "\\%", "\\_", "\\\\"]), max_size=8)


def by_every_choice(pattern: tuple[str, ...], text: str) -> bool:
    """Match a pattern, given as its characters with their escapes, by trying everything."""
    if not pattern:
        return not text
    first, *others = pattern
    rest = tuple(others)
    if first == "%":
        return any(by_every_choice(rest, text[start:]) for start in range(len(text) + 1))
    return (
        bool(text) and first in ("_", text[0], "\\" + text[0]) and by_every_choice(rest, text[1:])
    )


@given(PATTERNS, TEXTS)
def test_a_pattern_matches_what_any_choice_matches(pattern: list[str], text: str) -> None:
    expected = by_every_choice(tuple(pattern), text)
    assert fits_pattern("".join(pattern), text) == expected
    assert make_matcher("".join(pattern))(text) == expected


@given(TEXTS, TEXTS)
def test_an_escaped_text_matches_itself_alone(text: str, other: str) -> None:
    assert find_literal(escape_pattern(text)) == text
    assert fits_pattern(escape_pattern(text), other) == (text == other)


@given(PATTERNS, TEXTS)
def test_what_matches_lies_between_the_start_and_its_end(pattern: list[str], text: str) -> None:
    start = find_start("".join(pattern))
    end = find_end(start)
    if fits_pattern("".join(pattern), text):
        assert start <= text
        assert end is None or text < end


def test_the_pieces_of_a_pattern() -> None:
    assert split_pattern("a_%\\%") == (("a", None), ("%",))
    assert split_pattern("") == ((),)


@pytest.mark.parametrize("pattern", ["\\", "%" * 9, "a" * 256])
def test_an_invalid_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="pattern"):
        split_pattern(pattern)


def test_a_hostile_pattern_is_matched_in_few_steps() -> None:
    # With backtracking, this would take the age of the universe.
    assert not fits_pattern("%".join(["a_" * 15] * 8), "a" * 16_000 + "b" * 16)


def test_a_row_of_wildcards_is_one_step() -> None:
    # Otherwise each of 250 would be tried at each of 16,000 characters.
    (_, (piece, length), _) = compile_pattern("%a" + "_" * 200 + ".b" + "%")
    assert (piece.pattern, length) == ("a.{200}\\.b", 203)
