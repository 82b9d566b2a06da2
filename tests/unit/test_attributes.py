"""Which attributes a master may have, and why others are refused."""

from __future__ import annotations

import copy
import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.attributes import InvalidAttributes, clean_attributes

LARGEST = 2**53 - 1


def nested(depth: int, innermost: object) -> dict[str, Any]:
    value: Any = innermost
    for _ in range(depth):
        value = {"a": value}
    assert isinstance(value, dict)
    return value


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {
            "colour": "red",
            "price": 12.5,
            "count": 3,
            "sold": False,
            "tags": ["a", 1, 1.5, True],
            "size": {"height": 2},
        },
        {"empty": {"object": {}, "list": [], "string": ""}},
        {"größe": "groß", "色": "赤", "\U0001f600": "\U0001f600"},
        {"it's": 1, "a b": 2, "x/y": 3, "[0]": 4, "a$": 5, "\x7f": 6},
        {"text": "line\nbreak\ttab \\ \" ' \u2028 \ufffe"},
        {"largest": LARGEST, "smallest": -LARGEST},
        {"float": [2.0**53, 1e300, 5e-324, -0.0]},
    ],
    ids=lambda attributes: ascii(attributes)[:40],
)
def test_ordinary_json_is_kept_unchanged(attributes: dict[str, Any]) -> None:
    assert clean_attributes(attributes) == attributes
    assert json.dumps(clean_attributes(attributes)) == json.dumps(attributes)


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ({"folder": "Fru\u0308hling"}, {"folder": "Frühling"}),
        ({"tags": ["a\u0301", "b"]}, {"tags": ["á", "b"]}),
        ({"gro\u0308ße": {"o\u0308": 1}}, {"größe": {"ö": 1}}),
        ({"\u1112\u1161\u11ab": 1}, {"한": 1}),
    ],
    ids=ascii,
)
def test_keys_and_strings_are_stored_in_the_normal_form_nfc(
    given: dict[str, Any], stored: dict[str, Any]
) -> None:
    assert clean_attributes(given) == stored


@pytest.mark.parametrize("depth", [0, 2])
@pytest.mark.parametrize("value", [1, None])
def test_two_spellings_of_one_key_are_refused(depth: int, value: object) -> None:
    with pytest.raises(InvalidAttributes, match="the key 'ö' occurs twice"):
        clean_attributes(nested(depth, {"ö": 1, "o\u0308": value}))


def test_the_length_of_a_key_is_that_of_its_normal_form() -> None:
    assert clean_attributes({"o\u0308" * 64: 1}) == {"ö" * 64: 1}
    with pytest.raises(InvalidAttributes, match="the key"):
        clean_attributes({"\u0958" * 33: 1})


def test_the_size_of_attributes_is_that_of_their_normal_form() -> None:
    fitting = "\u1112\u1161\u11ab" * 5000  # 45 kB
    assert clean_attributes({"a": fitting}) == {"a": "한" * 5000}


def test_null_members_are_left_out() -> None:
    assert clean_attributes({"a": None, "b": {"c": None, "d": 0}, "e": {"f": None}}) == {
        "b": {"d": 0},
        "e": {},
    }


def test_the_argument_is_not_changed() -> None:
    given: dict[str, Any] = {"a": None, "b": {"c": None}, "d": [1]}
    before = copy.deepcopy(given)
    cleaned = clean_attributes(given)
    cleaned["d"].append(2)
    assert given == before


@pytest.mark.parametrize("value", [None, [], "red", 1, True, [{"a": 1}]], ids=repr)
def test_attributes_must_be_an_object(value: object) -> None:
    with pytest.raises(InvalidAttributes, match="must be a JSON object"):
        clean_attributes(value)


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        ("", "''"),
        ("$a", "'$a'"),
        ("$", "'$'"),
        ("-a", "'-a'"),
        ("a.b", "'a.b'"),
        (".", "'.'"),
        ('a"b', "'a\"b'"),
        ("a\\b", r"'a\b'"),
        ("a\nb", r"'a\nb'"),
        ("a\tb", r"'a\tb'"),
        ("\x1f", r"'\x1f'"),
        ("k" * 65, f"'{'k' * 40}'"),
    ],
    ids=repr,
)
@pytest.mark.parametrize("depth", [0, 2])
def test_a_key_that_a_filter_could_not_name_is_refused(key: str, shown: str, depth: int) -> None:
    with pytest.raises(InvalidAttributes, match="the key") as caught:
        clean_attributes(nested(depth, {key: 1}))
    assert f"the key {shown} cannot be used" in str(caught.value)


