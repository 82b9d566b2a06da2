"""What may be wrong with a file, before or while it is decoded."""

from __future__ import annotations


class Fault(Exception):
    """The file cannot be decoded; the message is a clause that says why, such as "it is empty"."""


class Damaged(Fault):
    """The bytes are not those that an encoder wrote."""


class TooManyPieces(Fault):
    """The file has so many scans, segments or chunks that decoding it would take too long."""


class NotSupported(Fault):
    """The file is intact, but of a kind that no decoder here knows."""
