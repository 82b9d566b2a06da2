"""Colour profiles (ICC.1:2010) made for tests, and the same colours computed with numpy alone.

Lookalike converts by littleCMS, so what is expected never comes from it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Primaries = tuple[tuple[float, float], ...]  # x and y of red, green, blue and white

D65, D50 = (0.3127, 0.3290), (0.3457, 0.3585)
SRGB = (0.64, 0.33), (0.30, 0.60), (0.15, 0.06), D65
DISPLAY_P3 = (0.680, 0.320), (0.265, 0.690), (0.150, 0.060), D65
ADOBE_RGB = (0.64, 0.33), (0.21, 0.71), (0.15, 0.06), D65
PROPHOTO = (0.734699, 0.265301), (0.159597, 0.840403), (0.036598, 0.000105), D50
D50_XYZ = np.array([0.96422, 1.0, 0.82521])  # the white of the profile connection space
_BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)
SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)  # IEC 61966-2-1
# XYB of JPEG XL and jpegli: ISO/IEC 18181-1, L.2
_OPSIN = np.array(
    [[0.30, 0.622, 0.078], [0.23, 0.692, 0.078], [0.24342269, 0.20476744, 0.55180987]]
)
XYB_BIAS = 0.0037930733
_BIAS_ROOT = XYB_BIAS ** (1 / 3)
_XYB_TO_CONES = np.array([[1.0, 1.0, 0.0], [-1.0, 1.0, 0.0], [0.0, 1.0, 1.0]])  # of X, Y, B - Y
XYB_SCALE = np.array([22.995788804, 1.183000077, 1.502141333])
XYB_OFFSET = np.array([0.015386134, 0.0, 0.27770459])


# colours


def matrix_to_xyz(primaries: Primaries) -> Values:
    """Return ``(3, 3)``: linear red, green and blue to XYZ, adapted to D50 (Bradford)."""
    columns = np.array([(x / y, 1, (1 - x - y) / y) for x, y in primaries]).T
    to_xyz = columns[:, :3] * np.linalg.solve(columns[:, :3], columns[:, 3])
    cones = _BRADFORD @ D50_XYZ / (_BRADFORD @ columns[:, 3])
    adapted: Values = np.linalg.solve(_BRADFORD, cones[:, None] * _BRADFORD) @ to_xyz
    return adapted


def decode_srgb(values: Values) -> Values:
    """Return linear values, 0 to 1, of sRGB values."""
    g, a, b, c, d = SRGB_CURVE
    return np.where(values >= d, (a * np.maximum(values, d) + b) ** g, c * values)


def xyz_to_srgb(xyz: Values) -> Values:
    """Return sRGB, 0 to 255, of ``(..., 3)`` XYZ under D50; colours outside it are clipped."""
    linear = np.clip(xyz @ np.linalg.inv(matrix_to_xyz(SRGB)).T, 0, 1)
    coded = np.where(linear > 0.0031308, 1.055 * linear ** (1 / 2.4) - 0.055, 12.92 * linear)
    return coded * 255


def lab_to_xyz(lab: Values) -> Values:
    """Return XYZ under D50 of ``(..., 3)`` CIE L*a*b*."""
    y = (lab[..., 0] + 16) / 116
    roots = np.stack([y + lab[..., 1] / 500, y, y - lab[..., 2] / 200], axis=-1)
    xyz = np.where(roots > 6 / 29, roots**3, 3 * (6 / 29) ** 2 * (roots - 4 / 29))
    return xyz * D50_XYZ


def xyz_to_lab(xyz: Values) -> Values:
    """Return CIE L*a*b* of ``(..., 3)`` XYZ under D50."""
    ratios = xyz / D50_XYZ
    roots = np.where(ratios > (6 / 29) ** 3, np.cbrt(ratios), ratios / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = np.moveaxis(roots, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def srgb_to_xyb(values: Values) -> Values:
    """Return the XYB, 0 to 1, that stands for ``(..., 3)`` sRGB from 0 to 1."""
    cones = np.cbrt(decode_srgb(values) @ _OPSIN.T + XYB_BIAS) - _BIAS_ROOT
    return (cones @ np.linalg.inv(_XYB_TO_CONES).T + XYB_OFFSET) * XYB_SCALE


def xyb_to_xyz(values: Values) -> Values:
    """Return XYZ under D50 of ``(..., 3)`` XYB from 0 to 1."""
    cones = (values / XYB_SCALE - XYB_OFFSET) @ _XYB_TO_CONES.T + _BIAS_ROOT
    linear = (np.maximum(cones, 0) ** 3 - XYB_BIAS) @ np.linalg.inv(_OPSIN).T
    return linear @ matrix_to_xyz(SRGB).T


# profiles


def matrix_profile(primaries: Primaries, curve: float | Values | None = None) -> bytes:
    """Make a display profile of three primaries with one gamma, sampled curve, or that of sRGB."""
    return _profile(b"mntr", b"RGB ", b"XYZ ", _matrix_tags(primaries, curve))


def float_table_profile(primaries: Primaries, *, elements: int) -> bytes:
    """Make a display profile with a chain of matrices beside it (multiProcessElementsType)."""
    identity = b"matf" + bytes(4) + struct.pack(">HH12f", 3, 3, *np.eye(3).ravel(), 0, 0, 0)
    chain = b"mpet" + bytes(4) + struct.pack(">HHI", 3, 3, elements)
    chain += struct.pack(">II", len(chain) + 8 * elements, len(identity)) * elements + identity
    tags = _matrix_tags(primaries, None) | {b"D2B0": chain}
    return _profile(b"mntr", b"RGB ", b"XYZ ", tags, version=4)


def _matrix_tags(primaries: Primaries, curve: float | Values | None) -> dict[bytes, bytes]:
    columns = [_xyz(*column) for column in matrix_to_xyz(primaries).T]
    names = (b"rXYZ", b"gXYZ", b"bXYZ", b"rTRC", b"gTRC", b"bTRC")
    return dict(zip(names, [*columns, *[_curve(curve)] * 3], strict=True))


def grey_profile(curve: float | Values) -> bytes:
    """Make a profile of grey with a gamma, or with a curve of samples from 0 to 1."""
    return _profile(b"prtr", b"GRAY", b"XYZ ", {b"kTRC": _curve(curve)})


def cmyk_profile(to_lab: Callable[[Values], Values], *, side: int = 9) -> bytes:
    """Make a print profile from a function of ``(..., 4)`` ink, 0 to 1, to L*a*b*.

    Its table (lut16Type) has ``side`` points for each ink.
    """
    axis = np.linspace(0, 1, side)
    inks = np.stack(np.meshgrid(*[axis] * 4, indexing="ij"), axis=-1)
    lab = to_lab(inks)
    # The encoding of L*a*b* of version 2: ICC.1:2001, 6.3.4.2
    coded = (lab + np.array([0, 128, 128])) * np.array([652.8, 256, 256])
    table = np.clip(np.rint(coded), 0, 65535).astype(">u2").tobytes()
    ends = struct.pack(">HH", 0, 65535)
    header = b"mft2" + bytes(4) + bytes([4, 3, side, 0]) + _fixed(1, 0, 0, 0, 1, 0, 0, 0, 1)
    tag = header + struct.pack(">HH", 2, 2) + ends * 4 + table + ends * 3
    return _profile(b"prtr", b"CMYK", b"Lab ", {b"A2B0": tag})


def xyb_profile() -> bytes:
    """Make a profile of XYB as JPEGs of jpegli have it (lutAToBType; ISO/IEC 18181-1, L.2.2)."""
    corners = np.stack(np.meshgrid(*[(0.0, 1.0)] * 3, indexing="ij"), axis=-1)
    opsin = _XYB_TO_CONES @ (corners / XYB_SCALE - XYB_OFFSET)[..., None]
    cones = opsin[..., 0] + _BIAS_ROOT
    least, most = cones.min(axis=(0, 1, 2)), cones.max(axis=(0, 1, 2))
    table = np.rint((cones - least) / (most - least) * 65535).astype(">u2").tobytes()
    cube = bytes([2, 2, 2]).ljust(16, b"\0") + bytes([2, 0, 0, 0]) + table
    straight = b"para" + bytes(4) + struct.pack(">HH", 0, 0) + _fixed(1.0)
    curves = b"".join(
        b"para"
        + bytes(4)
        + struct.pack(">HH", 3, 0)
        + _fixed(3.0, high - low, low, 0.0, max(0.0, -low / (high - low)))
        for low, high in zip(least, most, strict=True)
    )
    matrix = matrix_to_xyz(SRGB) @ np.linalg.inv(_OPSIN)
    # An XYZ of 1 is stored as 32768 of 65535: ICC.1:2010, 6.3.4.2
    scale = 32768 / 65535
    numbers = _fixed(*(matrix * scale).ravel(), *(-matrix.sum(axis=1) * XYB_BIAS * scale))
    parts = {"b": straight * 3, "matrix": numbers, "m": curves, "cube": cube, "a": straight * 3}
    starts, body = {}, b""
    for name, part in parts.items():
        starts[name] = 32 + len(body)
        body += part
    tag = b"mAB " + bytes(4) + bytes([3, 3, 0, 0]) + struct.pack(">5I", *starts.values()) + body
    return _profile(b"scnr", b"RGB ", b"XYZ ", {b"A2B0": tag}, version=4)


def _profile(
    kind: bytes, space: bytes, connection: bytes, tags: dict[bytes, bytes], version: int = 2
) -> bytes:
    tags = {
        b"desc": b"desc" + bytes(4) + struct.pack(">I", 5) + b"test\0" + bytes(78),
        b"cprt": b"text" + bytes(4) + b"none\0",
        b"wtpt": _xyz(*D50_XYZ),
    } | tags
    if version == 4:
        tags[b"desc"] = tags[b"cprt"] = b"mluc" + bytes(4) + struct.pack(">II", 0, 12)
    table, body, start = b"", b"", 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        table += name + struct.pack(">II", start + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    size, kinds = start + len(body), kind + space + connection
    header = struct.pack(">I4xI", size, version << 24) + kinds
    header += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + _fixed(*D50_XYZ)
    return header.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


def _fixed(*values: float) -> bytes:
    """Return numbers as s15Fixed16Number."""
    return struct.pack(f">{len(values)}i", *(round(value * 65536) for value in values))


def _xyz(*values: float) -> bytes:
    return b"XYZ " + bytes(4) + _fixed(*values)


def _curve(curve: float | Values | None) -> bytes:
    if curve is None:
        return b"para" + bytes(4) + struct.pack(">HH", 3, 0) + _fixed(*SRGB_CURVE)
    if isinstance(curve, float):
        return b"curv" + bytes(4) + struct.pack(">IH", 1, round(curve * 256)) + bytes(2)
    samples = np.rint(curve * 65535).astype(">u2").tobytes()
    return b"curv" + bytes(4) + struct.pack(">I", len(curve)) + samples
