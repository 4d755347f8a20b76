"""torchvision's classifiers: a safetensors state dict on the Hub, or the library's own published weights."""

from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from xaihub.classifier import Classifier
from xaihub.errors import UnsupportedModelError
from xaihub.families.base import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Config,
    building,
    family,
    finish,
    huge_pictures,
    labels_of,
    refuse_unfit,
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
        return f"names the torchvision architecture {name!r}, which there is not.{nearest_name(name, known)}"
    return huge_pictures({key: config.get(key) for key in ("input", "resize_shortest", "center_crop")})


@family("torchvision", claims=_claims_torchvision, refuses=_refuses_torchvision)
def load_torchvision(folder: Path, config: Config, details: dict[str, Any]) -> Classifier:
    """A torchvision network from a safetensors state dict; `config.json` names the architecture and the preprocessing.

    Keys of the config: `architecture` ("torchvision.models.resnet18"), `num_classes`, `id2label`, and optionally
    `resize_shortest`, `center_crop`, `mean`, `std`.
    """
    notices: list[str] = []
    with building(details["repo_id"], folder):
        classes = int(config.get("num_classes") or 1000)
        module = _torchvision_network(folder, _torchvision_name(config), classes, details["repo_id"])
        labels, named = labels_of(config.get("id2label") or {}, notices, classes)
        crop = int(config.get("center_crop") or (config.get("input") or (3, 224, 224))[-1])
        if not config.get("center_crop") or not config.get("mean"):
            notices.append(
                f"Its config.json does not state all of its preprocessing; centre crop {crop}, ImageNet values assumed."
            )
        transform = _torchvision_transform(
            int(config.get("resize_shortest") or crop),
            crop,
            config.get("mean") or IMAGENET_MEAN,
            config.get("std") or IMAGENET_STD,
        )
    return finish(
        module, labels, transform, notices, details, family="torchvision", architecture=_torchvision_name(config),
        named=named,
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


def _torchvision_transform(resize: int, crop: int, mean: Any, std: Any) -> Preprocess:
    from torchvision.transforms import v2

    steps = v2.Compose(
        [
            v2.Resize(resize),
            v2.CenterCrop(crop),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(mean, std),
        ]
    )
    fits = steps_check(steps.transforms)

    def preprocess(picture: Image.Image) -> Tensor:
        fits(picture.size)
        return torch.Tensor(steps(picture))

    preprocess.__doc__ = f"resize to {resize}, centre crop {crop}"
    return preprocess
