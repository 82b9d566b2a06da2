"""Decodes in the process of the test, which saves starting others.

tests/contract/test_decoders.py holds it to the pool of processes that the service uses.
"""

from __future__ import annotations

from app.services.vision import Source
from models.decoding.jobs import DecodedFile, DecodeJob, run_job
from models.decoding.turns import Abandoned, Caller, Purpose, Refused


class DirectDecoder:
    """A decoder without limits, for images that the tests made themselves."""

    def __init__(self) -> None:
        self._stopped = False

    def decode(
        self, source: Source, job: DecodeJob, purpose: Purpose, caller: Caller | None = None
    ) -> DecodedFile:
        if self._stopped:
            raise Refused
        if caller is not None and caller.has_left:
            raise Abandoned
        return run_job(source() if callable(source) else source, job)

    def stop(self) -> None:
        self._stopped = True

    def close(self) -> None:
        self._stopped = True
