"""Whether prototypes are what they should be: different, used, of one class, found again, and held in place."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor
from torch.nn.functional import normalize, pad

from xaihub.classifier import Classifier
from xaihub.errors import XaihubError
from xaihub.hooks import evaluating
from xaihub.progress import Progress, part, silent
from xaihub.prototype_maps import Looked
from xaihub.prototypes import Prototype, PrototypeLayer, Prototypes, distinct_sources
from xaihub.prototypes.alarms import ALIKE, collapse, used_of
from xaihub.regions import Cell

__all__ = ["ClassHealth", "Health", "Patch", "PrototypeHealth", "health", "kept_in_place", "nearest_patches"]

NEAREST = 6  # patches tell whether a prototype is of one class, as when Chen et al. (2019, supplement) prune
_SAMPLE = 24  # pictures that are shifted and get noise
_NOISE = 0.02  # of the pixels' range
_SHIFT = 64  # of a picture's side is one shift: two or three pixels


@dataclass(frozen=True)
class Patch:
    """The place of a picture that is most like a prototype."""

    row: int
    cell: Cell
    similarity: float


@dataclass(frozen=True)
class PrototypeHealth:
    """One prototype.

    Attributes:
        used: whether it adds anything to its class.
        duplicates: other prototypes of its class from the same picture, or almost the same vector.
        purity: of its nearest patches in other pictures, the share of its own class; None where there are none.
        stability: how often its place stays where it was, or next to that, under a small shift and under noise, in
            pictures of its class in which it is active; None where none of these was tried.
    """

    owner: int
    used: bool
    duplicates: tuple[int, ...]
    purity: float | None
    stability: float | None


@dataclass(frozen=True)
class ClassHealth:
    """The prototypes of one class.

    Attributes:
        sources: how many different pictures they come from.
        coverage: of the pictures of the class, the share in which one of its prototypes is active; None without any.
    """

    label: str
    prototypes: int
    used: int
    sources: int
    coverage: float | None


@dataclass(frozen=True)
class Health:
    """All prototypes of a classifier.

    Attributes:
        prototypes: (P,). `classes`: (C,).
        largest: the share of the prototypes that the picture serves that serves most.
        alarms: what is wrong, in words; empty where nothing is.
        pictures: how many it was told by.
    """

    prototypes: tuple[PrototypeHealth, ...]
    classes: tuple[ClassHealth, ...]
    largest: float
    alarms: tuple[str, ...]
    pictures: int

    @property
    def duplicates(self) -> int:
        """How many prototypes have a duplicate before them: without these, none had any."""
        return sum(any(other < place for other in each.duplicates) for place, each in enumerate(self.prototypes))

    @property
    def purity(self) -> float | None:
        """The mean of all that have one; `stability` likewise, and `coverage` of the classes."""
        return _mean([each.purity for each in self.prototypes])

    @property
    def stability(self) -> float | None:
        return _mean([each.stability for each in self.prototypes])

    @property
    def coverage(self) -> float | None:
        return _mean([each.coverage for each in self.classes])

    @property
    def in_words(self) -> str:
        """All of it in a few sentences, alarms first."""
        used, sources = sum(each.used for each in self.prototypes), sum(each.sources for each in self.classes)
        said = [
            *self.alarms,
            f"{used} of {len(self.prototypes)} prototypes are used, from {sources} pictures,"
            f" {self.duplicates or 'none'} of them a duplicate of another.",
        ]
        if self.purity is not None:
            said.append(f"Of the {NEAREST} patches nearest to each, {self.purity:.0%} are of its own class.")
        if self.coverage is not None:
            said.append(f"{self.coverage:.0%} of the pictures of a class have an active prototype of it.")
        if self.stability is not None:
            said.append(f"Under small shifts and noise {self.stability:.0%} stay in their place.")
        return " ".join(said)


def health(classifier: Classifier, looked: Looked, *, seed: int = 0, progress: Progress = silent) -> Health:
    """How the classifier's prototypes do on pictures, as `look` gave them of the classifier or of its black box.

    Args:
        seed: of the pictures that are shifted and of the noise.

    Raises:
        XaihubError: the classifier has no prototypes, or the maps are not those of its layer.
        CancelledError: from `progress`.
    """
    made = _prototypes_of(classifier, looked)
    layer, named = made.network.head, _named(made, looked)
    found = _found(layer, looked.maps, part(progress, 0, 0.5))
    stable = _stability(classifier, made, looked, named, seed, part(progress, 0.5, 1))
    used = used_of(layer)
    twins = _duplicates(layer, made.gallery)
    purity = [_purity(found, made, looked, named, place) for place in range(len(made.gallery))]
    each = tuple(
        PrototypeHealth(source.owner, used[place], twins[place], purity[place], stable[place])
        for place, source in enumerate(made.gallery)
    )
    served = Counter(source.digest for source in made.gallery)
    largest = max(served.values(), default=0) / max(1, len(made.gallery))
    return Health(each, _classes(made, found, named, used), largest, collapse(made), len(looked))


def nearest_patches(classifier: Classifier, looked: Looked, prototype: int, k: int = NEAREST) -> tuple[Patch, ...]:
    """The places most like a prototype, best first, one of each picture; its own picture, if it is there, is first."""
    made = _prototypes_of(classifier, looked)
    found = _found(made.network.head, looked.maps, silent, [prototype])
    order = found.best[:, 0].argsort(descending=True, stable=True)[:k].tolist()
    return tuple(_patch(found, row, 0) for row in order)


@dataclass(frozen=True, eq=False)
class _Found:
    """(N, P) the scores, the best similarity in each picture, and which cell that is; columns of the grid."""

    scores: Tensor
    best: Tensor
    cells: Tensor
    columns: int


@torch.no_grad()
def _found(layer: PrototypeLayer, maps: Tensor, progress: Progress, only: Sequence[int] | None = None) -> _Found:
    kept: list[tuple[Tensor, Tensor, Tensor]] = []
    device, done = layer.vectors.device, 0
    for some in maps.split(32):
        progress(done / len(maps), f"Looking for prototypes in picture {done + 1:,} of {len(maps):,}")
        alike = layer.similarities(layer.embed(some.to(device)))
        alike = alike if only is None else alike[:, list(only)]
        best = alike.flatten(2).max(2)
        kept.append((layer.scores(alike).cpu(), best.values.cpu(), best.indices.cpu()))
        done += len(some)
    scores, values, cells = (torch.cat(each) for each in zip(*kept, strict=True))
    return _Found(scores, values, cells, maps.shape[3])


def _patch(found: _Found, row: int, column: int) -> Patch:
    return Patch(row, divmod(int(found.cells[row, column]), found.columns), float(found.best[row, column]))


def _prototypes_of(classifier: Classifier, looked: Looked) -> Prototypes:
    made = classifier.prototypes
    if made is None:
        raise XaihubError(f"{classifier.repo_id} has no prototypes to look at. Make some with `fit_prototypes`.")
    if looked.maps.shape[1] != made.network.head.settings.channels:
        raise XaihubError(
            f"These maps have {looked.maps.shape[1]} channels, but these prototypes read"
            f" {made.network.head.settings.channels}: they are of another layer. Use `look(classifier, pictures)`."
        )
    return made


def _named(made: Prototypes, looked: Looked) -> tuple[str | None, ...]:
    """(N,), what the prototypes should call each picture."""
    return looked.predicted if made.fitted_to == "predictions" else looked.labels


def _duplicates(layer: PrototypeLayer, gallery: Sequence[Prototype]) -> list[tuple[int, ...]]:
    """(P,), the other prototypes of the same class that are the same again."""
    unit = normalize(layer.vectors.detach(), dim=1)
    alike = (unit @ unit.t() > ALIKE).tolist()
    twins: list[list[int]] = [[] for _ in gallery]
    for one, other in combinations(range(len(gallery)), 2):
        same = gallery[one].digest == gallery[other].digest or alike[one][other]
        if same and gallery[one].owner == gallery[other].owner:
            twins[one].append(other)
            twins[other].append(one)
    return [tuple(each) for each in twins]


def _purity(
    found: _Found, made: Prototypes, looked: Looked, named: Sequence[str | None], prototype: int
) -> float | None:
    """The share of its class among the nearest patches; that of its own picture says nothing, nor do unnamed ones."""
    source = made.gallery[prototype]
    order = found.best[:, prototype].argsort(descending=True, stable=True).tolist()
    others = [row for row in order if looked.digests[row] != source.digest and named[row] is not None][:NEAREST]
    return _mean([float(named[row] == made.labels[source.owner]) for row in others])


def _classes(
    made: Prototypes, found: _Found, named: Sequence[str | None], used: Sequence[bool]
) -> tuple[ClassHealth, ...]:
    sources = distinct_sources(made.gallery, made.labels)
    told = []
    for index, label in enumerate(made.labels):
        own = made.of_class(index)
        rows = [row for row, name in enumerate(named) if name == label]
        counting = [place for place in own if used[place]]
        active = (found.scores[rows][:, counting] > 0).any(1).tolist()
        told.append(
            ClassHealth(label, len(own), len(counting), sources[label], _mean([float(each) for each in active]))
        )
    return tuple(told)


def _stability(
    classifier: Classifier,
    made: Prototypes,
    looked: Looked,
    named: Sequence[str | None],
    seed: int,
    progress: Progress,
) -> list[float | None]:
    """(P,), how often a place stays within one cell, over those pictures of a sample that are of its class."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randperm(len(looked), generator=generator)[:_SAMPLE].sort().values.tolist()
    stayed: list[list[float | None]] = [[] for _ in made.gallery]
    for done, row in enumerate(rows):
        progress(done / len(rows), f"Shifting picture {done + 1} of {len(rows)}")
        near, active = _moved(classifier, made, looked.pixels([row]), generator)
        for place in active.nonzero()[:, 0].tolist():
            if made.labels[made.gallery[place].owner] == named[row]:
                stayed[place] += near[:, place].double().tolist()
    return [_mean(each) for each in stayed]


