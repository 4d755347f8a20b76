"""PrototypeHead: real patches on the maps of a network that stays as it is, chosen and weighed within seconds.

Letters: N pictures, K channels, h x w cells, P prototypes, C classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from xaihub.progress import Progress, silent
from xaihub.prototypes.candidates import typical_cells
from xaihub.prototypes.convex import as_shares, fit_weights
from xaihub.prototypes.layer import PrototypeLayer, PrototypeSettings
from xaihub.prototypes.metric import class_metric
from xaihub.prototypes.projecting import Source

__all__ = ["FittedHead", "HeadSettings", "fit_head"]

_AT_ONCE = 32  # pictures that are compared with all candidates together
_CANDIDATES = 6000  # of all classes


@dataclass(frozen=True)
class HeadSettings:
    """How prototypes are found on frozen maps.

    What they do is measured in docs/PROTOTYPES.md. On drawn pets, whose deciding parts are known, candidates among the
    most telling quarter of the cells lie on these parts twice as often as candidates among all; a tenth would do so
    still more often, but costs agreement with the black box elsewhere.

    Attributes:
        per_class: prototypes of each class; fewer where it has fewer different pictures.
        candidates: of each class, among which they are chosen. `telling`: of a picture's cells, the share that speaks
            most for its class; candidates are among these.
        boost: how much longer than others the directions become in which classes differ.
        width: the most dimensions in which cells are compared. `shrinkage`: of the mean variance, added to each.
        pooled, least: see PrototypeSettings; but of a coarse grid no more than a quarter of the cells are pooled.
        sparsity: the price of a weight while prototypes are chosen; `refit_sparsity` of the chosen ones.
        seed: of where the search for candidates starts.
    """

    per_class: int = 10
    candidates: int = 60
    telling: float = 0.25
    boost: float = 3.0
    width: int = 128
    shrinkage: float = 0.05
    pooled: int = 10
    least: float = 0.1
    sparsity: float = 3e-3
    refit_sparsity: float = 1e-4
    seed: int = 0


@dataclass(frozen=True, eq=False)
class FittedHead:
    """A prototype layer and (P,) where each of its prototypes is from, class by class."""

    layer: PrototypeLayer
    sources: tuple[Source, ...]


@torch.no_grad()
def fit_head(
    maps: Tensor,
    targets: Tensor,
    classes: int,
    *,
    directions: Tensor | None = None,
    groups: Sequence[int] | None = None,
    settings: HeadSettings = HeadSettings(),
    progress: Progress = silent,
) -> FittedHead:
    """The prototypes that say best, and with few, what the targets say.

    Cells in the middle of what each class looks like are candidates; a sparse convex head on all of them tells which
    matter, at most one of a picture; a second one weighs those. Nothing is moved after it was fitted, so what is shown
    is what decides. On the CPU the same input gives the same answer, bit for bit.

    Args:
        maps: (N, K, h, w), of pictures that were not varied.
        targets: (N,) class indices, or (N, C) the probability of each: what the network predicts, or the labels.
        directions: (C, K), the rows of a linear head over mean maps; None: found from maps and targets.
        groups: (N,), equal numbers are copies of one picture, which count as one source; None if there are none.

    Raises:
        CancelledError: from `progress`.
    """
    shares = as_shares(targets, classes)
    progress(0.0, "Finding what cells differ in")
    weight, bias, telling = class_metric(
        maps, shares, directions, width=settings.width, shrinkage=settings.shrinkage, boost=settings.boost
    )
    pooled = min(settings.pooled, max(1, maps.shape[2] * maps.shape[3] // 4))
    seen = _Seen.through(_layer(weight, bias, classes, replace(settings, pooled=pooled)), maps, telling, shares, groups)
    progress(0.3, "Looking for typical places")
    found = seen.candidates(settings)
    progress(0.5, f"Choosing among {len(found)} places")
    chosen = seen.best(found, settings)
    progress(0.9, "Weighing the prototypes")
    layer, scores = seen.with_prototypes(chosen)
    weights, offset = fit_weights(scores, shares, layer.owners, classes, settings.refit_sparsity)
    layer.weights.copy_(weights)
    layer.bias.copy_(offset)
    progress(1.0, f"{len(chosen)} prototypes")
    return FittedHead(layer, tuple(chosen))


def _layer(weight: Tensor, bias: Tensor, classes: int, settings: HeadSettings) -> PrototypeLayer:
    """A layer that compares cells so, without any prototype yet."""
    width, channels = weight.shape
    asked = PrototypeSettings(channels, width, classes, (), pooled=settings.pooled, least=settings.least)
    layer = PrototypeLayer(asked).to(weight)
    layer.add_on.load_state_dict({"weight": weight[:, :, None, None], "bias": bias})
    return layer


@dataclass(frozen=True, eq=False)
class _Seen:
    """Pictures as a layer compares them.

    Attributes:
        empty: the layer, which has no prototype.
        cells: (N, d, h, w). `evidence`: (N, h, w), how much each speaks for its picture's class.
        shares: (N, C), the probability of each class; `labels`: (N,), the most probable one.
        groups: (N,), equal for copies.
    """

    empty: PrototypeLayer
    cells: Tensor
    evidence: Tensor
    shares: Tensor
    labels: Tensor
    groups: Sequence[int]

    @classmethod
    def through(
        cls, empty: PrototypeLayer, maps: Tensor, telling: Tensor, shares: Tensor, groups: Sequence[int] | None
    ) -> "_Seen":
        cells = torch.cat([empty.embed(some) for some in maps.split(_AT_ONCE)])
        labels = shares.argmax(1)
        evidence = torch.einsum("nkhw,nk->nhw", maps, telling[labels.to(telling.device)])
        return cls(empty, cells, evidence, shares, labels, range(len(maps)) if groups is None else groups)

    def candidates(self, settings: HeadSettings) -> list[Source]:
        """Typical cells of each class, class by class."""
        generator = torch.Generator().manual_seed(settings.seed)
        classes = self.shares.shape[1]
        count = min(settings.candidates, max(settings.per_class, _CANDIDATES // classes))
        found: list[Source] = []
        for label in range(classes):
            rows = torch.nonzero(self.labels == label)[:, 0]
            if len(rows):
                own = rows.to(self.cells.device)
                share = settings.telling
                found += typical_cells(self.cells[own], self.evidence[own], rows, count, share, generator)
        return found

    def with_prototypes(self, sources: Sequence[Source]) -> tuple[PrototypeLayer, Tensor]:
        """A layer whose prototypes are these cells, and how much of each every picture has, (N, P)."""
        owners = tuple(int(self.labels[source.row]) for source in sources)
        layer = PrototypeLayer(replace(self.empty.settings, owners=owners)).to(self.cells)
        layer.add_on.load_state_dict(self.empty.add_on.state_dict())
        for place, (row, (y, x)) in enumerate(sources):
            layer.vectors[place] = self.cells[row, :, y, x]
        scores = [layer.scores(layer.similarities(some)) for some in self.cells.split(_AT_ONCE)]
        return layer, torch.cat(scores)

    def best(self, found: Sequence[Source], settings: HeadSettings) -> list[Source]:
        """Of each class those that move its logit most, at most one of a picture; ordered by class.

        Where the sparse head needs fewer than are asked for, those follow that go best with their class.
        """
        layer, scores = self.with_prototypes(found)
        weights, _ = fit_weights(scores, self.shares, layer.owners, self.shares.shape[1], settings.sparsity)
        moved = (weights.sum(0) * scores.std(0, correction=0)).tolist()
        going = _correlation(scores, self.shares.to(scores)[:, layer.owners]).tolist()
        kept: list[Source] = []
        taken: set[tuple[int, int]] = set()  # (class, picture)
        counts = [0] * self.shares.shape[1]
        for place in sorted(range(len(found)), key=lambda place: (moved[place], going[place]), reverse=True):
            label, group = int(self.labels[found[place].row]), self.groups[found[place].row]
            if counts[label] < settings.per_class and (label, group) not in taken:
                kept.append(found[place])
                taken.add((label, group))
                counts[label] += 1
        return sorted(kept, key=lambda source: int(self.labels[source.row]))  # stable: the most telling one first


def _correlation(one: Tensor, other: Tensor) -> Tensor:
    """(P,), Pearson's, of the columns of (N, P) and (N, P); 0 where one does not vary."""
    first, second = (each - each.mean(0) for each in (one, other))
    return (first * second).sum(0) / (first.norm(dim=0) * second.norm(dim=0)).clamp_min(torch.finfo(one.dtype).tiny)
