"""The animals as pieces of paper: what all share, and the parts that tell one from another.

Coordinates are the animal's own: the origin between head and body, facing us, the tail to the right.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.random import Generator

from xaihub.synthetic.paper import Colour, Piece, blob, oval, ribbon, scalloped, stroke, turn


class Look(NamedTuple):
    """The style of each part by which the classes differ; all else is common to all, or drawn by lot."""

    ears: str
    tail: str


LOOKS: dict[str, Look] = {
    "cat": Look(ears="pointed", tail="slender"),
    "dog": Look(ears="floppy", tail="slender"),
    "fox": Look(ears="pointed", tail="bushy"),
    "mouse": Look(ears="round", tail="slender"),
    "rabbit": Look(ears="long", tail="pompom"),
}

INK: Colour = (0.20, 0.17, 0.22)
CREAM: Colour = (0.98, 0.95, 0.88)
BLUSH: Colour = (0.94, 0.56, 0.55)
COATS: tuple[Colour, ...] = (
    (0.91, 0.58, 0.30),
    (0.55, 0.60, 0.66),
    (0.62, 0.43, 0.32),
    (0.93, 0.82, 0.64),
    (0.36, 0.33, 0.40),
    (0.95, 0.93, 0.89),
    (0.42, 0.60, 0.76),
    (0.69, 0.57, 0.77),
    (0.50, 0.72, 0.60),
    (0.91, 0.63, 0.63),
    (0.86, 0.70, 0.30),
    (0.74, 0.37, 0.31),
)
SCARVES: tuple[Colour, ...] = ((0.83, 0.27, 0.26), (0.17, 0.45, 0.55), (0.96, 0.76, 0.25), (0.33, 0.56, 0.35), CREAM)


@dataclass(frozen=True)
class Animal:
    """Everything about one animal but its class, so that two classes drawn alike differ by their parts alone."""

    coat: Colour
    scarf: Colour | None
    patch: bool  # a lighter patch around one eye
    whiskers: bool  # striking, and no evidence: any animal may wear them
    head_tilt: float  # degrees, and so are the next five
    ear_left: float
    ear_right: float
    arm_left: float  # 0 hangs down, 150 waves
    arm_right: float
    wag: float
    gaze: tuple[float, float]  # where the pupils look, in units


def imagine(random: Generator) -> Animal:
    """An animal drawn by lot."""
    wave = random.integers(3)  # one in three waves with the left arm, one in three with the right
    return Animal(
        coat=COATS[random.integers(len(COATS))],
        scarf=SCARVES[random.integers(len(SCARVES))] if random.random() < 0.6 else None,
        patch=bool(random.random() < 0.35),
        whiskers=bool(random.random() < 0.6),
        head_tilt=random.uniform(-9, 9),
        ear_left=random.uniform(-7, 7),
        ear_right=random.uniform(-7, 7),
        arm_left=random.uniform(95, 140) if wave == 0 else random.uniform(0, 30),
        arm_right=random.uniform(95, 140) if wave == 1 else random.uniform(0, 30),
        wag=random.uniform(-12, 12),
        gaze=(random.uniform(-1, 1), random.uniform(-0.6, 0.8)),
    )


def assemble(label: str, animal: Animal) -> list[Piece]:
    """The animal's pieces, the lowest first."""
    look = LOOKS[label]
    head_turn = turn(animal.head_tilt, about=(0, 0))
    ears = list(_ears(look.ears, animal))
    below, above = ([], ears) if look.ears == "floppy" else (ears, [])
    head = [*below, *_head(animal), *above]
    return [*_tail(look.tail, animal), *_body(animal), *(piece.moved(head_turn) for piece in head)]


def blend(first: Colour, second: Colour, share: float) -> Colour:
    """`first` with `share` of `second` mixed in."""
    red, green, blue = (a + share * (b - a) for a, b in zip(first, second, strict=True))
    return red, green, blue


def _mirrored(outline: np.ndarray) -> np.ndarray:
    return outline * np.array([-1.0, 1.0])


