"""The networks that are measured: each type of transformers, all of torchvision, the smallest of each timm module."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from benchmarks.coverage import transformers_zoo
from benchmarks.coverage.transformers_zoo import CLASSES, Size
from xaihub.errors import UnsupportedModelError
from xaihub.families import family_of

TINY_EDGE = 128  # pixels: four places each way after five halvings
EDGES = {"perceiver": (64,)}  # of types that take no others
TORCHVISION_EDGE = 160
TIMM_EDGES = (160, 224, 256)  # where the network can be given these; else its own


@dataclass(frozen=True)
class Member:
    """One network of the zoo.

    Attributes:
        library: transformers, torchvision or timm.
        family: its type or module there; torchvision's have none but their own names.
        model: its name.
        builds: ways to build it for pictures of a size (H, W), best first; one that cannot raises whatever it likes.
        edges: of the square pictures it is tried with, best first.
        refused: why xaihub refuses its config, if it does.
    """

    library: str
    family: str
    model: str
    builds: tuple[Callable[[Size], nn.Module], ...]
    edges: tuple[int, ...]
    refused: str = ""


def transformers_members() -> list[Member]:
    """A tiny network for every classifier in transformers' mapping."""
    return [transformers_member(kind, head) for kind, head in transformers_zoo.heads()]


def transformers_member(kind: str, head: str) -> Member:
    """The tiny network of one type and class."""
    edges = EDGES.get(kind, (TINY_EDGE, 2 * TINY_EDGE, 3 * TINY_EDGE))

    def open_sized(size: Size) -> nn.Module:
        return transformers_zoo.build(kind, head, size)

    def fixed(size: Size) -> nn.Module:
        return transformers_zoo.build(kind, head, (size[0], size[0]))

    return Member("transformers", kind, head, (open_sized, fixed), edges, _refusal(kind, head))


def _refusal(kind: str, head: str) -> str:
    try:
        family_of({"model_type": kind, "architectures": [head]}, "It")
    except UnsupportedModelError as error:
        return str(error)
    return ""


def torchvision_members() -> list[Member]:
    """Every classifier of torchvision."""
    from torchvision import models

    return [torchvision_member(name) for name in models.list_models(module=models)]


def torchvision_member(name: str) -> Member:
    """One architecture of torchvision."""
    from torchvision import models

    once = {"aux_logits": False, "init_weights": False} if name in ("googlenet", "inception_v3") else {}

    def build(_size: Size, **options: Any) -> nn.Module:
        return models.get_model(name, weights=None, num_classes=CLASSES, **once, **options)

    def sized(size: Size) -> nn.Module:
        return build(size, image_size=size[0]) if size[0] == size[1] else build(size, input_size=size)

    return Member("torchvision", name, name, (sized, build), (TORCHVISION_EDGE, 224, 320))


def timm_members() -> Iterator[Member]:
    """The smallest network of each module of timm, one after the other: finding each takes seconds."""
    import timm

    for module in timm.list_modules():
        yield timm_member(module, smallest_of(module))


def smallest_of(module: str) -> str:
    """The network of the module with the fewest parameters; none of them is filled with numbers for that."""
    import timm

    sizes = {}
    for name in timm.list_models(module=module):
        with torch.device("meta"):
            sizes[name] = sum(parameter.numel() for parameter in timm.create_model(name).parameters())
    return min(sizes, key=lambda name: (sizes[name], name))


def timm_member(module: str, name: str) -> Member:
    """One network of timm."""
    import timm

    def plain(_size: Size) -> nn.Module:
        return timm.create_model(name, num_classes=CLASSES)

    def sized(size: Size) -> nn.Module:
        return timm.create_model(name, num_classes=CLASSES, img_size=size)

    edge = timm.get_pretrained_cfg(name).input_size[1]
    edges = (*(smaller for smaller in TIMM_EDGES if smaller < edge), edge, 2 * edge)
    return Member("timm", module, name, (sized, plain), edges)
