"""A page that explains itself: opens offline, prints, and says what each of its numbers means."""

from collections.abc import Mapping, Sequence
from datetime import date
from html import escape
from importlib.resources import files

from xaihub.evaluating.chapters import Chapter, Example
from xaihub.evaluating.plots import curve_panel, intervals, ranks
from xaihub.evaluating.tables import best_first, gain_in_words, number, with_interval
from xaihub.evaluating.words import (
    BASELINE_TITLES,
    HOW_INTERVALS,
    KNOWS_NOTHING,
    NO_BETTER,
    explained,
    few_pictures,
    findings,
    headline,
    listed,
    metric_title,
    standing,
    title,
)  # fmt: skip
from xaihub.images import thumbnail
from xaihub.metrics import BASELINES
from xaihub.notebook import picture_address
from xaihub.records import Score

__all__ = ["report"]

_EDGE = 150  # pixels of a shown picture
_MOVES = {"deletion": "pixels taken away, hottest first", "insertion": "pixels given back, hottest first"}
_CATEGORIES = {
    "faithfulness": "Faithfulness: do the marked places matter to the network?",
    "localisation": "Localisation: does the map find the thing?",
    "robustness": "Robustness: does the map stay when the picture hardly changes?",
    "randomisation": "Randomisation: does the map depend on what the network learned?",
    "complexity": "Complexity: how much does the map mark? This says nothing of whether it is right",
    "examples": "Examples: twins and counterfactuals",
    "prototypes": "Prototypes",
}


def report(chapters: Sequence[Chapter], *, command: str = "") -> str:
    """The HTML of one page on one or several models.

    Args:
        command: what was typed, to make it again.
    """
    names = listed(chapter.model for chapter in chapters)
    body = [
        "<header><h1>How far can these explanations be relied on?</h1>"
        f"<p>{escape(names)}. {_when(chapters)}</p>{_few(chapters)}</header>",
        *(_across(chapters) if len(chapters) > 1 else [_in_short(chapters[0])]),
        _reading(chapters),
        *(_chapter(chapter, place, len(chapters)) for place, chapter in enumerate(chapters)),
        f"<section><h2>To make this page again</h2><pre>{escape(command)}</pre></section>" if command else "",
    ]
    style = files("xaihub.evaluating").joinpath("report.css").read_text("utf-8")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport"'
        f' content="width=device-width, initial-scale=1"><title>Explanations evaluated: {escape(names)}</title>'
        f"<style>{style}</style></head><body><main>{''.join(body)}</main></body></html>\n"
    )


def _when(chapters: Sequence[Chapter]) -> str:
    made = max((str(chapter.facts.get("made", "")) for chapter in chapters), default="")[:10]
    return f"Measured with xaihub on {made or date.today().isoformat()}."


def _few(chapters: Sequence[Chapter]) -> str:
    told = few_pictures(score for chapter in chapters for score in chapter.scores)
    return f'<p class="few"><strong>Few pictures.</strong> {escape(told)}</p>' if told else ""


def _reading(chapters: Sequence[Chapter]) -> str:
    """What every chapter takes for granted, once."""
    beside = "".join(
        f"<dt>{escape(BASELINE_TITLES[name])}</dt><dd>{escape(KNOWS_NOTHING[name])}.</dd>" for name in BASELINES
    )
    if not any(score.gains for chapter in chapters for score in chapter.scores):
        return f"<section><h2>How to read this page</h2><p>{escape(HOW_INTERVALS)}</p></section>"
    return (
        "<section><h2>How to read this page</h2><p>A heatmap always shows something. The question is whether it shows"
        " more than a map that never looked at the network. So three such maps went through every metric on the same"
        f" pictures:</p><dl>{beside}</dl><p>{escape(NO_BETTER)}</p><p>{escape(HOW_INTERVALS)}</p><p>In the plots a dot"
        " is a mean over the pictures and the line through it its interval; a hollow dot stands for a method that is"
        " not better than random, or not shown to be. “Better by” is the mean difference to a baseline on the same"
        " pictures, turned so that more than zero is better whichever way the metric points. n is the number of"
        " pictures a mean is taken of.</p></section>"
    )


