"""Local features: by them two files are recognised as copies of one photograph.

They are independent of every encoder. Corners are found at three scales and described by
comparisons of pixels around them, turned to the direction of the patch, as in ORB (Rublee et al.
2011). Two images are copies if many corners of one, moved, turned, scaled or mirrored together,
fall onto corners of the other that look the same. `make bench-duplicates` measures them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.transforms import INPUT_SIDE, Region

SIDE = 160  # pixels; the whole image is scaled to this square
FEATURES = 96  # of an image, at most
FORMAT = 1  # of the bytes; features of two formats are not compared
_LEVELS = (160, 112, 80)  # sides in pixels
_OF_LEVEL = (48, 28, 20)  # features
_RADIUS = 9  # pixels, of the patch that is described
_CELLS = 5  # a side; each has its share of the features, so that a text or a frame takes few
_DESCRIPTOR = 32  # bytes
_ROW = 4 + _DESCRIPTOR
_MOST_BITS = 64  # by which two descriptions of the same corner differ
_MOST_MATCHES = 40  # whose pairs are tried as the movement
_FEWEST_MATCHES = 6  # with fewer, nothing is counted
_TOLERANCE = 5.0  # pixels of ``SIDE`` that a corner may be off
_SMALLEST_BASE = 20.0  # pixels between two corners that define a movement
_LARGEST_SCALE = 2.5
_LEAST_ALONG = np.cos(np.pi / 6)  # the direction of a patch follows the movement's to 30 degrees
_PAIRS = [np.triu_indices(count, 1) for count in range(_MOST_MATCHES + 1)]
_SPOT = 6  # pixels; corners in the same spot count once
_WEAKEST = 1e-3  # response of a corner; a flat or slowly changing picture has none

FEWEST_COMMON = 15  # of two copies of one photograph; unrelated ones have 2 to 4 in common


@dataclass(frozen=True)
class WholeSquare:
    """The preprocessing of local features: the whole image, scaled to a square."""

    min_side: int = INPUT_SIDE  # that of the ResNet, so that one decode serves both
    converts_colours: bool = True

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels of the input."""
        return SIDE, SIDE, 3

    def prepare(self, image: Image.Image) -> NDArray[np.uint8]:
        """Return the scaled image as ``(160, 160, 3)`` uint8."""
        scaled = image.resize((SIDE, SIDE), Image.Resampling.BICUBIC, reducing_gap=3.0)
        return np.asarray(scaled, dtype=np.uint8)

    def find_region(self, width: int, height: int) -> Region:
        """Return the whole image."""
        return Region(0, 0, width, height)


def _make_pattern() -> NDArray[np.float32]:
    """Return ``(256, 2, 2)``: pairs of points (x, y) of a patch that points to the right.

    The second half is the first one upside down, so that swapping the halves of a description
    gives that of the mirrored patch.
    """
    points = np.random.default_rng(2011).normal(0, 4, (4096, 2))
    points = points[np.hypot(*points.T) < _RADIUS - 1][:256].reshape(128, 2, 2)
    return np.concatenate([points, points * (1, -1)]).astype(np.float32)


_PATTERN = _make_pattern()
_DISC = np.array(
    [(x, y) for y in range(-6, 7) for x in range(-6, 7) if x * x + y * y <= 36], dtype=np.intp
)


def extract_features(pixels: NDArray[np.uint8]) -> bytes:
    """Return the features of an input of ``WholeSquare``, empty if it has no corners.

    The first byte is the format. Each feature has x, y, direction and level, of 1 byte each, and a
    description of 256 bits: 3457 bytes in all, at most.
    """
    grey = Image.fromarray(pixels).convert("L")
    rows = [_describe_level(grey, level) for level in range(len(_LEVELS))]
    features = np.concatenate(rows)
    return bytes([FORMAT]) + features.tobytes() if len(features) else b""


def _describe_level(grey: Image.Image, level: int) -> NDArray[np.uint8]:
    """Return the features of one scale, ``(n, 36)`` uint8."""
    side = _LEVELS[level]
    scaled = grey if side == SIDE else grey.resize((side, side), Image.Resampling.BICUBIC)
    smooth = _blur(_blur(np.asarray(scaled, dtype=np.float32)))
    x, y = _find_corners(smooth, _OF_LEVEL[level])
    patches = smooth[y[:, None] + _DISC[:, 1], x[:, None] + _DISC[:, 0]]
    direction = np.arctan2(patches @ _DISC[:, 1], patches @ _DISC[:, 0])
    rows = np.empty((len(x), _ROW), dtype=np.uint8)
    rows[:, 0], rows[:, 1] = (np.round((each + 0.5) * SIDE / side - 0.5) for each in (x, y))
    rows[:, 2] = np.round(direction * 128 / np.pi).astype(np.int64) & 255
    rows[:, 3] = level
    rows[:, 4:] = _describe(smooth, x, y, direction)
    return rows


