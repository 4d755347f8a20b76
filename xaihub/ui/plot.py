"""Plots as inline SVG, without a script library: references in a plane, and a curve through the layers.

Colour never speaks alone: every group has a shape and a name, and every plot a table that says the same.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from xaihub.projections import Plane
    from xaihub.separability import Separability

__all__ = ["Dot", "curve", "groups_of", "legend_of", "marks", "scatter"]

WIDTH, HEIGHT, MARGIN = 640, 460, 34  # units of the scatter's view box
CURVE = (640, 240)
LEFT, RIGHT, TOP, BOTTOM = 62, 16, 14, 44  # of the curve's axes

# eight shapes of about one area, around the middle of their 16 x 16; the last is for all further groups
SHAPES = (
    "M8 2.2a5.8 5.8 0 1 0 .01 0z",
    "M3 3h10v10H3z",
    "M8 1.6l6.8 11.8H1.2z",
    "M8 .8L15.2 8 8 15.2.8 8z",
    "M6 1.5h4V6h4.5v4H10v4.5H6V10H1.5V6H6z",
    "M8 14.4L1.2 2.6h13.6z",
    "M8 .9l2 5 5.3.3-4.1 3.4 1.3 5.2L8 12l-4.5 2.8 1.3-5.2L.7 6.2 6 5.9z",
    "M8 4.6a3.4 3.4 0 1 0 .01 0z",
)
OTHERS = len(SHAPES) - 1


@dataclass(frozen=True)
class Dot:
    """One picture of the plot: its groups, and what is said of it."""

    label: str | None
    predicted: str
    words: str


def groups_of(names: Sequence[str | None]) -> list[str]:
    """The names that have a shape of their own: those of most pictures, in the order of the alphabet among equals."""
    counted = Counter(name for name in names if name is not None)
    common = sorted(counted, key=lambda name: (-counted[name], name))
    return common if len(common) <= OTHERS else common[:OTHERS]


def marks() -> str:
    """The shapes, to be used by their ids; they take no room."""
    shapes = "".join(
        f'<symbol id="xh-mark-{i}" viewBox="0 0 16 16"><path d="{d}"/></symbol>' for i, d in enumerate(SHAPES)
    )
    return f'<svg class="xh-filters" aria-hidden="true" focusable="false">{shapes}</svg>'


def legend_of(names: Sequence[str | None], by: str) -> str:
    """Each shape with its group's name and size."""
    groups, counted = groups_of(names), Counter(names)
    rest = len(names) - sum(counted[group] for group in groups)
    listed = [(i, escape(group), counted[group]) for i, group in enumerate(groups)]
    if rest:
        listed.append((OTHERS, "<em>all others</em>", rest))
    items = "".join(
        f'<li><svg class="xh-mark xh-hue-{i}" aria-hidden="true"><use href="#xh-mark-{i}"/></svg> {name} ({count})</li>'
        for i, name, count in listed
    )
    return f'<ul class="xh-marks" data-by="{by}">{items}</ul>'


def scatter(planes: "Sequence[Plane]", dots: Sequence[Dot], shown: int, described: str) -> str:
    """The references in a plane for each layer, of which the script shows one; the query is a ring with its name.

    Args:
        shown: the layer to begin with.
        described: what the picture is, for whoever cannot see it.
    """
    places = [_placed(plane) for plane in planes]  # per layer, (R + 1, 2); the query last
    by_label = groups_of([dot.label for dot in dots])
    by_prediction = groups_of([dot.predicted for dot in dots])
    drawn = "".join(
        f'<g class="xh-dot" role="button" tabindex="{0 if i == 0 else -1}" data-row="{i}" data-at="{_at(places, i)}"'
        f' transform="translate({_pair(places[shown][i])})" aria-label="{escape(dot.words)}">'
        f'<circle class="xh-halo" r="13"/>'
        f"{_use(_shape(dot.label, by_label), 'label')}{_use(_shape(dot.predicted, by_prediction), 'prediction')}</g>"
        for i, dot in enumerate(dots)
    )
    query = len(dots)
    mine = (
        f'<g class="xh-query" data-at="{_at(places, query)}" transform="translate({_pair(places[shown][query])})">'
        '<circle r="13"/><path d="M-20 0h12M8 0h12M0-20v12M0 8v12"/><text y="-24">your picture</text></g>'
    )
    return (
        f'<svg class="xh-plane" viewBox="0 0 {WIDTH} {HEIGHT}" role="group" aria-label="{escape(described)}">'
        f"{drawn}{mine}</svg>"
    )


