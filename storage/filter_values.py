"""Reads the values of a filter that have a form of their own: moments and boxes on the globe."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def parse_moment(text: str) -> int | None:
    """Return the milliseconds since 1970 of a date, or of a date and time, in ISO 8601.

    Without an offset, it is in UTC; a date is its first moment. Returns None for other texts.
    """
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return (moment - _EPOCH) // timedelta(milliseconds=1)
    except (ValueError, OverflowError):
        return None


def parse_globe_box(value: object) -> tuple[float, float, float, float]:
    """Return the degrees of ``[west, south, east, north]`` (RFC 7946, 5).

    West is greater than east in a box that crosses the antimeridian. Raises ValueError, with the
    reason.
    """
    if not isinstance(value, list) or len(value) != 4:
        raise ValueError(
            "takes [west, south, east, north] in degrees, such as [5.9, 45.8, 10.5, 47.8]"
        )
    for number, limit in zip(value, (180, 90, 180, 90), strict=True):
        is_number = isinstance(number, int | float) and not isinstance(number, bool)
        if not (is_number and abs(number) <= limit):
            raise ValueError("takes longitudes from -180 to 180 and latitudes from -90 to 90")
    west, south, east, north = value
    if south > north:
        raise ValueError("takes [west, south, east, north]; south must not be greater than north")
    return west, south, east, north
