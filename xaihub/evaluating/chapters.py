"""What a report tells of one model: its scores and curves, the best and the worst pictures, and how all was made."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from PIL import Image

from xaihub.datasets import LabelledPictures
from xaihub.evaluating.judging import Judge, grid_of
from xaihub.evaluating.questions import batches
from xaihub.evaluating.resampling import Floats
from xaihub.evaluating.running import Measured
from xaihub.evaluating.scoring import curves_of, scores_of
from xaihub.evaluating.words import headline, metric_title
from xaihub.explaining import provenance
from xaihub.images import blend
from xaihub.maps import shown
from xaihub.metrics import METRICS
from xaihub.records import Score

__all__ = ["Chapter", "Example", "chapter_of"]

_EACH = 3  # of the best and of the worst pictures
_CLIP = 0.01  # of the pixels are shown as the hottest: gradients have single wild ones
_MOST_MAPS = 6  # beside a picture


@dataclass(frozen=True, eq=False)
class Example:
    """A picture by which the methods did well or badly.

    Attributes:
        words: what it is and what the classifier says of it.
        maps: method -> the picture with its map over it. `values`: method -> of the metric to read first.
    """

    image: Image.Image
    words: str
    maps: Mapping[str, Image.Image]
    values: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class Chapter:
    """All that is told of one model.

    Attributes:
        curves: (metric, method) -> (3, points), the mean and its interval.
        best, worst: pictures by the metric to read first; none where they may not be shown.
        facts: how it was made, for people. `columns`: the same for tables, under the names of their columns.
    """

    model: str
    scores: tuple[Score, ...]
    curves: Mapping[tuple[str, ...], Floats]
    facts: Mapping[str, Any]
    columns: Mapping[str, Any]
    best: tuple[Example, ...] = field(default=(), repr=False)
    worst: tuple[Example, ...] = field(default=(), repr=False)


def chapter_of(found: Measured, pictures: LabelledPictures, *, asked: str, seed: int = 0, show: bool = True) -> Chapter:
    """The scores of what was measured, with everything that a report says of them.

    Args:
        asked: which class of each picture is explained, in words.
        show: whether pictures may be shown.
    """
    scores = tuple(scores_of(found, seed=seed))
    best, worst = _examples(found, pictures, scores, seed) if show else ((), ())
    made = provenance(found.classifier)
    facts = {
        "model": found.classifier.name,
        "target layer": made["layer"],
        "layer chosen because": made["layer chosen because"],
        "grid of that layer": " x ".join(map(str, grid_of(found.classifier))),
        "preprocessing": made["preprocessing"],
        "pictures": _counted(found, pictures),
        "class explained": asked,
        "maps": "as each method has them, signed, enlarged to the picture; nothing cut off as it is for display",
        "random maps and resamples": f"seed {seed}",
        "made": made["made"],
        "versions": ", ".join(f"{name} {held}" for name, held in made["versions"].items() if held),  # type: ignore[attr-defined]
    }
    columns = {
        "dataset": pictures.name, "dataset_revision": pictures.revision, "split": pictures.split, "seed": seed,
        "layer": made["layer"], "preprocessing": made["preprocessing"], "made": made["made"],
        "versions": facts["versions"],
    }  # fmt: skip
    return Chapter(found.classifier.name, scores, curves_of(found, seed=seed), facts, columns, best, worst)


def _counted(found: Measured, pictures: LabelledPictures) -> str:
    of = " ".join(filter(None, [pictures.config, f"split {pictures.split}" if pictures.split else ""]))
    at = f" at {pictures.revision[:12]}" if pictures.revision else ""
    told = f"{len(set(found.digests)):,} of {pictures.name}{f' ({of})' if of else ''}{at}"
    if len(found.keys) != len(set(found.digests)):
        told += f", about which {len(found.keys):,} questions were asked"
    if pictures.about:
        told += f"; {pictures.about}"
    return f"{told}; {len(found.skipped):,} could not be read" if found.skipped else told


def _examples(
    found: Measured, pictures: LabelledPictures, scores: Sequence[Score], seed: int
) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    metric = headline(scores)
    names = [name for name in found.plan.methods if (metric, name) in found.values][:_MOST_MAPS] if metric else []
    if not metric or not names:
        return (), ()
    values = np.stack([found.values[metric, name] for name in names])
    mean = np.where(np.isfinite(values).all(0), values.mean(0), np.nan) * (
        1 if METRICS[metric].higher_is_better else -1
    )
    order = [int(i) for i in np.argsort(-mean, kind="stable") if np.isfinite(mean[i])]
    most = min(_EACH, len(order) // 2)
    chosen = [*order[:most], *order[len(order) - most :][::-1]]
    drawn = dict(zip(sorted(chosen), _drawn(found, pictures, sorted(chosen), names, metric, seed), strict=True))
    return tuple(drawn[i] for i in chosen[:most]), tuple(drawn[i] for i in chosen[most:])


def _drawn(
    found: Measured, pictures: LabelledPictures, places: Sequence[int], names: Sequence[str], metric: str, seed: int
) -> Iterator[Example]:
    """The pictures at some places, opened again, with their maps."""
    sources = [pictures.sources[found.numbers[i]] for i in places]
    some = replace(pictures, sources=sources, skipped={})
    labels, classifier = found.classifier.labels, found.classifier
    for at, batch in zip(places, batches(classifier, some, size=1), strict=True):
        target = int(found.targets[at])
        judge = Judge(classifier, batch, torch.tensor([target]), names, seed=seed)
        image = classifier.transform.picture_of(batch.pixels[0])
        maps = {
            name: blend(image, shown(judge.maps(name), (image.height, image.width), _CLIP)[0].numpy(), opacity=0.55)
            for name in names
        }
        values = {name: float(found.values[metric, name][at]) for name in names}
        words = f"{found.keys[at]}: {labels[target]!r} at {found.probability[at]:.0%}"
        if target != found.predicted[at]:
            words += f" (the classifier says {labels[found.predicted[at]]!r})"
        yield Example(
            image,
            f"{words}. {metric_title(metric)}, mean of the methods: {np.mean(list(values.values())):.3f}",
            maps,
            values,
        )