def _blur(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Smooth by the binomial kernel 1 4 6 4 1 in both directions."""
    for _ in range(2):
        padded = np.pad(image, ((2, 2), (0, 0)), mode="edge")
        rows = padded[:-4] + padded[4:] + 4 * (padded[1:-3] + padded[3:-1]) + 6 * padded[2:-2]
        image = (rows.T / 16).astype(np.float32, copy=False)
    return image


def _find_corners(
    smooth: NDArray[np.float32], count: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return x and y of the strongest corners (Harris and Stephens 1988), spread over cells."""
    across, down = np.zeros_like(smooth), np.zeros_like(smooth)
    across[:, 1:-1] = (smooth[:, 2:] - smooth[:, :-2]) / 2
    down[1:-1] = (smooth[2:] - smooth[:-2]) / 2
    xx, yy, xy = (_blur(each) for each in (across * across, down * down, across * down))
    response = xx * yy - xy * xy - 0.05 * (xx + yy) ** 2
    highest = response
    for axis in (0, 1):
        highest = np.maximum.reduce([np.roll(highest, shift, axis) for shift in range(-2, 3)])
    inside = np.zeros_like(response, dtype=bool)
    inside[_RADIUS + 1 : -_RADIUS - 1, _RADIUS + 1 : -_RADIUS - 1] = True
    y, x = np.nonzero(inside & (response == highest) & (response > _WEAKEST))
    strongest = np.argsort(-response[y, x], kind="stable")
    y, x = y[strongest], x[strongest]
    cells = (y * _CELLS // len(smooth)) * _CELLS + x * _CELLS // len(smooth)
    rank = np.zeros(len(cells), dtype=np.intp)
    for cell in np.unique(cells):
        rank[cells == cell] = np.arange(np.count_nonzero(cells == cell))
    chosen = np.argsort(rank, kind="stable")[:count]
    return x[chosen], y[chosen]


def _describe(
    smooth: NDArray[np.float32],
    x: NDArray[np.intp],
    y: NDArray[np.intp],
    direction: NDArray[np.float32],
) -> NDArray[np.uint8]:
    """Return ``(n, 32)`` uint8: which point of each pair is brighter."""
    cos, sin = np.cos(direction)[:, None, None], np.sin(direction)[:, None, None]
    across = np.round(cos * _PATTERN[..., 0] - sin * _PATTERN[..., 1]).astype(np.intp)
    down = np.round(sin * _PATTERN[..., 0] + cos * _PATTERN[..., 1]).astype(np.intp)
    values = smooth[y[:, None, None] + down, x[:, None, None] + across]
    return np.packbits(values[..., 0] < values[..., 1], axis=1)


def count_common_features(first: bytes, second: bytes) -> int:
    """Count the corners that two images share when one is moved, turned, scaled or mirrored.

    The order of the two makes a small difference. Returns 0 if either has no corners, or if the
    formats differ.
    """
    if not first or not second or first[0] != FORMAT or second[0] != FORMAT:
        return 0
    a, b = (
        np.frombuffer(each, dtype=np.uint8, offset=1).reshape(-1, _ROW) for each in (first, second)
    )
    return max(_count_moved(a, b), _count_moved(_mirror(a), b))


def _mirror(features: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the features of the image that is mirrored left to right."""
    mirrored = features.copy()
    mirrored[:, 0] = SIDE - 1 - features[:, 0]
    mirrored[:, 2] = 128 - features[:, 2]
    half = _DESCRIPTOR // 2
    mirrored[:, 4 : 4 + half] = features[:, 4 + half :]
    mirrored[:, 4 + half :] = features[:, 4 : 4 + half]
    return mirrored


def _count_moved(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> int:
    """Count the corners of ``a`` that one movement carries onto their matches in ``b``."""
    left, right = _match(a, b)
    if len(left) < _FEWEST_MATCHES:
        return 0
    start, end = (each[:, 0].astype(np.float32) + 1j * each[:, 1] for each in (left, right))
    turn = (right[:, 2].astype(np.int16) - left[:, 2]).astype(np.float32) * (np.pi / 128)
    back = np.exp(-1j * turn).astype(np.complex64)
    i, j = _PAIRS[len(left)]
    base = start[i] - start[j]
    movement = (end[i] - end[j]) / np.where(base == 0, 1, base)
    size = np.abs(movement)
    usable = (np.abs(base) >= _SMALLEST_BASE) & (size <= _LARGEST_SCALE)
    usable &= size >= 1 / _LARGEST_SCALE
    for each in (i, j):
        usable &= (back[each] * movement).real >= _LEAST_ALONG * size
    if not usable.any():
        return 0
    i, movement, size = i[usable], movement[usable], size[usable]
    moved = end[i, None] + movement[:, None] * (start[None, :] - start[i, None])
    agree = np.abs(moved - end) <= _TOLERANCE
    agree &= (back[None, :] * movement[:, None]).real >= _LEAST_ALONG * size[:, None]
    best = agree[agree.sum(1).argmax()]
    return min(_count_spots(left[best]), _count_spots(right[best]))


def _match(
    a: NDArray[np.uint8], b: NDArray[np.uint8]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return the features that are each other's most similar one, most similar first."""
    words_a, words_b = (np.ascontiguousarray(each[:, 4:]).view(np.uint64) for each in (a, b))
    bits = np.bitwise_count(words_a[:, None] ^ words_b[None]).sum(2, dtype=np.uint16)
    nearest = bits.argmin(1)
    own = np.arange(len(a))
    mutual = (bits.argmin(0)[nearest] == own) & (bits[own, nearest] <= _MOST_BITS)
    found = own[mutual]
    found = found[np.argsort(bits[found, nearest[found]], kind="stable")][:_MOST_MATCHES]
    return a[found], b[nearest[found]]


def _count_spots(features: NDArray[np.uint8]) -> int:
    return len(np.unique(features[:, :2] // _SPOT, axis=0))
