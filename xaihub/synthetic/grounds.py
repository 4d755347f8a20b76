"""The textured papers an animal is laid on, with a few scraps of other paper: nothing here knows the class."""

import colorsys

import numpy as np
from numpy.random import Generator
from PIL import Image

from xaihub.synthetic.paper import UNITS, Colour, Piece, oval, paste, ribbon, scalloped


def ground(random: Generator, size: int, apart_from: Colour) -> np.ndarray:
    """A ground, `(size, size, 3)` in [0, 1], whose colour stands apart from the coat laid on it."""
    base = np.array(_colour(random, apart_from), dtype=np.float32)
    second = np.clip(base * random.uniform(0.86, 0.94) + random.uniform(-0.03, 0.03, 3), 0, 1)
    texture = (_meadow, _weave, _tiles, _wash, _dots)[random.integers(5)]
    weight = texture(random, size)[..., None]
    sheet = (base + weight * (second - base)).astype(np.float32)
    for piece in _scraps(random):
        sheet, _ = paste(sheet, piece)
    return sheet


def _colour(random: Generator, apart_from: Colour) -> Colour:
    """A soft colour, drawn again until it is far enough from the coat."""
    while True:
        colour = colorsys.hsv_to_rgb(random.random(), random.uniform(0.06, 0.32), random.uniform(0.66, 0.94))
        if np.linalg.norm(np.subtract(colour, apart_from)) > 0.33:
            return colour


def noise(random: Generator, size: int, cells: int) -> np.ndarray:
    """Smooth noise `(size, size)` in [0, 1] with `cells` bumps to a side, the same picture at every size."""
    coarse = Image.fromarray(random.random((cells, cells), dtype=np.float32))
    return np.clip(np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC)), 0, 1)


def _grid(size: int) -> tuple[np.ndarray, np.ndarray]:
    """The x and y of each pixel's centre, in units."""
    y, x = (np.mgrid[:size, :size] + 0.5) * (UNITS / size)
    return x, y


# --- textures: each (size, size), 0 the first colour and 1 the second, or a little beyond -----------------------------


def _meadow(random: Generator, size: int) -> np.ndarray:
    """Short blades of grass over uneven light."""
    weight = 0.9 * noise(random, size, 7)
    stripes = noise(random, size, 40) * noise(random, size, 80)
    lean = stripes + np.roll(stripes, size // 80, 0) + np.roll(stripes, 2 * size // 80, 0)  # blades stand upright
    return weight + 0.9 * (lean - lean.mean())


def _weave(random: Generator, size: int) -> np.ndarray:
    """Threads over and under."""
    x, y = _grid(size)
    step = random.uniform(5, 9)
    across, down = np.sin(np.pi * x / step) ** 2, np.sin(np.pi * y / step) ** 2
    over = (np.floor(x / step) + np.floor(y / step)) % 2
    return np.where(over > 0, across, down) * 0.9 + 0.3 * noise(random, size, 20)


def _tiles(random: Generator, size: int) -> np.ndarray:
    """Square tiles, each of its own shade, with pale joints."""
    x, y = _grid(size)
    step = random.uniform(16, 30)
    x, y = x + random.uniform(0, step), y + random.uniform(0, step)
    shades = random.random((12, 12))
    joint = (np.minimum(x % step, y % step) < 1.6) * 1.0
    return np.where(joint > 0, -0.9, shades[(y // step).astype(int), (x // step).astype(int)])


def _wash(random: Generator, size: int) -> np.ndarray:
    """Watercolour: a slope of colour with clouds."""
    x, y = _grid(size)
    angle = random.uniform(0, 2 * np.pi)
    slope = (np.cos(angle) * (x / UNITS - 0.5) + np.sin(angle) * (y / UNITS - 0.5)) * 1.6
    return 0.5 + slope + 0.9 * (noise(random, size, 6) - 0.5) + 0.4 * (noise(random, size, 24) - 0.5)


def _dots(random: Generator, size: int) -> np.ndarray:
    """Polka dots on slightly clouded paper."""
    x, y = _grid(size)
    step = random.uniform(11, 18)
    x, y = x + random.uniform(0, step), y + random.uniform(0, step)
    x = x + (np.floor(y / step) % 2) * step / 2
    away = np.hypot(x % step - step / 2, y % step - step / 2)
    return 1.5 * np.clip(step * 0.24 - away + 0.5, 0, 1) + 0.4 * noise(random, size, 8)


# --- scraps -----------------------------------------------------------------------------------------------------------


def _scraps(random: Generator) -> list[Piece]:
    """Up to seven petals, leaves and rounds, so that not every shape in a picture belongs to the animal."""
    return [piece for _ in range(random.integers(0, 8)) for piece in _scrap(random)]


def _scrap(random: Generator) -> list[Piece]:
    x, y, radius = random.uniform(4, UNITS - 4), random.uniform(4, UNITS - 4), random.uniform(3.5, 7)
    colour = colorsys.hsv_to_rgb(random.random(), random.uniform(0.2, 0.5), random.uniform(0.75, 0.98))
    kind = random.integers(3)
    if kind == 0:
        heart = Piece(oval(x, y, radius * 0.35, radius * 0.35), (0.99, 0.90, 0.55), "scrap")
        return [Piece(scalloped(x, y, radius, 6, 0.35), colour, "scrap", lift=0.6), heart]
    if kind == 1:
        angle = random.uniform(0, 2 * np.pi)
        ends = np.array([[-1.0], [0], [1]]) * radius * 1.3 * np.array([np.cos(angle), np.sin(angle)]) + [x, y]
        return [
            Piece(
                ribbon([tuple(end) for end in ends], [0.5, radius, 1.15 * radius, 0.7 * radius, 0.5]),
                colour,
                "scrap",
                lift=0.6,
            )
        ]
    return [Piece(oval(x, y, radius * 0.7, radius * 0.7), colour, "scrap", lift=0.6)]
