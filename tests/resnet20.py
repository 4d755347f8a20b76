"""A file as somebody writes it who brings a network of their own: `python -m xaihub doctor tests/resnet20.py:load`.

The CIFAR ResNet of He et al. (2016) with option-A shortcuts; RESNET20 names the folder of its weights and config.json.
"""

import json
import os
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.transforms import v2


class Block(nn.Module):
    def __init__(self, wide_in: int, wide: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(wide_in, wide, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(wide)
        self.conv2 = nn.Conv2d(wide, wide, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(wide)
        self.stride, self.more = stride, (wide - wide_in) // 2

    def forward(self, maps: Tensor) -> Tensor:
        short = F.pad(maps[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.more, self.more))
        return (self.bn2(self.conv2(self.bn1(self.conv1(maps)).relu())) + short).relu()


class ResNet(nn.Module):
    def __init__(self, widths: list[int], blocks: int, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, widths[0], 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        before = [widths[0], *widths]
        self.layer1, self.layer2, self.layer3 = (
            nn.Sequential(*(Block(before[i] if j == 0 else wide, wide, 2 if i and not j else 1) for j in range(blocks)))
            for i, wide in enumerate(widths)
        )
        self.linear = nn.Linear(widths[-1], classes)

    def forward(self, pixels: Tensor) -> Tensor:
        maps = self.layer3(self.layer2(self.layer1(self.bn1(self.conv1(pixels)).relu())))
        return self.linear(maps.mean((-2, -1)))


def load():
    folder = Path(os.environ["RESNET20"])
    config = json.loads((folder / "config.json").read_text())
    network = ResNet(config["widths"], config["blocks_per_stage"], len(config["id2label"]))
    network.load_state_dict(load_file(folder / "model.safetensors"))
    steps = [v2.ToImage(), v2.Resize(32), v2.CenterCrop(32), v2.ToDtype(torch.float32, scale=True)]
    transform = v2.Compose([*steps, v2.Normalize(config["mean"], config["std"])])
    return network.eval(), {int(key): label for key, label in config["id2label"].items()}, transform
