"""What is kept between questions: loaded classifiers and references, within a number of bytes."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from xaihub.classifier import Classifier
    from xaihub.embedders import Embedder
    from xaihub.references import ReferenceSet

__all__ = ["Shelf", "classifier_bytes", "embedder_bytes", "references_bytes"]

Thing = TypeVar("Thing")


class Shelf(Generic[Thing]):
    """The things used last, within so many bytes; the one used longest ago goes first.

    Args:
        room: in bytes. A thing larger than that is used and not kept.
        size_of: a thing -> its bytes.
        on_leaving: is told of each thing that goes.
    """

    def __init__(
        self,
        room: int,
        size_of: Callable[[Thing], int],
        on_leaving: Callable[[Thing], None] | None = None,
    ) -> None:
        self.room = room
        self._size_of = size_of
        self._on_leaving = on_leaving
        self._things: OrderedDict[Hashable, tuple[Thing, int]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> Thing | None:
        with self._lock:
            if key not in self._things:
                return None
            self._things.move_to_end(key)
            return self._things[key][0]

    def put(self, key: Hashable, thing: Thing) -> Thing:
        """The thing itself, now kept, and others gone if there was no room."""
        size = self._size_of(thing)
        leaving = []
        with self._lock:
            self._things.pop(key, None)
            if size <= self.room:
                self._things[key] = (thing, size)
            while sum(kept for _, kept in self._things.values()) > self.room:
                leaving.append(self._things.popitem(last=False)[1][0])
        if self._on_leaving is not None:
            for gone in leaving:
                self._on_leaving(gone)
        return thing

    @property
    def used(self) -> int:
        """Bytes."""
        with self._lock:
            return sum(size for _, size in self._things.values())

    def __len__(self) -> int:
        return len(self._things)

    def __contains__(self, key: object) -> bool:
        return key in self._things


def classifier_bytes(classifier: "Classifier") -> int:
    """Bytes of its parameters and buffers."""
    tensors = [*classifier.module.parameters(), *classifier.module.buffers()]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def embedder_bytes(embedder: "Embedder") -> int:
    """Bytes of its network; 0 of one that has none."""
    tower = getattr(embedder, "tower", None)
    return sum(tensor.numel() * tensor.element_size() for tensor in tower.module.parameters()) if tower else 0


def references_bytes(references: "ReferenceSet") -> int:
    """Bytes of its tensors and pictures in memory; those that are mapped from a file cost none."""
    held = references.logits, *(space.vectors for space in references.spaces.values())
    pictures = references.pictures if isinstance(references.pictures, tuple | list) else ()
    return sum(tensor.numel() * tensor.element_size() for tensor in held) + sum(len(data or b"") for data in pictures)
