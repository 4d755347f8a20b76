"""One network of the zoo, measured: the layer that is chosen, its proof, whether its maps are the right way up."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from benchmarks.coverage.transformers_zoo import CLASSES, Size
from benchmarks.coverage.zoo import Member
from xaihub.classifier import Classifier
from xaihub.passes import tap
from xaihub.quadrants import quadrant_shares, right_way_up
from xaihub.target_layer import TargetLayer

BATCHES = (1, 4)  # pictures of a quadrant test: the second if the first is not clear; in several, chance evens out
FAINT = 0.03  # deviation of the weights of a convolution; transformers draws all with 0.02
LARGE = 25e6  # parameters
BLUR = 0.25  # of a kernel's weights beside its centre, of what chance gives them
NEARNESS = 20.0  # how much rather a place attends to itself than to others; in logits
PROVED = ("bottleneck", "fused")


@dataclass(frozen=True)
class Row:
    """One line of the table; every value is a string.

    Attributes:
        verdict: bottleneck, fused, partial, unconfirmed or refused.
        millions: of parameters.
        upright: whether the quadrant test passed, "yes" or "no".
        wide: the same of pictures twice as wide as high; "square only" where the network takes none, "not tried" where
            it is large.
        peer: the layer that torch-cam chooses by itself.
        peer_right: whether that is right.
        note: why it is refused.
    """

    library: str
    family: str
    model: str
    verdict: str
    millions: str = ""
    layer: str = ""
    layout: str = ""
    grid: str = ""
    prefix: str = ""
    upright: str = ""
    wide: str = ""
    peer: str = ""
    peer_right: str = ""
    note: str = ""


def is_right(row: Row) -> bool:
    """Whether the network is explained at a proved layer whose maps are the right way up."""
    return row.verdict in PROVED and row.upright == "yes" and row.wide != "no"


def measure(
    member: Member, *, wide: bool = True, peer: Callable[[Classifier, Size], dict[str, str]] = lambda *_: {}
) -> Row:
    """What is chosen for one network and what the tests say of it, at the first of its edges where that is right.

    With random weights each place of a small map may see nearly all of the picture, or attend to all of it alike;
    where the test of a quadrant fails for that, it passes on a larger picture, or with the weights as they were built.
    A map that is read wrongly fails with all.

    Args:
        wide: whether wide pictures are tried too.
        peer: gives the fields of the row about another library's choice.
    """
    row = Row(member.library, member.family, member.model, "refused", note=member.refused)
    for edge, drawn in product(member.edges if not member.refused else (), (True, False)):
        classifier, why = _first_that_runs(member, (edge, edge), drawn)
        if classifier is not None and classifier.target_layer is not None:
            row = replace(_row(member, classifier, wide, drawn), **peer(classifier, (edge, edge)))
            if is_right(row):
                break
        elif row.verdict == "refused":
            row = replace(row, note=row.note or (classifier.no_layer if classifier else why))
    return row


def _row(member: Member, classifier: Classifier, wide: bool, drawn: bool) -> Row:
    size, layer = classifier.input_size, classifier.target_layer
    assert layer is not None
    parts = layer.layers
    return Row(
        member.library, member.family, member.model, layer.proof,
        millions=f"{_parameters(classifier) / 1e6:.2f}",
        layer=" + ".join(part.name for part in parts),
        layout=_each(part.layout for part in parts),
        grid=_each(f"{part.grid[0]} x {part.grid[1]}" for part in parts),
        prefix=_each(str(part.prefix_tokens) for part in parts),
        upright=_upright(classifier),
        wide=_wide(member, (size[0], 2 * size[0]), drawn) if wide and _parameters(classifier) < LARGE else "not tried",
    )  # fmt: skip


def _parameters(classifier: Classifier) -> int:
    return sum(parameter.numel() for parameter in classifier.module.parameters())


def _wide(member: Member, size: Size, drawn: bool) -> str:
    """The quadrant test of wide pictures: axes that are exchanged by mistake show there only."""
    classifier, _ = _first_that_runs(member, size, drawn)
    if classifier is None:
        return "square only"
    return _upright(classifier) if classifier.target_layer else "no"


def _first_that_runs(member: Member, size: Size, drawn: bool) -> tuple[Classifier | None, str]:
    """The network built in the first way that takes pictures of this size; else why none does."""
    why = ""
    for build in member.builds:
        torch.manual_seed(0)
        try:
            module = with_head(build(size))
            return classifier_of(lively(module, size) if drawn else module, size), ""
        except Exception as error:  # noqa: BLE001  libraries refuse a size each in a way of their own
            why = why or next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return None, why


def classifier_of(module: nn.Module, size: Size) -> Classifier:
    """The network with pictures squashed to a size (H, W), about zero in mean and one in deviation."""

    def transform(picture: Image.Image) -> Tensor:
        resized = np.asarray(picture.resize((size[1], size[0])), dtype=np.float32)
        return torch.from_numpy((resized / 255 - 0.45) / 0.225).permute(2, 0, 1).contiguous()

    return Classifier.from_module(module, labels=[str(i) for i in range(CLASSES)], transform=transform)


def with_head(module: nn.Module) -> nn.Module:
    """The network in eval mode, its head drawn anew: at initialisation it passes next to no gradient."""
    for part in module.eval().modules():
        if isinstance(part, nn.Linear | nn.Conv2d) and part.weight.shape[0] == CLASSES:
            nn.init.normal_(part.weight)
            if part.bias is not None:
                nn.init.ones_(part.bias)  # SqueezeNet rectifies its scores
    return module


def lively(module: nn.Module, size: Size) -> nn.Module:
    """The network brought to where training would bring it, as far as that is needed to see anything.

    At initialisation the last normalisations of residual branches are zero, and batch normalisations know nothing of
    the activations they get, which shrink to nothing or grow without end.
    """
    norms = [part for part in module.modules() if isinstance(part, _BatchNorm) and part.track_running_stats]
    for part in module.modules():
        weight = getattr(part, "weight", None)
        if not isinstance(weight, nn.Parameter):
            continue
        if isinstance(part, nn.Conv2d) and norms and part.bias is None and float(weight.std()) < FAINT:
            nn.init.kaiming_normal_(weight)  # else it drowns in the epsilon of the normalisation that follows
        elif weight.ndim == 1 and float(weight.abs().max()) < 0.1 and (part in norms or not weight.any()):
            nn.init.uniform_(weight, 0.1, 0.3)  # zero in some libraries, about 0.02 in others
    for part in module.modules():
        if isinstance(part, nn.Conv2d) and part.kernel_size[0] % 2 and part.kernel_size[1] % 2:
            _focus(part.weight)
    for name, parameter in module.named_parameters():
        if name.endswith("attention_biases"):  # by distance, zero comes first; LeViT knows of places by these alone
            parameter.data[:, 0] += NEARNESS
    _normalise(module, norms, _textures(size))
    return module


def _focus(weight: Tensor) -> None:
    """A convolution's kernels with most weight at their centre, as trained ones have: forty random ones blur it all."""
    rows, columns = weight.shape[2] // 2, weight.shape[3] // 2
    with torch.no_grad():
        centre = weight[:, :, rows, columns].clone()
        weight.mul_(BLUR)
        weight[:, :, rows, columns] = centre


