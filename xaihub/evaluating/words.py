"""What scores say, in sentences that follow from their intervals and from nothing else."""

import inspect
from collections.abc import Iterable, Sequence

from xaihub.methods import METHODS
from xaihub.metrics import METRICS
from xaihub.records import Score

__all__ = [
    "BASELINE_TITLES", "HOW_INTERVALS", "KNOWS_NOTHING", "NO_BETTER", "explained", "findings", "headline", "listed",
    "metric_title", "title",
]  # fmt: skip

BASELINE_TITLES = {"random": "random map", "centre": "centre blob", "edges": "edge map"}

KNOWS_NOTHING = {
    "random": "values by lot on the target layer's grid, enlarged as a heatmap is: another lot for each picture",
    "centre": "a Gaussian blob in the middle, where photographers put things: the same for every picture",
    "edges": "how strong the picture's edges are, smoothed to the target layer's grid",
}
NO_BETTER = (
    "“No better than random” means: picture by picture the method's value was compared with that of a random map on"
    " the same picture, and the 95 % interval of the mean difference includes zero or lies on the wrong side of it. A"
    " method of which this is said has not shown, on these pictures and by this metric, that it knows anything of the"
    " network."
)
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


def headline(scores: Sequence[Score]) -> str | None:
    """The metric to read first: insertion minus deletion where it was measured, else the first that has baselines."""
    known = [score.metric for score in scores if score.gains and not score.baseline]
    return "insertion-deletion" if "insertion-deletion" in known else next(iter(known), None)


def findings(scores: Sequence[Score]) -> list[str]:
    """What the metric to read first says of each method, then where methods fail by the other metrics."""
    first = headline(scores)
    judged = [score for score in scores if score.gains and not score.baseline]
    told = [_verdict(score) for score in judged if score.metric == first]
    for method in dict.fromkeys(score.method for score in judged):
        failed = [s for s in judged if s.method == method and s.metric != first and "random" in s.no_better_than]
        failed = [score for score in failed if score.category in ("faithfulness", "localisation")]
        if failed:
            told.append(
                f"{title(method)} is no better than random by {listed(metric_title(s.metric) for s in failed)}."
            )
    return told


def _verdict(score: Score) -> str:
    name, metric = title(score.method), metric_title(score.metric)
    worse, better = score.no_better_than, [each for each in score.gains if score.beats(each)]
    if not worse:
        gain = score.gains.get("random") or next(iter(score.gains.values()))
        over = "random" if "random" in score.gains else next(iter(score.gains))
        return (
            f"{name} is better than {_all_of(better)} by {metric}; over {over} it gains {gain.value:.3f} on average"
            f" (95 % interval {gain.low:.3f} to {gain.high:.3f}, {score.count:,} pictures)."
        )
    fails = f"{name} is no better than {_all_of(worse, 'or')} by {metric}"
    return f"{fails}, although better than {_all_of(better)}." if better else f"{fails}: it fails here."


def _all_of(names: Sequence[str], last: str = "and") -> str:
    words = {"random": "random", "centre": "a blob in the centre", "edges": "the picture's edges"}
    return listed((words.get(name, name) for name in names), last)


def listed(words: Iterable[str], last: str = "and") -> str:
    """Words with commas, and the last one as in a sentence."""
    several = list(words)
    return several[0] if len(several) == 1 else f"{', '.join(several[:-1])} {last} {several[-1]}" if several else ""
