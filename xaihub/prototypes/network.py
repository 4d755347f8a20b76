"""A whole network that answers by prototypes: another one up to its target layer, and a prototype layer above that."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from xaihub.errors import TargetLayerError
from xaihub.hooks import first_tensor, part_of, watching
from xaihub.prototypes.layer import PrototypeLayer
from xaihub.tracing import View, side_by_side, to_maps

__all__ = ["PrototypeNetwork", "Reading"]


@dataclass(frozen=True, eq=False)
class Reading:
    """One pass over N pictures.

    Attributes:
        maps: (N, K, h, w) of the layer below the prototypes.
        similarities: (N, P, h, w). `scores`: (N, P). `logits`: (N, C).
        black_box: what the network itself, without prototypes, answered.
    """

    maps: Tensor
    similarities: Tensor
    scores: Tensor
    logits: Tensor
    black_box: Any


class PrototypeNetwork(nn.Module):
    """pixels (N, 3, H, W) -> logits (N, C), which rest on nothing but the prototypes that were recognised.

    Args:
        black_box: a classifier's network, whose own head still answers beside.
        views: how each of its layers below the prototypes is read as a map; several are laid side by side.
        head: from the maps to the logits.
    """

    def __init__(self, black_box: nn.Module, views: Mapping[str, View], head: PrototypeLayer) -> None:
        super().__init__()
        self.black_box = black_box
        self.views = dict(views)
        self.head = head

    def maps(self, pixels: Tensor) -> tuple[Tensor, Any]:
        """(N, K, h, w), in the graph, and what the network itself answered."""
        kept: dict[str, Tensor] = {}

        def keep(name: str, output: Any) -> None:
            tensor = first_tensor(output, part_of(name)[1])
            if tensor is not None:
                kept[name] = tensor.clone()  # what follows may overwrite it

        watched = {name: self.black_box.get_submodule(part_of(name)[0]) for name in self.views}
        with watching(watched, keep):
            answer = self.black_box(pixels)
        silent = [name for name in self.views if name not in kept]
        if silent:
            raise TargetLayerError(f"Layer {silent[0]} did not run for these pictures. Choose another layer.")
        size = (pixels.shape[2], pixels.shape[3])
        return side_by_side([to_maps(kept[name], view, size).float() for name, view in self.views.items()]), answer

    def read(self, pixels: Tensor, without: Sequence[int] = ()) -> Reading:
        """All that one pass tells; `without`: prototypes that are switched off."""
        maps, answer = self.maps(pixels)
        similarities = self.head.similarities(self.head.embed(maps))
        scores = self.head.scores(similarities)
        return Reading(maps, similarities, scores, self.head.logits(scores, without), answer)

    def forward(self, pixels: Tensor) -> Tensor:
        """(N, C)."""
        return self.read(pixels).logits
