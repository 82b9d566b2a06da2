"""The errors that the services raise, each with a stable ``code`` and a message for people.

- AppError
  - InvalidInput   the caller sent something that does not fit
  - TooLarge       the caller sent more than the settings allow
  - NotFound       the caller named something that does not exist
  - Conflict       the current state does not allow the call
    - CountChanged   another number of masters matches than was confirmed
  - Outdated       the caller saw an older state than the current one
  - Unavailable    the same call may succeed after ``retry_after`` seconds
    - Busy         this process has no room for the work now

app/http/errors.py adds the errors that only HTTP has; app/http/problems.py maps all of them to
responses.
"""

from __future__ import annotations

from typing import Any


class AppError(Exception):
    """An error that a client can act on: ``code`` is for programs, ``detail`` for people.

    ``members`` are further values in JSON that a client may need, by their names.
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.members: dict[str, Any] = {}


class InvalidInput(AppError):
    """The caller sent something that does not fit."""


class TooLarge(AppError):
    """The caller sent more than the settings allow."""


class NotFound(AppError):
    """The caller named something that does not exist."""


class Conflict(AppError):
    """The current state does not allow the call."""


class CountChanged(Conflict):
    """Another number of masters matches a filter than the caller has confirmed."""

    def __init__(self, confirmed: int, matched: int) -> None:
        super().__init__(
            "count-changed",
            f"The filter matches {matched} masters, not {confirmed} as was confirmed. Nothing was"
            " done. Check what it matches, and repeat the request with this number.",
        )
        self.members = {"matched": matched}


class Outdated(AppError):
    """The caller saw an older state than the current one."""


class Unavailable(AppError):
    """The same call may succeed after ``retry_after`` seconds."""

    def __init__(self, code: str, detail: str, retry_after: int = 1) -> None:
        super().__init__(code, detail)
        self.retry_after = retry_after


class Busy(Unavailable):
    """This process has no room for the work now, or is stopping. The work itself may be right."""
