"""The errors of encoders. Every message says what is wrong and what to do."""

from __future__ import annotations


class EncoderInvalid(Exception):
    """A file is not an encoder that can be served."""


class BundleInvalid(EncoderInvalid):
    """A bundle is damaged, contradicts its manifest, or cannot be run."""


class EngineMissing(Exception):
    """A library that the requested work needs is not installed.

    The message gives the command that installs it.
    """