def _normalise(module: nn.Module, norms: Sequence[_BatchNorm], pixels: Tensor) -> None:
    """Batch statistics as they are, instead of zero and one."""
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.train().momentum = 1.0
    if norms:
        with torch.no_grad():
            module(pixels)
    for norm, momentum in zip(norms, before, strict=True):
        norm.eval().momentum = momentum
        if norm.running_var is not None:  # a channel that hardly changes is not blown up
            norm.running_var.clamp_min_(0.1 * float(norm.running_var.mean()))


def _textures(size: Size, count: int = max(BATCHES)) -> Tensor:
    """(N, 3, H, W) with structure at several scales, about zero in mean and one in deviation."""
    generator = torch.Generator().manual_seed(0)
    layers = [
        nn.functional.interpolate(torch.randn(count, 3, edge, edge, generator=generator), size, mode="bilinear")
        for edge in (3, 8, 24, 64)
    ]
    total = torch.stack(layers).sum(0)
    return total / total.std()


def _upright(classifier: Classifier) -> str:
    """Whether the maps of the layer, or of each that is fused in it, and these side by side pass the test."""
    layer = classifier.target_layer
    assert layer is not None
    alone = [(part,) for part in layer.parts]
    return "yes" if all(_passes(classifier, layers) for layers in [layer.layers, *alone]) else "no"


def _passes(classifier: Classifier, layers: Sequence[TargetLayer]) -> bool:
    height, width = classifier.transform(Image.new("RGB", (64, 64))).shape[1:]
    with tap(classifier, layers) as run:
        shares = (
            quadrant_shares(lambda given: run(given).activations, _textures((height, width))[:count])
            for count in BATCHES
        )
        return any(map(right_way_up, shares))


def _each(values: Iterable[str]) -> str:
    """One value, or those of several layers where they differ."""
    values = list(values)
    return values[0] if len(set(values)) == 1 else " + ".join(values)
