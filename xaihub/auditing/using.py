"""What nuisances tell: the labels, and given the label where a classifier is wrong and what it says."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xaihub.auditing.looking import Looked
from xaihub.auditing.nuisances import NUISANCES
from xaihub.auditing.records import Link, Strength
from xaihub.auditing.scoring import Asking, Told, adjusted, dealt_together, design, least_found, needed, told
from xaihub.classifier import Classifier
from xaihub.errors import DatasetError
from xaihub.progress import Progress, silent

__all__ = ["Said", "Telling", "answers_of", "telling"]

FEWEST = 10  # pictures with a rare answer, or mistakes, from which on something can be told of them
PERMUTATIONS = 200
CLEAR = 0.95  # an area that must be findable, or the pictures are too few to tell anything


@dataclass(frozen=True, eq=False)
class Said:
    """What the classifier answered.

    Attributes:
        answers: (N,), indices of its labels.
        truth: (N,), indices of its labels; -1 where the picture's label is none of them.
        probability: (N,), of the answer.
    """

    labels: tuple[str, ...]
    answers: NDArray[np.int64]
    truth: NDArray[np.int64]
    probability: NDArray[np.float64]

    @property
    def known(self) -> NDArray[np.bool_]:
        return self.truth >= 0

    @property
    def compares(self) -> bool:
        """Whether two of the labels are the classifier's: only then its answers can tell pictures of them apart."""
        return len(np.unique(self.truth[self.known])) > 1

    @property
    def wrong(self) -> NDArray[np.bool_]:
        return self.known & (self.answers != self.truth)


@dataclass(frozen=True, eq=False)
class Telling:
    """Everything that is told, with the scores that examples are chosen by.

    Attributes:
        least: the least area, 1 at most, that would be found.
        needed: where that is not below `CLEAR`, about how many pictures each label needs; else 0.
    """

    links: tuple[Link, ...]
    least: float
    needed: int
    by_label: Mapping[str, Told]
    by_mistake: Mapping[str, Told]


def answers_of(looked: Looked, classifier: Classifier) -> Said:
    """The classifier's answers to the pictures; labels are matched by their names."""
    assert looked.logits is not None  # noqa: S101  who asks has looked with a classifier
    classifier.refuse_not_finite(looked.logits, looked.keys)
    probabilities = classifier.probabilities(looked.logits).double().numpy()
    place = {name: i for i, name in enumerate(classifier.labels)}
    truth = np.array([place.get(label, -1) for label in looked.labels], dtype=np.int64)
    return Said(classifier.labels, probabilities.argmax(1), truth, probabilities.max(1))


def telling(looked: Looked, said: Said | None, *, folds_seed: int = 0, progress: Progress = silent) -> Telling:
    """What each nuisance tells, in the order of the table.

    Raises:
        DatasetError: the labels have so few pictures that no two of different labels can be compared.
    """
    truth = looked.truth
    dealt = dealt_together(truth, looked.together, folds_seed)
    columns = {name: design(looked.features[name], looked.kinds.get(name)) for name in NUISANCES}

    def ask(targets: NDArray[np.bool_], strata: NDArray[np.int64], start: float) -> dict[str, Told]:
        asking, found = Asking(targets, strata, dealt, PERMUTATIONS, folds_seed), {}
        for place, name in enumerate(columns):
            progress(start + place / len(columns) / 3, f"Asking what tells them apart: {NUISANCES[name].title}")
            if asking.possible:
                found[name] = told(columns[name], asking)
        return found

    by_label = ask(_one_hot(truth), np.zeros_like(truth), 0.0)
    if not by_label:
        raise DatasetError(_too_few(looked))
    by_mistake: dict[str, Told] = {}
    by_answer: dict[str, Told] = {}
    why_not = ""
    if said is not None:
        why_not = _why_not(said)
        if said.wrong.sum() >= FEWEST:
            by_mistake = ask(said.wrong[:, None], truth, 1 / 3)
        turned = _turned(said, truth)
        if turned.shape[1]:
            by_answer = ask(turned, truth, 2 / 3)
    labels, mistakes, answers = (_strengths(found, len(looked)) for found in (by_label, by_mistake, by_answer))
    links = [Link(name, labels[name], mistakes.get(name), answers.get(name), why_not) for name in NUISANCES]
    least = least_found(list(by_label.values()))
    more = needed(list(by_label.values()), min(Counter(looked.labels).values()), CLEAR) if least >= CLEAR else 0
    return Telling(tuple(links), least, more, by_label, by_mistake)


def _too_few(looked: Looked) -> str:
    counts = ", ".join(f"{label!r} {count:,}" for label, count in Counter(looked.labels).most_common(8))
    return (
        f"These pictures cannot be audited: there are {len(looked):,} ({counts}), too few to learn from some of each"
        " label and try the rest. Give more, some twenty of each label at least, or a larger limit."
    )


def _one_hot(truth: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(N, T): of two labels the second, of more each."""
    each = np.eye(int(truth.max()) + 1, dtype=bool)[truth]
    return each[:, 1:] if each.shape[1] == 2 else each


def _turned(said: Said, truth: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(N, T), whether the answer is each of those that are neither rare nor all within some label."""
    columns = []
    for answer in np.unique(said.answers):
        is_it = said.answers == answer
        varied = sum(min(int(is_it[truth == label].sum()), int((~is_it[truth == label]).sum()))
                     for label in np.unique(truth))  # fmt: skip
        if varied >= FEWEST:
            columns.append(is_it)
    return np.stack(columns, axis=1) if columns else np.zeros((len(truth), 0), dtype=bool)


def _why_not(said: Said) -> str:
    if not said.known.any():
        return (
            "None of the labels is one of the classifier's, so it is not known where it is wrong. Classes are matched"
            " by their names."
        )
    wrong = int(said.wrong.sum())
    if wrong < FEWEST:
        made = f"only {wrong} mistake{'s' * (wrong != 1)}" if wrong else "no mistake"
        return f"The classifier makes {made} on these pictures, too few to say what goes with them."
    return ""


def _strengths(found: Mapping[str, Told], count: int) -> dict[str, Strength]:
    chances = adjusted(list(found.values()))
    return {
        name: Strength(one.auc, one.low, one.high, chance, count, bool(np.ptp(one.scores)))
        for (name, one), chance in zip(found.items(), chances, strict=True)
    }
