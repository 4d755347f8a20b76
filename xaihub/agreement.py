"""How alike maps are: whether they order the pixels of a picture alike, from coldest to hottest."""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["agreement", "common_box", "on_box", "ranks"]

Box: TypeAlias = tuple[float, float, float, float]  # left, upper, right, lower, in pixels of the picture


def agreement(maps: Sequence[NDArray[np.floating]]) -> NDArray[np.float64]:
    """(M, M), Spearman's rank correlation of every two of M maps (Spearman, 1904); nan where one of them is flat.

    1 where both order the pixels alike, 0 where one order tells nothing of the other, -1 where it is reversed. How hot
    a pixel is does not count, only which of two is hotter, so no scale and no colours matter. Equal values share the
    mean of their ranks: the many zeros of a map are no order.

    Args:
        maps: (H, W) each, of the same pixels.
    """
    if len({one.shape for one in maps}) > 1:
        raise ValueError(f"Maps of {sorted({one.shape for one in maps})} do not lie on the same pixels.")
    if not maps:
        return np.zeros((0, 0))
    ordered = np.stack([ranks(np.asarray(one).ravel()) for one in maps])
    centred = ordered - ordered.mean(1, keepdims=True)
    length = np.sqrt((centred**2).sum(1, keepdims=True))
    unit = np.divide(centred, length, out=np.full_like(centred, np.nan), where=length > 0)
    return np.clip(unit @ unit.T, -1, 1)


def ranks(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """(n,) places in ascending order, from 0; equal values share the mean of theirs."""
    _, group, count = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(count) - 1
    return (last - (count - 1) / 2)[group]


def common_box(crops: Sequence[Box], size: tuple[int, int]) -> Box | None:
    """The part of a picture of (width, height) that lies in all the crops; None if there is none."""
    left, upper = max(0.0, *(crop[0] for crop in crops)), max(0.0, *(crop[1] for crop in crops))
    right, lower = min(size[0], *(crop[2] for crop in crops)), min(size[1], *(crop[3] for crop in crops))
    return (left, upper, right, lower) if left < right and upper < lower else None


def on_box(heatmap: NDArray[np.floating], crop: Box, box: Box, size: tuple[int, int]) -> NDArray[np.float32]:
    """(height, width), a map that lies on `crop` of a picture, read on a grid of (width, height) over `box` of it.

    Args:
        box: inside the crop.
    """
    rows, columns = heatmap.shape
    across, down = columns / (crop[2] - crop[0]), rows / (crop[3] - crop[1])
    part = (
        max(0.0, (box[0] - crop[0]) * across), max(0.0, (box[1] - crop[1]) * down),
        min(float(columns), (box[2] - crop[0]) * across), min(float(rows), (box[3] - crop[1]) * down),
    )  # fmt: skip
    image = Image.fromarray(np.ascontiguousarray(heatmap, dtype=np.float32))
    return np.asarray(image.resize(size, Image.Resampling.BILINEAR, box=part), dtype=np.float32)
