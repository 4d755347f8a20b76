"""torchvision's classifiers: a safetensors state dict on the Hub, or the library's own published weights."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from xaihub.classifier import Classifier
from xaihub.errors import UnsupportedModelError, shorten
from xaihub.families.base import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Config,
    building,
    family,
    finish,
    labels_of,
    refuse_unfit,
    unusable,
)
from xaihub.families.resizing import resize_check, steps_check
from xaihub.preprocessing import Preprocess
from xaihub.registry import nearest_name

__all__ = ["load_torchvision", "load_torchvision_published", "torchvision_published"]


def _torchvision_name(config: Config) -> str:
    return str(config.get("architecture", "")).removeprefix("torchvision.models.")


def _claims_torchvision(config: Config) -> bool:
    architecture = str(config.get("architecture", ""))
    return architecture.startswith("torchvision.models.") or config.get("library_name") == "torchvision"


def _refuses_torchvision(config: Config) -> str:
    from torchvision import models

    known, name = models.list_models(module=models), _torchvision_name(config)
    if name not in known:
        return f"names the torchvision architecture {shorten(name)!r}, which there is not.{nearest_name(name, known)}"
    return unusable({key: config.get(key) for key in ("input", "resize_shortest", "center_crop", "mean", "std")})


@family("torchvision", claims=_claims_torchvision, refuses=_refuses_torchvision, names=True)
def load_torchvision(folder: Path, config: Config, details: dict[str, Any]) -> Classifier:
    """A torchvision network from a safetensors state dict; `config.json` names the architecture and the preprocessing.

    Keys of the config: `architecture` ("torchvision.models.resnet18"), `num_classes`, `id2label`, and optionally
    `input` (channels, height, width), `resize_shortest`, `center_crop` (an edge, or height and width), `mean`, `std`,
    `interpolation` ("bilinear", as torchvision's own, or another of `InterpolationMode`), `problem_type`.
    """
    notices: list[str] = []
    with building(details["repo_id"], folder):
        classes = int(config.get("num_classes") or 1000)
        module = _torchvision_network(folder, _torchvision_name(config), classes, details["repo_id"])
        labels, named, activation = labels_of(config, notices, classes, folder=folder)
        transform = _torchvision_transform(config, notices)
    return finish(
        module, labels, transform, notices, details, family="torchvision", architecture=_torchvision_name(config),
        named=named, activation=activation,
    )  # fmt: skip


def _torchvision_network(folder: Path, name: str, classes: int, where: str) -> nn.Module:
    from safetensors.torch import load_file
    from torchvision import models

    state = load_file(folder / "model.safetensors")
    options = {"aux_logits": False, "init_weights": False} if name in ("googlenet", "inception_v3") else {}
    if options:
        state = {key: value for key, value in state.items() if not key.startswith(("aux1.", "aux2.", "AuxLogits."))}
    module = models.get_model(name, weights=None, num_classes=classes, **options)
    misfits = [
        f"{key}: {list(state[key].shape)} in the weights, {list(wanted.shape)} in the network"
        for key, wanted in module.state_dict().items()
        if key in state and state[key].shape != wanted.shape
    ]
    refuse_unfit(where, misfits, ())
    fit = module.load_state_dict(state, strict=False)
    refuse_unfit(where, fit.missing_keys, fit.unexpected_keys)
    return module


def torchvision_published(name: str) -> tuple[str, Any]:
    """The URL and the record of torchvision's own best weights for an architecture.

    Raises:
        UnsupportedModelError: torchvision has no such classifier.
    """
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        raise UnsupportedModelError(f"torchvision has no classifier {name!r}.{nearest_name(name, known)}")
    weights = models.get_model_weights(name).DEFAULT
    return weights.url, weights


def load_torchvision_published(name: str, weights: Any, file: Path, details: dict[str, Any]) -> Classifier:
    """A torchvision network with its published weights, from a file whose hash was checked.

    The file is in PyTorch's own format; `weights_only` lets tensors out of it and nothing else.
    """
    from torchvision import models

    module = models.get_model(name, weights=None, **_published_options(name))
    module.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    preset = weights.transforms()
    fits = resize_check({"shortest_edge": max(preset.resize_size)})

    def preprocess(picture: Image.Image) -> Tensor:
        fits(picture.size)
        return preset(picture)

    preprocess.__doc__ = f"resize to {preset.resize_size[0]}, centre crop {preset.crop_size[0]}"
    return finish(
        module,
        list(weights.meta["categories"]),
        preprocess,
        [],
        details,
        family="torchvision",
        architecture=name,
        named=True,
    )


def _published_options(name: str) -> dict[str, bool]:
    if name == "googlenet":
        return {"transform_input": True, "aux_logits": True, "init_weights": False}
    return {"transform_input": True, "init_weights": False} if name == "inception_v3" else {}


def _torchvision_transform(config: Config, notices: list[str]) -> Preprocess:
    """The preprocessing that a config.json states; each piece that it does not state is assumed, and said to be."""
    from torchvision import transforms

    stated = _pair((config.get("input") or (3, 224, 224))[-2:])
    crop = _pair(config["center_crop"]) if config.get("center_crop") else stated
    squashed = crop[0] != crop[1] and not config.get("center_crop") and not config.get("resize_shortest")
    resize = list(crop) if squashed else [int(config.get("resize_shortest") or max(crop))]
    shape = f"{crop[1]} x {crop[0]}" if crop[0] != crop[1] else f"{crop[0]}"
    how = f"resize to {shape if squashed else resize[0]}" + f", centre crop {shape}" * (not squashed)
    assumed = (
        [] if config.get("center_crop") else [how if not config.get("resize_shortest") else f"centre crop {shape}"]
    )
    if config.get("center_crop") and not config.get("resize_shortest"):
        assumed.append(f"resize to {resize[0]}")
    assumed += [f"ImageNet {word}" for word, key in (("mean", "mean"), ("deviation", "std")) if not config.get(key)]
    if assumed:
        notices.append(f"Its config.json does not state all of its preprocessing; assumed: {', '.join(assumed)}.")
    mode = transforms.InterpolationMode(str(config.get("interpolation") or "bilinear").lower())
    steps = transforms.Compose(  # as the presets of torchvision's weights: v2 differs in the last bit of a float
        [
            transforms.Resize(resize, interpolation=mode),
            *([] if squashed else [transforms.CenterCrop(list(crop))]),
            transforms.PILToTensor(),
            transforms.ConvertImageDtype(torch.float32),
            transforms.Normalize(config.get("mean") or IMAGENET_MEAN, config.get("std") or IMAGENET_STD),
        ]
    )
    fits = steps_check(steps.transforms)

    def preprocess(picture: Image.Image) -> Tensor:
        fits(picture.size)
        return torch.as_tensor(steps(picture))

    preprocess.__doc__ = how
    return preprocess


def _pair(size: Any) -> tuple[int, int]:
    """Height and width of an edge, a list of both, or a mapping of both."""
    if isinstance(size, Mapping):
        return int(size["height"]), int(size["width"])
    height, width = (size, size) if isinstance(size, int | float) else size
    return int(height), int(width)
