"""Text in Unicode's normal form NFC, and cuts between what a person sees as one character."""

from __future__ import annotations

import unicodedata
from typing import Literal

import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from storage import unicode_text
from storage.unicode_text import UNSAFE, cut_text, normalize_text

# These reorder, compose and decompose; U+0F73 begins no mark itself, and decomposes into two.
MARKS = st.sampled_from("aeö\u1100\u1161\u11a8가\u0301\u0316\u0323\u0344\u0f71\u0f73\u0958\u1ea5")


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("", ""),
        ("plain", "plain"),
        ("o\u0308", "ö"),
        ("q\u0307\u0323", "q\u0323\u0307"),
        ("\u1112\u1161\u11ab", "한"),
        ("\u212b", "Å"),
        ("\u0958", "\u0915\u093c"),
        ("\ufb01 ①", "\ufb01 ①"),  # compatible, but not the same
        ("\ud800", "\ud800"),
    ],
    ids=ascii,
)
def test_text_gets_its_normal_form(text: str, normal: str) -> None:
    assert normalize_text(text) == normal


@settings(deadline=None, max_examples=300)
@given(st.text(MARKS | st.characters(), max_size=40))
def test_a_long_text_gets_the_same_form_as_a_short_one(text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(unicode_text, "_SHORT", 0)
        assert normalize_text(text) == unicodedata.normalize("NFC", text)


@pytest.mark.parametrize("marks", ["\u0301\u0316", "\u0f73"], ids=ascii)
def test_python_never_sorts_a_long_run_of_marks(
    marks: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its sort takes a time that grows with the square of their number."""
    seen: list[str] = []

    class Noting:
        combining = staticmethod(unicodedata.combining)

        @staticmethod
        def normalize(form: Literal["NFC", "NFD"], text: str) -> str:
            seen.append(text)
            return unicodedata.normalize(form, text)

    monkeypatch.setattr(unicode_text, "unicodedata", Noting)
    normalize_text("a" + marks * 2000)
    longest = max(seen, key=len)
    classes = [unicodedata.combining(each) for each in longest[1:]]
    assert len(classes) == 4000
    assert classes == sorted(classes)


@pytest.mark.parametrize(
    ("text", "limit", "cut"),
    [
        ("", 0, ""),
        ("abc", 3, "abc"),
        ("abc", 2, "ab"),
        ("aq\u0301", 2, "a"),
        ("aq\u0301", 3, "aq\u0301"),
        ("q\u0301", 1, "q"),
        ("q\u0301", 0, ""),
        ("a\U0001f469\u200d\U0001f680", 3, "a"),
        ("a\u200db", 2, "a"),
        ("a\u200d", 2, "a\u200d"),
        ("\u1100\u1161\u11a8\u1100", 3, "\u1100\u1161\u11a8"),
    ],
    ids=ascii,
)
def test_text_is_cut_between_whole_characters(text: str, limit: int, cut: str) -> None:
    assert cut_text(text, limit) == cut


@pytest.mark.parametrize(("limit", "cut"), [(13, "aö"), (14, "aö👩‍🚀"), (16, "aö👩‍🚀é")])
def test_the_limit_may_be_one_of_bytes(limit: int, cut: str) -> None:
    assert cut_text("aö👩‍🚀éé", limit, lambda text: len(text.encode())) == cut


def test_unsafe_is_what_unicode_says() -> None:
    unsafe = regex.compile(
        r"[\p{Cc}\p{Cs}\p{Co}\p{Zl}\p{Zp}\p{Bidi_Control}\p{Noncharacter_Code_Point}]"
    )
    every = [chr(point) for point in range(0x110000)]
    assert [each for each in every if UNSAFE.match(each)] == [
        each for each in every if unsafe.match(each)
    ]
