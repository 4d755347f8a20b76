"""Several metrics of the same maps, and what they ask of a method: its map of other pixels, or of another network."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from xaihub.cams import CAMS, several
from xaihub.classifier import Classifier
from xaihub.explaining import METHODS
from xaihub.hooks import recording
from xaihub.methods import Query
from xaihub.metrics.baselines import NO_LAYER, Grid, baseline_maps
from xaihub.metrics.table import METRICS, Explainer, Metric
from xaihub.passes import slices
from xaihub.preprocessing import View

__all__ = ["baseline_explainer", "explainer_of", "measure", "on_pixels", "raw_maps"]

Settings = Mapping[str, Mapping[str, Any]]


def measure(
    classifier: Classifier,
    pixels: Tensor,
    heatmaps: Tensor,
    targets: Tensor,
    names: Sequence[str],
    *,
    masks: Tensor | None = None,
    explainer: Explainer | None = None,
    settings: Settings | None = None,
) -> dict[str, Tensor]:
    """Metric -> (N,) values, of several metrics of the same maps; one that others among them add up to costs no pass.

    Where a metric needs masks or an explainer and none is given, it says nothing: not a number.

    Args:
        names: of metrics of maps.
        masks: (N, H, W) bool, what is to be found in each picture.
        explainer: what made the maps.
        settings: metric -> keywords for it.
    """
    settings, given = settings or {}, {"masks": masks, "explainer": explainer}
    entries = [METRICS[name] for name in names]
    unasked = torch.full((len(pixels),), torch.nan)

    def run(entry: Metric) -> Tensor:
        needed = {need: given[need] for need in entry.needs}
        if any(value is None for value in needed.values()):
            return unasked.clone()
        found: Tensor = entry.run(classifier, pixels, heatmaps, targets, **needed, **settings.get(entry.name, {}))
        return found

    values = {entry.name: run(entry) for entry in entries if not entry.follows(names, settings)}
    for entry in entries:
        if entry.name not in values and entry.combine is not None:
            values[entry.name] = entry.combine(*(values[part] for part in entry.parts))
    return {name: values[name] for name in names}


def on_pixels(classifier: Classifier, pixels: Tensor, target: int) -> Query:
    """A query about pixels (1, 3, H, W) as they are: no picture would be preprocessed to altered ones."""
    image = classifier.transform.picture_of(pixels[0].cpu())
    query = Query(classifier, image, target=target)
    query.__dict__["view"] = View(pixels, image, (0.0, 0.0, float(image.width), float(image.height)))
    return query


def raw_maps(name: str, queries: Sequence[Query]) -> Tensor:
    """(N, h, w) by the method of that name, one query after the other; zero where it shows no map."""
    found = [_raw(shown[0].raw if shown else None) for shown in map(METHODS[name].run, queries)]
    shape = next((each.shape for each in found if each.numel()), torch.Size((1, 1)))
    return torch.stack([each if each.numel() else torch.zeros(shape) for each in found])


def explainer_of(name: str) -> Explainer:
    """What gives the raw maps of the method of that name, for any pixels and any network of the same kind.

    A gradient CAM gives those of a batch from one pass; other methods are asked picture by picture.
    """
    METHODS[name]  # so that an unknown name is said at once

    @recording  # whoever measures needs no gradients himself
    def by_cam(classifier: Classifier, pixels: Tensor, targets: Tensor) -> Tensor:
        pixels, targets = _recordable(pixels), _recordable(targets)
        found = [
            several(classifier, pixels[i], targets[i], [name])[name] for i in slices(len(pixels), classifier.batch)
        ]
        return torch.cat(found).detach().float().cpu()

    @recording
    def one_by_one(classifier: Classifier, pixels: Tensor, targets: Tensor) -> Tensor:
        return raw_maps(name, [on_pixels(classifier, pixels[i : i + 1], int(targets[i])) for i in range(len(pixels))])

    return by_cam if name in CAMS else one_by_one


def baseline_explainer(name: str, grid: Grid = NO_LAYER, seed: int = 0) -> Explainer:
    """A baseline in a method's place: it looks at the pixels, and never at the network."""
    return lambda _classifier, pixels, _targets: baseline_maps(name, pixels, grid=grid, seed=seed)


def _recordable(tensor: Tensor) -> Tensor:
    """What was made in torch's inference mode cannot be part of a graph; a copy of it can."""
    return tensor.clone() if tensor.is_inference() else tensor


def _raw(found: np.ndarray | None) -> Tensor:
    return torch.empty(0) if found is None else torch.from_numpy(np.ascontiguousarray(found, dtype=np.float32))
