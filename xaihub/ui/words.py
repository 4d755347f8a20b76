"""Sentences for the page: what was loaded, how far to trust a map, and what went wrong."""

import re
from collections import Counter
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING
from urllib.parse import quote

from xaihub.curated import STARTER
from xaihub.images import READ_AS

if TYPE_CHECKING:
    from xaihub.classifier import Classifier
    from xaihub.loading import Plan
    from xaihub.records import Explanation

__all__ = [
    "BROKEN",
    "alarm",
    "cautions",
    "label_choices",
    "named_class",
    "note",
    "percent",
    "planned",
    "similar_words",
    "status",
]

BROKEN = "Something went wrong here, not with you; it has been noted. Try again, or try another picture or model."
UNSURE = 0.5  # below this the classifier gives its answer less than even odds


def label_choices(labels: Sequence[str]) -> list[str]:
    """Labels for a menu; where two classes share a name (ImageNet's cranes) each carries its index."""
    counts = Counter(labels)
    return [f"{label} #{i}" if counts[label] > 1 else label for i, label in enumerate(labels)]


def named_class(text: str | None, labels: tuple[str, ...]) -> str | int | None:
    """What a class box means: None for nothing chosen, an index for "crane #134" where two classes share a name."""
    text = (text or "").strip()
    if not text:
        return None
    name, _, number = text.rpartition(" #")
    if text not in labels and name in labels and number.isdigit() and int(number) < len(labels):
        return int(number)
    return text


def planned(plan: "Plan") -> str:
    """The status line before anything large is fetched."""
    size = f"{plan.download / 2**20:.0f} MB to fetch at the first question" if plan.download else "nothing to fetch"
    return _facts(
        plan.repo_id,
        {
            "Task": plan.task,
            "Size": _millions(plan.parameters),
            "Licence": plan.licence or "no licence stated",
            "Revision": (plan.revision or "")[:12],
            "Library": plan.family,
            "Download": size,
        },
    )


def status(plan: "Plan", classifier: "Classifier") -> str:
    """The status line of a loaded classifier: where it looks and why, and everything that had to be assumed."""
    layer = classifier.target_layer
    parameters = plan.parameters or sum(tensor.numel() for tensor in classifier.module.parameters())
    facts = {
        "Task": plan.task or "image classification",
        "Classes": f"{len(classifier.labels):,} classes",
        "Size": _millions(parameters),
        "Licence": plan.licence or "no licence stated",
        "Revision": (classifier.revision or "")[:12],
        "Library": plan.family,
        "Picture": classifier.transform.description,
        "Layer": layer.in_words if layer else "none",
        "Why this layer": layer.reason if layer else classifier.no_layer,
    }
    notices = "".join(f"<li>{escape(notice)}</li>" for notice in classifier.notices)
    return _facts(plan.repo_id, facts) + (f'<ul class="xh-notices">{notices}</ul>' if notices else "")


def cautions(explanation: "Explanation", method: str) -> str:
    """When this map must not be trusted, in words; then how it was made."""
    prediction, made = explanation.prediction, explanation.provenance
    found = explanation.evidence.get(method, ())
    warnings = []
    at_layer = any(evidence.facts.get("layer") for evidence in found)
    if any(evidence.facts.get("positive") is False for evidence in found):
        warnings.append(
            f"Do not read this map: {'at this layer ' * at_layer}nothing speaks for {explanation.target_label!r}."
            f" Try another {'layer or ' * at_layer}method."
        )
    if made.get(READ_AS):
        warnings.append(str(made[READ_AS]))
    if at_layer and made.get("layer proof") == "partial":
        warnings.append(
            "Part of what decides the answer does not pass this layer: the map is a part of the reason, not the whole."
        )
    if at_layer and made.get("layer proof") == "unconfirmed":
        warnings.append(
            "Do not rely on where this map is bright: the arrangement of this layer's places could not be confirmed."
        )
    if at_layer and made.get("layer proof") == "chosen":
        warnings.append("You chose this layer; that everything which decides the answer passes it was not checked.")
    if prediction.probability < UNSURE:
        warnings.append(
            f"The classifier itself is unsure: {prediction.label!r} has {prediction.probability:.0%}. A map of an"
            " unsure answer often explains nothing; look at the runner-up's map too."
        )
    if explanation.target != prediction.index:
        share = float(prediction.probabilities[explanation.target])
        warnings.append(
            f"This is what speaks for {explanation.target_label!r} ({share:.1%}), though the classifier says"
            f" {prediction.label!r}."
        )
    grid = made.get("grid")
    if at_layer and grid:
        rows, columns = grid
        warnings.append(
            f"The layer has {rows} x {columns} places, enlarged to the picture: an edge of the heat is no edge of an"
            " object."
        )
    warnings.append("A heatmap shows what the classifier used. It does not show that the answer is right.")
    items = "".join(f"<li>{escape(warning)}</li>" for warning in warnings)
    title = "How far to trust this"
    return f'<section class="xh-trust" aria-label="{title}"><h3>{title}</h3><ul>{items}</ul></section>'


def alarm(sentence: str, similar: Sequence[str] = ()) -> str:
    """What went wrong, announced to screen readers, with models that would work."""
    links = ", ".join(f'<a href="?model={quote(name, safe="/")}">{escape(name)}</a>' for name in similar)
    more = f"<p>Classifiers of the Hub that look similar: {links}.</p>" if links else ""
    return f'<div class="xh-alarm" role="alert"><p>{escape(sentence)}</p>{more}</div>'


def note(sentence: str) -> str:
    """A remark that is no error."""
    return f'<p class="xh-note" role="status">{escape(sentence)}</p>' if sentence else ""


def percent(share: float) -> str:
    """A share in figures; what would round to nothing is said to be less."""
    return f"{share:.1%}" if share >= 0.0005 else "< 0.1%"


def similar_words(repo_id: str) -> list[str]:
    """What to search for when a model was refused: its name, then the name's first word, then anything."""
    name = repo_id.rstrip("/").rsplit("/", 1)[-1][:80]
    return list(dict.fromkeys([name, re.split(r"[-_.]", name)[0], ""]))


def _facts(name: str, facts: dict[str, str | None]) -> str:
    """A line that opens: the name and the chief facts, then all of them."""
    chief = [str(facts[key]) for key in ("Size", "Licence", "Classes") if facts.get(key)]
    built_in = " Built in, needs no network." if name == STARTER else ""
    shown = "".join(
        f"<div><dt>{escape(key)}</dt><dd>{escape(str(value))}</dd></div>" for key, value in facts.items() if value
    )
    return (
        '<section class="xh-status" aria-label="The classifier"><details><summary>'
        f"<strong>{escape(name)}</strong>: {escape(', '.join(chief))}.{built_in}</summary><dl>{shown}</dl></details>"
        "</section>"
    )


def _millions(parameters: int | None) -> str | None:
    if not parameters:
        return None
    return f"{parameters / 1e6:.1f} M parameters" if parameters >= 1e5 else f"{parameters:,} parameters"
