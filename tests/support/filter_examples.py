"""Hypothesis strategies for attributes and filters, to compare the backends of the stores."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

from storage.filter_parser import InvalidFilter, parse_filter

Attributes = dict[str, Any]
KEYS = st.sampled_from(
    [
        "a",
        "b",
        "a",
        "b",
        "name",
        "size",
        "capture",
        "created_at",
        "0",
        "größe",
        "a b",
        "a ",
        "A",
        "😀",
        "x/y",
        "[0]",
        "it's",
        "%_*?#@",
    ]
)
NUMBERS = [0, 1, 1.0, -0.0, 0.5, 2, 2**53 - 1, 1 - 2**53, 2.0**53, 5e-324, 0.1 + 0.2]
LARGE_NUMBERS = [
    1e16,
    1.2345678901234567e25,
    1e300,
    1.7976931348623157e308,
    -1.7976931348623157e308,
]
WORDS = ["", "0", "1", "true", "null", "a", "A", "ab", "'", '"', "\\", "%", "_"]
BEYOND_ASCII = [
    "é",
    "e\u0301",
    "É",
    "ß",
    "ss",
    "\u00a0",
    "\u2028",
    "\uffff",
    "\U00010000",
    "😀",
    "😀 ",
]
# Databases that pad strings compare these wrongly with those above.
PADDED = [
    " ",
    "  ",
    "a ",
    "a  ",
    "a\u00a0",
    "\t",
    "a\t",
    "\n",
    "a\n",
    "a\r",
    "\x01",
    "a\x1f",
    "\x7f",
]
SCALARS = st.one_of(
    st.sampled_from([True, False, *NUMBERS]),
    st.sampled_from(LARGE_NUMBERS),
    st.sampled_from(WORDS),
    st.sampled_from(BEYOND_ASCII),
    st.sampled_from(PADDED),
    st.booleans(),
    st.integers(1 - 2**53, 2**53 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=5),
)
DEGREES = st.sampled_from([0, -0.0, 7.25, -90, 90, 179.5, -180, 180, 1e300])
PLACES = st.fixed_dictionaries({"latitude": DEGREES, "longitude": DEGREES | SCALARS})
ATTRIBUTES: st.SearchStrategy[Attributes] = st.dictionaries(
    KEYS,
    st.recursive(
        SCALARS | st.lists(SCALARS, max_size=4) | PLACES,
        lambda inner: st.dictionaries(KEYS, inner, max_size=3),
        max_leaves=5,
    ),
    max_size=4,
)
MEMBERS = ["capture.time", "capture.camera", "capture.iso", "capture.gps", "capture.keywords"]
PATHS = st.lists(KEYS, min_size=1, max_size=2).map(".".join) | st.sampled_from(
    ["name", "mime", "width", "height", "size", "created_at", "capture", "name.a", *MEMBERS]
)
PATTERNS = (
    st.lists(
        st.sampled_from(
            [
                "%",
                "_",
                "\\%",
                "\\_",
                "\\\\",
                *WORDS[:-3],
                *BEYOND_ASCII,
                *PADDED,
                *"*?[]!\ufffd\ufffe",
            ]
        ),
        max_size=5,
    )
    .map(lambda parts: "".join(parts)[: 8 * 4])
    .filter(lambda pattern: pattern.count("%") <= 8)
)
TEXTS = st.one_of(
    st.sampled_from(WORDS),
    st.sampled_from(BEYOND_ASCII),
    st.sampled_from(PADDED),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=3),
)
MOMENTS = [0, -1, 1_714_521_600_000, 1_714_521_600_500]
CAPTURES = st.fixed_dictionaries(
    {},
    optional={
        "time": st.sampled_from(MOMENTS),
        "camera": TEXTS,
        "iso": st.sampled_from([100, 200]),
        "gps": st.fixed_dictionaries({"latitude": DEGREES, "longitude": DEGREES}),
        "keywords": st.lists(TEXTS, max_size=3),
    },
)
FIELDS: st.SearchStrategy[Attributes] = st.fixed_dictionaries(
    {
        "name": TEXTS,
        "mime": st.sampled_from(["image/jpeg", "image/png"]),
        "width": st.sampled_from([1, 2, 4000]),
        "height": st.integers(1, 2**31),
        "size": st.sampled_from([1, 2**40]),
        "capture": st.none() | CAPTURES,
    }
)
BOXES = st.tuples(
    st.sampled_from([-180, -10.5, 0, 7, 180]),
    st.sampled_from([-90, 0]),
    st.sampled_from([-180, -10.5, 7.25, 180]),
    st.sampled_from([0, 8, 90]),
).map(list)
BOUNDS = SCALARS.filter(lambda value: not isinstance(value, bool))


def member(
    keys: st.SearchStrategy[str], values: st.SearchStrategy[Any]
) -> st.SearchStrategy[dict[str, Any]]:
    """Draw an object of one key and its value."""
    return st.dictionaries(keys, values, min_size=1, max_size=1)


def combined(parts: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """Draw $and, $or or $not over filters."""
    return member(
        st.sampled_from(["$and", "$or"]), st.lists(parts, min_size=1, max_size=3)
    ) | member(st.just("$not"), parts)


COMPARISONS = st.one_of(
    member(st.sampled_from(["$eq", "$ne", "$contains"]), SCALARS),
    member(st.sampled_from(["$in", "$nin"]), st.lists(SCALARS, max_size=4)),
    member(st.sampled_from(["$gt", "$gte", "$lt", "$lte"]), BOUNDS),
    member(st.just("$exists"), st.booleans()),
    member(st.just("$prefix"), TEXTS),
    member(st.just("$like"), PATTERNS),
    member(st.just("$within"), BOXES),
)
INSIDE_A_KEY = st.recursive(
    COMPARISONS | st.dictionaries(PATHS, SCALARS, min_size=1, max_size=2),
    lambda part: st.one_of(
        combined(part),
        st.dictionaries(PATHS, part, min_size=1, max_size=2),
        st.tuples(part, part)
        .map(lambda two: two[0] | two[1])
        .filter(lambda form: len({key[0] == "$" for key in form}) == 1),
    ),
    max_leaves=3,
)


def is_valid(form: dict[str, Any]) -> bool:
    """Return whether a filter can be parsed, unlike one that compares a time with any text."""
    try:
        parse_filter(form)
    except InvalidFilter:
        return False
    return True


FILTERS = st.recursive(
    st.dictionaries(PATHS, SCALARS | INSIDE_A_KEY, min_size=1, max_size=2), combined, max_leaves=3
).filter(is_valid)


def leaves(attributes: Attributes, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Yield every dotted path with its scalar or list."""
    for key, value in attributes.items():
        if isinstance(value, dict):
            yield from leaves(value, (*path, key))
        else:
            yield ".".join((*path, key)), value


