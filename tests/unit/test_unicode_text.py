"""Text in Unicode's normal form NFC, in a time that hostile text does not stretch."""

from __future__ import annotations

import unicodedata
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage import unicode_text
from storage.unicode_text import normalize_text

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
