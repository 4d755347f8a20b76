"""What makes two pictures alike: vectors of a batch of pictures, and what a query takes of each of their dimensions.

Those of this module ask the classifier that is explained, or nobody; networks of the Hub are in `hub_embedders`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from xaihub.passes import Pass
from xaihub.registry import Registry
from xaihub.spaces import Kind

__all__ = [
    "DEFAULT", "EMBEDDERS", "PIXELS", "Batch", "Embedder", "PassEmbedder", "PixelEmbedder", "contribution",
    "decided_by", "decision_weights", "embedder", "own_contribution", "target_layer_mean",
]  # fmt: skip

DEFAULT, PIXELS = "contribution", "pixels"

_EDGE = 16  # pixels of the small picture whose colours are compared

Read = Callable[[Pass], Tensor]
Targets = Tensor | Sequence[int]


@dataclass(frozen=True, eq=False)
class Batch:
    """N pictures and what the classifier makes of them.

    Attributes:
        pictures: the crops that the classifier saw.
        passed: its tapped pass over them.
        activation: whether its classes exclude each other (softmax) or not (sigmoid).
    """

    pictures: Sequence[Image.Image]
    passed: Pass
    activation: Literal["softmax", "sigmoid"] = "softmax"


class Embedder(Protocol):
    """A way to embed pictures.

    Attributes:
        alike: what a high similarity means, for people.
        kind: "decided" if it asks the classifier, "looks" if it asks another network.
        revision: the commit of one from the Hub.
        leaks: whether its vectors know the class that they are searched for.
    """

    @property
    def name(self) -> str: ...
    @property
    def alike(self) -> str: ...
    @property
    def kind(self) -> Kind: ...
    @property
    def revision(self) -> str | None: ...
    @property
    def leaks(self) -> bool: ...
    @property
    def weighted(self) -> bool:
        """Whether `weigh` gives weights."""

    def embed(self, batch: Batch) -> Tensor:
        """(N, K) vectors of any length, compared by their cosine."""

    def weigh(self, batch: Batch, targets: Targets) -> Tensor | None:
        """(N, K), what each picture's target takes of each dimension; None where all count alike.

        A search multiplies both sides with the query's weights before it takes the cosine.
        """


@dataclass(frozen=True)
class PassEmbedder:
    """An embedder that reads the classifier's own pass over a batch."""

    name: str
    read: Callable[[Batch], Tensor]
    alike: str
    weights: Callable[[Batch, Targets], Tensor] | None = None
    leaks: bool = False
    kind: Kind = "decided"
    revision: str | None = None

    @property
    def weighted(self) -> bool:
        return self.weights is not None

    def embed(self, batch: Batch) -> Tensor:
        return self.read(batch).detach()

    def weigh(self, batch: Batch, targets: Targets) -> Tensor | None:
        return None if self.weights is None else self.weights(batch, targets).detach()


@dataclass(frozen=True)
class PixelEmbedder:
    """Colours at their places, in a very small version of the picture: what is alike without any network."""

    name: str = PIXELS
    alike: str = "the same colours lie at the same places, whatever the classifier thinks"
    kind: Kind = "looks"
    revision: str | None = None
    leaks: bool = False
    weighted: bool = False

    def embed(self, batch: Batch) -> Tensor:
        return torch.stack([_colours(picture) for picture in batch.pictures])

    def weigh(self, batch: Batch, targets: Targets) -> None:  # noqa: ARG002  all count alike
        return None


EMBEDDERS: Registry[Embedder] = Registry("embedder")


def embedder(
    name: str, *, alike: str, weights: Callable[[Batch, Targets], Tensor] | None = None, leaks: bool = False
) -> Callable[[Read], Read]:
    """Registers a function from a pass over N pictures to vectors (N, K)."""

    def register(read: Read) -> Read:
        EMBEDDERS.add(name, PassEmbedder(name, lambda batch: read(batch.passed), alike, weights, leaks))
        return read

    return register


def decision_weights(batch: Batch, targets: Targets) -> Tensor:
    """(N, K), the gradient of each target's logit to what `decided_by` gives; of a linear head, W[c] - mean of W.

    Where classes exclude each other the mean of all logits is taken off first: one vector added to all rows of a head
    changes no answer, and so must change no weight.
    """
    passed = batch.passed
    score = passed.score(targets)
    if batch.activation == "softmax":
        score = score - passed.logits.mean(1)
    found = passed.head_gradients(score)
    return passed.gradients_of(score).sum((-2, -1)) if found is None else found


@embedder("target-layer", alike="the classifier's last maps are active in the same channels")
def target_layer_mean(passed: Pass) -> Tensor:
    """(N, K), the target layer's activations averaged over the places."""
    return passed.embedding


@embedder("penultimate", alike="the classifier's head reads the same of both")
def decided_by(passed: Pass) -> Tensor:
    """(N, K), what the head reads; where no head is known, the target layer's mean."""
    read = passed.penultimate
    return passed.embedding if read is None else read


@embedder(
    DEFAULT,
    alike="the same evidence, in the same proportion, speaks for the class that the classifier gives to your picture",
    weights=decision_weights,
)
def contribution(passed: Pass) -> Tensor:
    """(N, K), what the head reads; a search weighs it by the query's class, on both sides.

    The query-conditional form of contributions by Hadamard product (Kenny & Keane, 2021, "Explaining deep learning
    using examples"): as it takes no class of the references, agreement with them is no foregone conclusion.
    """
    return decided_by(passed)


def own_contribution(batch: Batch) -> Tensor:
    """(N, K), z times W[c] with each picture's OWN predicted class c: C-HP as published, for comparison only.

    It leaks the label: with two classes W[0] is -W[1] up to a constant, so that pictures of different predicted
    classes lie in opposite orthants whatever the features are, and neighbours agree by construction.
    """
    return decided_by(batch.passed) * decision_weights(batch, batch.passed.logits.detach().argmax(1))


def _colours(picture: Image.Image) -> Tensor:
    """(16 * 16 * 3,), each less the mean over all pictures that could be: else all bright ones would be alike."""
    small = picture.convert("RGB").resize((_EDGE, _EDGE), Image.Resampling.BOX)
    return torch.from_numpy(np.asarray(small, dtype=np.float32).ravel() / 255 - 0.5)


_AS_PUBLISHED = "each owes its own predicted class to the same features (as published)"

EMBEDDERS.add("c-hp", PassEmbedder("c-hp", own_contribution, _AS_PUBLISHED, leaks=True))
EMBEDDERS.add(PIXELS, PixelEmbedder())
