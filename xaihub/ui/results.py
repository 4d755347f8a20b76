"""From an answer to what every component of page 1 shows."""

from html import escape
from typing import TYPE_CHECKING, Any

import gradio as gr

from xaihub.errors import AccessDeniedError, RepoNotFoundError, UnsupportedModelError, XaihubError
from xaihub.ui.boxes import ANSWERED
from xaihub.ui.combobox import shown_if
from xaihub.ui.desk import Asked
from xaihub.ui.desk_examples import CHANGE
from xaihub.ui.drawing import bars, view
from xaihub.ui.drawing_trust import trust_shown
from xaihub.ui.menus import ANY, PREDICTED, RUNNER_UP, class_choices, layer_choices, method_choices
from xaihub.ui.pace import time_in_words
from xaihub.ui.results_examples import beside, change_row
from xaihub.ui.words import label_choices, note, status

if TYPE_CHECKING:
    from xaihub.ui.page_explain import ExplainPage

__all__ = ["change_drawn", "drawn", "is_refusal", "link_in_words", "menus", "stopped", "trust_drawn"]


def drawn(page: "ExplainPage", asked: Asked) -> dict[Any, Any]:
    """The updates that show an answer, by component."""
    explanation = asked.explanation
    classifier = asked.query.classifier if asked.query else None
    updates: dict[Any, Any] = {
        page.asked: asked,
        page.alert: "",
        page.welcome: gr.update(visible=False),
        page.answer: ANSWERED,
        page.said: bars(explanation.prediction, explanation.target, str(explanation.provenance["model"])),
        **_map_drawn(page, asked),
        page.beside: beside(asked),
        page.smallest: change_row(asked, page.desk),
        page.change: changing(page, asked),
        page.words: gr.update(visible=bool(asked.reader)),
        page.found: "",
        page.adopt: _adopting(asked),
        page.keep_references: gr.update(visible=asked.references is not None),
        **menus(page, asked),
    }
    if classifier is not None:
        updates[page.about] = status(asked.plan, classifier)
    return updates


def change_drawn(page: "ExplainPage", asked: Asked) -> dict[Any, Any]:
    """The updates that show the smallest change: nothing else, since what is drawn anew closes what is open there."""
    large = _map_drawn(page, asked) if asked.method == CHANGE else {}
    row = change_row(asked, page.desk)
    return {page.asked: asked, page.smallest: row, page.change: changing(page, asked), **large}


def trust_drawn(page: "ExplainPage", asked: Asked) -> dict[Any, Any]:
    """The updates that show how far the map can be relied on: nothing else."""
    return {page.asked: asked, **_trust_drawn(page, asked)}


def menus(page: "ExplainPage", asked: Asked) -> dict[Any, Any]:
    """What can be asked of this answer, and what it was asked: also after another question that was stopped."""
    labels, choices = asked.explanation.prediction.labels, asked.choices
    updates: dict[Any, Any] = {
        page.target: gr.update(choices=class_choices(labels, PREDICTED), value=choices["target"]),
        page.against: gr.update(value=choices["against"], **_comparing(asked)),
        page.method: gr.update(value=choices["method"]),
        page.layer: gr.update(value=choices["layer"]),
    }
    if asked.query is not None:
        classifier = asked.query.classifier
        updates[page.method] = gr.update(choices=method_choices(classifier, page.desk.pace), value=choices["method"])
        updates[page.layer] = gr.update(choices=layer_choices(classifier), value=choices["layer"])
    return updates


def stopped(page: "ExplainPage", asked: Asked) -> dict[Any, Any]:
    """A check of the map, or a search for the smallest change, that was stopped can be begun again."""
    updates: dict[Any, Any] = {}
    if page.desk.lacks_trust(asked):
        updates |= _trust_drawn(page, asked, again=True)
    if page.desk.lacks_change(asked):
        updates[page.change] = changing(page, asked, again=True)
        updates[page.smallest] = change_row(asked, page.desk, waits=True)
    return updates


def changing(page: "ExplainPage", asked: Asked, *, again: bool = False) -> Any:
    """The button for the smallest change, where that is not looked for unasked, or was stopped."""
    if not page.desk.lacks_change(asked) or (page.desk.is_soon(asked) and not again):
        return gr.update(visible=False)
    seconds = page.desk.change_seconds(asked)
    time = f" (up to {time_in_words(seconds)} here)" if seconds is not None else ""
    return gr.update(visible=True, value=f"Find the smallest change{time}")


def is_refusal(error: XaihubError) -> bool:
    """Whether another model would help: then some that would work are named."""
    return isinstance(error, UnsupportedModelError | RepoNotFoundError | AccessDeniedError)


def link_in_words(asked: dict[str, str]) -> str:
    """What a link asks for, since nothing runs by itself.

    Raises:
        UnknownNameError: there is no such method.
    """
    about = f" the class {asked['class']!r}" if asked.get("class") else " the predicted class"
    rather = f" rather than {asked['against']!r}" if asked.get("against") else ""
    method = f" with {_title(asked['method'])}" if asked.get("method") else ""
    layer = f" at layer {asked['layer']}" if asked.get("layer") else ""
    picture = "Press" if asked.get("example") else "Send the picture and press"
    return f"This link asks about{about}{rather}{method}{layer}. {picture} Explain."


def _title(name: str) -> str:
    from xaihub import METHODS

    return METHODS[name].title


def _comparing(asked: Asked) -> dict[str, Any]:
    """The menu of the second class: it serves the counterfactuals, and every method that says why A and not B."""
    from xaihub import METHODS

    method, labels = METHODS[asked.method], asked.explanation.prediction.labels
    beside = asked.references is not None
    by = [method.title] * method.compares + ["counterfactuals"] * beside
    fixed = [RUNNER_UP, ANY] if beside else [RUNNER_UP]
    explained = label_choices(labels)[asked.explanation.target]
    return {
        "visible": shown_if(bool(by)),
        "choices": [choice for choice in class_choices(labels, *fixed) if choice[1] != explained],
        "title": f"Rather than ({', '.join(by)})",
    }


def _map_drawn(page: "ExplainPage", asked: Asked) -> dict[Any, Any]:
    return {page.view: _large(asked), **_trust_drawn(page, asked)}


def _trust_drawn(page: "ExplainPage", asked: Asked, *, again: bool = False) -> dict[Any, Any]:
    return {page.trust: trust_shown(asked, page.desk, waits=again), page.check: _checking(page, asked, again=again)}


def _checking(page: "ExplainPage", asked: Asked, *, again: bool) -> Any:
    """The button for the trust card, where that is not made unasked, or was stopped."""
    if not page.desk.lacks_trust(asked) or (page.desk.is_checked_soon(asked) and not again):
        return gr.update(visible=False)
    seconds = page.desk.trust_seconds(asked)
    time = f" (about {time_in_words(seconds)} here)" if seconds is not None else ""
    return gr.update(visible=True, value=f"Check this map{time}")


def _large(asked: Asked) -> str:
    from xaihub import METHODS

    title = _title(asked.method)
    found = asked.explanation.evidence.get(asked.method, ())
    notes = "".join(map(note, asked.explanation.notes.get(asked.method, ())))
    if not found:
        return f'<section class="xh-view"><h3>{escape(title)}</h3>{notes}</section>'
    return view(asked.explanation, found[0], title, METHODS[asked.method].summary) + notes


def _adopting(asked: Asked) -> Any:
    if asked.foreign is None:
        return gr.update(visible=False)
    return gr.update(visible=True, value=f"Embed the pictures of {asked.foreign.made.dataset} for this classifier")
