"""Turns stored times into those that clients get."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def utc_time(milliseconds: int) -> datetime:
    """Return a time in UTC, given in milliseconds since 1970."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def local_time(milliseconds: int, offset: int | None) -> datetime:
    """Return the time on a clock that is ``offset`` minutes ahead of UTC.

    Without an offset, the time is that of UTC and has no time zone.
    """
    moment = _EPOCH + timedelta(milliseconds=milliseconds)  # a timestamp may be negative
    if offset is None:
        return moment.replace(tzinfo=None)
    return moment.astimezone(timezone(timedelta(minutes=offset)))
