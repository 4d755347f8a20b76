"""What a method may look at (`Query`), and the table of all methods."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor

from xaihub.classifier import Classifier
from xaihub.embedders import Batch, Embedder
from xaihub.passes import Pass, replay, tap
from xaihub.preprocessing import View
from xaihub.progress import Progress, silent
from xaihub.records import Evidence, Prediction
from xaihub.references import ReferenceSet
from xaihub.registry import Registry

__all__ = ["FEW_PASSES", "METHODS", "Method", "Need", "Query", "first_line", "method"]

Need = Literal["target layer", "gradient", "references", "attention", "prototypes"]
Run = Callable[["Query"], tuple[Evidence, ...]]
Passes = int | Callable[[Classifier], int]

_NO_PROTOTYPES = (
    "It needs a classifier that answers by prototypes. Make one of this classifier on the Prototypes page, or with"
    " `fit_prototypes(classifier, references)`."
)

FEW_PASSES = 4  # what a method may cost and still run without having been named


@dataclass(frozen=True)
class Method:
    """One way to show a reason.

    Attributes:
        run: a query -> what it shows, best first.
        needs: what it cannot do without.
        summary: the first line of its docstring.
        title: its name as its authors write it.
        passes: what it costs beyond the pass that all share, in forward passes of one picture; a backward pass down
            to the pixels counts as two. A number, or a function of the classifier.
        signed: whether its raw map tells evidence for the class (positive) from evidence against it (negative).
        compares: whether it sets the target against another class, `query.other`.
        above: whether its passes run only through what lies above the target layer, which costs far less.
    """

    name: str
    run: Run
    needs: frozenset[Need]
    summary: str
    title: str = ""
    passes: Passes = 0
    signed: bool = False
    compares: bool = False
    above: bool = False

    def missing(self, classifier: Classifier, references: object | None) -> str:
        """Why it cannot run here, in words, or ""."""
        if "target layer" in self.needs and classifier.target_layer is None:
            return classifier.no_layer
        if "gradient" in self.needs and classifier.no_gradient:
            return classifier.no_gradient
        if "references" in self.needs and references is None:
            return "It needs references: labelled pictures to search."
        if "prototypes" in self.needs and classifier.prototypes is None:
            return _NO_PROTOTYPES
        if "attention" in self.needs:
            return classifier.no_attention
        return ""

    @property
    def shows_pictures(self) -> bool:
        """Whether it shows pictures of a dataset, rather than a map of the one that is explained."""
        return bool(self.needs & {"references", "prototypes"})

    def cost(self, classifier: Classifier) -> int:
        """Forward passes of one picture beyond the shared one."""
        return self.passes(classifier) if callable(self.passes) else self.passes


METHODS: Registry[Method] = Registry("method")


def method(
    name: str,
    *,
    needs: tuple[Need, ...] = (),
    title: str = "",
    passes: Passes = 0,
    signed: bool = False,
    compares: bool = False,
    above: bool = False,
) -> Callable[[Run], Run]:
    """Registers a function from a query to evidence under this name; menus, CLI and tests fill themselves."""

    def register(run: Run) -> Run:
        shown = title or name.replace("-", " ").capitalize()
        METHODS.add(name, Method(name, run, frozenset(needs), first_line(run), shown, passes, signed, compares, above))
        return run

    return register


def first_line(function: Callable[..., object]) -> str:
    """The first line of a function's docstring."""
    return (function.__doc__ or "").strip().split("\n", 1)[0]


