"""How far an explanation can be relied on: one pure function a metric, each with its source and its equation."""

from collections.abc import Mapping
from typing import Any

from xaihub.metrics import complexity as _complexity  # noqa: F401  each registers its metrics
from xaihub.metrics import curves as _curves  # noqa: F401
from xaihub.metrics import flipping as _flipping  # noqa: F401
from xaihub.metrics import localisation as _localisation  # noqa: F401
from xaihub.metrics import masking as _masking  # noqa: F401
from xaihub.metrics import of_examples as _of_examples  # noqa: F401
from xaihub.metrics import randomisation as _randomisation  # noqa: F401
from xaihub.metrics import road as _road  # noqa: F401
from xaihub.metrics import robustness as _robustness  # noqa: F401
from xaihub.metrics import subsets as _subsets  # noqa: F401
from xaihub.metrics.baselines import BASELINES, baseline_maps
from xaihub.metrics.curves import area, both_curves, curve
from xaihub.metrics.table import METRICS, Category, Explainer, Metric, metric
from xaihub.metrics.together import baseline_explainer, explainer_of, measure

__all__ = [
    "BASELINES", "DEFAULT_SUITE", "METRICS", "SUITE_SETTINGS", "Category", "Explainer", "Metric", "area",
    "baseline_explainer", "baseline_maps", "both_curves", "curve", "explainer_of", "measure", "metric",
]  # fmt: skip

DEFAULT_SUITE: tuple[str, ...] = (
    "deletion", "insertion", "insertion-deletion", "road", "average-drop", "increase-in-confidence", "adcc",
    "sparseness", "complexity", "pointing-game", "energy-pointing-game", "iou",
)  # fmt: skip
"""What a standard evaluation measures: the last three where masks are given, else they say nothing."""

SUITE_STEPS = 28  # an eighth of the published ones at 224 pixels: on photographs the areas move by some thousandths

SUITE_SETTINGS: Mapping[str, Mapping[str, Any]] = {
    name: {"steps": SUITE_STEPS} for name in ("deletion", "insertion", "insertion-deletion")
}
"""What differs from the metrics' own defaults in the standard evaluation, so that it can be afforded."""
