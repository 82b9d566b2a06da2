"""The files of a request as services take them."""

from __future__ import annotations

from typing import BinaryIO

from starlette.datastructures import UploadFile

from app.errors import TooLarge
from app.settings import MIB, Settings


def file_of(upload: UploadFile, settings: Settings) -> BinaryIO:
    """Return the file of an upload. Raises TooLarge."""
    limit = settings.max_file_bytes
    if (upload.size or 0) > limit:
        detail = f"The file is larger than the limit of {limit / MIB:g} MiB. Send a smaller one."
        raise TooLarge("file-too-large", detail)
    return upload.file
