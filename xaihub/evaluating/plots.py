"""Plots as inline SVG for a page that is read offline and printed: no script, and no colour that speaks alone."""

import math
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from xaihub.evaluating.resampling import Floats
from xaihub.evaluating.tables import best_first, with_interval
from xaihub.evaluating.words import STANDINGS, metric_title, standing_in_words, title
from xaihub.records import Score

__all__ = ["curve_panel", "intervals", "ranks", "ranks_of"]

_WIDTH, _NAMES, _WORDS = 920, 180, 330  # of an interval plot: all of it, its names, and what stands right of it
_ROW, _TOP, _FOOT = 26, 8, 40
_PANEL, _LEFT, _BASE = (264, 188), 36, 34  # of a curve: its size, and the room of its axes
_CELL, _LABEL = 46, 168  # of the rank chart


def intervals(scores: Sequence[Score]) -> str:
    """One metric: a dot and its 95 % interval for each method, best first, and the baselines below.

    A hollow dot stands for a method that is not better than random; the words beside it say why.
    """
    ordered = best_first(scores)
    across = _Axis(min(s.low for s in ordered), max(s.high for s in ordered), _NAMES, _WIDTH - _WORDS)
    bottom = _TOP + _ROW * len(ordered)
    grid = "".join(
        f'<path class="grid" d="M{across(t):.1f} {_TOP}V{bottom}"/>'
        f'<text class="tick" x="{across(t):.1f}" y="{bottom + 15}">{escape(_tick(t, across.step))}</text>'
        for t in across.ticks
    )
    beside = "".join(
        f'<path class="beside" d="M{across(s.value):.1f} {_TOP}V{bottom}"/>' for s in ordered if s.baseline
    )
    better = "better →" if ordered[0].higher_is_better else "← better"
    middle = (_NAMES + _WIDTH - _WORDS) / 2
    foot = f'<text class="axis" x="{middle:.0f}" y="{bottom + 34}">{better}</text>'
    rows = "".join(_interval(score, i, across) for i, score in enumerate(ordered))
    name = metric_title(ordered[0].metric)
    return (
        f'<svg class="plot" viewBox="0 0 {_WIDTH} {bottom + _FOOT}" role="img" aria-label="{escape(name)}: the'
        ' mean of each method with its 95 % interval, the maps that know nothing below. The table says the same.">'
        f"{grid}{beside}{rows}{foot}</svg>"
    )


def _interval(score: Score, place: int, across: "_Axis") -> str:
    y = _TOP + _ROW * (place + 0.5)
    lacks = standing_in_words(score, "random")
    kind = "baseline" if score.baseline else "fails" if lacks else "method"
    words = with_interval(score) + f", {lacks}" * bool(lacks) + " than random" * (lacks == STANDINGS["no better"])
    return (
        f'<g class="{kind}"><text class="name" x="{_NAMES - 12}" y="{y + 4:.1f}">{escape(title(score.method))}</text>'
        f'<path class="bar" d="M{across(score.low):.1f} {y:.1f}H{across(score.high):.1f}"/>'
        f'<circle cx="{across(score.value):.1f}" cy="{y:.1f}" r="4.5"/>'
        f'<text class="words" x="{_WIDTH - _WORDS + 12}" y="{y + 4:.1f}">{escape(words)}</text></g>'
    )


class _Axis:
    """Where a value lies between two places, with round ticks that reach at least as far as the values."""

    def __init__(self, low: float, high: float, start: float, end: float, ticks: int = 5) -> None:
        low, high = (low, high) if high > low else (low - 0.5, high + 0.5)
        rough = (high - low) / ticks
        power = 10.0 ** math.floor(math.log10(rough))
        self.step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= rough * 0.999)
        self.low, self.high = math.floor(low / self.step) * self.step, math.ceil(high / self.step) * self.step
        self.start, self.end = start, end
        count = round((self.high - self.low) / self.step)
        self.ticks = [self.low + i * self.step for i in range(count + 1)]

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def _tick(value: float, step: float) -> str:
    digits = max(0, -math.floor(math.log10(step) + 1e-9)) + (step / 10 ** math.floor(math.log10(step)) == 2.5)
    return f"{value + 0:.{digits}f}".replace("-", "−")


def _up(value: float) -> float:
    return 24 + (1 - value) * (_PANEL[1] - 24 - _BASE)


def _along(count: int) -> Floats:
    return _LEFT + np.linspace(0, 1, count) * (_PANEL[0] - _LEFT - 10)


