"""How training pictures are varied: only by what leaves the traces of how a picture was made where they are.

A generated picture is told from a photograph by fine texture: noise, compression blocks, smeared fur. Blur, resampling
(zoom, rotation, shear), JPEG and added noise erase or create exactly that, and colours are what a generator may get
wrong. So pictures are mirrored, moved by whole pixels with a mirrored border, and made a little brighter or darker and
more or less contrasty, the same in all channels: every pixel keeps its neighbours.
"""

import torch
from torch import Generator, Tensor
from torch.nn.functional import pad

__all__ = ["vary"]


def vary(levels: Tensor, generator: Generator, *, shift: float = 0.04, light: float = 0.1) -> Tensor:
    """The batch (n, C, H, W) of levels in [0, 1], each picture mirrored or not, moved and lit at random.

    Args:
        shift: how far a picture may move either way, as a share of its width and height.
        light: the largest change of brightness, and of contrast, as a share of the whole range.
    """
    mirrored = torch.where(_lot(levels, generator) < 0.5, levels.flip(-1), levels)
    moved = _moved(mirrored, generator, shift) if shift else mirrored
    return _lit(moved, generator, light).clamp(0, 1) if light else moved


def _moved(levels: Tensor, generator: Generator, shift: float) -> Tensor:
    height, width = levels.shape[2:]
    down, right = round(shift * height), round(shift * width)
    wide = pad(levels, (right, right, down, down), mode="reflect")
    tops = torch.randint(0, 2 * down + 1, (len(levels),), generator=generator).tolist()
    lefts = torch.randint(0, 2 * right + 1, (len(levels),), generator=generator).tolist()
    cuts = [each[:, top : top + height, left : left + width] for each, top, left in zip(wide, tops, lefts, strict=True)]
    return torch.stack(cuts)


def _lit(levels: Tensor, generator: Generator, light: float) -> Tensor:
    contrast = 1 + light * (2 * _lot(levels, generator) - 1)
    brightness = light * (_lot(levels, generator) - 0.5)
    return (levels - 0.5) * contrast + 0.5 + brightness


def _lot(levels: Tensor, generator: Generator) -> Tensor:
    """(n, 1, 1, 1) in [0, 1), drawn on the CPU so that a seed means the same on every device."""
    return torch.rand(len(levels), 1, 1, 1, generator=generator).to(levels.device)
