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

from xaihub.progress import checkpoint
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
        dark, bright = self._plain((0, 0, 0)), self._plain((255, 255, 255))
        place = _place_of_contrast(dark, bright)
        black, white = dark[:, *place].clone(), bright[:, *place].clone()
        del dark, bright  # a large input takes 50 MB each
        pure = [self._plain(colour)[:, *place].clone() for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255))]
        self.low = black  # (C,) what black becomes
        self.span = torch.where((white - black).abs() > 1e-9, white - black, torch.ones_like(black))
        self.mixing = torch.stack([(answer - black) / self.span for answer in pure], dim=1)  # (C, 3)

    def _plain(self, colour: tuple[int, int, int]) -> Tensor:
        """(C, H, W) of an image of one colour.

        Raises:
            ValueError: they are no numbers that can be computed with.
        """
        pixels = self(Image.new("RGB", (64, 64), colour))
        if not pixels.isfinite().all():
            raise ValueError(
                "The transform makes pixels of plain images that are no finite numbers. Look at its mean, deviation and"
                " rescaling."
            )
        return pixels

    def __call__(self, picture: Image.Image) -> Tensor:
        """(C, H, W) float32 of an RGB picture.

        Raises:
            ValueError: the function gave something else.
        """
        checkpoint()
        pixels = self.function(picture)
        if not torch.is_tensor(pixels) or pixels.ndim != 3 or pixels.shape[0] not in (1, 3):
            shape = tuple(pixels.shape) if torch.is_tensor(pixels) else type(pixels).__name__
            raise ValueError(f"The transform must give a tensor (3, H, W) or (1, H, W), but gave {shape}.")
        return pixels.detach().as_subclass(Tensor).to("cpu", torch.float32)

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
        grey = levels.mean(0)
        colour = levels - self.mixing.sum(1)[:, None, None] * grey  # none of it, where the network sees no colours
        levels = grey + torch.einsum("rc,chw->rhw", torch.linalg.pinv(self.mixing, rtol=1e-2), colour)
        eight = (levels * 255).round().clamp(0, 255).to(torch.uint8)
        return Image.fromarray(eight.permute(1, 2, 0).contiguous().numpy())

    def pixels_of(self, image: Image.Image) -> Tensor:
        """(C, H, W) of a picture that is already the network's crop: the inverse of `picture_of`."""
        levels = torch.from_numpy(np.asarray(image.convert("RGB")).copy()).permute(2, 0, 1).float() / 255
        mixed = torch.einsum("cr,rhw->chw", self.mixing, levels)
        return mixed * self.span[:, None, None] + self.low[:, None, None]

    def _levels(self, pixels: Tensor) -> Tensor:
        return (pixels - self.low[:, None, None]) / self.span[:, None, None]

    def _measure_box(self, size: tuple[int, int]) -> Box:
        """Where the crop lies on a picture of (width, height): lines fitted to what two ramps become."""
        width, height = size
        left, right = _fit(_middle(self._seen(_ramp(width, height))), width)
        upper, lower = _fit(_middle(self._seen(_ramp(height, width).T).T), height)
        return left, upper, right, lower

    def _seen(self, grey: NDArray[np.uint8]) -> NDArray[np.float64]:
        """(H, W) of a grey picture as the network sees it, in [0, 1]."""
        levels = self._levels(self(Image.fromarray(grey).convert("RGB")))
        return levels.mean(0).double().numpy() * (255 / 254)


def _place_of_contrast(black: Tensor, white: Tensor) -> tuple[int, int]:
    """The middle of (C, H, W) pixels, or where black and white differ most: not in the padding."""
    contrast = (white - black).abs().sum(0)
    row, column = contrast.shape[0] // 2, contrast.shape[1] // 2
    if contrast[row, column] < contrast.max() / 2:
        row, column = divmod(int(contrast.argmax()), contrast.shape[1])
    return row, column


def _ramp(length: int, breadth: int) -> NDArray[np.uint8]:
    """(breadth, length) from 0 to 254 along its length, dithered in 64 x 64 cells.

    Eight bits alone place a point of a ramp of 4,000 pixels within 16 of them; the mean over cells that were rounded
    differently places it within one. The R2 sequence (Roberts, 2018) is even over any run of cells, and smaller
    cells would blur into grey when the picture is shrunk.
    """
    along, across = (np.arange(pixels) * 64 // pixels for pixels in (length, breadth))
    dither = (np.arange(64)[:, None] * 0.7548777 + along * 0.5698403) % 1
    rows = np.floor((np.arange(length) + 0.5) / length * 254 + dither).astype(np.uint8)  # (64, length)
    return rows[across]


def _middle(levels: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean of the middle half of the rows that the ramp reaches: padding above and below stays out of it."""
    contrast = np.ptp(levels, axis=1)
    reached = np.flatnonzero(contrast >= contrast.max() / 2)
    quarter = len(reached) // 4
    return levels[reached[quarter : len(reached) - quarter]].mean(0)


def _fit(levels: NDArray[np.float64], length: int) -> tuple[float, float]:
    """First and last edge, in pixels of the original, of a row whose values say where they come from."""
    steps = np.diff(levels, prepend=levels[0])
    usable = (levels > 0.04) & (levels < 0.96) & (np.abs(steps) > 1e-9)
    if usable.sum() < 2:
        return 0.0, float(length)  # a picture of a pixel or two: the whole of it is seen
    middles = np.arange(len(levels)) + 0.5
    for _ in range(3):  # where padding begins, a pixel or two lie beside the line: it is fitted again without them
        slope, start = np.polyfit(middles[usable], levels[usable] * length, 1)
        beside = np.abs(start + slope * middles - levels * length)
        usable &= beside <= 4 * np.median(beside[usable]) + 1e-6
    return float(start), float(start + slope * len(levels))
