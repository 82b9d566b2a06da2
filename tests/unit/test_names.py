"""The name of a master, which is cleaned from the file name of the client."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.services.names import clean_name


@pytest.mark.parametrize(
    "name",
    [
        "photograph.jpg",
        "Größe 東京.jpg",
        "two words (1).png",
        ".hidden",
        "no extension",
        "a..b.jpg",
        'quotes "and" <tags> & more;.jpg',
        "%2e%2e%2fetc",
        "e\u0301.jpg",
        "\U0001f600.png",
    ],
)
def test_a_readable_name_is_kept(name: str) -> None:
    assert clean_name(name) == name


@pytest.mark.parametrize(
    ("name", "last"),
    [
        ("../../etc/passwd", "passwd"),
        ("/etc/passwd", "passwd"),
        ("..\\..\\windows\\system.ini", "system.ini"),
        ("C:\\pictures\\red.jpg", "red.jpg"),
        ("a/b\\c.jpg", "c.jpg"),
        ("a\\b/c.jpg", "c.jpg"),
        ("a/.\0./b.jpg", "b.jpg"),
    ],
)
def test_a_path_is_cut_to_its_last_part(name: str, last: str) -> None:
    assert clean_name(name) == last


@pytest.mark.parametrize(
    "name",
    [
        "",
        "/",
        "a/",
        "a\\",
        ".",
        "..",
        "...",
        "../..",
        "a/..",
        " ",
        " .. ",
        "\0",
        "\r\n",
        ".\0.",
        "\u202e",
    ],
)
def test_a_name_with_nothing_to_keep_is_empty(name: str) -> None:
    assert clean_name(name) == ""


@pytest.mark.parametrize("name", [". .", ".. ..", ". . ."])
def test_a_name_of_dots_and_spaces_is_empty(name: str) -> None:
    assert clean_name(name) == ""


@pytest.mark.parametrize(
    ("name", "seen"),
    [
        ("a\0b.jpg", "ab.jpg"),
        ("red.jpg\r\nSet-Cookie: x=1", "red.jpgSet-Cookie: x=1"),
        ("a\tb\x1b[31m\x7f\x85.jpg", "ab[31m.jpg"),
        ("\u202egpj.exe", "gpj.exe"),
        ("a\u200e\u200f\u202a\u202d\u2066\u2069b.jpg", "ab.jpg"),
        ("a\u200b\u200d\u2060\ufeff\u00adb.jpg", "ab.jpg"),
        ("a\u2028\u2029b.jpg", "ab.jpg"),
        ("a\ud800b.jpg", "ab.jpg"),
        ("a\ue000\ufffeb.jpg", "ab.jpg"),
        ("  red.jpg \n", "red.jpg"),
    ],
    ids=ascii,
)
def test_invisible_characters_are_removed(name: str, seen: str) -> None:
    assert clean_name(name) == seen


@pytest.mark.parametrize("letter", ["a", "é", "東", "\U0001f600"])
def test_five_kilobytes_of_unicode_are_cut_to_255_characters(letter: str) -> None:
    assert clean_name(letter * (5 * 1024 // len(letter.encode()))) == letter * 255


def test_removed_characters_do_not_count_towards_the_length() -> None:
    assert clean_name("\u200b" * 1000 + "a" * 255) == "a" * 255


def test_a_name_that_is_cut_does_not_end_in_a_space() -> None:
    assert clean_name("a" * 254 + " and more") == "a" * 254


@settings(deadline=None, max_examples=200)
@given(name=st.text(st.characters() | st.sampled_from("./\\ \0\r\n\u202e\u200b"), max_size=300))
def test_a_cleaned_name_is_short_visible_and_no_path(name: str) -> None:
    cleaned = clean_name(name)
    assert not set(cleaned) & set("/\\")
    assert cleaned not in {".", ".."}
    assert {unicodedata.category(character) for character in cleaned}.isdisjoint(
        {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    )
    assert len(cleaned) <= 255
    cleaned.encode()
