"""Serves with images decoded inside the process, without limits: what `bench_decoding` compares."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import BinaryIO
from unittest.mock import patch

from app.start import serve
from models.decoding.jobs import DecodedFile, DecodeJob, run_job
from models.decoding.pool import DecodeLimits


class InsideDecoder:
    """Decodes in the calling thread, as many images at a time as there are slots."""

    def __init__(self, limits: DecodeLimits) -> None:
        self._slots = threading.BoundedSemaphore(limits.slots)

    def decode(
        self, source: BinaryIO | Callable[[], BinaryIO], job: DecodeJob, *_: object
    ) -> DecodedFile:
        file = source() if callable(source) else source
        with self._slots:
            return run_job(file, job)

    def stop(self) -> None:
        """Nothing waits here that could be refused."""

    def close(self) -> None:
        """There is nothing to end."""


if __name__ == "__main__":
    with patch("app.bootstrap.DecodePool", InsideDecoder):
        serve()
