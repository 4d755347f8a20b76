"""Networks and pictures on which metrics are known on paper, or move enough for two libraries to differ."""

import warnings

import pytest
import torch
from torch import Tensor, nn
from toy_networks import SmallNet, classifier_of

SIZE = (24, 32)


class RedSum(nn.Module):
    """Class 0 is the share of red that is left of `full`, by a sigmoid-free linear logit; class 1 is always 0.

    So a pixel's share of the logit is its red: the map that is the red channel is perfect, its reverse is the worst.
    """

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale
        self.features = nn.Conv2d(3, 9, 1, bias=False)
        with torch.no_grad():
            self.features.weight.copy_(torch.eye(3).repeat(3, 1)[:, :, None, None])

    def forward(self, pixels: Tensor) -> Tensor:
        red = self.features(pixels)[:, 0].sum((1, 2)) * self.scale
        return torch.stack([red, torch.zeros_like(red)], 1)


def red_sum(scale: float = 1.0, size: tuple[int, int] = SIZE):
    return classifier_of(RedSum(scale), size, classes=2, target_layer="features")


class Sharp(nn.Module):
    """A small random network whose probabilities move: its logits are scaled up, and none of them leads everywhere.

    In float64, whatever it is given: see `peer_networks.in_float64`.
    """

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.net = SmallNet(3, seed=seed)
        self.net.eval()
        with torch.no_grad():
            self.net.head.weight.mul_(60)
            self.net.head.bias.sub_(self.net(pictures(16, seed=5)).mean(0))
        self.double()

    def forward(self, pixels: Tensor) -> Tensor:
        return self.net(pixels.double())


def sharp(seed: int = 0, size: tuple[int, int] = SIZE):
    return classifier_of(Sharp(seed), size, target_layer="net.after")


def pictures(count: int = 3, size: tuple[int, int] = SIZE, seed: int = 0) -> Tensor:
    """(N, 3, H, W), about normalised, with structure at several scales."""
    generator = torch.Generator().manual_seed(seed)
    coarse = [torch.randn(count, 3, n, n, generator=generator) for n in (2, 5, 11)]
    return sum(nn.functional.interpolate(each, size, mode="bilinear") for each in coarse)


def lot_maps(count: int = 3, size: tuple[int, int] = SIZE, seed: int = 1) -> Tensor:
    """(N, H, W) in (0, 1), no two values of a map alike."""
    generator = torch.Generator().manual_seed(seed)
    total = size[0] * size[1]
    orders = [torch.randperm(total, generator=generator) for _ in range(count)]
    return torch.stack([(order + 0.5) / total for order in orders]).view(count, *size)


def import_quantus():
    """Quantus, if it is installed; it warns of its own source while it is imported."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("quantus", reason="Quantus is not installed (pip install xaihub[dev])")


class GreySharp(nn.Module):
    """Two classes, of pictures of one colour: which half is brighter. The more probable one has more than a half."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Conv2d(1, 8, 3, padding=1)
        torch.manual_seed(3)
        nn.init.normal_(self.features.weight)

    def forward(self, pixels: Tensor) -> Tensor:
        maps = self.features(pixels[:, :1]).relu().mean(1)
        left, right = maps.tensor_split(2, dim=2)
        return 8 * torch.stack([left.mean((1, 2)), right.mean((1, 2))], 1)


def grey_sharp():
    return classifier_of(GreySharp(), SIZE, classes=2)
