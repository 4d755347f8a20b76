"""Where prototypes come from: each is one cell of one real picture, which is kept to be shown."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from PIL import Image

from xaihub.errors import ReferencesError
from xaihub.images import open_picture
from xaihub.outputs import LOGITS, Reading
from xaihub.prototypes.network import PrototypeNetwork

__all__ = ["FittedTo", "Kind", "Prototype", "Prototypes", "distinct_sources"]

Kind = Literal["head", "protopnet"]
FittedTo = Literal["predictions", "labels"]


@dataclass(frozen=True, eq=False)
class Prototype:
    """The place a prototype was taken from.

    Attributes:
        owner: index of the class it speaks for.
        key: which row of the dataset its picture is; `source` the address of that row, or None.
        cell: row and column on the grid; `grid` the rows and columns there are.
        digest: sha256 of the pixels the classifier saw: equal pictures are one source.
        data: the crop the classifier saw, encoded; None where it may not be passed on.
    """

    owner: int
    key: str
    cell: tuple[int, int]
    grid: tuple[int, int]
    digest: str
    data: bytes | None = field(default=None, repr=False)
    source: str | None = None

    @property
    def picture(self) -> Image.Image:
        """The crop that the classifier saw.

        Raises:
            ReferencesError: it is not published with the prototypes.
        """
        if self.data is None:
            raise ReferencesError(
                f"The picture of {self.key}, which a prototype was taken from, is not kept with this model, since its"
                " dataset is not public. The prototype still works; who may read that dataset can look the row up."
            )
        return open_picture(self.data)


@dataclass(frozen=True, eq=False)
class Prototypes:
    """What makes a classifier one that answers by prototypes.

    Attributes:
        network: the classifier's module.
        gallery: (P,), where each prototype comes from.
        labels: (C,) the classes it tells apart, which may be fewer than the black box has.
        kind: "head" on a network that was left as it was, "protopnet" trained together with it.
        fitted_to: what the black box predicted (an explanation of it), or the labels (a classifier of its own).
        black_box: the classifier it was made from; `black_box_labels` its classes.
        made: facts for people and programs: dataset, revision, counts, settings.
        black_box_reading: how logits and probabilities are read from what the black box itself gives.
    """

    network: PrototypeNetwork
    gallery: tuple[Prototype, ...]
    labels: tuple[str, ...]
    kind: Kind = "head"
    fitted_to: FittedTo = "predictions"
    black_box: str = "your own network"
    black_box_labels: tuple[str, ...] = ()
    made: Mapping[str, Any] = field(default_factory=dict, repr=False)
    black_box_reading: Reading = LOGITS

    def __post_init__(self) -> None:
        settings = self.network.head.settings
        if tuple(each.owner for each in self.gallery) != settings.owners or len(self.labels) != settings.classes:
            raise ValueError("The gallery names a source for each prototype of the network, class by class.")

    def of_class(self, index: int) -> list[int]:
        """Which prototypes speak for a class."""
        return list(self._of_classes[index])

    @cached_property
    def _of_classes(self) -> dict[int, list[int]]:
        """Class -> its prototypes; asked for once for each class, so they are sorted once for all."""
        owned = defaultdict[int, list[int]](list)
        for place, each in enumerate(self.gallery):
            owned[each.owner].append(place)
        return owned


def distinct_sources(gallery: Sequence[Prototype], labels: Sequence[str]) -> dict[str, int]:
    """Label -> how many different pictures its prototypes come from."""
    pairs = {(each.owner, each.digest) for each in gallery}
    counts = Counter(owner for owner, _ in pairs)
    return {label: counts[index] for index, label in enumerate(labels)}
