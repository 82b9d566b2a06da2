"""The errors of encoders. Every message says what is wrong and what to do."""

from __future__ import annotations


class EncoderInvalid(Exception):
    """A file is not an encoder that can be served."""


class BundleInvalid(EncoderInvalid):
    """A bundle is damaged, lies about its content, or cannot be run."""
