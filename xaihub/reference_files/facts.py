"""What references say of themselves: who made them, and what was measured. Strangers write such facts, too."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

__all__ = ["Made", "check_fidelity", "made_of"]

_MOST = 2**63  # of a number: more counts nothing


@dataclass(frozen=True)
class Made:
    """Who made references, and from what: enough to make them again, and to refuse them beside another classifier."""

    classifier: str
    classifier_revision: str | None
    target_layer: str
    embedder: str
    preprocessing: str
    dataset: str
    dataset_revision: str | None = None
    dataset_config: str | None = None
    dataset_split: str | None = None
    chosen: str = ""
    skipped: int = 0
    versions: Mapping[str, str] = field(default_factory=dict)
    weights: str = ""  # the classifier's fingerprint: it knows a copy of the same weights elsewhere
    public: bool = True  # whether everybody may see the pictures; else they are never published again

    @property
    def in_words(self) -> str:
        at = f"@{self.classifier_revision[:12]}" if self.classifier_revision else ""
        return f"{self.classifier}{at} (layer {self.target_layer}, embedder {self.embedder})"


def made_of(said: Mapping[str, Any]) -> Made:
    """The record of what a file says.

    Raises:
        TypeError: a field is missing, unknown, or not of its kind.
    """
    made = Made(**said)
    for each in fields(Made):
        if not _is(getattr(made, each.name), each.name, each.type):
            raise TypeError(f"its {each.name} is {str(getattr(made, each.name))[:80]!r}")
    return made


def _is(value: Any, name: str, kind: Any) -> bool:
    if name == "versions":
        return isinstance(value, Mapping) and all(isinstance(text, str) for text in value.values())
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST
    return isinstance(value, kind)


def check_fidelity(fidelity: Any) -> None:
    """Nothing, if these are figures as `fidelity.measure` gives them: embedder -> name -> a figure.

    Raises:
        ValueError: they are something else.
    """
    if not isinstance(fidelity, Mapping) or not all(isinstance(figures, Mapping) for figures in fidelity.values()):
        raise ValueError(f"its fidelity is {str(fidelity)[:80]!r}, which is no table of figures")
    for figures in fidelity.values():
        for name, value in figures.items():
            if not _figure(name, value):
                raise ValueError(f"the {name[:80]!r} of its fidelity is {str(value)[:80]!r}")


def _figure(name: str, value: Any) -> bool:
    """Whether a figure is of the kind that its name has: a truth, a count, a number or [value, low, high]."""
    if name in ("leak_free", "held_out"):
        return isinstance(value, bool)
    if name in ("n", "n_of_enough", "copies_left_out"):
        return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST
    interval = isinstance(value, list | tuple) and len(value) == 3 and all(map(_number_or_none, value))
    if name.startswith("agreement@") or name in ("probability_error@3", "margin_correlation"):
        return interval
    return interval or isinstance(value, bool) or _number_or_none(value)


def _number_or_none(value: Any) -> bool:
    if value is None:
        return True
    known = isinstance(value, int | float) and not isinstance(value, bool)
    return known and abs(value) < _MOST and math.isfinite(value)
