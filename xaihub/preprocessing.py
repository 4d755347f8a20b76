"""From a picture to the pixels a network takes, and back: which crop it saw, and where that crop lies.

Every library has its own resize, crop, padding, rescale and normalisation, under its own names. We read none of
them. A transform is *measured*: black, white, red, green and blue pictures tell how values are normalised and in
which order channels come; two ramps tell which place of the picture each pixel comes from.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from xaihub.records import Box

__all__ = ["Transform", "View"]

Preprocess = Callable[[Image.Image], Tensor]


@dataclass(frozen=True)
class View:
    """One picture as the network saw it.

    Attributes:
        pixels: (1, C, H, W), preprocessed.
        image: the same, as a picture of W x H.
        crop: where it lies on the original picture, in the original's pixels.
    """

    pixels: Tensor
    image: Image.Image
    crop: Box


class Transform:
    """A library's preprocessing as one function, with its inverse measured.

    Args:
        function: picture -> (C, H, W) float tensor; must give the same answer for the same picture.
        description: one line for the status, such as "resize to 256, centre crop 224".
    """

    def __init__(self, function: Preprocess, description: str = "") -> None:
        self.function = function
        self.description = description or type(function).__name__
        self._box = lru_cache(maxsize=64)(self._measure_box)  # most visitors' pictures share a few sizes
        black, white = self._constant(0, 0, 0), self._constant(255, 255, 255)
        self.low = black  # (C,) what black becomes
        self.span = torch.where((white - black).abs() > 1e-9, white - black, torch.ones_like(black))
        pure = (self._constant(255, 0, 0), self._constant(0, 255, 0), self._constant(0, 0, 255))
        self.mixing = torch.stack(
            [(answer - black) / self.span for answer in pure], dim=1
        )  # (C, 3) of red, green, blue

    def __call__(self, picture: Image.Image) -> Tensor:
        """(C, H, W) float32 of an RGB picture.

        Raises:
            ValueError: the function gave something else.
        """
        pixels = self.function(picture)
        if not torch.is_tensor(pixels) or pixels.ndim != 3 or pixels.shape[0] not in (1, 3):
            shape = tuple(pixels.shape) if torch.is_tensor(pixels) else type(pixels).__name__
            raise ValueError(f"The transform must give a tensor (3, H, W) or (1, H, W), but gave {shape}.")
        return pixels.detach().to(torch.float32)

    @property
    def input_size(self) -> tuple[int, int]:
        """(H, W) of the pixels that a square picture becomes."""
        height, width = self(Image.new("RGB", (256, 256))).shape[1:]
        return height, width

    @property
    def channels(self) -> int:
        return len(self.low)

    def view(self, picture: Image.Image) -> View:
        """The picture's pixels, the crop they show, and where that crop lies."""
        pixels = self(picture)
        return View(pixels[None], self.picture_of(pixels), self._box(picture.size))

    def picture_of(self, pixels: Tensor) -> Image.Image:
        """The picture (W x H, RGB) that a network saw as (C, H, W) pixels: normalisation and order undone."""
        levels = self._levels(pixels)
        if self.channels == 3:
            levels = torch.einsum("rc,chw->rhw", torch.linalg.pinv(self.mixing), levels)
        else:
            levels = levels.expand(3, -1, -1)
        eight = (levels * 255).round().clamp(0, 255).to(torch.uint8)
        return Image.fromarray(eight.permute(1, 2, 0).contiguous().numpy())

    def pixels_of(self, image: Image.Image) -> Tensor:
        """(C, H, W) of a picture that is already the network's crop: the inverse of `picture_of`."""
        levels = torch.from_numpy(np.asarray(image.convert("RGB")).copy()).permute(2, 0, 1).float() / 255
        mixed = torch.einsum("cr,rhw->chw", self.mixing, levels)
        return mixed * self.span[:, None, None] + self.low[:, None, None]

    def _levels(self, pixels: Tensor) -> Tensor:
        return (pixels - self.low[:, None, None]) / self.span[:, None, None]

    def _constant(self, red: int, green: int, blue: int) -> Tensor:
        """(C,) what a picture of one colour becomes, read at its middle: padding cannot reach there."""
        pixels = self(Image.new("RGB", (64, 64), (red, green, blue)))
        return pixels[:, pixels.shape[1] // 2, pixels.shape[2] // 2]

    def _measure_box(self, size: tuple[int, int]) -> Box:
        """Where the crop lies on a picture of (width, height): lines fitted to what two ramps become."""
        width, height = size
        across = _middle(self._ramp(np.broadcast_to(_ramp(width), (height, width))))
        down = _middle(self._ramp(np.broadcast_to(_ramp(height)[:, None], (height, width))).T)
        left, right = _fit(across, width)
        upper, lower = _fit(down, height)
        return left, upper, right, lower

    def _ramp(self, levels: NDArray[np.float32]) -> NDArray[np.float64]:
        """(H, W) of a ramp (height, width) as the network sees it, in [0, 1]."""
        dither = np.random.default_rng(0).random(
            (64, 64), dtype=np.float32
        )  # else 8 bits move large pictures by pixels
        tiles = -(-levels.shape[0] // 64), -(-levels.shape[1] // 64)
        noise = np.tile(dither, tiles)[: levels.shape[0], : levels.shape[1]]
        grey = np.floor(levels * 254 + noise).astype(np.uint8)
        seen = self._levels(self(Image.fromarray(grey).convert("RGB")))
        return seen.mean(0).double().numpy() * (255 / 254)


def _ramp(length: int) -> NDArray[np.float32]:
    """The middles of `length` pixels as shares of the whole."""
    return ((np.arange(length) + 0.5) / length).astype(np.float32)


def _middle(levels: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean of the middle eighth of the rows: padding above and below stays out of it."""
    rows = len(levels)
    reach = max(1, rows // 16)
    return levels[rows // 2 - min(reach, rows // 2) : rows // 2 + reach].mean(0)


def _fit(levels: NDArray[np.float64], length: int) -> tuple[float, float]:
    """First and last edge, in pixels of the original, of a row whose values say where they come from."""
    steps = np.diff(levels, prepend=levels[0])
    usable = (levels > 0.04) & (levels < 0.96) & (np.abs(steps) > 1e-9)
    if usable.sum() < 2:
        return 0.0, float(length)  # a picture of a pixel or two: the whole of it is seen
    middles = np.arange(len(levels))[usable] + 0.5
    slope, start = np.polyfit(middles, levels[usable] * length, 1)
    return float(start), float(start + slope * len(levels))
