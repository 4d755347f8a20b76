"""What an audit found, as plain records."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from xaihub.auditing.scoring import SURE
from xaihub.auditing.trials import Turned
from xaihub.intervals import Interval

__all__ = ["Case", "Copies", "Examples", "Finding", "Link", "Slice", "Strength", "figure", "rate"]


@dataclass(frozen=True)
class Strength:
    """How well one nuisance tells something, of pictures that it was not fitted to.

    Attributes:
        auc: cross-validated area under the ROC curve; 0.5 is chance, 1 tells it always.
        low, high: 95 % interval.
        chance: how likely chance alone gives any of all nuisances so much.
        count: pictures.
        varies: whether the pictures differ in it at all.
    """

    auc: float
    low: float
    high: float
    chance: float
    count: int
    varies: bool = True

    @property
    def found(self) -> bool:
        """Whether it is more than chance, counting that many nuisances were tried."""
        return self.chance <= SURE and self.low > 0.5

    @property
    def in_words(self) -> str:
        return f"AUC {figure(self.auc)} ({figure(self.low)} to {figure(self.high)})"


@dataclass(frozen=True)
class Link:
    """What one nuisance tells.

    Attributes:
        label: the pictures' labels.
        mistakes: where the classifier is wrong, among pictures of one label.
        answers: what the classifier says, among pictures of one label.
        why_not: why mistakes and answers are None, in words.
    """

    nuisance: str
    label: Strength
    mistakes: Strength | None = None
    answers: Strength | None = None
    why_not: str = ""


@dataclass(frozen=True)
class Examples:
    """Pictures of one side: what they have in common in words, and their keys."""

    words: str
    keys: tuple[str, ...]


@dataclass(frozen=True)
class Finding:
    """Something that an auditor should know, ready to be read.

    Attributes:
        name: a nuisance's, or "copies" or "labels".
        title, sentence: what was found, and how strong it is.
        severity: 0 to 1; findings are in its order.
        has: what each label has.
        examples: of both sides.
        used: whether the classifier goes by it, in words; "" without a classifier.
        uses: True, False, or None where that is not clear.
        changes: the interventions that say so.
        advice: what to do.
    """

    name: str
    title: str
    sentence: str
    severity: float
    advice: str
    has: Mapping[str, str] = field(default_factory=dict)
    examples: tuple[Examples, ...] = ()
    used: str = ""
    uses: bool | None = None
    changes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Slice:
    """The classifier's accuracy on a part of the pictures.

    Attributes:
        by: a nuisance's title, or "Label".
        words: which part.
        apart: whether its interval and that of all other pictures do not meet.
    """

    by: str
    words: str
    count: int
    hits: int
    interval: Interval
    apart: bool

    @property
    def accuracy(self) -> float:
        return self.hits / self.count


@dataclass(frozen=True)
class Case:
    """One picture, its label, what the classifier says and how sure it is."""

    key: str
    label: str
    answer: str
    probability: float

    @property
    def right(self) -> bool:
        return self.label == self.answer


@dataclass(frozen=True, eq=False)
class Copies:
    """Near copies.

    Attributes:
        across: (key here, key there, name of the other split).
        others: how many pictures of each other split were compared.
        inside: groups of keys within the split.
        contradicting: those of them whose labels differ, and pairs across splits whose labels do.
    """

    across: tuple[tuple[str, str, str], ...] = ()
    others: Mapping[str, int] = field(default_factory=dict)
    inside: tuple[tuple[str, ...], ...] = ()
    contradicting: tuple[tuple[str, ...], ...] = ()


def figure(area: float) -> str:
    """Two digits, and never 1.00 of what is less than 1."""
    return "1.00" if area >= 0.9995 else f"{min(area, 0.99):.2f}" if area >= 0.985 else f"{area:.2f}"


def rate(turned: Turned) -> str:
    """A flip rate in words."""
    low, high = turned.interval
    return f"{turned.rate:.0%} ({low * 100:.0f} to {high * 100:.0f})"
