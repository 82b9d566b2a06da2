"""What the command line shows of text that others have written."""

from __future__ import annotations

import json

import pytest

from app.cli.console import print_json, show_printable

WRITING = ["👩\u200d🚀.jpg", "می\u200cخواهم", "\U0001fae9.png", "two\u00a0words", "Größe 東京"]
UNSAFE = ["\x1b[31m", "a\x9bb", "a\u202eb", "a\u061cb", "a\u2028b", "a\ue000b", "a\U000f0000b"]


@pytest.mark.parametrize("text", WRITING, ids=ascii)
def test_writing_of_any_language_is_shown_as_it_is(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert show_printable(text) == text
    print_json([text], indent=None)
    assert capsys.readouterr().out == f'["{text}"]\n'


@pytest.mark.parametrize("text", [*UNSAFE, "a\nb", "a\ud800b"], ids=ascii)
def test_what_is_unsafe_is_replaced_in_text_and_escaped_in_json(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = show_printable(text)
    assert len(shown) == len(text)
    assert shown.count("\N{REPLACEMENT CHARACTER}") == 1
    print_json({"a": text})
    printed = capsys.readouterr().out
    assert json.loads(printed) == {"a": text}
    assert not set(text) & set(printed) - set("\n[31mab")


def test_lines_keep_their_breaks() -> None:
    assert show_printable("a\n\tb\r", lines=True) == "a\n\tb\N{REPLACEMENT CHARACTER}"