def _light(animal: Animal) -> Colour:
    """The paper of belly, muzzle, paws and tufts."""
    return blend(animal.coat, CREAM, 0.62) if sum(animal.coat) < 2.6 else (0.90, 0.85, 0.79)


def _dark(animal: Animal) -> Colour:
    """The paper of ears and tail: the coat's, in a deeper shade that stands out from head and body."""
    return blend(animal.coat, INK, 0.17)


# --- what every animal has ------------------------------------------------------------------------------------------


def _body(animal: Animal) -> Iterator[Piece]:
    half = [(0, -6), (14, -3), (22, 16), (27, 38), (21, 54), (8, 59)]
    light = _light(animal)
    yield Piece(blob([*half, *((-x, y) for x, y in half[:0:-1])]), animal.coat, "body", lift=1.6)
    yield Piece(oval(0, 37, 14.5, 18), light, "body", lift=0.5)
    for side, lifted in ((-1, animal.arm_left), (1, animal.arm_right)):
        arm = Piece(ribbon([(17, 11), (22, 20), (22, 33)], [9, 11, 12]), animal.coat, "body", lift=1.0)
        paw = Piece(oval(22, 35.5, 4.6, 3.4), light, "body")
        for piece in (arm, paw):
            outline = piece.moved(turn(-lifted, about=(17, 12))).outline
            yield Piece(outline if side > 0 else _mirrored(outline), piece.colour, "body", piece.lift)
    for side in (-1, 1):
        yield Piece(oval(15 * side, 57, 11.5, 6.5), animal.coat, "body", lift=0.8)
        for toe in (-4.5, 0, 4.5):
            yield Piece(ribbon([(15 * side + toe, 57), (15 * side + toe, 60)], [1.5, 1.5]), _dark(animal), "body")
    if animal.scarf:
        yield Piece(ribbon([(10, 6), (13, 14), (12, 26)], [6, 9, 11]), blend(animal.scarf, INK, 0.15), "scarf", 0.9)
        yield Piece(ribbon([(-18, 1), (-9, 6), (0, 7.5), (9, 6), (18, 1)], [9] * 5), animal.scarf, "scarf", lift=0.9)


def _head(animal: Animal) -> Iterator[Piece]:
    half = [(0, -47), (17, -44.5), (29, -33), (33.5, -17), (27, -3), (13, 4)]
    light = _light(animal)
    yield Piece(blob([*half, (0, 5), *((-x, y) for x, y in half[:0:-1])]), animal.coat, "head", lift=1.8)
    if animal.patch:
        yield Piece(oval(13.5, -21, 10.5, 11.5), blend(animal.coat, light, 0.75), "head")
    yield Piece(
        blob([(0, -14), (9, -11), (14, -4), (8, 2.5), (0, 3.5), (-8, 2.5), (-14, -4), (-9, -11)]), light, "head", 0.4
    )
    for side in (-1, 1):
        yield Piece(oval(22.5 * side, -8.5, 5.2, 3.6), blend(animal.coat, BLUSH, 0.75), "head")
        yield Piece(oval(13 * side, -20, 5.9, 7.2), CREAM, "head", lift=0.4)
        x, y = 13 * side + animal.gaze[0], -19.4 + animal.gaze[1]
        yield Piece(oval(x, y, 4.4, 5.6), INK, "head")
        yield Piece(oval(x - 1.5, y - 2.2, 1.5, 1.9), (1, 1, 1), "head")
        yield Piece(ribbon([(0, -6.5), (2.2 * side, -2.2), (6.3 * side, -3.2)], [1.3, 1.4, 1.1]), INK, "head")
    yield Piece(
        blob([(-4.4, -11.6), (0, -12.6), (4.4, -11.6), (2.6, -8.2), (0, -6.8), (-2.6, -8.2)]), INK, "head", lift=0.3
    )
    if animal.whiskers:
        yield from _whiskers(animal)