class Query:
    """One picture being explained, after one forward pass; everything is computed when first asked for, and once.

    Args:
        picture: upright and RGB.
        target: the class to explain; None for the predicted one.
        references: where twins and counterfactuals are searched.
        against: the class a counterfactual should be of; None for the runner-up, "any" for any other.
        k: how many examples.
        map: the method whose heatmap each example carries.
        embedders: those that cannot be had by name, such as a folder's: the references name none but those of the Hub.
        progress: told of long work; what it raises ends the work.
    """

    def __init__(
        self,
        classifier: Classifier,
        picture: Image.Image,
        *,
        target: str | int | None = None,
        references: ReferenceSet | None = None,
        against: str | int | None = None,
        k: int = 3,
        map: str = "gradcam",  # noqa: A002  what it is
        embedders: Sequence[Embedder] = (),
        progress: Progress = silent,
    ) -> None:
        self.classifier = classifier
        self.picture = picture
        self.references = references
        self.against = against
        self.k = k
        self.map = map
        self.embedders = tuple(embedders)
        self.progress = progress
        self.notes: dict[str, list[str]] = {}
        self.memory: dict[Any, Any] = {}  # passes that a method made; read by `once`
        self._target = None if target is None else classifier.class_index(target)

    def about(self, **changes: object) -> "Query":
        """The same picture with another `target`, `references`, `against`, `k`, `map` or `progress`: no new pass."""
        other = copy.copy(self)
        other.notes = {}
        if "target" in changes:
            other.__dict__.pop("gradients", None)  # the one cached thing that depends on it
            target = changes.pop("target")
            other._target = None if target is None else self.classifier.class_index(target)  # type: ignore[arg-type]
        for name, value in changes.items():
            if name not in ("references", "against", "k", "map", "progress"):
                raise TypeError(f"A query has no {name!r} to change without a new pass.")
            setattr(other, name, value)
        return other

    def once(self, key: object, make: Callable[[], Any]) -> Any:
        """What a method computed whatever the target is, shared by all questions about the picture."""
        if key not in self.memory:
            self.memory[key] = make()
        return self.memory[key]

    def note(self, method: str, sentence: str) -> None:
        """Something the method must say beside what it shows."""
        said = self.notes.setdefault(method, [])
        if sentence not in said:
            said.append(sentence)

    @cached_property
    def view(self) -> View:
        """The pixels, the crop they show, and where it lies."""
        return self.classifier.transform.view(self.picture)

    @cached_property
    def passed(self) -> Pass:
        """The forward pass, tapped at the target layer; one for all questions about the picture."""
        made: Pass = self.once("passed", self._pass)
        return made

    def _pass(self) -> Pass:
        with tap(self.classifier) as run:
            return run(self.view.pixels)

    def at_once(self, most: int, *, graph: bool = False) -> int:
        """Return how many altered images go through the network together: `most`, or as many as its memory allows.

        Args:
            graph: whether a gradient to their pixels is taken.
        """
        height, width = self.view.pixels.shape[2:]
        return self.classifier.at_once(most, (height, width), graph=graph)

    @property
    def batch(self) -> Batch:
        """What an embedder may look at."""
        return Batch((self.view.image,), self.passed, self.classifier.activation)

    @cached_property
    def logits(self) -> Tensor:
        """(C,), out of the graph."""
        if self.classifier.target_layer is None:
            return self.classifier.logits(self.view.pixels)[0]
        return self.passed.logits[0].detach()

    @property
    def logits_at_zero(self) -> Tensor:
        """(C,), what the network says where its target layer is silent."""

        def silent_layer() -> Tensor:
            return replay(self.classifier, self.passed, self.view.pixels, lambda _, maps: torch.zeros_like(maps))[0]

        zero: Tensor = self.once("logits at zero", silent_layer)
        return zero

    @cached_property
    def prediction(self) -> Prediction:
        return self.classifier.prediction(self.logits)

    @property
    def target(self) -> int:
        """The class that is explained."""
        return self.prediction.index if self._target is None else self._target

    @property
    def activations(self) -> Tensor:
        """(K, h, w) of the target layer."""
        return self.passed.activations[0]

    @property
    def named_other(self) -> int | None:
        """The class that `against` names, be it the target itself; None for the runner-up or any other."""
        if self.against is None or self.against == "any":
            return None
        return self.classifier.class_index(self.against)

    @property
    def other(self) -> int:
        """The class that the target is compared with: `against`, else the most probable other one."""
        named = self.named_other
        if named is not None and named != self.target:
            return named
        order = self.logits.argsort(descending=True).tolist()
        return next((index for index in order if index != self.target), self.target)

    @cached_property
    def gradients(self) -> Tensor:
        """(K, h, w) of the target's logit to the target layer."""
        return self.passed.gradients([self.target])[0]
