"""What scores say, in sentences that follow from their intervals and from nothing else."""

import inspect
from collections.abc import Iterable, Sequence
from typing import Literal

from xaihub.methods import METHODS
from xaihub.metrics import METRICS
from xaihub.records import Score

__all__ = [
    "BASELINE_TITLES", "FEWEST", "HOW_INTERVALS", "KNOWS_NOTHING", "NO_BETTER", "STANDINGS", "Standing", "explained",
    "few_pictures", "findings", "headline", "listed", "metric_title", "standing", "standing_in_words", "title",
]  # fmt: skip

# a bootstrap's percentiles are too near together where pictures are few: on values of a normal kind what is called a
# 95 % interval holds the true mean in 50 of 100 cases with 2 pictures, in 79 with 4, in 89 with 8
FEWEST = 10

Standing = Literal["better", "no better", "not shown", "too few"]

BASELINE_TITLES = {"random": "random map", "centre": "centre blob", "edges": "edge map"}

KNOWS_NOTHING = {
    "random": "values by lot on the target layer's grid, enlarged as a heatmap is: another lot for each picture",
    "centre": "a Gaussian blob in the middle, where photographers put things: the same for every picture",
    "edges": "how strong the picture's edges are, smoothed to the target layer's grid",
}
NO_BETTER = (
    "Picture by picture the method's value was compared with that of a random map on the same picture. “No better than"
    " random” means: the 95 % interval of the mean difference lies wholly at zero or on the wrong side of it. “Not"
    " shown to be better” means: the interval includes zero, so the method may be better, but these pictures do not"
    " show it."
    f" Of fewer than {FEWEST} pictures neither is said: they are too few to tell. A method that is not better has not"
    " shown, on these pictures and by this metric, that it knows anything of the network."
)
STANDINGS: dict[Standing, str] = {
    "better": "better", "no better": "no better", "not shown": "not shown to be better",
    "too few": "too few pictures to tell",
}  # fmt: skip
_LACKS: tuple[Standing, ...] = ("no better", "not shown")
HOW_INTERVALS = (
    "Intervals are 95 % bootstrap intervals: the pictures are drawn again 1,000 times with replacement, the same"
    " drawings for every method, and the middle 95 % of the means are given. They say what other pictures of the same"
    " kind would give; of other kinds of pictures or another network they say nothing."
)


def title(method: str) -> str:
    """A method's name as its authors write it, or the baseline's."""
    return BASELINE_TITLES.get(method) or (METHODS[method].title if method in METHODS else method)


def metric_title(metric: str) -> str:
    """A metric's name as its authors write it."""
    return METRICS[metric].title if metric in METRICS else metric


def explained(metric: str) -> list[str]:
    """Paragraphs on what a metric is, from its docstring: what comes out, what could be misread, the source."""
    if metric not in METRICS:
        return []
    text = inspect.cleandoc(METRICS[metric].run.__doc__ or "").split("\nArgs:")[0].split("\nReturns:")[0]
    return [" ".join(part.split()) for part in text.split("\n\n") if part.strip()]


def standing(score: Score, baseline: str) -> Standing | None:
    """How a method stands to a map that knows nothing; None where that says nothing of whether it can be relied on.

    Of a baseline itself, of a metric of complexity, and beside a baseline that was not measured it says nothing.
    """
    gain = score.gains.get(baseline)
    if gain is None or score.baseline or score.category == "complexity":
        return None
    if score.count < FEWEST:
        return "too few"
    return "better" if score.beats(baseline) else "no better" if gain.high <= 0 else "not shown"


def standing_in_words(score: Score, baseline: str) -> str:
    """What is to be said where a method is not better than a baseline; nothing where it is."""
    found = standing(score, baseline)
    return "" if found in (None, "better") else STANDINGS[found]


