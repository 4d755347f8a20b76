"""What answers say of people and explanations: accuracy, calibration and over-trust, each with its interval."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xaihub.intervals import Interval, wilson
from xaihub.quiz.answers import Answer

__all__ = ["Figures", "difference", "figures", "in_words"]

RESAMPLES, SEED = 2000, 0
FEWEST = 4  # values from which an interval of a mean is told
ROUNDS = 10  # from so many on, whole rounds are drawn anew: the answers of one person are alike
WIDEST = 0.2  # of an interval about zero that lets it be said that people were as sure as they were right


@dataclass(frozen=True)
class Figures:
    """Some answers in numbers; each interval is one of 95 %.

    Attributes:
        count: answers. `hits`: in how many the person knew what the model answers; `accuracy` their share, by Wilson.
        confidence: the people's mean one.
        over: mean confidence minus accuracy: above zero they were too sure, below zero not sure enough.
        brier: the mean square between confidence and 1 for a hit, 0 for a miss (Brier, 1950): lower is better, and
            confidence of one half throughout gives 0.25.
        wrong: answers to questions where the model was wrong; `trusted`, in how many of these the guess was what the
            dataset says: the person took the model to be right. `overtrust` is their share.
    """

    count: int
    hits: int
    accuracy: Interval
    confidence: float
    over: tuple[float, float, float]
    brier: tuple[float, float, float]
    wrong: int
    trusted: int
    overtrust: Interval

    @property
    def share(self) -> float:
        return self.hits / self.count if self.count else float("nan")


def figures(answers: Sequence[Answer]) -> dict[str, Figures]:
    """ "without", "with", and each method's name -> its figures; those without any answer are left out."""
    groups: dict[str, list[Answer]] = {
        "without": [each for each in answers if not each.method],
        "with": [each for each in answers if each.method],
    }
    for each in answers:
        if each.method:
            groups.setdefault(each.method, []).append(each)
    return {name: _figures(group) for name, group in groups.items() if group}


def _figures(answers: Sequence[Answer]) -> Figures:
    hits = sum(each.hit for each in answers)
    wrong = [each for each in answers if each.wrong]
    trusted = sum(each.trusted for each in wrong)
    sure = np.array([each.confidence for each in answers])
    over = sure - [each.hit for each in answers]
    rounds = [each.round for each in answers]
    return Figures(
        len(answers), hits, wilson(hits, len(answers)), float(sure.mean()),
        _mean(over, rounds), _mean(over**2, rounds), len(wrong), trusted, wilson(trusted, len(wrong)),
    )  # fmt: skip


def difference(answers: Sequence[Answer], method: str = "") -> tuple[float, float, float]:
    """Accuracy with an explanation minus accuracy without, and its interval; nan where one of them has no answer.

    Newcombe's (1998, method 10): made of both Wilson intervals, so it works where all guesses were right.

    Args:
        method: only answers that saw this one; any if "".
    """
    seen = [each for each in answers if each.method and method in ("", each.method)]
    bare = [each for each in answers if not each.method]
    if not seen or not bare:
        return float("nan"), float("nan"), float("nan")
    (a, low_a, high_a), (b, low_b, high_b) = (_share(group) for group in (seen, bare))
    below = float(np.hypot(a - low_a, high_b - b))
    above = float(np.hypot(high_a - a, b - low_b))
    return a - b, a - b - below, a - b + above


def in_words(answers: Sequence[Answer], titles: Mapping[str, str], who: str = "you") -> list[str]:
    """What the answers come to, a sentence for each method: with how many of how many, without how many, and whether
    that tells anything.
    """
    known = figures(answers)
    said = []
    bare = known.get("without")
    for name in [name for name in known if name not in ("with", "without")]:
        one = known[name]
        told = f"With {titles.get(name, name)} {who} guessed {one.hits} of {one.count}"
        if bare is None:
            said.append(f"{told}; there was no question without an explanation to compare with.")
            continue
        said.append(f"{told}, without an explanation {bare.hits} of {bare.count}: {_told(difference(answers, name))}.")
    said += [_sureness(_figures(answers), who)] if answers else []
    return said + _trust(known, who)


def _told(apart: tuple[float, float, float]) -> str:
    value, low, high = apart
    if low > 0:
        return f"it helped, by {value:.0%} (95 % interval {low:+.0%} to {high:+.0%})"
    if high < 0:
        return f"it misled, by {-value:.0%} (95 % interval {low:+.0%} to {high:+.0%})"
    return _too_few(low, high)


def _too_few(low: float, high: float) -> str:
    return f"too few to tell (the difference lies between {low:+.0%} and {high:+.0%})"


def _sureness(one: Figures, who: str) -> str:
    low, high = _sure_beyond(one)
    told = f"{who.capitalize()} were {one.confidence:.0%} sure on average and right {one.share:.0%} of the time"
    if low > 0:
        return f"{told}: too sure."
    if high < 0:
        return f"{told}: less sure than {who} could have been."
    return f"{told}: {'about as sure as right' if high - low <= WIDEST else _too_few(low, high)}."


def _sure_beyond(one: Figures) -> Interval:
    """Between what mean confidence minus accuracy may lie: the bootstrap's interval, and Wilson's of the accuracy.

    A bootstrap of few answers is too narrow, and of answers that are all alike it has no width.
    """
    _, low, high = one.over
    by_wilson = one.confidence - one.accuracy[1], one.confidence - one.accuracy[0]
    return by_wilson if np.isnan(low) else (min(low, by_wilson[0]), max(high, by_wilson[1]))


def _trust(known: Mapping[str, Figures], who: str) -> list[str]:
    """Over-trust with and without, or that the model made no mistake that could show it."""
    there = [(name, known[name]) for name in ("with", "without") if name in known and known[name].wrong]
    if not there:
        return ["The model was right in every question, so nothing can be said of over-trust."] if known else []
    parts = [f"{name} an explanation in {one.trusted} of {one.wrong} questions" for name, one in there]
    return [f"Over-trust: where the model was wrong, {who} took it to be right {' and '.join(parts)}."]


def _share(answers: Sequence[Answer]) -> tuple[float, float, float]:
    hits = sum(each.hit for each in answers)
    return hits / len(answers), *wilson(hits, len(answers))


def _mean(values: NDArray[np.float64], rounds: Sequence[str]) -> tuple[float, float, float]:
    """The mean and its bootstrap interval, over rounds where there are many."""
    mean = float(values.mean())
    names, place = np.unique(rounds, return_inverse=True)
    if len(names) < ROUNDS:
        place = np.arange(len(values))
    sums, counts = np.bincount(place, values), np.bincount(place)
    if len(sums) < FEWEST:
        return mean, float("nan"), float("nan")
    drawn = np.random.default_rng(SEED).integers(len(sums), size=(RESAMPLES, len(sums)))
    means = sums[drawn].sum(1) / counts[drawn].sum(1)
    low, high = np.quantile(means, (0.025, 0.975))
    return mean, float(low), float(high)