@pytest.mark.parametrize("key", ["k", "k" * 64, "€" * 64, "a$", " "])
def test_a_key_has_one_to_64_characters(key: str) -> None:
    assert clean_attributes({key: 1}) == {key: 1}


def test_a_key_is_validated_even_if_its_value_is_null() -> None:
    with pytest.raises(InvalidAttributes, match="the key"):
        clean_attributes({"$a": None})


@pytest.mark.parametrize("text", ["a\0b", "\ud800", "a\udfff"], ids=ascii)
@pytest.mark.parametrize("place", ["value", "item", "key"])
def test_text_that_no_store_can_keep_is_refused(text: str, place: str) -> None:
    attributes: dict[str, dict[str, Any]] = {
        "value": {"a": text},
        "item": {"a": ["b", text]},
        "key": {text: 1},
    }
    with pytest.raises(InvalidAttributes, match="NUL character or half of a surrogate pair"):
        clean_attributes(attributes[place])


@pytest.mark.parametrize("item", [None, [], [1], {}, {"a": 1}], ids=repr)
def test_a_list_holds_scalars_only(item: object) -> None:
    with pytest.raises(InvalidAttributes, match="a list in attributes"):
        clean_attributes({"tags": ["a", item]})


@pytest.mark.parametrize("number", [LARGEST + 1, -LARGEST - 1, 10**4000])
@pytest.mark.parametrize("in_a_list", [False, True])
def test_an_integer_beyond_what_json_readers_agree_on_is_refused(
    number: int, in_a_list: bool
) -> None:
    with pytest.raises(InvalidAttributes, match=str(abs(number))[:16]):
        clean_attributes({"a": [number] if in_a_list else number})


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("in_a_list", [False, True])
def test_numbers_that_are_not_json_are_refused(number: float, in_a_list: bool) -> None:
    with pytest.raises(InvalidAttributes, match="NaN and Infinity"):
        clean_attributes({"a": [number] if in_a_list else number})


@pytest.mark.parametrize("innermost", [1, [1]], ids=["scalar", "list"])
def test_attributes_nest_eight_deep_and_no_deeper(innermost: object) -> None:
    most = 7 if isinstance(innermost, list) else 8
    assert clean_attributes(nested(most, innermost)) == nested(most, innermost)
    with pytest.raises(InvalidAttributes, match="more than 8 deep"):
        clean_attributes(nested(most + 1, innermost))


def test_attributes_have_a_hundred_keys_and_no_more() -> None:
    most: dict[str, Any] = {f"{number}": 1 for number in range(97)} | {
        "a": {"b": {"c": None}},
        "d": ["e"],
    }
    assert clean_attributes(most).keys() == most.keys()
    with pytest.raises(InvalidAttributes, match="more than 100 keys"):
        clean_attributes(most | {"a": {"b": {"c": 1}}})


@pytest.mark.parametrize("letter", ["a", "€", "\U0001f600"])
def test_attributes_have_16_kib_of_utf_8_and_no_more(letter: str) -> None:
    room = 16 * 1024 - len(json.dumps({"a": ""}))
    fitting = letter * (room // len(letter.encode()))
    assert clean_attributes({"a": fitting}) == {"a": fitting}
    with pytest.raises(InvalidAttributes, match="over 16 KiB"):
        clean_attributes({"a": fitting + letter})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=10,
)


def cleaned(value: object) -> dict[str, Any] | None:
    try:
        return clean_attributes(value)
    except InvalidAttributes:
        return None


@settings(deadline=None, max_examples=100)
@given(value=JSON)
def test_any_json_is_refused_or_comes_back_from_a_store_the_same(value: object) -> None:
    kept = cleaned(value)
    if kept is not None:
        assert cleaned(kept) == kept
        assert json.loads(json.dumps(kept, allow_nan=False).encode()) == kept
