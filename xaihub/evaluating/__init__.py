"""How far explanations can be relied on: methods x metrics x pictures, with intervals, beside maps that know nothing.

questions.py   pictures as the classifier sees them, and what is asked about each
plans.py       which methods and metrics
judging.py     the maps of one batch, and what each metric says of them
pieces.py      what was measured, on the disk
running.py     all batches, from where the last run stopped
resampling.py  means with bootstrap intervals
scoring.py     from values to scores
tables.py      scores as CSV, parquet and Markdown
report.py      a page that explains itself, offline
runs.py        datasets and models by name, and where the results go
"""

import warnings
from collections.abc import Sequence
from pathlib import Path

from xaihub import explaining  # noqa: F401  registers every method
from xaihub.classifier import Classifier
from xaihub.evaluating.plans import Metrics
from xaihub.evaluating.questions import Images, Mask, Target
from xaihub.evaluating.running import Measured, measured
from xaihub.evaluating.scoring import scores_of
from xaihub.progress import Progress, silent
from xaihub.records import Score
from xaihub.references import ReferenceSet

__all__ = ["Measured", "evaluate", "measured", "scores_of"]


def evaluate(
    classifier: Classifier,
    images: Images,
    methods: Sequence[str] | None = None,
    metrics: Metrics = None,
    *,
    targets: Sequence[Target] | None = None,
    masks: Sequence[Mask] | None = None,
    references: ReferenceSet | None = None,
    folder: str | Path | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> list[Score]:
    """A score for every metric and method, with its interval, and for three maps that know nothing of the network.

    Every method and every baseline goes through every metric on the same pictures. The intervals are percentiles of
    1000 bootstrap resamples of the pictures, the same ones for all, so that a gain over a baseline is paired.

    Args:
        images: labelled pictures, or a list of paths, bytes, PIL images, arrays; or a folder or a dataset's id, of
            which the only split is taken, or else test or validation. A folder needs no class folders.
        methods: names in `METHODS`; None for every one that shows a map, runs here, and costs a few passes at most, and
            with `references` twins and counterfactuals.
        metrics: names in `METRICS`, with the settings of the standard suite or, as in "deletion:steps=224", others; or
            names -> their own settings; None for the suite.
        targets: for each picture the class to explain, several of which the most probable one is, or None for the
            predicted class.
        masks: for each picture where the thing is, as (height, width) bool of the original or as boxes in its pixels;
            then the suite asks whether maps find it.
        references: where twins and counterfactuals are searched.
        folder: where finished pieces are kept; a run that was stopped goes on from them. A changed setting, picture or
            network never finds another's.
        seed: of the random maps and of the intervals, 0 or more.
        progress: told the share and the time left; a CancelledError from it ends the run, and what is finished stays.

    Raises:
        UnknownNameError: there is no such method, metric, setting or class.
        TargetLayerError: a method that was named cannot run here.
        DatasetError: these are no pictures, or none could be read; of some that cannot, a warning tells.
        XaihubError: the seed or a metric's setting cannot be.
        CancelledError: from `progress`.
    """
    found = measured(
        classifier, images, methods, metrics, targets=targets, masks=masks, references=references,
        folder=None if folder is None else Path(folder), seed=seed, progress=progress,
    )  # fmt: skip
    if found.skipped:
        why = next(iter(found.skipped.values()))
        warnings.warn(f"Left out, for they could not be read: {len(found.skipped):,}, the first: {why}", stacklevel=2)
    return scores_of(found, seed=seed)
