"""The trust card, as HTML: a verdict in words and a colour, the reason, and every check. Everything is escaped here."""

from html import escape
from typing import TYPE_CHECKING

from xaihub.ui.asking import Asked
from xaihub.ui.desk_trust import Trusting
from xaihub.ui.words import cautions, note

if TYPE_CHECKING:
    from xaihub.trusting import Check, Trust

__all__ = ["trust_shown"]

CHECKING = (
    "How far this map can be relied on is being checked: parts of the picture are veiled, in its order and at random."
)
WAITS = "How far this map can be relied on was not checked: the button below does it."
HOW = (
    "Asked of this picture, with {passes} passes. The hottest tenth of the picture is veiled, then"
    " three, five, seven and nine tenths; random parts likewise, ten times. "
)
SIGNS = {"passed": "✓", "care": "!", "do not rely": "✗"}
CLASSES = {"passed": "xh-passed", "care": "xh-care", "do not rely": "xh-failed"}


def trust_shown(asked: Asked, desk: Trusting, *, waits: bool = False) -> str:
    """The card of the map that is shown, or that it is being made; then when no map of this kind must be trusted.

    Args:
        waits: it was stopped.
    """
    known = desk.trust_of(asked)
    if known is not None:
        card = _card(known)
    elif desk.lacks_trust(asked):
        card = note(CHECKING if desk.is_checked_soon(asked) and not waits else WAITS)
    else:
        card = ""
    return card + cautions(asked.explanation, asked.method)


def _card(known: "Trust") -> str:
    reason, passes = known.reason, int(float(known.findings.get("passes") or 0))
    how = HOW.format(passes=passes) if passes else ""
    return (
        f'<section class="xh-verdict-card {CLASSES[known.verdict]}" aria-label="Trust card" role="status">'
        f'<h3><span aria-hidden="true">{SIGNS[known.verdict]}</span> {escape(known.title)}</h3>'
        f"<p>{escape(reason[:1].upper() + reason[1:])}</p><details><summary>What was checked</summary>"
        f'<ul>{"".join(map(_line, known.checks))}</ul><p class="xh-sub">{how}None of this'
        " says that the answer is right.</p></details></section>"
    )


def _line(check: "Check") -> str:
    return (
        f'<li class="xh-{check.outcome}"><span aria-hidden="true">{escape(check.sign)}</span> <strong>'
        f"{escape(check.name)}</strong> <em>{escape(check.in_words)}</em>: {escape(check.sentence)}</li>"
    )
