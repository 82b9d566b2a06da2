"""The errors that only HTTP has, raised before a request reaches a service."""

from __future__ import annotations

from app.errors import AppError


class Unauthorized(AppError):
    """The request has no valid API key."""


class Forbidden(AppError):
    """The API key, or the page that sent the request, does not allow the call."""


class WrongHost(AppError):
    """The Host header names a host that this service does not answer to."""


class WrongMediaType(AppError):
    """The body's media type, or an image's format, is not supported."""


class MalformedRequest(AppError):
    """What arrived is not a valid HTTP request."""


class HeadTooLarge(AppError):
    """The request line with the headers, or the trailers, are too large or too many."""


class TooSlow(AppError):
    """The head or the body did not arrive within the time that its size allows."""


class RangeNotSatisfiable(AppError):
    """The Range header begins behind the end of an image of ``size`` bytes."""

    def __init__(self, size: int) -> None:
        super().__init__(
            "range-not-satisfiable", f"The image has {size} bytes: ask for a range in it."
        )
        self.size = size
