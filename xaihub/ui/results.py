"""From an answer to what every component of page 1 shows."""

from html import escape
from typing import TYPE_CHECKING, Any

import gradio as gr

from xaihub.errors import AccessDeniedError, RepoNotFoundError, UnsupportedModelError, XaihubError
from xaihub.ui.desk import Asked, example_map
from xaihub.ui.drawing import bars, rows, view
from xaihub.ui.menus import ANY, PREDICTED, RUNNER_UP, class_choices, layer_choices, method_choices
from xaihub.ui.words import alarm, cautions, note, status

if TYPE_CHECKING:
    from xaihub.ui.page_explain import ExplainPage

__all__ = ["drawn", "is_refusal", "link_in_words", "menus"]


def drawn(page: "ExplainPage", asked: Asked) -> dict[Any, Any]:
    """The updates that show an answer, by component."""
    explanation = asked.explanation
    classifier = asked.query.classifier if asked.query else None
    updates: dict[Any, Any] = {
        page.asked: asked,
        page.alert: "",
        page.welcome: gr.update(visible=False),
        page.answer: gr.update(visible=True),
        page.said: bars(explanation.prediction, explanation.target, str(explanation.provenance["model"])),
        page.view: _large(asked),
        page.trust: cautions(explanation, asked.method),
        page.beside: _beside(asked),
        page.adopt: _adopting(asked),
        page.keep_references: gr.update(visible=asked.references is not None),
        **menus(page, asked),
    }
    if classifier is not None:
        updates[page.about] = status(asked.plan, classifier)
    return updates


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
    return f"This link asks about{about}{rather}{method}{layer}. Send the picture and press Explain."


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
    return {
        "visible": bool(by),
        "choices": class_choices(labels, *fixed),
        "label": f"Rather than ({', '.join(by)})",
    }


def _large(asked: Asked) -> str:
    from xaihub import METHODS

    title = _title(asked.method)
    found = asked.explanation.evidence.get(asked.method, ())
    notes = "".join(map(note, asked.explanation.notes.get(asked.method, ())))
    if not found:
        return f'<section class="xh-view"><h3>{escape(title)}</h3>{notes}</section>'
    return view(asked.explanation, found[0], title, METHODS[asked.method].summary) + notes


def _beside(asked: Asked) -> str:
    """The rows of examples: those of methods that search, and the further pieces of the method that is large."""
    from xaihub import METHODS

    names = [name for name, shown in asked.explanation.evidence.items() if name != asked.method or len(shown) > 1]
    listed = [(name, METHODS[name].title, METHODS[name].summary) for name in names]
    other = example_map(asked.method)
    told = (
        note(f"The heatmaps of these pictures are {_title(other)}'s. {_title(asked.method)} was made for yours only.")
        if asked.references is not None and other != asked.method
        else ""
    )
    return _trouble(asked) + told + rows(asked.explanation, listed)


def _trouble(asked: Asked) -> str:
    """Why there are no examples; references of another classifier are no error, the button below helps."""
    if asked.foreign is not None:
        return note(
            f"The chosen references are {asked.foreign.made.classifier}'s view of {asked.foreign.made.dataset}, so"
            " distances to them would mean nothing for this classifier. Embed their pictures for it, or choose others."
        )
    return alarm(asked.trouble) if asked.trouble else ""


def _adopting(asked: Asked) -> Any:
    if asked.foreign is None:
        return gr.update(visible=False)
    return gr.update(visible=True, value=f"Embed the pictures of {asked.foreign.made.dataset} for this classifier")