def kept_in_place(classifier: Classifier, pixels: Tensor, generator: torch.Generator) -> Tensor:
    """(2, P) whether each prototype stays at its place in a picture (1, 3, H, W), or next to it, by noise, by a shift.

    Raises:
        XaihubError: the classifier has no prototypes.
    """
    if classifier.prototypes is None:
        raise XaihubError(f"{classifier.repo_id} has no prototypes to look at. Make some with `fit_prototypes`.")
    return _moved(classifier, classifier.prototypes, pixels, generator)[0]


def _moved(
    classifier: Classifier, made: Prototypes, pixels: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """As `kept_in_place`, and (P,) which prototypes the picture has."""
    pixels = pixels.to(classifier.device)
    with torch.no_grad(), evaluating(classifier.module, classifier.lock):
        maps, _ = made.network.maps(torch.cat([pixels, *_altered(pixels, generator)]))
    found = _found(made.network.head, maps, silent)
    places = torch.stack([found.cells // found.columns, found.cells % found.columns])  # (2, 3, P)
    return (places[:, 1:] - places[:, :1]).abs().amax(0) <= 1, found.scores[0] > 0


def _altered(pixels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A picture with a little noise, and one moved a little down and to the right."""
    drawn = torch.randn(pixels.shape, generator=generator).to(pixels)
    by = max(1, round(min(pixels.shape[2:]) / _SHIFT))
    moved = pad(pixels, (by, 0, by, 0), mode="replicate")[:, :, : pixels.shape[2], : pixels.shape[3]]
    return pixels + _NOISE * (pixels.max() - pixels.min()) * drawn, moved


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