def curve(by: str, apart: "Sequence[Separability | None]", names: Sequence[str]) -> str:
    """Balanced accuracy of the linear probe at each layer, with a band of one standard error and the line of chance."""
    measured = [each for each in apart if each is not None]
    if not measured:
        return (
            f'<p class="xh-note" data-by="{by}">No two {by}s have two pictures each, so nothing can be said of how far'
            " they are apart. Take more references.</p>"
        )
    x = [_across(i, len(apart)) for i in range(len(apart))]
    values = [each.probe for each in measured]
    band = " ".join(
        f"{px:.1f},{_up(value):.1f}"
        for px, value in [
            *((px, min(1, each.probe + each.error)) for px, each in zip(x, measured, strict=True)),
            *((px, max(0, each.probe - each.error)) for px, each in list(zip(x, measured, strict=True))[::-1]),
        ]
    )
    line = " ".join(f"{px:.1f},{_up(value):.1f}" for px, value in zip(x, values, strict=True))
    points = "".join(
        f'<g class="xh-step" data-layer="{i}"><rect x="{px - 16:.1f}" y="{TOP}" width="32"'
        f' height="{CURVE[1] - TOP - 4}"/>'
        f'<circle cx="{px:.1f}" cy="{_up(value):.1f}" r="4.5"/>'
        f'<text x="{px:.1f}" y="{CURVE[1] - 18}">{i + 1}</text><title>{escape(name)}: {value:.2f}</title></g>'
        for i, (px, value, name) in enumerate(zip(x, values, names, strict=True))
    )
    chance = _up(measured[0].chance)
    told = ", ".join(f"{name} {value:.2f}" for name, value in zip(names, values, strict=True))
    return (
        f'<svg class="xh-curve" data-by="{by}" viewBox="0 0 {CURVE[0]} {CURVE[1]}" role="img"'
        f' aria-label="Balanced accuracy of a linear probe by {by}, layer by layer: {escape(told)}.'
        f' Chance is {measured[0].chance:.2f}.">'
        f'{_axis()}<polygon class="xh-band" points="{band}"/>'
        f'<path class="xh-chance" d="M{LEFT} {chance:.1f}H{CURVE[0] - RIGHT}"/>'
        f'<text class="xh-chance-word" x="{CURVE[0] - RIGHT}" y="{chance - 5:.1f}">chance'
        f" {measured[0].chance:.2f}</text>"
        f'<polyline class="xh-line" points="{line}"/>{points}</svg>'
    )


def _axis() -> str:
    ticks = "".join(
        f'<path class="xh-grid" d="M{LEFT} {_up(t):.1f}H{CURVE[0] - RIGHT}"/>'
        f'<text class="xh-tick" x="{LEFT - 8}" y="{_up(t) + 4:.1f}">{t:g}</text>'
        for t in (0, 0.5, 1)
    )
    middle = (TOP + CURVE[1] - BOTTOM) / 2
    across = f'<text class="xh-axis" transform="translate(12 {middle:.0f}) rotate(-90)">linear probe: accuracy</text>'
    return ticks + across + f'<text class="xh-axis" x="{(LEFT + CURVE[0]) / 2:.0f}" y="{CURVE[1] - 2}">layer</text>'


def _across(i: int, count: int) -> float:
    inner = CURVE[0] - LEFT - RIGHT - 40
    return LEFT + 20 + (inner * i / (count - 1) if count > 1 else inner / 2)


def _up(value: float) -> float:
    return TOP + (1 - value) * (CURVE[1] - TOP - BOTTOM)


def _placed(plane: "Plane") -> np.ndarray:
    """(R + 1, 2) in units of the view box, the query last; one scale for both axes, so distances are true."""
    points = plane.points if plane.query is None else np.concatenate([plane.points, plane.query[None]])
    low, high = points.min(0), points.max(0)
    scale = min((WIDTH - 2 * MARGIN) / max(high[0] - low[0], 1e-9), (HEIGHT - 2 * MARGIN) / max(high[1] - low[1], 1e-9))
    centred = (points - (low + high) / 2) * min(scale, 1e6)
    return centred * [1, -1] + [WIDTH / 2, HEIGHT / 2]


def _at(places: Sequence[np.ndarray], row: int) -> str:
    return ";".join(_pair(each[row]) for each in places)


def _pair(place: np.ndarray) -> str:
    return f"{place[0]:.1f} {place[1]:.1f}"


def _shape(name: str | None, groups: Sequence[str]) -> int:
    return groups.index(name) if name in groups else OTHERS


def _use(shape: int, by: str) -> str:
    return f'<use class="xh-hue-{shape}" data-by="{by}" href="#xh-mark-{shape}" x="-8" y="-8" width="16" height="16"/>'
