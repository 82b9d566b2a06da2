"""Makes a colour profile of what a PNG without one states about its colours: gAMA and cHRM."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

_SRGB = (0.3127, 0.3290, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)  # x and y of white, red, green, blue
_SRGB_GAMMA = 1 / 2.2
_UNNOTICED = 0.05  # of that gamma: less is not worth a conversion (libpng, PNG_GAMMA_THRESHOLD)
_LEAST, _MOST = 0.1, 10.0  # gamma
_D50 = np.array([0.96422, 1.0, 0.82521])  # XYZ
_BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)


def describe_colours(info: Mapping[str | tuple[int, int], Any]) -> bytes | None:
    """Return an ICC profile of the gamma and the primaries in the ``info`` of a PNG.

    It is None if the PNG has no gamma, without which browsers ignore primaries, if it says that it
    is sRGB, if it has a gamma like that of sRGB alone, or if the numbers describe no colours.
    """
    gamma, stated = info.get("gamma"), info.get("chromaticity")
    if "srgb" in info or not isinstance(gamma, float) or not _LEAST <= gamma <= _MOST:
        return None
    if stated is None and abs(gamma / _SRGB_GAMMA - 1) <= _UNNOTICED:
        return None
    try:
        matrix = _adapt_to_d50(np.array(stated or _SRGB, dtype=np.float64))
    except (ValueError, np.linalg.LinAlgError):
        return None
    if not np.isfinite(matrix).all() or np.abs(matrix).max() > _MOST:
        return None
    return _make_profile(matrix, 1 / gamma)


def _adapt_to_d50(chromaticity: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ``(3, 3)``: linear red, green and blue to XYZ under D50 (ICC.1:2010, annex E)."""
    points = chromaticity.reshape(4, 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        white, *primaries = np.column_stack([points, 1 - points.sum(axis=1)]) / points[:, 1:]
    columns = np.array(primaries).T
    to_xyz = columns * np.linalg.solve(columns, white)
    scale = (_BRADFORD @ _D50) / (_BRADFORD @ white)
    adapted: NDArray[np.float64] = np.linalg.solve(_BRADFORD, scale[:, None] * _BRADFORD) @ to_xyz
    return adapted


def _make_profile(matrix: NDArray[np.float64], gamma: float) -> bytes:
    """Return a display profile of version 4 with three primaries and one gamma."""
    curve = b"para" + bytes(8) + _fixed(gamma)
    tags = [b"XYZ " + bytes(4) + _fixed(*column) for column in matrix.T]
    start = 128 + 4 + 6 * 12
    table, body = struct.pack(">I", 6), b"".join([*tags, curve])
    for name, place, size in zip("rgb", range(start, start + 60, 20), [20] * 3, strict=True):
        table += f"{name}XYZ".encode() + struct.pack(">II", place, size)
        table += f"{name}TRC".encode() + struct.pack(">II", start + 60, len(curve))
    header = struct.pack(">I4xI", start + len(body), 4 << 24) + b"mntrRGB XYZ "
    header = header.ljust(36, b"\0") + b"acsp".ljust(32, b"\0") + _fixed(*_D50)
    return header.ljust(128, b"\0") + table + body


def _fixed(*numbers: float) -> bytes:
    """Return numbers as s15Fixed16Number."""
    return struct.pack(f">{len(numbers)}i", *(round(number * 65536) for number in numbers))