def _across(chapters: Sequence[Chapter]) -> list[str]:
    """The metric to read first for all models side by side."""
    metric = next(filter(None, (headline(chapter.scores) for chapter in chapters)), None)
    if metric is None:
        return []
    names = list(dict.fromkeys(s.method for c in chapters for s in c.scores if s.metric == metric))
    head = "".join(f"<th>{escape(title(name))}</th>" for name in names)
    rows = "".join(
        f"<tr><th>{escape(chapter.model)}</th>{''.join(_cell(_found(chapter, metric, name)) for name in names)}</tr>"
        for chapter in chapters
    )
    return [
        f"<section><h2>All models: {escape(metric_title(metric))}</h2><p>{escape(' '.join(explained(metric)[:1]))} The"
        " mean with its 95 % interval; a star where a method is better than all three maps that know nothing.</p>"
        f'<div class="wide"><table><thead><tr><th></th>{head}</tr></thead><tbody>{rows}</tbody></table></div></section>'
    ]


def _found(chapter: Chapter, metric: str, method: str) -> Score | None:
    return next((s for s in chapter.scores if (s.metric, s.method) == (metric, method)), None)


def _cell(score: Score | None) -> str:
    if score is None:
        return "<td>–</td>"
    star = " ★" * bool(score.gains and all(standing(score, each) == "better" for each in score.gains))
    return f"<td>{number(score.value)}{star}<br><small>{number(score.low)} to {number(score.high)}</small></td>"


def _chapter(chapter: Chapter, place: int, of: int) -> str:
    maps = [score for score in chapter.scores if score.gains]
    parts = [f"<h2>{escape(chapter.model)}</h2>", _in_short(chapter)] if of > 1 else []
    if maps:
        parts += [_ranked(maps), _pictures(chapter)]
    parts += [_category(chapter, category) for category in _CATEGORIES]
    parts.append(_made(chapter))
    return f'<article id="model-{place + 1}">{"".join(parts)}</article>'


def _in_short(chapter: Chapter) -> str:
    told = findings(chapter.scores)
    metric = headline(chapter.scores)
    if not told:
        return ""
    items = "".join(f"<li>{escape(sentence)}</li>" for sentence in told)
    first = f"{metric_title(metric)} is read first: {_lowered(explained(metric)[0])}" if metric else ""
    return f"<section><h2>In short</h2><ul>{items}</ul>{f'<p>{escape(first)}</p>' * bool(first)}</section>"


def _lowered(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]


def _ranked(scores: Sequence[Score]) -> str:
    return (
        "<section><h3>Which method comes first by which metric</h3><p>The number is the place by the mean of that"
        " metric, 1 for the best; baselines take part. Ordered by the mean place by the metrics of faithfulness and"
        " localisation, in the last column. Neighbouring places may lie within each other's intervals: see the plots"
        f' below.</p><div class="wide">{ranks(scores)}</div></section>'
    )


def _pictures(chapter: Chapter) -> str:
    metric = headline(chapter.scores)
    if not chapter.best or metric is None:
        return ""
    listed_rows = [("Where the methods did best", chapter.best), ("Where they did worst", chapter.worst)]
    parts = "".join(f"<h4>{escape(words)}</h4>{''.join(map(_example, rows))}" for words, rows in listed_rows)
    return (
        f"<section><h3>The best and the worst pictures</h3><p>By {escape(metric_title(metric))}, the mean of the"
        " methods shown; below each map its own value. Yellow is where a method sees most for the class, dark blue"
        " where it sees nothing. A low value may also mean that the class had little probability to begin with, so that"
        f" there was little to take away or to give back.</p>{parts}</section>"
    )


def _example(example: Example) -> str:
    figures = _figure(example.image, "the picture") + "".join(
        _figure(image, f"{title(name)}: {number(example.values[name])}") for name, image in example.maps.items()
    )
    return f'<div class="example"><div class="figures">{figures}</div><p>{escape(example.words)}</p></div>'


