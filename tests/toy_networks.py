"""Networks so small that every answer is known on paper, and what it takes to explain them."""

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

from xaihub.classifier import Classifier


class ColourCounter(nn.Module):
    """Scores class k by the summed brightness of colour channel k, repeated to ten channels so that it is a map."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale
        self.features = nn.Conv2d(3, 9, 1, bias=False)
        with torch.no_grad():
            self.features.weight.copy_(torch.eye(3).repeat(3, 1)[:, :, None, None])  # channel k sees colour k % 3

    def forward(self, pixels: Tensor) -> Tensor:
        places = self.features(pixels) * self.scale
        return places[:, :3].sum((-2, -1)) + places[:, 3:6].sum((-2, -1)) + places[:, 6:].sum((-2, -1))


class SmallNet(nn.Module):
    """Two convolutions, a pooled linear head; `after` can spoil the kept tensor in place."""

    def __init__(self, classes: int = 3, *, inplace: bool = False, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.stem = nn.Sequential(nn.Conv2d(3, 12, 3, stride=2, padding=1), nn.BatchNorm2d(12), nn.ReLU())
        self.body = nn.Conv2d(12, 16, 3, stride=2, padding=1)
        self.after = nn.ReLU(inplace=inplace)
        self.head = nn.Linear(16, classes)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.head(self.after(self.body(self.stem(pixels))).mean((-2, -1)))


class TokenNet(nn.Module):
    """A transformer in miniature: patches 8 x 8 of a picture, `prefix` learned tokens, the first of which is read."""

    def __init__(self, classes: int = 3, prefix: int = 1, read: str = "class token") -> None:
        super().__init__()
        torch.manual_seed(1)
        self.prefix, self.read = prefix, read
        self.embed = nn.Conv2d(3, 16, 8, stride=8)
        self.tokens = nn.Parameter(torch.randn(1, prefix, 16))
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True) for _ in range(3)
        )
        self.head = nn.Linear(16, classes)

    def forward(self, pixels: Tensor) -> Tensor:
        patches = self.embed(pixels).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.tokens.expand(len(pixels), -1, -1), patches], 1)
        for block in self.blocks:
            tokens = block(tokens)
        return self.head(tokens[:, 0] if self.read == "class token" else tokens[:, self.prefix :].mean(1))


class Twice(nn.Module):
    """Its layer runs twice; the second time is the one that counts."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Conv2d(3, 16, 4, stride=4)
        self.block = nn.Conv2d(16, 16, 3, padding=1)
        self.head = nn.Linear(16, 3)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.head(self.block(self.block(self.embed(pixels)).relu()).relu().mean((-2, -1)))


def to_pixels(size: tuple[int, int]):
    """A transform that squashes to (H, W) and scales to [0, 1]."""

    def transform(picture: Image.Image) -> Tensor:
        resized = picture.resize((size[1], size[0]), Image.Resampling.BILINEAR)
        return (
            torch.frombuffer(bytearray(resized.tobytes()), dtype=torch.uint8).reshape(*size, 3).permute(2, 0, 1) / 255
        )

    return transform


def classifier_of(module: nn.Module, size: tuple[int, int] = (32, 32), classes: int = 3, **options) -> Classifier:
    labels = [f"class {i}" for i in range(classes)] if classes != 3 else ["red", "green", "blue"]
    return Classifier.from_module(module.eval(), labels=labels, transform=to_pixels(size), **options)


def lion() -> Path:
    """gradio's own example picture."""
    import gradio

    return Path(gradio.__file__).parent / "media_assets" / "images" / "lion.jpg"
