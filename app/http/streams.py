"""Streams the progress of long requests: one JSON object per line, the result in the last one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from fastapi import Request
from fastapi.responses import StreamingResponse

from app.http.problems import EXPECTED, problem_of, request_id_of

_STREAM = "One JSON object per line with the progress. The last line has the result."
STREAMED: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/x-ndjson": {}}, "description": _STREAM}
}


def streamed(request: Request, events: Iterator[dict[str, Any]]) -> StreamingResponse:
    """Return a response that sends each event as a line. Closing the connection ends it."""
    lines = _lines(events, request_id_of(request))
    return StreamingResponse(lines, media_type="application/x-ndjson")


def _lines(events: Iterator[dict[str, Any]], request_id: str) -> Iterator[str]:
    """The status is sent already, so an error becomes the last line."""
    try:
        for event in events:
            yield json.dumps(event) + "\n"
    except EXPECTED as error:
        yield json.dumps({"error": problem_of(error).body(request_id)}) + "\n"
