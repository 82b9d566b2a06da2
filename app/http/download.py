"""A download whose source may fail after the headers are sent."""

from __future__ import annotations

from starlette.responses import StreamingResponse
from starlette.types import Send

from app.http.problems import EXPECTED
from app.logs import log


class Download(StreamingResponse):
    """Streams bytes under a Content-Length.

    If their source fails, the connection is closed before all of them are sent, so that no client
    or cache takes what it has received for the whole.
    """

    async def stream_response(self, send: Send) -> None:
        try:
            await super().stream_response(send)
        except EXPECTED as error:
            log.error("a download is cut short", reason=str(error))
