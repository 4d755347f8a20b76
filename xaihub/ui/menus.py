"""What the menus offer: methods with their cost here, classes, layers. A choice is (words, value)."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from xaihub.ui.pace import Pace, cost_in_words
from xaihub.ui.words import label_choices

if TYPE_CHECKING:
    from xaihub.classifier import Classifier
    from xaihub.methods import Method

__all__ = [
    "ANY", "AUTOMATIC", "PREDICTED", "RUNNER_UP", "class_choices", "layer_choices", "map_methods", "method_choices",
]  # fmt: skip

Choice = tuple[str, str]

# choices that stand before the named ones
PREDICTED, RUNNER_UP, ANY = ("the predicted class", ""), ("the runner-up", ""), ("any other class", "any")
AUTOMATIC = ("chosen by proof", "")


def map_methods() -> "Iterator[Method]":
    """The methods that show one map; the others show pictures, and have rows of their own."""
    from xaihub import METHODS

    return (method for method in METHODS.values() if not method.shows_pictures)


def method_choices(classifier: "Classifier | None", pace: Pace) -> list[Choice]:
    """The methods by title and cost: maps of the layer, of attention, of the pixels, slow ones; last what cannot run.

    gradio cannot disable one choice of a menu: what cannot run here says so, and answers with the reason.
    """
    ordered = sorted(map_methods(), key=lambda method: _order(method, classifier))
    return [(_in_menu(method, classifier, pace), method.name) for method in ordered]


def _order(method: "Method", classifier: "Classifier | None") -> tuple[bool, int, int]:
    from xaihub.methods import FEW_PASSES

    cannot = bool(classifier and method.missing(classifier, None))
    cost = method.passes if isinstance(method.passes, int) else method.cost(classifier) if classifier else 100
    if cost > FEW_PASSES:
        return cannot, 3, cost
    return cannot, 0 if "target layer" in method.needs else 1 if "attention" in method.needs else 2, 0


def _in_menu(method: "Method", classifier: "Classifier | None", pace: Pace) -> str:
    missing = method.missing(classifier, None) if classifier else ""
    if missing:
        return f"{method.title} – not for this model: {missing}"
    cost = cost_in_words(method, classifier, pace)
    return f"{method.title} · {cost}" if cost else method.title


def class_choices(labels: tuple[str, ...], *first: Choice) -> list[Choice]:
    """The fixed choices, then every class; where two share a name each carries its index."""
    return [*first, *((name, name) for name in label_choices(labels))]


def layer_choices(classifier: "Classifier") -> list[Choice]:
    """The layer chosen by proof, by its name where it is the one in use, then all others of which a map can be made."""
    layer = classifier.target_layer
    if layer is None:
        return [("none shows where", "")]
    chosen = layer.proof == "chosen"  # by the visitor: what was proved is among the others
    proved = AUTOMATIC if chosen else (f"{AUTOMATIC[0]}: {layer.in_words}", "")
    return [proved, *((other.in_words, other.name) for other in layer.alternatives)]