def _figure(image: object, words: str) -> str:
    small = thumbnail(image, _EDGE)  # type: ignore[arg-type]
    return (
        f'<figure><img src="{picture_address(small, 82)}" width="{small.width}" height="{small.height}"'
        f' alt="{escape(words)}"><figcaption>{escape(words)}</figcaption></figure>'
    )


def _category(chapter: Chapter, category: str) -> str:
    metrics = dict.fromkeys(score.metric for score in chapter.scores if score.category == category)
    if not metrics:
        return ""
    told = "".join(_metric(chapter, metric) for metric in metrics)
    return f"<section><h3>{escape(_CATEGORIES[category])}</h3>{told}</section>"


def _metric(chapter: Chapter, metric: str) -> str:
    scores = [score for score in chapter.scores if score.metric == metric]
    better = "Higher is better." if scores[0].higher_is_better else "Lower is better."
    settings = ", ".join(f"{name} {value}" for name, value in scores[0].settings.items() if value is not None)
    counts = sorted({score.count for score in scores})
    n = f"n = {counts[0]:,}" if len(counts) == 1 else f"n = {counts[0]:,} to {counts[-1]:,}"
    words = " ".join(explained(metric)[:2])
    return (
        f'<div class="metric"><h4>{escape(metric_title(metric))}</h4><p>{escape(words)} <strong>{better}</strong> {n}'
        f"{f'; settings: {escape(settings)}' if settings else ''}.</p>"
        f"{intervals(scores)}{_curves(chapter.curves, metric)}{_table(scores)}</div>"
    )


def _curves(curves: Mapping[tuple[str, ...], object], metric: str) -> str:
    held = {method: curve for (name, method), curve in curves.items() if name == metric}
    beside = {name: held[name] for name in held if name in BASELINES}
    panels = "".join(
        curve_panel(name, curve, beside, _MOVES.get(metric, "share of the pixels moved"))  # type: ignore[arg-type]
        for name, curve in held.items()
        if name not in BASELINES
    )
    if not panels:
        return ""
    keys = "".join(
        f'<span><svg width="34" height="10" aria-hidden="true"><path class="{kind}" d="M1 5H33"/></svg>'
        f" {escape(words)}</span>"
        for kind, words in (
            ("line", "the method, with its 95 % band"),
            *((f"other {n}", BASELINE_TITLES[n]) for n in beside),
        )
    )
    return (
        f'<p class="legend">The target’s mean probability, step by step: {keys}</p><div class="panels">{panels}</div>'
    )


def _table(scores: Sequence[Score]) -> str:
    ordered = best_first(scores)
    beside = [score.method for score in ordered if score.baseline]
    head = "".join(
        f"<th>better than the {escape(BASELINE_TITLES[name])} by</th>"
        for name in sorted(beside, key=list(BASELINES).index)
    )
    rows = "".join(_row(score, sorted(beside, key=list(BASELINES).index)) for score in ordered)
    return (
        f'<div class="wide"><table><thead><tr><th>method</th><th>mean (95 % interval)</th><th>n</th>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _row(score: Score, beside: Sequence[str]) -> str:
    gains = "".join(f"<td>{gain_in_words(score, name, '<b>{}</b>')}</td>" for name in beside)
    return (
        f"<tr{' class=baseline' * score.baseline}><th>{escape(title(score.method))}</th>"
        f'<td class="mean">{with_interval(score)}</td><td>{score.count:,}</td>{gains}</tr>'
    )


def _made(chapter: Chapter) -> str:
    rows = "".join(
        f"<tr><th>{escape(name)}</th><td>{escape(str(value))}</td></tr>"
        for name, value in chapter.facts.items()
        if value not in (None, "")
    )
    return (
        '<section><h3>How it was made</h3><div class="wide"><table class="facts"><tbody>'
        f"{rows}</tbody></table></div></section>"
    )
