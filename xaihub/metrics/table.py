"""The table of all metrics, and what one of them is."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from torch import Tensor

from xaihub.classifier import Classifier
from xaihub.methods import first_line
from xaihub.registry import Registry

__all__ = ["METRICS", "Category", "Count", "Explainer", "Metric", "MetricNeed", "Subject", "metric"]

Category = Literal[
    "faithfulness", "robustness", "randomisation", "complexity", "localisation", "examples", "prototypes"
]
Subject = Literal["maps", "twins", "counterfactuals", "prototypes"]
MetricNeed = Literal["masks", "explainer"]

Count = Annotated[int, "1 or more"]
"""A setting that counts something: an evaluation refuses any other number before it measures."""

Explainer = Callable[[Classifier, Tensor, Tensor], Tensor]
"""(classifier, pixels (N, 3, H, W), targets (N,)) -> raw maps (N, h, w), signed as the method has them."""

Run = Callable[..., Any]
Passes = int | Callable[[Classifier], int]


@dataclass(frozen=True)
class Metric:
    """One way to say how far an explanation can be relied on.

    Attributes:
        run: of maps, `(classifier, pixels, heatmaps, targets, *, settings)` -> (N,) on the CPU, not a number where it
            says nothing of a picture; of examples and prototypes, a query -> a number.
        category: what it asks about.
        higher_is_better: whether a larger value speaks for the explanation.
        summary: the first line of its docstring.
        title: its name as its authors write it.
        needs: what else `run` must be given, by keyword: masks (N, H, W) of what is to be found, or an `Explainer`.
        of: what it measures.
        passes: what it costs for one picture, in forward passes; a number, or a function of the classifier. The passes
            of an explainer that it needs are not counted.
        parts: the metrics it can be combined from, where these are known already.
        combine: their values, in that order -> its value.
    """

    name: str
    run: Run
    category: Category
    higher_is_better: bool
    summary: str
    title: str = ""
    needs: frozenset[MetricNeed] = frozenset()
    of: Subject = "maps"
    passes: Passes = 0
    parts: tuple[str, ...] = ()
    combine: Callable[..., Tensor] | None = None

    def follows(self, measured: Collection[str], settings: Mapping[str, Mapping[str, Any]]) -> bool:
        """Whether it needs no pass of its own, since its parts are measured anyway, in the same way.

        Args:
            settings: metric -> keywords for it.
        """
        alike = all(settings.get(part, {}) == settings.get(self.name, {}) for part in self.parts)
        return self.combine is not None and set(self.parts) <= set(measured) and alike

    def cost(self, classifier: Classifier) -> int:
        """Forward passes of one picture."""
        return self.passes(classifier) if callable(self.passes) else self.passes


METRICS: Registry[Metric] = Registry("metric")


def metric(
    name: str,
    *,
    higher_is_better: bool,
    category: Category,
    title: str = "",
    needs: tuple[MetricNeed, ...] = (),
    of: Subject = "maps",
    passes: Passes = 0,
    parts: tuple[str, ...] = (),
    combine: Callable[..., Tensor] | None = None,
) -> Callable[[Run], Run]:
    """Registers a function as a metric under this name; reports, CLI and tests fill themselves.

    A metric of maps is `f(classifier, pixels, heatmaps, targets)` -> (N,); what it needs besides comes by keyword.
    """

    def register(run: Run) -> Run:
        shown = title or name.replace("-", " ").capitalize()
        entry = Metric(
            name, run, category, higher_is_better, first_line(run), shown, frozenset(needs), of, passes, parts, combine
        )
        METRICS.add(name, entry)
        return run

    return register
