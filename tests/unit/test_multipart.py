"""The parser of forms gives the same, wherever the network cuts a body."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest
from starlette import requests
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException

from app.http.multipart import replace_parsers
from tests.support.coroutines import run_coroutine

BODY = (
    b"A preamble with --boundary and\r\n--bound\r\n\r\n"
    b"--boundary\r\nContent-Disposition: form-data; name=text\r\n\r\n\r\n--boundar\r\n"
    b"--boundary \t\r\nContent-Disposition: form-data; name=file; filename*=UTF-8''%C3%A9.jpg\r\n"
    b"Content-Type: image/jpeg\r\n\r\n\r\n--\r\n\r\n--boundary--\r\nAn epilogue\r\n--boundary\r\n"
)
HEADERS = Headers({"Content-Type": "multipart/form-data; boundary=boundary"})


def read(chunks: list[bytes]) -> list[tuple[str, str | tuple[str | None, bytes]]]:
    """Return the fields of a form that arrives in these chunks."""
    replace_parsers()

    async def stream() -> AsyncGenerator[bytes, None]:
        for chunk in chunks:
            yield chunk

    async def parse() -> list[tuple[str, str | tuple[str | None, bytes]]]:
        form = await requests.MultiPartParser(HEADERS, stream()).parse()
        fields = [
            (name, (value.filename, await value.read()) if isinstance(value, UploadFile) else value)
            for name, value in form.multi_items()
        ]
        await form.close()
        return fields

    return run_coroutine(parse())


FIELDS = [("text", "\r\n--boundar"), ("file", ("é.jpg", b"\r\n--\r\n"))]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 11, 1000])
def test_a_form_in_chunks_of_one_size_is_read_alike(size: int) -> None:
    chunks = [BODY[start : start + size] for start in range(0, len(BODY), size)]
    assert read(chunks) == FIELDS


def test_a_form_in_two_chunks_is_read_alike() -> None:
    for cut in range(len(BODY)):
        assert read([BODY[:cut], BODY[cut:]]) == FIELDS


def test_a_form_that_is_cut_short_anywhere_is_refused() -> None:
    end = BODY.index(b"--boundary--") + len(b"--boundary--")
    for size in range(end):
        with pytest.raises(MultiPartException, match="boundary"):
            read([BODY[:size]])
