"""The figures of the tables, of what was measured: fold by fold in, one line out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.prototypes.folds import FOLDS, METHODS
from benchmarks.prototypes.tasks import Task
from xaihub.intervals import wilson

__all__ = ["Compared", "Results", "compared", "goals", "paired", "share"]

Results = Mapping[str, Mapping[str, Any] | None]  # name of a piece -> what was measured, or None


@dataclass(frozen=True)
class Compared:
    """A way to answer by prototypes on the folds that were measured.

    Attributes:
        folds: how many of them. `pictures`: in these.
        right, black_box, agree: of these pictures, how many it calls what they are, the black box does, and both call
            the same.
        distinct: the fewest different sources of a class in any fold; of `per_class` prototypes.
        used: share of the prototypes that count. `making`: seconds of CPU for each fold, `clock` by the clock.
    """

    folds: int
    pictures: int
    right: int
    black_box: int
    agree: int
    distinct: int
    per_class: int
    used: float
    making: float
    clock: float

    @property
    def behind(self) -> float:
        """Points that it is behind the black box, on the same pictures."""
        return 100 * (self.black_box - self.right) / self.pictures


def compared(task: Task, way: str, found: Results) -> Compared | None:
    """None where no fold was measured."""
    measured = [each for fold in range(FOLDS) if (each := found.get(f"{task.key} {way} {fold + 1}"))]
    if not measured:
        return None
    pairs = [zip(*(each[of] for of in ("truth", "black box", "answers")), strict=True) for each in measured]
    rows = [row for some in pairs for row in some]
    counts = [count for each in measured for count in each["prototypes"].values()]
    return Compared(
        len(measured),
        len(rows),
        sum(truth == answer for truth, _, answer in rows),
        sum(truth == said for truth, said, _ in rows),
        sum(said == answer for _, said, answer in rows),
        min(count for each in measured for count in each["distinct"].values()),
        max(counts),
        sum(each["used"] for each in measured) / sum(counts),
        float(np.mean([each["making"]["cpu"] for each in measured])),
        float(np.mean([each["making"]["wall"] for each in measured])),
    )


def share(hits: int, of: int) -> str:
    """A share with its Wilson interval."""
    low, high = wilson(hits, of)
    return f"{hits / of:.3f} ({low:.3f}–{high:.3f})"


def paired(one: Sequence[float], other: Sequence[float]) -> tuple[float, float, float]:
    """The mean difference and its 95 % interval by the bootstrap over pictures."""
    differences = np.subtract(one, other)
    generator = np.random.default_rng(0)
    means = [differences[generator.integers(0, len(differences), len(differences))].mean() for _ in range(1000)]
    low, high = np.percentile(means, [2.5, 97.5])
    return float(differences.mean()), float(low), float(high)


_FEWEST = 8  # different sources of ten prototypes
_AGREEMENT = {"cats": 0.95, "ants": 0.95, "cifar": 0.88}
_BEHIND = {"page": 2, "head": 2, "protopnet": 4}


def goals(all_tasks: Sequence[Task], found: Results) -> list[tuple[str, str, bool | None]]:
    """Each goal in words, what was measured, and whether it is reached; None where it was not measured whole."""
    lines = []
    for task in all_tasks:
        for way in (way for way in task.methods if way in _BEHIND):
            lines += _of_way(task, way, compared(task, way, found))
    return [*lines, _on_parts(found.get("pets"))]


def _of_way(task: Task, way: str, line: Compared | None) -> list[tuple[str, str, bool | None]]:
    name, head = f"{task.name}, {METHODS[way].name}", way != "protopnet"
    whole = line is not None and line.folds == FOLDS
    some = "" if line is None or whole else f" ({line.folds} of {FOLDS} folds)"

    def goal(words: str, value: str, reached: bool) -> tuple[str, str, bool | None]:
        return f"{name}: {words}", value + some, reached if whole else None

    if line is None:
        return [(name, "not measured", None)]
    found = []
    if task.key != "cifar":
        most = _BEHIND[way]
        found.append(goal(f"at most {most} points behind", f"{line.behind:.1f}", line.behind <= most))
    if head:
        least = _AGREEMENT[task.key]
        agreed = line.agree / line.pictures
        found.append(goal(f"agreement at least {least}", f"{agreed:.3f}", agreed >= least))
        found.append(goal("under 10 s of CPU", f"{line.making:.1f} s", line.making < 10))
    distinct = f"{line.distinct} of {line.per_class}"
    return [*found, goal(f"at least {_FEWEST} sources of ten", distinct, line.distinct >= _FEWEST)]


def _on_parts(pets: Mapping[str, Any] | None) -> tuple[str, str, bool | None]:
    words = "Paper pets: prototypes that count lie on deciding parts at least 3 times as often as chance"
    if pets is None:
        return words, "not measured", None
    lift = float(np.mean([each["lift"] for each in pets["each"] if each["used"]]))
    return words, f"{lift:.1f} times", lift >= 3
