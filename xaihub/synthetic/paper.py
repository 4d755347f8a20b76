"""Cut paper: outlines, pieces, and laying one piece on a sheet.

Lengths are in **units**, 160 to the picture's side whatever its size in pixels, x to the right and y down, so the same
drawing is sharp at every size.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

UNITS = 160
SUPERSAMPLE = 4
SHADOW_REACH = 2.0  # units per unit of lift; beyond it a piece changes nothing

Colour = tuple[float, float, float]
"""Red, green and blue in [0, 1]."""


@dataclass(frozen=True)
class Piece:
    """One piece of coloured paper, and the part of the animal it belongs to."""

    outline: np.ndarray  # (V, 2)
    colour: Colour
    part: str
    lift: float = 0.0  # how far it stands off what lies beneath, which sets its shadow; 0 is printed on

    def moved(self, matrix: np.ndarray) -> "Piece":
        """The same piece after an affine map, `(2, 3)`."""
        return replace(self, outline=self.outline @ matrix[:, :2].T + matrix[:, 2])


# --- outlines, all (V, 2) -------------------------------------------------------------------------------------------


def blob(points: Sequence[tuple[float, float]], steps: int = 10) -> np.ndarray:
    """A smooth closed curve through the points (Catmull-Rom spline)."""
    knots = np.asarray(points, dtype=float)
    return _spline(np.concatenate([knots[-1:], knots, knots[:2]]), steps)


def stroke(points: Sequence[tuple[float, float]], steps: int = 10) -> np.ndarray:
    """A smooth open curve through the points, ends included."""
    knots = np.asarray(points, dtype=float)
    return _spline(np.concatenate([knots[:1], knots, knots[-1:]]), steps)


def _spline(knots: np.ndarray, steps: int) -> np.ndarray:
    """Catmull-Rom through all but the first and last knot, which only give the direction at the ends."""
    t = np.linspace(0, 1, steps, endpoint=False)[None, :, None]
    a, b, c, d = (knots[i : len(knots) - 3 + i, None, :] for i in range(4))  # each (segments, 1, 2)
    curve = b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))
    return np.concatenate([curve.reshape(-1, 2), knots[-2:-1]])


def oval(x: float, y: float, rx: float, ry: float, steps: int = 40) -> np.ndarray:
    angles = np.linspace(0, 2 * np.pi, steps, endpoint=False)
    return np.stack([x + rx * np.cos(angles), y + ry * np.sin(angles)], axis=1)


def scalloped(x: float, y: float, radius: float, bumps: int, depth: float) -> np.ndarray:
    """A round of `bumps` petals, each standing out by `depth` of the radius."""
    angles = np.linspace(0, 2 * np.pi, 16 * bumps, endpoint=False)
    reach = radius * (1 - depth + depth * np.abs(np.sin(bumps * angles / 2)))
    return np.stack([x + reach * np.cos(angles), y + reach * np.sin(angles)], axis=1)


def ribbon(points: Sequence[tuple[float, float]], widths: Sequence[float]) -> np.ndarray:
    """A band along a smooth curve, as wide at each point as told, with round ends."""
    spine = stroke(points)
    half = np.interp(np.linspace(0, 1, len(spine)), np.linspace(0, 1, len(widths)), widths)[:, None] / 2
    along = np.gradient(spine, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    across = np.stack([-along[:, 1], along[:, 0]], axis=1)
    left, right = spine + half * across, spine - half * across
    return np.concatenate([left, _cap(spine[-1], left[-1]), right[::-1], _cap(spine[0], right[0])])


def _cap(centre: np.ndarray, start: np.ndarray) -> np.ndarray:
    """The half circle that leaves from `start` and ends opposite."""
    angles = -np.linspace(0, np.pi, 8)[1:-1]
    x, y = start - centre
    return centre + np.stack([x * np.cos(angles) - y * np.sin(angles), x * np.sin(angles) + y * np.cos(angles)], axis=1)


# --- affine maps, all (2, 3) ----------------------------------------------------------------------------------------


def turn(degrees: float, about: tuple[float, float] = (0, 0)) -> np.ndarray:
    """The rotation about a point; positive degrees turn clockwise, since y points down."""
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    matrix = np.array([[cosine, -sine], [sine, cosine]])
    centre = np.asarray(about, dtype=float)
    return np.column_stack([matrix, centre - matrix @ centre])


def place(x: float, y: float, scale: float, degrees: float, mirror: bool) -> np.ndarray:
    """The map from an animal's own coordinates to the picture's."""
    matrix = scale * turn(degrees)[:, :2] @ np.diag([-1.0 if mirror else 1.0, 1.0])
    return np.column_stack([matrix, [x, y]])


# --- pasting --------------------------------------------------------------------------------------------------------


def paste(sheet: np.ndarray, piece: Piece) -> tuple[np.ndarray, np.ndarray]:
    """The sheet with the piece laid on it, `(size, size, 3)`, and where it lies, `(size, size)` in [0, 1]."""
    size = len(sheet)
    sheet, everywhere = sheet.copy(), np.zeros((size, size), dtype=np.float32)
    rows, columns = _window(piece, size)  # nothing changes outside it, and most pieces are small
    under, alpha = sheet[rows, columns], coverage(piece.outline, size, rows, columns)
    colour = np.asarray(piece.colour, dtype=np.float32)
    if piece.lift:
        under = under * (1 - 0.42 * _shadow(piece, size, rows, columns))[..., None]
        colour = colour * (1 + _edges(alpha, size))[..., None]
    sheet[rows, columns] = under + alpha[..., None] * (colour - under)
    everywhere[rows, columns] = alpha
    return sheet, everywhere


def _window(piece: Piece, size: int) -> tuple[slice, slice]:
    """The rows and columns that the piece and its shadow can touch."""
    margin = SHADOW_REACH * piece.lift + 1
    low = np.floor((piece.outline.min(0) - margin) * size / UNITS).clip(0, size - 1).astype(int)
    high = np.ceil((piece.outline.max(0) + margin) * size / UNITS).clip(1, size).astype(int)
    return slice(int(low[1]), int(high[1])), slice(int(low[0]), int(high[0]))


def coverage(outline: np.ndarray, size: int, rows: slice, columns: slice) -> np.ndarray:
    """How much of each pixel of the window lies inside the outline, `(rows, columns)` in [0, 1]."""
    height, width = rows.stop - rows.start, columns.stop - columns.start
    fine = Image.new("L", (width * SUPERSAMPLE, height * SUPERSAMPLE))
    corners = (outline * (size / UNITS) - [columns.start, rows.start]) * SUPERSAMPLE - 0.5  # Pillow counts from centres
    ImageDraw.Draw(fine).polygon(corners.ravel().tolist(), fill=255)
    return np.asarray(fine.reduce(SUPERSAMPLE), dtype=np.float32) / 255


def _shadow(piece: Piece, size: int, rows: slice, columns: slice) -> np.ndarray:
    """The soft shadow to the lower right, by a box blur because its reach is finite, unlike a Gaussian's."""
    cast = coverage(piece.outline + np.array([0.7, 1.0]) * piece.lift, size, rows, columns)
    soft = Image.fromarray((255 * cast).astype(np.uint8)).filter(ImageFilter.BoxBlur(piece.lift * size / UNITS))
    return np.asarray(soft, dtype=np.float32) / 255


def _edges(alpha: np.ndarray, size: int) -> np.ndarray:
    """The cut edge of the paper: brighter where it faces the light at the upper left, darker opposite."""
    step = max(1, round(size / UNITS))
    padded = np.pad(alpha, step)
    above, below = padded[: -2 * step, : -2 * step], padded[2 * step :, 2 * step :]  # one step up left, down right
    return 0.22 * np.clip(alpha - above, 0, 1) - 0.16 * np.clip(alpha - below, 0, 1)
