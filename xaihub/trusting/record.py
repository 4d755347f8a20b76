"""The trust card of one map: what was checked, what came of it, and one plain sentence."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from xaihub import notebook

__all__ = ["CHANCE", "Check", "Outcome", "Trust", "Verdict"]

Outcome = Literal["good", "care", "bad", "unasked"]
CHANCE = "Better than chance"
Verdict = Literal["passed", "care", "do not rely"]
SAYS: Mapping[Verdict, str] = {
    "passed": "This map passed the checks",
    "care": "Rely on this map with care",
    "do not rely": "Do not rely on this map",
}
SIGNS: Mapping[Outcome, str] = {"good": "✓", "care": "!", "bad": "✗", "unasked": "–"}
WORDS: Mapping[Outcome, str] = {"good": "passed", "care": "with care", "bad": "failed", "unasked": "not checked"}


@dataclass(frozen=True)
class Check:
    """One question that was asked of a map.

    Attributes:
        name: the question, in a word or two.
        outcome: what came of it.
        sentence: the same in words, with its figures.
    """

    name: str
    outcome: Outcome
    sentence: str

    @property
    def sign(self) -> str:
        return SIGNS[self.outcome]

    @property
    def in_words(self) -> str:
        return WORDS[self.outcome]


@dataclass(frozen=True, eq=False)
class Trust:
    """How far one map of one picture can be relied on.

    Attributes:
        method, label: whose map, and for which class.
        verdict: "do not rely" where a check failed, "care" where one gives reason to doubt, else "passed".
        checks: what was asked, in the order of their weight.
        findings: the figures behind the sentences, by name.
        neighbours: how far the examples beside the map can be relied on; the verdict does not depend on it.
    """

    method: str
    label: str
    verdict: Verdict
    checks: tuple[Check, ...]
    findings: Mapping[str, float | str | bool | None] = field(default_factory=dict)
    neighbours: Check | None = None

    @property
    def title(self) -> str:
        """The verdict in words."""
        return SAYS[self.verdict]

    @property
    def sentence(self) -> str:
        """The verdict, and the reason that weighs most."""
        return f"{SAYS[self.verdict]}: {_lower(self.reason)}"

    @property
    def reason(self) -> str:
        """What came of the check that weighs most: the first that failed or gives doubt, else whether chance does as
        well.
        """
        weighs = [each for each in self.checks if each.outcome == _WORST[self.verdict]]
        return next((each.sentence for each in weighs if self.verdict != "passed" or each.name == CHANCE), "")

    @property
    def text(self) -> str:
        """The whole card in lines of plain text: the verdict, every check, then the examples beside the map."""
        told = [*self.checks, self.neighbours] if self.neighbours else self.checks
        lines = [f"{each.sign} {each.name} ({each.in_words}): {each.sentence}" for each in told]
        return "\n".join([f"{self.method} for {self.label!r}: {self.title}.", *lines])

    def as_record(self) -> dict[str, Any]:
        """Return the card as JSON can hold it: verdict, sentence, checks, findings, and `text`, all of it in words."""
        return {
            "method": self.method,
            "label": self.label,
            "verdict": self.verdict,
            "sentence": self.sentence,
            "checks": [asdict(check) for check in self.checks],
            "neighbours": asdict(self.neighbours) if self.neighbours else None,
            "findings": dict(self.findings),
            "text": self.text,
        }

    def __repr__(self) -> str:
        return f"Trust({self.method} for {self.label!r}: {self.verdict})"

    def _repr_html_(self) -> str:
        """What a notebook shows: the verdict, then every check."""
        lines = self.text.split("\n")[1:]
        about = notebook.text(f"{self.method} for {self.label!r}")
        return notebook.card(
            f"<b>{notebook.text(self.title)}</b> ({about})",
            notebook.notes(lines),
            notebook.facts(self.findings, "the figures"),
        )


_WORST: Mapping[Verdict, Outcome] = {"do not rely": "bad", "care": "care", "passed": "good"}


def _lower(sentence: str) -> str:
    """A sentence as it stands after a colon; names keep their capitals."""
    first = sentence.split(" ", 1)[0]
    return sentence if first[1:2].isupper() or "-" in first else sentence[:1].lower() + sentence[1:]
