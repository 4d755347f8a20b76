"""From an answer to what every component of page 1 shows."""

from typing import TYPE_CHECKING, Any

import gradio as gr

from xaihub.errors import AccessDeniedError, RepoNotFoundError, UnsupportedModelError, XaihubError
from xaihub.ui.desk import Asked
from xaihub.ui.drawing import bars, rows, view
from xaihub.ui.words import alarm, cautions, label_choices, method_title, note, status

if TYPE_CHECKING:
    from xaihub.ui.page_explain import ExplainPage

__all__ = ["ANY", "AUTOMATIC", "PREDICTED", "RUNNER_UP", "drawn", "is_refusal", "link_in_words"]

# choices that stand before the named ones: (words, value)
PREDICTED, RUNNER_UP, ANY = ("the predicted class", ""), ("the runner-up", ""), ("any other class", "any")
AUTOMATIC = ("chosen by proof", "")


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
        page.against: gr.update(
            visible=asked.references is not None, **_classes(explanation.prediction.labels, "against")
        ),
        page.target: gr.update(**_classes(explanation.prediction.labels, "target")),
        page.method: gr.update(choices=_methods(), value=asked.method),
        page.keep_references: gr.update(visible=asked.references is not None),
    }
    if classifier is not None:
        updates[page.about] = status(asked.plan, classifier)
        updates[page.layer] = gr.update(choices=_layers(classifier))
    return updates


def is_refusal(error: XaihubError) -> bool:
    """Whether another model would help: then some that would work are named."""
    return isinstance(error, UnsupportedModelError | RepoNotFoundError | AccessDeniedError)


def link_in_words(asked: dict[str, str]) -> str:
    """What a link asks for, since nothing runs by itself."""
    about = f" the class {asked['class']!r}" if asked.get("class") else ""
    method = f" with {asked['method']}" if asked.get("method") else ""
    return f"This link asks about{about or ' the predicted class'}{method}. Send the picture and press Explain."


def _large(asked: Asked) -> str:
    from xaihub import METHODS

    found = asked.explanation.evidence.get(asked.method, ())
    notes = "".join(map(note, asked.explanation.notes.get(asked.method, ())))
    if not found:
        return notes
    return view(asked.explanation, found[0], method_title(asked.method, METHODS[asked.method].summary)) + notes


def _beside(asked: Asked) -> str:
    """The rows of examples: those of methods that search, and the further pieces of the method that is large."""
    from xaihub import METHODS

    names = [name for name, shown in asked.explanation.evidence.items() if name != asked.method or len(shown) > 1]
    listed = [(name, method_title(name, METHODS[name].summary), METHODS[name].summary) for name in names]
    return _trouble(asked) + rows(asked.explanation, listed)


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


def _methods() -> list[tuple[str, str]]:
    from xaihub import METHODS

    return [
        (method_title(name, method.summary), name)
        for name, method in METHODS.items()
        if "references" not in method.needs
    ]


def _classes(labels: tuple[str, ...], kind: str) -> dict[str, Any]:
    fixed = [PREDICTED] if kind == "target" else [RUNNER_UP, ANY]
    return {"choices": [*fixed, *((name, name) for name in label_choices(labels))]}


def _layers(classifier: Any) -> list[tuple[str, str]]:
    layer = classifier.target_layer
    if layer is None:
        return [("none shows where", "")]
    return [AUTOMATIC, *((other.in_words, other.name) for other in layer.alternatives)]
