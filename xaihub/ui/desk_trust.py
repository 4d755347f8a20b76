"""How far the large map can be relied on: checked after it is shown, and kept for choices that come back."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from xaihub.progress import Progress, silent, until
from xaihub.ui.asking import Asked
from xaihub.ui.desk_shown import Showing

if TYPE_CHECKING:
    from xaihub.records import Explanation
    from xaihub.trusting import Trust

__all__ = ["Trusting", "card_of", "with_card"]

PASSES = 67  # that a card costs: `trusting` says how they come about
AT_ONCE = 20.0  # seconds that it may take to be made unasked


UNCHECKED = "Whether this map can be relied on was not checked"


def card_of(asked: Asked) -> "Trust | None":
    """Return what is known already of the map that is shown now."""
    return asked.trusts.get(_about(asked)) if asked.query is not None else None


def with_card(asked: Asked, why: str = "") -> "Explanation":
    """The explanation with the trust card of the map that is shown, or that it was not checked.

    Args:
        why: it was not, in words.
    """
    explanation, card = asked.explanation, card_of(asked)
    if card is not None:
        return explanation.with_trust(card)
    if not _is_map(asked):
        return explanation
    told = f"{UNCHECKED}{why and ': '}{why}."
    record = {"method": asked.method, "label": explanation.target_label, "verdict": None, "sentence": told}
    return replace(explanation, trust={asked.method: record | {"checks": [], "text": f"{asked.method}: {told}"}})


class Trusting(Showing):
    """The part of the desk that checks maps."""

    def trust_of(self, asked: Asked) -> "Trust | None":
        """What is known already of the map that is shown now."""
        return card_of(asked)

    def lacks_trust(self, asked: Asked) -> bool:
        """Whether there is a map that was not checked yet."""
        return _is_map(asked) and asked.query is not None and card_of(asked) is None

    def trust_seconds(self, asked: Asked) -> float | None:
        """How long the checks take; None before a pass of this classifier was timed."""
        each = self.pace.of_pass(self._query(asked).classifier)
        return None if each is None else each * PASSES

    def is_checked_soon(self, asked: Asked) -> bool:
        """Whether the checks take so little time that they are made unasked."""
        seconds = self.trust_seconds(asked)
        return seconds is not None and seconds <= AT_ONCE

    def trusted(self, asked: Asked, progress: Progress = silent) -> Asked:
        """The same answer once its map is checked; what was asked stays as it is, so a stopped check changes nothing.

        Raises:
            XaihubError: the classifier had to leave. A CancelledError: from `progress`, or at the time limit.
        """
        from xaihub.trusting import trust

        if not self.lacks_trust(asked):
            return asked
        with until(self.settings.compute_seconds, progress, "Checking the map") as limited:
            query, evidence = self._query(asked), asked.explanation.evidence[asked.method][0]

            def told(share: float, stage: str) -> None:
                limited(share, f"Checking the map: {stage}")

            found = trust(query, asked.method, evidence=evidence, progress=told)
            draft = replace(asked, trusts=asked.trusts | {_about(asked): found})
            self._asked.add(draft)  # its classifier may have to leave
            return draft


def _is_map(asked: Asked) -> bool:
    """Return whether what is shown large is a heatmap of the visitor's image."""
    from xaihub import METHODS

    shown = asked.explanation.evidence.get(asked.method, ())
    return not METHODS[asked.method].shows_pictures and any(one.heatmap is not None for one in shown)


def _about(asked: Asked) -> tuple[Any, ...]:
    """What the card of the large map depends on; the layer is the classifier's own."""
    from xaihub import METHODS

    query = asked.query
    assert query is not None  # noqa: S101  who asks has looked
    other = query.other if METHODS[asked.method].compares else None
    return asked.method, query.target, other, id(query.references)
