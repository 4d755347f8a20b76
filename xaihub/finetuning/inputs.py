"""Training images as the part of the network that is trained takes them.

Where the lower part stays as it is, what it makes of each image, and of a few varied copies of it, is computed once and
kept in a file. The file is mapped into memory: only what a batch asks for has to be there.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from xaihub.finetuning.augmentation import vary
from xaihub.finetuning.pixel_store import PixelStore, network_inputs
from xaihub.finetuning.settings import FineTuning
from xaihub.finetuning.trunk import Trunk
from xaihub.folders import replacing_file
from xaihub.progress import Pace, Progress, silent

__all__ = ["AT_ONCE", "Inputs", "affordable", "kept_maps"]

AT_ONCE = 64
_FEW = 8  # the early maps of more do not fit a processor's cache, and a pass takes twice as long (docs/BENCHMARKS.md)
_WAYS = 2  # an image as it is, and mirrored: what the head is fitted to at least
_MOST_ROWS = 2**14  # that the head is fitted to beyond that: their features are in memory all at once

Below = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Inputs:
    """Inputs of the trained part of a network, of each image of a store.

    Attributes:
        below: pixels (n, 3, H, W), normalised -> what the trained part takes: the trunk's maps, or the same pixels.
        maps: (N, V, ...), the same of V copies of each image, computed before: as it is, mirrored, then varied.
    """

    store: PixelStore
    settings: FineTuning
    device: torch.device
    below: Below
    maps: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.store)

    @property
    def ways(self) -> int:
        """Return how many copies of each image the head is fitted to."""
        return _WAYS if self.maps is None else min(self.maps.shape[1], max(_WAYS, _MOST_ROWS // len(self)))

    def seen(self, places: Tensor, way: int = 0) -> Tensor:
        """(n, ...) of the images at these places: as they are, or a copy of each."""
        if self.maps is not None:
            return self._sent(self.maps[places.numpy(), way])
        levels = self.store[places]
        return self._made(levels.flip(-1) if way else levels)

    def varied(self, places: Tensor, generator: Generator) -> Tensor:
        """(n, ...) of the images at these places, varied at random."""
        places = places.cpu()
        if self.maps is not None:
            ways = torch.randint(self.maps.shape[1], (len(places),), generator=generator)
            return self._sent(self.maps[places.numpy(), ways.numpy()])
        return self._made(_varied(self.store[places], self.settings, generator))

    def batches(self, places: Tensor, way: int = 0) -> Iterator[Tensor]:
        return (self.seen(chosen, way) for chosen in places.split(AT_ONCE))

    def _sent(self, maps: NDArray[np.float32]) -> Tensor:
        sent = torch.from_numpy(maps).to(self.device)
        return sent.contiguous(memory_format=torch.channels_last) if sent.ndim == 4 else sent

    def _made(self, levels: Tensor) -> Tensor:
        return self.below(normalised(self.store, levels, self.device))


def normalised(store: PixelStore, levels: Tensor, device: torch.device) -> Tensor:
    """Return what the network takes, of bytes or of levels in [0, 1]."""
    pixels = network_inputs(levels.to(device), store.transform)
    return pixels.contiguous(memory_format=torch.channels_last)


def affordable(store: PixelStore, trunk: Trunk, module: Any, settings: FineTuning) -> int:
    """Return the number of copies of each image that fit on the disk as maps, at most as asked; below two, none."""
    one = trunk.maps(module, trunk.one)
    count = min(settings.copies, settings.disk // max(1, 4 * one.numel() * len(store)))
    return count if count >= _WAYS else 0


def kept_maps(
    file: Path, store: PixelStore, below: Below, settings: FineTuning, copies: int, device: torch.device,
    progress: Progress = silent,
) -> NDArray[np.float32]:  # fmt: skip
    """(N, copies, ...), from the file if an earlier process has written it, else computed; never in memory as a whole.

    The first copy is the image as it is, the second its mirror image; those that follow are varied at random.
    """
    if not file.is_file():
        generator = Generator().manual_seed(settings.seed)
        size = _FEW if device.type == "cpu" else AT_ONCE
        pace, total = Pace(), math.ceil(len(store) / size) * copies
        with replacing_file(file) as draft, draft.open("wb") as stream:
            for number, chosen in enumerate(torch.arange(len(store)).split(size)):
                levels, made = store[chosen] / 255, list[Tensor]()
                for copy in range(copies):
                    steps = number * copies + copy
                    progress(steps / total, f"Passing the images through the lower layers, {pace.left(total - steps)}")
                    made.append(below(normalised(store, _copy(levels, copy, settings, generator), device)).cpu())
                block = torch.stack(made, 1).numpy()
                if not number:
                    _write_header(stream, (len(store), *block.shape[1:]))
                stream.write(block.tobytes())  # a full disk is an error here, and would be a crash in a mapped file
    found: NDArray[np.float32] = np.load(file, mmap_mode="r", allow_pickle=False)
    return found


def _copy(levels: Tensor, copy: int, settings: FineTuning, generator: Generator) -> Tensor:
    if copy < _WAYS:
        return levels.flip(-1) if copy else levels
    return _varied(levels, settings, generator)


def _varied(levels: Tensor, settings: FineTuning, generator: Generator) -> Tensor:
    levels = levels / 255 if levels.dtype == torch.uint8 else levels
    return vary(levels, generator, shift=settings.shift, light=settings.light)


def _write_header(stream: Any, shape: tuple[int, ...]) -> None:
    described = {"descr": np.lib.format.dtype_to_descr(np.dtype(np.float32)), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, described)