def curve_panel(method: str, curve: Floats, beside: Mapping[str, Floats], words: str) -> str:
    """One method's mean curve (3, points) with its band, and the baselines' without, as a small plot.

    Args:
        beside: baseline -> (3, points).
        words: below the axis.
    """
    width, height = _PANEL
    grid = "".join(
        f'<path class="grid" d="M{_LEFT} {_up(t):.1f}H{width - 10}"/>'
        f'<text class="tick" style="text-anchor:end" x="{_LEFT - 5}" y="{_up(t) + 4:.1f}">{t:g}</text>'
        for t in (0, 0.5, 1)
    )
    ends = "".join(
        f'<text class="tick" x="{x:.0f}" y="{height - 20}">{t}</text>'
        for x, t in ((_LEFT, "0 %"), ((width - 10 + _LEFT) / 2, "50 %"), (width - 24, "100 %"))
    )
    x = _along(curve.shape[1])
    band = " ".join(
        f"{px:.1f},{_up(value):.1f}"
        for px, value in [*zip(x, curve[2], strict=True), *list(zip(x, curve[1], strict=True))[::-1]]
    )
    others = "".join(
        f'<polyline class="other {name}" points="{_points(_along(each.shape[1]), each[0])}"/>'
        for name, each in beside.items()
    )
    return (
        f'<svg class="panel" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title(method))}: the mean'
        f" probability goes from {curve[0, 0]:.2f} to {curve[0, -1]:.2f}; half way it is"
        f' {curve[0, curve.shape[1] // 2]:.2f}.">'
        f'<text class="heading" x="{_LEFT}" y="14">{escape(title(method))}</text>{grid}{ends}'
        f'<polygon class="band" points="{band}"/>{others}<polyline class="line" points="{_points(x, curve[0])}"/>'
        f'<text class="axis" x="{(_LEFT + width - 10) / 2:.0f}" y="{height - 4}">{escape(words)}</text></svg>'
    )


def _points(x: Floats, values: Floats) -> str:
    return " ".join(f"{px:.1f},{_up(value):.1f}" for px, value in zip(x, values, strict=True))


def ranks_of(scores: Sequence[Score]) -> dict[str, dict[str, int]]:
    """Metric -> method or baseline -> its place by the mean, 1 for the best; equals share the better place."""
    found: dict[str, dict[str, int]] = {}
    for metric in dict.fromkeys(score.metric for score in scores if score.gains):
        those = [s for s in scores if s.metric == metric and math.isfinite(s.value)]
        sign = -1 if those[0].higher_is_better else 1
        values = {s.method: sign * s.value for s in those}
        found[metric] = {m: 1 + sum(other < value for other in values.values()) for m, value in values.items()}
    return found


def ranks(scores: Sequence[Score]) -> str:
    """Which place each method has by each metric: a disc with the number, the darker the better.

    Ordered by the mean place by the metrics of faithfulness and localisation, which stands in the last column.
    """
    placed = ranks_of(scores)
    telling = [m for m in placed if _category(scores, m) in ("faithfulness", "localisation")] or list(placed)
    names = list(dict.fromkeys(s.method for s in scores if s.gains))
    mean = {n: float(np.mean([float(placed[m][n]) for m in telling if n in placed[m]] or [math.nan])) for n in names}
    names.sort(key=mean.__getitem__)
    baselines = {s.method for s in scores if s.baseline}
    metrics, top = list(placed), 118
    right = _LABEL + _CELL * len(metrics)
    heads = "".join(
        f'<text class="slanted" transform="translate({_LABEL + _CELL * (i + 0.5):.0f} {top - 10}) rotate(-38)">'
        f"{escape(metric_title(metric))}</text>"
        for i, metric in enumerate(metrics)
    )
    body = "".join(
        f'<text class="name{" baseline" * (name in baselines)}" x="{_LABEL - 12}"'
        f' y="{top + _ROW * (row + 0.5) + 4:.1f}">{escape(title(name))}</text>'
        + "".join(
            _disc(placed[metric][name], len(names), _LABEL + _CELL * (i + 0.5), top + _ROW * (row + 0.5))
            for i, metric in enumerate(metrics)
            if name in placed[metric]
        )
        + f'<text class="mean" x="{right + 34}" y="{top + _ROW * (row + 0.5) + 4:.1f}">{mean[name]:.1f}</text>'
        for row, name in enumerate(names)
    )
    slant = f'<text class="slanted" transform="translate({right + 34} {top - 10}) rotate(-38)">mean place</text>'
    height = top + _ROW * len(names) + 8
    return (
        f'<svg class="plot ranks" style="max-width:{right + 130}px" viewBox="0 0 {right + 130} {height}" role="img"'
        f' aria-label="The place of each method by each metric; the tables below have the values.">{heads}{slant}{body}'
        "</svg>"
    )


def _category(scores: Sequence[Score], metric: str) -> str:
    return next(score.category for score in scores if score.metric == metric)


def _disc(place: int, most: int, x: float, y: float) -> str:
    share = (place - 1) / max(1, most - 1)
    ground = tuple(round(dark + (light - dark) * share) for dark, light in ((49, 240), (46, 240), (129, 246)))
    ink = "#fff" if share < 0.55 else "#222"
    return (
        f'<circle cx="{x:.0f}" cy="{y:.1f}" r="11" fill="rgb{ground}"/>'
        f'<text class="place" style="fill:{ink}" x="{x:.0f}" y="{y + 4:.1f}">{place}</text>'
    )