def _patterns(text: str) -> list[dict[str, str]]:
    """Return patterns that the text matches, or nearly."""
    start, middle, end = text[:1], text[1:-1], text[1:][-1:]
    escaped = [re.sub(r"[%_\\]", r"\\\g<0>", part) for part in (start, middle, end)]
    return [
        {"$prefix": start},
        {"$prefix": start.swapcase()},
        *({"$like": form} for form in (escaped[0] + "%", "%" + escaped[2], "_" * len(text))),
        {"$like": f"%{escaped[1]}%"},
        {"$like": "_".join(escaped)},
        {"$like": "%".join(escaped).swapcase()},
    ]


def about(attributes: Attributes) -> list[dict[str, Any]]:
    """Return filters on the values that a master has."""
    forms: list[dict[str, Any]] = []
    for path, value in leaves(attributes):
        if isinstance(value, list):
            forms += [{path: {"$contains": item}} for item in value]
            continue
        forms += [
            {path: form}
            for form in (value, {"$ne": value}, {"$in": ["other", value]}, {"$nin": [value, 7]})
        ]
        if isinstance(value, str):
            forms += [{path: form} for form in _patterns(value)]
        if not isinstance(value, bool):
            forms += [{path: {operator: value}} for operator in ("$gt", "$gte", "$lt", "$lte")]
    return list(filter(is_valid, forms))
