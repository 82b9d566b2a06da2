"""The headers If-Match, If-None-Match and Range, as RFC 9110 describes them."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import InvalidInput
from app.http.conditional import etag_matches, parse_if_match, parse_range, revision_etag
from app.http.errors import RangeNotSatisfiable


@pytest.mark.parametrize(
    ("lines", "revisions"),
    [
        (['"3"'], {3}),
        (['"3", "7"'], {3, 7}),
        (['"3"', '"7"'], {3, 7}),
        ([' , "3",, "a,b" ,'], {3}),
        (['W/"3"'], set()),
        (['W/"3", "4"'], {4}),
        (['"03"', '"0"', '"-3"', '"3x"', '"\xb2"'], set()),
        (['"' + "9" * 5000 + '"'], set()),
        (['""'], set()),
    ],
)
def test_if_match_lists_revisions_that_are_compared_strongly(
    lines: list[str], revisions: set[int]
) -> None:
    assert parse_if_match(lines) == revisions


@pytest.mark.parametrize("lines", [None, [], ["*"], [" * "]])
def test_if_match_allows_any_revision(lines: list[str] | None) -> None:
    assert parse_if_match(lines) is None


LONG = ("," * 60_000 + "x", '"3"' + " " * 60_000 + "x", '"3",' * 15_000 + "x")


@pytest.mark.parametrize(
    "header",
    ["3", "", ",", '"3', '"3" "4"', '"3"; "4"', '*, "3"', 'w/"3"', "'3'", '"3"4', '"a b"', *LONG],
)
def test_an_if_match_that_is_no_list_is_refused(header: str) -> None:
    with pytest.raises(InvalidInput):
        parse_if_match([header])


@given(st.integers(1, 2**53))
def test_the_entity_tag_of_a_revision_matches_it(revision: int) -> None:
    assert parse_if_match([revision_etag(revision)]) == {revision}


@given(st.lists(st.text(st.characters(max_codepoint=255, exclude_characters='"'), max_size=5)))
def test_any_text_in_quotes_is_an_entity_tag_or_refused(texts: list[str]) -> None:
    lines = [f'"{text}"' for text in texts]
    with suppress(InvalidInput):
        found = parse_if_match(lines)
        assert found is None or {str(each) for each in found} <= set(texts)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes=0-0", (0, 1)),
        ("bytes=0-4", (0, 5)),
        ("bytes=3-7", (3, 8)),
        ("bytes=0-9", (0, 10)),
        ("bytes=9-9", (9, 10)),
        ("bytes=0-", (0, 10)),
        ("bytes=9-", (9, 10)),
        ("bytes=-1", (9, 10)),
        ("bytes=-10", (0, 10)),
        ("bytes=007-008", (7, 9)),
        ("bytes= 3-7 ", (3, 8)),
    ],
)
def test_a_range_is_parsed(header: str, expected: tuple[int, int]) -> None:
    assert parse_range(header, 10) == expected


@pytest.mark.parametrize("header", ["bytes=5-10", "bytes=5-99999", "bytes=5-999999999999999999"])
def test_a_range_beyond_the_end_is_cut_at_the_end(header: str) -> None:
    assert parse_range(header, 10) == (5, 10)


def test_a_suffix_longer_than_the_content_selects_all_of_it() -> None:
    assert parse_range("bytes=-999999999999999999", 10) == (0, 10)


@pytest.mark.parametrize(
    "header", ["bytes=10-", "bytes=10-10", "bytes=11-20", "bytes=999999999999999999-", "bytes=-0"]
)
def test_a_range_without_any_existing_byte_is_not_satisfiable(header: str) -> None:
    with pytest.raises(RangeNotSatisfiable):
        parse_range(header, 10)


@pytest.mark.parametrize("header", ["bytes=0-", "bytes=0-0", "bytes=-1"])
def test_no_range_of_empty_content_is_satisfiable(header: str) -> None:
    with pytest.raises(RangeNotSatisfiable):
        parse_range(header, 0)


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "bytes",
        "bytes=",
        "bytes=-",
        "bytes=5",
        "bytes=5-3",
        "bytes=99-98",
        "bytes=0-1,3-4",
        "bytes=0-1,",
        "bytes=a-b",
        "bytes=0x1-0x2",
        "bytes=1.0-2.0",
        "bytes=--1",
        "bytes=+1-2",
        "bytes=1-2-3",
        "bytes=0-4\nX: y",
        "bytes=0-" + "9" * 5000,
        "items=0-4",
        "0-4",
    ],
    ids=lambda header: repr(header)[:30],
)
def test_anything_but_a_single_byte_range_is_ignored(header: str | None) -> None:
    assert parse_range(header, 10) is None


@given(first=st.integers(0, 30), last=st.integers(0, 30), size=st.integers(0, 20))
def test_a_range_selects_the_same_bytes_as_a_slice(first: int, last: int, size: int) -> None:
    content = bytes(range(size))
    headers = {f"bytes={first}-": content[first:], f"bytes=-{last}": content[max(0, size - last) :]}
    if first <= last:
        headers[f"bytes={first}-{last}"] = content[first : last + 1]
    for header, wanted in headers.items():
        if wanted:
            assert content[slice(*parse_range(header, size) or ())] == wanted
        else:
            with pytest.raises(RangeNotSatisfiable):
                parse_range(header, size)


@pytest.mark.parametrize("header", ['"a"', 'W/"a"', '"b", "a"', '"b",W/"a"', "*"])
def test_an_etag_in_the_list_matches(header: str) -> None:
    assert etag_matches(header, '"a"')


@pytest.mark.parametrize("header", [None, "", '"ab"', '"b"', '"b", "ba"', "a"])
def test_an_etag_that_is_only_part_of_another_does_not_match(header: str | None) -> None:
    assert not etag_matches(header, '"a"')
