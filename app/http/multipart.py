"""Reads multipart forms as clients write them: file names in `filename*`, text before the parts."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote_to_bytes

import python_multipart
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartState, _parseparam
from starlette import formparsers, requests
from starlette.datastructures import FormData
from starlette.formparsers import MultiPartException

# file names of 5 kB are not rare in some scripts, and percent-encoding triples their length
_MAX_PART_HEADER_BYTES = 32 * 1024
_MAX_SEMICOLONS = 1000  # in a header, whose parsing takes 1 µs for each
_CHARSETS = ("utf-8", "us-ascii", "iso-8859-1")  # RFC 5987, 3.2.1; Python's others may be slow
_SECTION = re.compile(r"filename\*(?:(\d{1,2})(\*)?)?")  # of RFC 8187, or a part of RFC 2231
_BROKEN_ESCAPE = re.compile("%(?![0-9a-fA-F]{2})")


def replace_parsers() -> None:
    """Let every request of Starlette use the parsers of this module."""
    formparsers.multipart.MultipartParser = _StrictMultipartParser  # type: ignore[attr-defined]
    requests.MultiPartParser = _MultipartForm  # type: ignore[attr-defined]


class _StrictMultipartParser(python_multipart.MultipartParser):
    """Skips a preamble, accepts part headers of more than 4 KiB, and refuses a body cut short.

    python-multipart can do the latter two, but Starlette offers no way to ask for it.
    """

    def __init__(self, boundary: bytes | str, callbacks: Any) -> None:
        super().__init__(boundary, callbacks, max_header_size=_MAX_PART_HEADER_BYTES)
        if not boundary:
            raise MultipartParseError("the boundary in Content-Type is empty")
        # The preamble is read as the content of a part whose start and end are not reported. The
        # line break before the boundary may be missing at the very beginning.
        self.state, self.index = MultipartState.PART_DATA, len(b"\r\n")
        self._in_preamble = True
        self._on_part_end = callbacks["on_part_end"]
        self.set_callback("part_end", self._end_preamble)

    def _end_preamble(self) -> None:
        self._in_preamble = False
        self.set_callback("part_end", self._on_part_end)

    def finalize(self) -> None:
        if self._in_preamble:
            raise MultipartParseError("the boundary in Content-Type never occurs in the body")
        if self.state != MultipartState.END:
            raise MultipartParseError("the body ends before its closing boundary")


class _MultipartForm(formparsers.MultiPartParser):
    """Takes the name of a file from `filename*` if there is one, and explains what is malformed."""

    def on_headers_finished(self) -> None:
        part = self._current_part
        disposition = part.content_disposition or b""
        if disposition.count(b";") > _MAX_SEMICOLONS:
            reason = f"Content-Disposition has more than {_MAX_SEMICOLONS} semicolons"
            raise MultiPartException(_explain(reason))
        try:
            name = _find_extended_name(disposition.decode("latin-1"))
        except ValueError as error:
            raise MultiPartException(_explain(str(error))) from None
        if name is not None:
            # Starlette takes a part for a file if it has a plain name.
            kind, _, parameters = disposition.partition(b";")
            part.content_disposition = kind + b"; filename=_;" + parameters
        super().on_headers_finished()
        if name is not None and part.file is not None:
            part.file.filename = name

    async def parse(self) -> FormData:
        try:
            return await super().parse()
        except MultiPartException as error:
            if error.__cause__ is None:
                raise
            reason = str(error.__cause__)
            raise MultiPartException(_explain(reason[:1].lower() + reason[1:])) from error


def _explain(reason: str) -> str:
    return f"The form is malformed: {reason}. Send multipart/form-data as RFC 7578 defines it."


def _find_extended_name(disposition: str) -> str | None:
    """Return the file name of a Content-Disposition's `filename*`; None if it has none.

    The name may be in sections: `filename*0*`, `filename*1`. Raises ValueError, which says what is
    malformed.
    """
    kind, *parameters = _parseparam(disposition)
    sections: dict[int, tuple[bool, str]] = {}
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if value.startswith('"') and (len(value) == 1 or not value.endswith('"')):
            raise ValueError("a quote in Content-Disposition is not closed")
        if match := _SECTION.fullmatch(key):
            is_encoded = match[1] is None or match[2] is not None
            sections[int(match[1] or 0)] = is_encoded, _unquote(value)
    if '"' in kind:
        raise ValueError("Content-Disposition begins with a quote instead of form-data")
    try:
        return _decode_sections(sections) if sections else None
    except ValueError:
        message = "filename* is not percent-encoded UTF-8, as in filename*=UTF-8''%C3%A9.jpg"
        raise ValueError(message) from None


def _unquote(value: str) -> str:
    return re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value


def _decode_sections(sections: dict[int, tuple[bool, str]]) -> str:
    """Join the sections of a name, each with whether it is encoded. Raises ValueError."""
    charset, name = "utf-8", b""
    for number in range(len(sections)):
        is_encoded, text = sections.get(number, (True, "%"))
        if is_encoded and number == 0:
            charset, _, text = text.split("'", 2)
        if is_encoded and (_BROKEN_ESCAPE.search(text) or charset.lower() not in _CHARSETS):
            raise ValueError(text)
        name += unquote_to_bytes(text) if is_encoded else text.encode("latin-1")
    return name.decode(charset)
