"""How one embedder sees the references: a vector for each picture, and what their nearness means."""

from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

__all__ = ["Kind", "Space"]

Kind = Literal["decided", "looks"]


@dataclass(frozen=True, eq=False)
class Space:
    """The vectors of R pictures, in the order of the references.

    Attributes:
        name: of the embedder that made them: one of `EMBEDDERS`, or an id on the Hub.
        kind: "decided" if the vectors are the classifier's own, "looks" if they are another network's.
        alike: what a high similarity means, for people.
        vectors: (R, K), each of length one; half precision, and perhaps mapped from a file.
        lengths: (R,) float32, how long each was before.
        revision: the commit of an embedder from the Hub.
        leaks: whether the vectors know the class they are searched for, so that agreement is no merit.
        weighted: whether a search weighs the dimensions by what the query's class takes of each.
    """

    name: str
    kind: Kind
    alike: str
    vectors: Tensor = field(repr=False)
    lengths: Tensor = field(repr=False)
    revision: str | None = None
    leaks: bool = False
    weighted: bool = False
