"""From values picture by picture to scores: means with intervals, beside the baselines."""

import numpy as np

from xaihub.evaluating.plans import settings_of
from xaihub.evaluating.resampling import Floats, means
from xaihub.evaluating.running import Measured
from xaihub.metrics import BASELINES, METRICS
from xaihub.records import Gain, Score

__all__ = ["curves_of", "scores_of"]


def scores_of(found: Measured, *, seed: int = 0) -> list[Score]:
    """A score for each metric and method, then for each baseline; none where a metric says nothing of any picture."""
    columns: dict[tuple[str, ...], Floats] = {**found.values}
    baselines = [name for name in found.plan.subjects if name in BASELINES]
    for metric, method in found.values:
        for baseline in baselines:
            if baseline != method and (metric, baseline) in found.values:
                sign = 1 if METRICS[metric].higher_is_better else -1
                columns[metric, method, baseline] = sign * (
                    found.values[metric, method] - found.values[metric, baseline]
                )
    told = means(np.stack(list(columns.values()), axis=1), found.digests, seed=seed) if columns else np.zeros((3, 0))
    intervals = {key: tuple(map(float, told[:, i])) for i, key in enumerate(columns)}
    asked = [(m, s) for m in found.plan.metrics for s in found.plan.subjects]
    asked += [(m, s) for s, of_method in found.plan.examples.items() for m in of_method]
    return [
        _score(found, metric, method, baselines, intervals) for metric, method in asked if _says(found, metric, method)
    ]


def _says(found: Measured, metric: str, method: str) -> bool:
    return bool(np.isfinite(found.values[metric, method]).any())


def _score(found: Measured, metric: str, method: str, baselines: list[str], intervals: dict) -> Score:
    entry = METRICS[metric]
    beside = [name for name in baselines if name != method and (metric, name) in found.values]
    value, low, high = intervals[metric, method]
    return Score(
        method,
        metric,
        value,
        low,
        high,
        int(np.isfinite(found.values[metric, method]).sum()),
        entry.higher_is_better,
        {name: intervals[metric, name][0] for name in beside},
        {name: Gain(*intervals[metric, method, name]) for name in beside},
        entry.category,
        found.classifier.repo_id,
        found.classifier.revision,
        settings_of(entry, found.plan.settings.get(metric, {})),
        method in baselines,
    )


def curves_of(found: Measured, *, seed: int = 0) -> dict[tuple[str, ...], Floats]:
    """(metric, method) -> (3, points): the mean curve, and its 95 % interval point by point."""
    if not found.curves:
        return {}
    keys = list(found.curves)
    told = means(
        np.concatenate([found.curves[key] for key in keys], axis=1).astype(np.float64), found.digests, seed=seed
    )
    ends = np.cumsum([found.curves[key].shape[1] for key in keys])
    return dict(zip(keys, np.split(told, ends[:-1], axis=1), strict=True))
