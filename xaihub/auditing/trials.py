"""Interventions tried: how often a change of the picture turns the classifier's answer."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from PIL import Image

from xaihub.auditing.changes import CHANGES, LARGEST, USUAL, Apply, resaved
from xaihub.auditing.looking import Looked
from xaihub.auditing.sight import small_file
from xaihub.classifier import Classifier
from xaihub.datasets import LabelledPictures
from xaihub.errors import PictureError
from xaihub.images import open_picture, thumbnail
from xaihub.intervals import Interval, wilson
from xaihub.progress import Progress, silent

__all__ = ["Turned", "intervene", "usual_quality"]

Example = tuple[str, str, str, bytes]

KEPT = 3  # turned pictures that are shown


@dataclass(frozen=True, eq=False)
class Turned:
    """How often a change turned the classifier's answer.

    Attributes:
        count: pictures that were tried; the same ones for every change.
        places: of those that got another answer, among all pictures.
        to_donor: how many of these got the donor's label, where the classifier knows the labels.
        by_label: of the pictures of each label, how many turned, and of how many.
        examples: (key, answer before, answer after, the changed picture as a small file).
        how: what of the change depends on the data, in words.
    """

    name: str
    count: int
    places: frozenset[int]
    to_donor: int
    by_label: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    examples: tuple[Example, ...] = ()
    how: str = ""

    @property
    def title(self) -> str:
        """What was done to the picture, in words."""
        return f"{CHANGES[self.name].title}{self.how}"

    @property
    def flips(self) -> int:
        """How many got another answer."""
        return len(self.places)

    @property
    def rate(self) -> float:
        return self.flips / self.count if self.count else 0.0

    @property
    def interval(self) -> Interval:
        """Wilson's, 95 %."""
        return wilson(self.flips, self.count)


def intervene(
    pictures: LabelledPictures,
    looked: Looked,
    classifier: Classifier,
    *,
    trials: int,
    seed: int = 0,
    progress: Progress = silent,
) -> dict[str, Turned]:
    """Every change, tried on at most so many pictures, evenly from the labels; pictures are opened one at a time.

    Nothing where no picture was tried.
    """
    get = {key: source for key, _, source in pictures.sources}
    quality = usual_quality(looked)
    apply: dict[str, Apply] = {name: entry.apply for name, entry in CHANGES.items()}
    apply["jpeg"] = lambda picture, _donor: resaved(picture, quality)
    flips: dict[str, dict[int, bool]] = {name: {} for name in CHANGES}
    donors = dict.fromkeys(CHANGES, 0)
    shown: dict[str, list[Example]] = {name: [] for name in CHANGES}
    pairs = _pairs(looked, trials, seed)
    for done, (row, donor) in enumerate(pairs):
        progress(done / len(pairs), f"Changing picture {done + 1:,} of {len(pairs):,}")
        try:
            picture, other = (_at_most(open_picture(get[looked.keys[i]]())) for i in (row, donor))
        except PictureError:  # it was there when it was looked at, and has gone since
            continue
        changed = {name: function(picture, other) for name, function in apply.items()}
        before, *answers = _answers(classifier, [picture, *changed.values()])
        for name, after in zip(changed, answers, strict=True):
            flips[name][row] = after != before
            donors[name] += after != before and classifier.labels[after] == looked.labels[donor]
            if after != before and len(shown[name]) < KEPT:
                said = classifier.labels[before], classifier.labels[after]
                shown[name].append((looked.keys[row], *said, small_file(changed[name])))
    return {
        name: Turned(
            name, len(flips[name]), frozenset(row for row, turned in flips[name].items() if turned), donors[name],
            _by_label(looked, flips[name]), tuple(shown[name]), f" of quality {quality}" * (name == "jpeg"),
        )
        for name in CHANGES if flips[name]
    }  # fmt: skip


def usual_quality(looked: Looked) -> int:
    """The median quality of the JPEG pictures; what libjpeg takes by itself where there are none."""
    found = looked.features["quality"][:, 0]
    there = found[~np.isnan(found)]
    return round(float(np.median(there))) if len(there) else USUAL


def _by_label(looked: Looked, flips: Mapping[int, bool]) -> dict[str, tuple[int, int]]:
    """Of the pictures of each label, how many turned, and of how many."""
    found: dict[str, tuple[int, int]] = {}
    for row, turned in flips.items():
        some, count = found.get(looked.labels[row], (0, 0))
        found[looked.labels[row]] = some + turned, count + 1
    return found


def _at_most(picture: Image.Image) -> Image.Image:
    return picture if max(picture.size) <= LARGEST else thumbnail(picture, LARGEST)


def _pairs(looked: Looked, trials: int, seed: int) -> list[tuple[int, int]]:
    """Pictures in turn from each label, by lot, and beside each a picture of another label."""
    generator = np.random.default_rng(seed)
    labels = np.array(looked.labels)
    queues = [generator.permutation(np.flatnonzero(labels == name)).tolist() for name in looked.names]
    rows = [queue[i] for i in range(max(map(len, queues))) for queue in queues if i < len(queue)][:trials]
    return [(row, int(generator.choice(np.flatnonzero(labels != labels[row])))) for row in rows]


def _answers(classifier: Classifier, pictures: list[Image.Image]) -> list[int]:
    pixels = [classifier.transform(picture) for picture in pictures]
    if len({tuple(each.shape) for each in pixels}) == 1:
        batches = [torch.stack(pixels[i : i + classifier.batch]) for i in range(0, len(pixels), classifier.batch)]
    else:
        batches = [each[None] for each in pixels]
    return [int(answer) for batch in batches for answer in classifier.logits(batch).argmax(1)]