def few_pictures(scores: Iterable[Score]) -> str:
    """That intervals of so few pictures are too narrow; nothing where no mean is of so few."""
    fewest = min((score.count for score in scores), default=FEWEST)
    if fewest >= FEWEST:
        return ""
    return (
        f"Some means here are of fewer than {FEWEST} pictures, the fewest of {fewest}. Their 95 % intervals are too"
        " narrow: such an interval holds the true mean in about 50 of 100 cases with 2 pictures, in 79 with 4 and in 89"
        " with 8. They cannot tell whether a method is better than a map that knows nothing: measure more pictures."
    )


def headline(scores: Sequence[Score]) -> str | None:
    """The metric to read first: insertion minus deletion where it was measured, else the first that has baselines.

    Never one of complexity: that a map marks little says nothing of whether it is right.
    """
    known = [score.metric for score in _judged(scores)]
    return "insertion-deletion" if "insertion-deletion" in known else next(iter(known), None)


def findings(scores: Sequence[Score]) -> list[str]:
    """What the metric to read first says of each method, then where methods fail by the other metrics."""
    first, judged = headline(scores), _judged(scores)
    told = [_verdict(score) for score in judged if score.metric == first]
    for method in dict.fromkeys(score.method for score in judged):
        others = [score for score in judged if score.method == method and score.metric != first]
        others = [score for score in others if score.category in ("faithfulness", "localisation")]
        for kind in _LACKS:
            if by := [metric_title(score.metric) for score in others if standing(score, "random") == kind]:
                told.append(f"{title(method)} is {STANDINGS[kind]} than random by {listed(by)}.")
    return told or _simple_alone(scores)


def _judged(scores: Iterable[Score]) -> list[Score]:
    """What tells how far methods can be relied on."""
    return [score for score in scores if score.gains and not score.baseline and score.category != "complexity"]


def _simple_alone(scores: Iterable[Score]) -> list[str]:
    asked = list(dict.fromkeys(metric_title(score.metric) for score in scores if score.gains and not score.baseline))
    if not asked:
        return []
    return [
        f"Only complexity was measured ({listed(asked)}): how much a map marks, not whether it is right. So nothing"
        " here tells how far these explanations can be relied on. Measure a metric of faithfulness, too, such as"
        " insertion-deletion."
    ]


def _verdict(score: Score) -> str:
    name, metric = title(score.method), metric_title(score.metric)
    found = {kind: [each for each in score.gains if standing(score, each) == kind] for kind in STANDINGS}
    over = "random" if "random" in score.gains else next(iter(score.gains))
    gain = score.gains[over]
    gains = f"over {over} it gains {gain.value:.3f} on average"
    if found["too few"]:
        few = f"{score.count:,} picture{'s are' if score.count != 1 else ' is'} too few to tell whether it is better"
        return f"{name}: {few} than {_all_of(found['too few'], 'or')} by {metric}; {gains}."
    measured = f"95 % interval {gain.low:.3f} to {gain.high:.3f}, {score.count:,} pictures"
    if not found["no better"] and not found["not shown"]:
        return f"{name} is better than {_all_of(found['better'])} by {metric}; {gains} ({measured})."
    lacks = [f"is {STANDINGS[kind]} than {_all_of(found[kind], 'or')}" for kind in _LACKS if found[kind]]
    told = f"{name} {' and '.join(lacks)} by {metric}"
    if found["better"]:
        return f"{told}, although better than {_all_of(found['better'])}."
    return f"{told}: it fails here." if over in found["no better"] else f"{told}; {gains} ({measured})."


def _all_of(names: Sequence[str], last: str = "and") -> str:
    words = {"random": "random", "centre": "a blob in the centre", "edges": "the picture's edges"}
    return listed((words.get(name, name) for name in names), last)


def listed(words: Iterable[str], last: str = "and") -> str:
    """Words with commas, and the last one as in a sentence."""
    several = list(words)
    return several[0] if len(several) == 1 else f"{', '.join(several[:-1])} {last} {several[-1]}" if several else ""