def _whiskers(animal: Animal) -> Iterator[Piece]:
    """Three on each cheek."""
    colour = INK if sum(animal.coat) > 1.3 else CREAM
    for side in (-1, 1):
        for start, middle, end in ((-9, -13, -17), (-5.5, -6.5, -7), (-2, 0.5, 4)):
            points = [(12.0 * side, start), (27.0 * side, middle), (43.0 * side, end)]
            yield Piece(ribbon(points, [1.7, 1.9, 1.0]), colour, "whiskers")


# --- the parts that tell --------------------------------------------------------------------------------------------


def _ears(style: str, animal: Animal) -> Iterator[Piece]:
    """Both ears, each an outer and an inner piece, turned about its root."""
    root, outer, inner = {
        "pointed": (
            (17, -38),
            _pointed((-1, -41), (26.5, -74), (26, -31)),
            _pointed((6, -43), (24.5, -65.5), (24, -36)),
        ),
        "round": ((20, -40), oval(25.5, -50, 19, 19), oval(26, -50, 12.5, 12.5)),
        "long": (
            (13, -40),
            blob([(1.5, -36), (0, -58), (4.5, -77), (13.5, -84), (22.5, -77), (26.5, -58), (23, -36)]),
            blob([(7.5, -40), (6, -58), (9.5, -72), (13.5, -76), (17.5, -72), (20.5, -58), (18, -40)]),
        ),
        "floppy": (
            (20, -42),
            blob(
                [
                    (7, -44),
                    (14, -52),
                    (25, -54),
                    (37, -45),
                    (45, -25),
                    (46, -7),
                    (38, 1),
                    (30, -6),
                    (28, -24),
                    (19, -36),
                ]
            ),
            ribbon([(30, -39), (37, -24), (37.5, -9)], [3, 4.5, 4]),
        ),
    }[style]
    inside = blend(animal.coat, INK, 0.32) if style == "floppy" else blend(_light(animal), BLUSH, 0.45)
    for side, degrees in ((-1, animal.ear_left), (1, animal.ear_right)):
        for outline, colour, lift in ((outer, _dark(animal), 0.85), (inner, inside, 0.3)):
            turned = Piece(outline, colour, "ears", lift).moved(turn(degrees, about=root))
            yield Piece(turned.outline if side > 0 else _mirrored(turned.outline), colour, "ears", lift)


def _pointed(foot: tuple[float, float], tip: tuple[float, float], heel: tuple[float, float]) -> np.ndarray:
    """A triangle with bulging sides and a slightly blunt tip."""
    (left, top), middle = tip, np.mean([foot, tip, heel], axis=0)
    rise, fall = (1.24 * np.mean([tip, corner], axis=0) - 0.24 * middle for corner in (foot, heel))
    return np.concatenate(
        [stroke([foot, tuple(rise), (left - 1.2, top + 1)]), stroke([(left + 1, top + 1), tuple(fall), heel])]
    )


def _tail(style: str, animal: Animal) -> Iterator[Piece]:
    """The tail, to the right of the body and under it."""
    coat, light = _dark(animal), _light(animal)
    if style == "slender":
        spine = [(14, 50), (30, 54), (43, 48), (47, 35), (41, 25), (43, 14), (51, 11)]
        pieces = [Piece(ribbon(spine, [9, 8.5, 8, 8, 7.5, 7, 6]), coat, "tail", 0.85)]
    elif style == "bushy":
        outline = [(16, 54), (30, 59), (49, 55), (61, 40), (64, 22), (55, -1), (42, 12), (34, 27), (28, 40)]
        tip = [(64, 23), (61.5, 11), (55, -1), (42, 12), (38, 19), (45, 17.5), (51, 23), (57, 18.5)]
        pieces = [Piece(blob(outline), coat, "tail", 0.85), Piece(blob(tip), light, "tail", 0.3)]
    else:
        pieces = [Piece(scalloped(32, 45, 14.5, 9, 0.2), light, "tail", 0.85)]
    yield from (piece.moved(turn(animal.wag, about=(18, 50))) for piece in pieces)
