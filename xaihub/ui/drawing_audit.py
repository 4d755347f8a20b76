"""What the Audit page shows, as HTML: the report, whose pictures can be asked about, and the explanation of one.

Everything that came from the Hub or a visitor is escaped here, or where the report is drawn.
"""

from html import escape
from typing import TYPE_CHECKING

from xaihub.ui.drawing import view
from xaihub.ui.results_examples import beside
from xaihub.ui.words import cautions, note

if TYPE_CHECKING:
    from xaihub.auditing import AuditReport
    from xaihub.ui.asking import Asked

__all__ = ["explained_shown", "report_shown"]


def report_shown(report: "AuditReport") -> str:
    """The whole report; with a classifier each picture is a button that asks for its explanation."""
    from xaihub.auditing import drawing

    known = {case.key for case in report.cases} if report.cases else None

    def shot(of: "AuditReport", key: str, words: str) -> str:
        asks = bool(of.classifier) and (known is None or key in known)
        return _asking(of, key, words) if asks else drawing.plain_shot(of, key, words)

    parts = [
        drawing.verdict_shown(report), drawing.findings_shown(report, shot), drawing.slices_shown(report),
        drawing.confusion_shown(report, shot), drawing.nuisances_shown(report), drawing.changes_shown(report),
        drawing.how_shown(report),
    ]  # fmt: skip
    return f'<div class="xh-report">{"".join(parts)}</div>'


def explained_shown(asked: "Asked", key: str, label: str, *, waiting: bool) -> str:
    """Why the classifier answered so on one of the pictures: map, cautions, twins and counterfactuals.

    Args:
        label: what the dataset calls it; "" where that is not known.
        waiting: whether the examples are still to come.
    """
    explanation = asked.explanation
    found = explanation.evidence.get(asked.method, ())
    notes = "".join(map(note, explanation.notes.get(asked.method, ())))
    prediction = explanation.prediction
    truly = f", labelled {escape(repr(label))}" if label else ""
    shown = view(explanation, found[0], "Grad-CAM").replace("Your picture", "The picture") if found else ""
    rest = note("Its twins and counterfactuals are being looked for.") if waiting else beside(asked)
    return (
        '<section class="xh-explained" aria-label="Explanation"><h3 class="xh-part" tabindex="-1">Why'
        f" <strong>{escape(prediction.label)}</strong> ({prediction.probability:.0%}){truly}: {escape(key[-80:])}</h3>"
        f'<button type="button" class="xh-small xh-back">Back to the picture</button>{shown}{notes}'
        f"{cautions(explanation, asked.method)}{rest}</section>"
    )


def _asking(report: "AuditReport", key: str, words: str) -> str:
    from xaihub.auditing.drawing import picture

    named = escape(f"Explain {key}: {words}" if words else f"Explain {key}")
    return (
        f'<button type="button" class="xh-shot xh-ask" data-key="{escape(key)}" aria-label="{named}">'
        f'{picture(report, key)}<span class="xh-caption">{escape(words)}</span></button>'
    )
