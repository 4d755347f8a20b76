"""The maps of one batch by every method, and what each metric says of them."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from xaihub.cams import CAMS, several
from xaihub.classifier import Classifier
from xaihub.evaluating.questions import Batch
from xaihub.maps import enlarged
from xaihub.methods import Query
from xaihub.metrics import (
    BASELINES,
    METRICS,
    area,
    baseline_explainer,
    baseline_maps,
    both_curves,
    explainer_of,
    measure,
)
from xaihub.metrics.baselines import NO_LAYER
from xaihub.metrics.together import on_pixels, raw_maps
from xaihub.references import ReferenceSet

__all__ = ["POINTS", "Judge", "drawn", "example_values", "grid_of"]

POINTS = 33  # of a curve are kept for its plot

Settings = Mapping[str, Mapping[str, Any]]


def grid_of(classifier: Classifier) -> tuple[int, int]:
    """The grain that baselines have: the target layer's."""
    return classifier.target_layer.grid if classifier.target_layer else NO_LAYER


def drawn(metrics: Sequence[str], settings: Settings) -> tuple[str, ...]:
    """Those of the metrics whose curves are kept: both ways together, which share a pass, or neither."""
    alike = settings.get("deletion") == settings.get("insertion")
    return ("deletion", "insertion") if {"deletion", "insertion"} <= set(metrics) and alike else ()


class Judge:
    """One batch of pictures: a map of each is made once by every method, and every metric is asked about it.

    Args:
        methods: of which maps will be asked for; gradient CAMs share one pass, other methods a query for each picture.
        seed: of the random maps.
    """

    def __init__(
        self, classifier: Classifier, batch: Batch, targets: Tensor, methods: Sequence[str], *, seed: int = 0
    ) -> None:
        self.classifier, self.batch, self.targets, self.seed = classifier, batch, targets, seed
        self.grid = grid_of(classifier)
        self._cams = [name for name in methods if name in CAMS]

    def maps(self, name: str) -> Tensor:
        """(N, H, W) by a method or a baseline, signed as the method has them."""
        pixels = self.batch.pixels
        if name in BASELINES:
            return baseline_maps(name, pixels, grid=self.grid, seed=self.seed)
        raw = self._by_cams[name] if name in CAMS else raw_maps(name, self.queries)
        return enlarged(raw.nan_to_num().float().cpu(), (pixels.shape[2], pixels.shape[3]))

    def judged(
        self, name: str, metrics: Sequence[str], settings: Settings
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Metric -> (N,), and metric -> (N, points) where it is the area under a curve."""
        given = self.classifier, self.batch.pixels, self.maps(name), self.targets
        values, curves, rest = {}, {}, list(metrics)
        if drawn(metrics, settings):
            deleting, inserting = both_curves(*given, **settings.get("deletion", {}))
            curves = {"deletion": deleting, "insertion": inserting}
            values = {metric: area(curve) for metric, curve in curves.items()}
            rest = [metric for metric in metrics if metric not in values]
        explainer = baseline_explainer(name, self.grid, self.seed) if name in BASELINES else explainer_of(name)
        values |= measure(*given, rest, masks=self.batch.masks, explainer=explainer, settings=settings)
        return values, {metric: _thinned(curve) for metric, curve in curves.items()}

    @cached_property
    def queries(self) -> list[Query]:
        """(N,), each picture's own, shared by all methods that are no gradient CAM."""
        pixels, targets = self.batch.pixels, self.targets.tolist()
        return [on_pixels(self.classifier, pixels[i : i + 1], target) for i, target in enumerate(targets)]

    @cached_property
    def _by_cams(self) -> dict[str, Tensor]:
        return several(self.classifier, self.batch.pixels, self.targets, self._cams)


def example_values(
    classifier: Classifier,
    batch: Batch,
    targets: Tensor,
    references: ReferenceSet | None,
    asked: Mapping[str, Sequence[str]],
) -> dict[str, dict[str, Tensor]]:
    """Method -> metric -> (N,), of methods that show pictures; one query for each picture serves them all.

    Args:
        asked: method -> metrics of what it shows.
    """
    found: dict[str, dict[str, list[float]]] = {name: {metric: [] for metric in asked[name]} for name in asked}
    for i, target in enumerate(targets.tolist()):
        query = on_pixels(classifier, batch.pixels[i : i + 1], target).about(references=references)
        for name, metrics in asked.items():
            for metric in metrics:
                found[name][metric].append(float(METRICS[metric].run(query, name)))
    return {
        name: {metric: torch.tensor(values, dtype=torch.float64) for metric, values in of_method.items()}
        for name, of_method in found.items()
    }


def _thinned(curves: Tensor) -> Tensor:
    """(N, points) of curves (N, S + 1), read at even places where they have more points than a plot shows."""
    count = curves.shape[1]
    if count <= 2 * POINTS:
        return curves
    places = np.linspace(0, count - 1, POINTS)
    read: Callable[[Any], Any] = lambda curve: np.interp(places, np.arange(count), curve)  # noqa: E731
    return torch.from_numpy(np.stack([read(curve) for curve in curves.double().numpy()]))
