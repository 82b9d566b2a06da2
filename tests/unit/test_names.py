"""The name of a master, which is cleaned from the file name of the client."""

from __future__ import annotations

import unicodedata

import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from app.services.names import clean_name
from storage.unicode_text import UNSAFE


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
        "\U0001f600.png",
        "\U0001f469\u200d\U0001f680.jpg",  # an astronaut: a woman, a joiner and a rocket
        "❤\ufe0f.jpg",
        "\U0001f3f4\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f.png",  # Scotland
        "\U0001f3f4\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f",
        "می\u200cخواهم.jpg",
        "ශ්\u200dරී ලංකා.jpg",
        "ภาษา\u200bไทย.jpg",
        "سنة ١٤٤٥ ه\u200d",
        "\U0001fae9.png",  # a face of Unicode 16
        "\U0001fadf \U0001fac6 \U0001f6d8.png",
        "\U000323b0.jpg",  # an ideograph of Unicode 17
    ],
    ids=ascii,
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
        "\u200b",
        "\u200d.\u200d",
        "\ufe0f",
        "\u3164",
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
        ("a\u061cb.jpg", "ab.jpg"),
        ("a\u2028\u2029b.jpg", "ab.jpg"),
        ("a\ud800b.jpg", "ab.jpg"),
        ("a\ue000\ufffeb.jpg", "ab.jpg"),
        ("  red.jpg \n", "red.jpg"),
    ],
    ids=ascii,
)
def test_controls_and_changes_of_the_direction_of_text_are_removed(name: str, seen: str) -> None:
    assert clean_name(name) == seen


@pytest.mark.parametrize("letter", ["a", "é", "東", "\U0001f600"])
def test_five_kilobytes_of_unicode_are_cut_to_255_characters(letter: str) -> None:
    assert clean_name(letter * (5 * 1024 // len(letter.encode()))) == letter * 255


@pytest.mark.parametrize(
    ("name", "normal"),
    [
        ("Fru\u0308hling.jpg", "Frühling.jpg"),
        ("\u1112\u1161\u11ab.jpg", "한.jpg"),
        ("e\u202e\u0301.jpg", "é.jpg"),
        ("か\u3099.jpg", "が.jpg"),
    ],
    ids=ascii,
)
def test_a_name_has_the_normal_form_nfc(name: str, normal: str) -> None:
    assert clean_name(name) == normal


@pytest.mark.parametrize(
    ("character", "kept"),
    [
        ("q\u0301", 127),
        ("\U0001f469\u200d\U0001f680", 85),
        ("\U0001f468\u200d\U0001f469\u200d\U0001f467", 51),
        ("\U0001f1e9\U0001f1ea", 127),
        ("\U0001f44b\U0001f3fd", 127),
        ("❤\ufe0f", 127),
        ("\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f", 36),
        ("क्\u200dष", 63),
    ],
    ids=ascii,
)
def test_a_name_is_cut_between_whole_characters(character: str, kept: int) -> None:
    assert clean_name(character * 300) == character * kept


def test_a_name_that_is_cut_does_not_end_in_a_joiner() -> None:
    assert clean_name("ه" * 254 + "\u200c" + "م") == "ه" * 254
    assert clean_name("\U0001f469\u200d" * 200) == "\U0001f469\u200d" * 127 + "\U0001f469"


def test_one_character_that_is_too_long_is_cut_within() -> None:
    assert clean_name("q" + "\u0301" * 300) == "q" + "\u0301" * 254


def test_removed_characters_do_not_count_towards_the_length() -> None:
    assert clean_name("\u202e" * 1000 + "a" * 255) == "a" * 255


def test_a_name_that_is_cut_does_not_end_in_a_space() -> None:
    assert clean_name("a" * 254 + " and more") == "a" * 254


@settings(deadline=None, max_examples=300)
@given(
    name=st.text(
        st.characters() | st.sampled_from("./\\ \0\r\n\u202e\u200d\u0301\ufe0f\U0001f1e9👩🚀"),
        max_size=600,
    )
)
def test_a_cleaned_name_is_short_harmless_and_no_path(name: str) -> None:
    cleaned = clean_name(name)
    assert not set(cleaned) & set("/\\")
    assert cleaned not in {".", ".."}
    assert {unicodedata.category(character) for character in cleaned}.isdisjoint(
        {"Cc", "Cs", "Co", "Zl", "Zp"}
    )
    assert {unicodedata.bidirectional(character) for character in cleaned}.isdisjoint(
        {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
    )
    assert len(cleaned) <= 255
    assert unicodedata.is_normalized("NFC", cleaned)
    assert clean_name(cleaned) == cleaned
    cleaned.encode()


def test_what_is_drawn_as_nothing_is_what_unicode_says() -> None:
    nothing = regex.compile(r"[\s./\\\p{Default_Ignorable_Code_Point}]")
    every = [chr(point) for point in range(0x110000)]
    empty = [each for each in every if not clean_name(each)]
    assert empty == [each for each in every if nothing.match(each) or UNSAFE.match(each)]
