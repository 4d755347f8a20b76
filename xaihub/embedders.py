"""What makes two pictures alike: one function from a tapped pass to a vector each."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from xaihub.passes import Pass
from xaihub.registry import Registry

__all__ = ["EMBEDDERS", "Embedder", "embedder", "target_layer_mean"]


@dataclass(frozen=True)
class Embedder:
    """A way to embed pictures.

    Attributes:
        embed: a pass over N pictures -> (N, K) vectors, compared by their cosine.
        alike: what a high similarity means, for people.
    """

    name: str
    embed: Callable[[Pass], Tensor]
    alike: str


EMBEDDERS: Registry[Embedder] = Registry("embedder")


def embedder(name: str, *, alike: str) -> Callable[[Callable[[Pass], Tensor]], Callable[[Pass], Tensor]]:
    """Registers a function from a pass to vectors."""

    def register(embed: Callable[[Pass], Tensor]) -> Callable[[Pass], Tensor]:
        EMBEDDERS.add(name, Embedder(name, embed, alike))
        return embed

    return register


@embedder("target-layer", alike="the classifier's last maps are active in the same channels")
def target_layer_mean(passed: Pass) -> Tensor:
    """(N, K), the target layer's activations averaged over the places."""
    return passed.embedding
