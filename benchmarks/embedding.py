"""How fast references are built, against the network alone and against the plain loop; and what layouts give."""

import copy
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from benchmarks.timing import interleaved, ratio, table
from xaihub.building import build_references
from xaihub.classifier import Classifier
from xaihub.datasets import open_dataset

PICTURES, BATCH = 128, 8


def embedding_ratios(rounds: int = 5) -> None:
    """Two tables: building references from JPEG files, and one batch through the network in several layouts."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = photographs(Path(temporary))
        lines = [_building(name, folder, rounds) for name in ("resnet18", "mobilenet_v2")]
    head = ["network", "forward alone, pictures/s", "build_references", "plain loop", "share of the forward"]
    table(f"Embedding {PICTURES} JPEGs of 500 x 375, in pictures a second", lines, head)
    lines = [line for name in ("resnet18", "mobilenet_v2", "vit_b_16") for line in _layouts(name, rounds)]
    table(
        f"A batch of {BATCH} in other layouts, as a ratio to eager float32", lines, ["network", "how", "time", "cosine"]
    )


def photographs(folder: Path) -> Path:
    """JPEGs with the detail of photographs: smooth shapes and some noise; class folders for `open_dataset`."""
    generator = np.random.default_rng(0)
    for number in range(PICTURES):
        coarse = Image.fromarray(generator.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize((500, 375), 3)
        noisy = np.clip(np.asarray(coarse) + generator.normal(0, 6, (375, 500, 3)), 0, 255).astype(np.uint8)
        place = folder / "ab"[number % 2]
        place.mkdir(exist_ok=True)
        Image.fromarray(noisy).save(place / f"{number}.jpg", quality=90)
    return folder


def network(name: str) -> tuple[nn.Module, Classifier]:
    from torchvision import models, transforms

    torch.manual_seed(0)
    module = getattr(models, name)(weights=None).eval()
    for part in module.modules():
        if isinstance(part, nn.Linear):  # a ViT's head begins at zero, and so would every answer be
            nn.init.normal_(part.weight, std=0.02)
    crop = [transforms.Resize(256), transforms.CenterCrop(224), transforms.ToTensor()]
    normal = transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    labels = [f"class {i}" for i in range(1000)]
    return module, Classifier.from_module(module, labels=labels, transform=transforms.Compose([*crop, normal]))


def _building(name: str, folder: Path, rounds: int) -> list[str]:
    module, classifier = network(name)
    pixels = torch.randn(BATCH, 3, 224, 224)

    @torch.no_grad()
    def forward() -> None:
        for _ in range(PICTURES // BATCH):
            module(pixels)

    calls = {
        "forward": forward,
        "ours": lambda: build_references(classifier, folder, batch_size=BATCH, fidelity=False),
        "loop": lambda: list(plain_loop(module, classifier, folder)),
    }
    seconds = interleaved(calls, rounds, warm_up=1)
    rates = {call: PICTURES / sorted(times)[len(times) // 2] for call, times in seconds.items()}
    share = 1 / ratio(seconds, "ours", "forward")
    return [name, *(f"{rates[call]:.1f}" for call in calls), f"{share:.2f}"]


@torch.no_grad()
def plain_loop(module: nn.Module, classifier: Classifier, folder: Path) -> Iterator[Tensor]:
    """What one writes first: open, prepare, forward, one picture after another; nothing stored, nothing hashed."""
    for row in open_dataset(folder):
        yield module(classifier.transform.function(row.picture)[None])


@torch.no_grad()
def _layouts(name: str, rounds: int) -> list[list[str]]:
    module, _ = network(name)
    pixels = torch.randn(BATCH, 3, 224, 224)
    last = copy.deepcopy(module).to(memory_format=torch.channels_last)
    fused = fuse(module).to(memory_format=torch.channels_last)
    half = copy.deepcopy(fused).to(torch.bfloat16)
    calls = {
        "eager": lambda: module(pixels),
        "channels last": lambda: last(pixels),
        "fused batch norm, channels last": lambda: fused(pixels),
        "bf16, fused, channels last": lambda: half(pixels.bfloat16()),
    }
    expected = module(pixels)
    seconds = interleaved(calls, rounds, warm_up=1)
    return [
        [name, how, f"{ratio(seconds, how, 'eager'):.2f}", f"{_cosine(call(), expected):.7f}"]
        for how, call in calls.items()
    ]


def fuse(module: nn.Module) -> nn.Module:
    """A copy with every batch norm folded into the convolution before it; the same module where there is none."""
    from torch.fx.experimental.optimization import fuse as fold

    has_norms = any(isinstance(part, nn.BatchNorm2d) for part in module.modules())
    return fold(module) if has_norms else copy.deepcopy(module)


def _cosine(ours: Tensor, expected: Tensor) -> float:
    return cosine_similarity(ours.float(), expected.float()).min().item()
