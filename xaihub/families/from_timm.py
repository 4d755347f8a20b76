"""timm's own Hub format. The wrapper that transformers writes is loaded by transformers."""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor, nn

from xaihub.classifier import Classifier, StatedActivation
from xaihub.errors import UnsupportedModelError, shorten
from xaihub.families.base import (
    Config,
    building,
    family,
    finish,
    labels_of,
    refuse_unfit,
    stated_activation,
    unusable,
)
from xaihub.families.cleaning import TIMM_PREPROCESSING
from xaihub.families.name_files import names_beside
from xaihub.families.resizing import steps_check
from xaihub.preprocessing import Preprocess

__all__ = ["asks_for_more", "load_timm"]


def asks_for_more(config: Config) -> bool:
    """Whether a timm config asks the library to load something else, from a path, an address or another repository."""
    if "architecture" not in config:
        return False
    import timm
    from timm.models import build_model_with_cfg

    own = {
        name
        for function in (timm.create_model, build_model_with_cfg)
        for name in inspect.signature(function).parameters
    }
    arguments = config.get("model_args") or {}
    known = isinstance(arguments, Mapping) and timm.is_model(str(config["architecture"]))
    return not known or bool(set(arguments) & (own | {"features_only"}))


def _claims_timm(config: Config) -> bool:
    """A config that names an architecture; the wrapper that transformers writes has a model_type as well."""
    torchvision = (
        str(config.get("architecture")).startswith("torchvision.") or config.get("library_name") == "torchvision"
    )
    return "architecture" in config and "model_type" not in config and not torchvision


def _refuses_timm(config: Config) -> str:
    import timm

    name = str(config.get("architecture", ""))
    if not timm.is_model(name.split(".")[0]):
        return (
            f"names the architecture {shorten(name)!r}, which neither torchvision nor timm {timm.__version__} knows."
            " Bring a network"
            " of your own with Classifier.from_module."
        )
    if asks_for_more({**config, "architecture": name.split(".")[0]}):
        return "asks for further files by itself while loading, which is not allowed here."
    if config.get("num_classes") == 0:
        return "has no classes (num_classes 0): it only describes pictures."
    return unusable(
        [config.get("pretrained_cfg") or config, {"img_size": (config.get("model_args") or {}).get("img_size")}]
    )


@family("timm", claims=_claims_timm, refuses=_refuses_timm, names=True)
def load_timm(folder: Path, config: Config, details: dict[str, Any]) -> Classifier:
    """A classifier in timm's own Hub format."""
    notices: list[str] = []
    with building(details["repo_id"], folder):
        stored = dict(config.get("pretrained_cfg") or config)
        clean = {key: stored[key] for key in TIMM_PREPROCESSING if stored.get(key) is not None}
        module = _timm_network(folder, config, clean, details["repo_id"])
        transform = _timm_transform(module, config, clean)
        labels, named, activation = _timm_labels(module, folder, config, notices)
    return finish(
        module,
        labels,
        transform,
        notices,
        details,
        family="timm",
        architecture=str(config["architecture"]),
        named=named,
        activation=activation,
    )


def _timm_network(folder: Path, config: Config, clean: Config, where: str) -> nn.Module:
    import timm

    arguments = dict(config.get("model_args") or {})
    classes = int(arguments.pop("num_classes", None) or config.get("num_classes") or clean.get("num_classes") or 1000)
    if config.get("global_pool"):
        arguments.setdefault("global_pool", config["global_pool"])
    try:
        return timm.create_model(
            str(config["architecture"]).split(".")[0],
            pretrained=True,
            pretrained_cfg={**clean, "num_classes": classes, "file": str(folder / "model.safetensors")},
            num_classes=classes,
            **arguments,
        )
    except RuntimeError as error:
        if "state_dict" in str(error):
            refuse_unfit(where, [str(error).strip().splitlines()[-1].strip()], ())
        raise


def _timm_transform(module: nn.Module, config: Config, clean: Config) -> Preprocess:
    """The preprocessing stored with the weights, for the channels and the size that the network was built for."""
    from timm.data import create_transform, resolve_data_config

    settings = resolve_data_config(pretrained_cfg=dict(clean))
    channels, *size = settings["input_size"]
    channels = getattr(module, "in_chans", channels)  # older versions of timm stored 3 for any network
    if channels not in (1, 3):
        raise UnsupportedModelError(
            f"This model reads pictures of {channels} channels; only grey and RGB pictures can be given."
        )
    built = (config.get("model_args") or {}).get("img_size")
    if built and clean.get("fixed_input_size"):
        size = [built, built] if isinstance(built, int) else list(built)
    if channels == 1:
        settings |= {name: [sum(settings[name]) / len(settings[name])] for name in ("mean", "std")}
    steps = create_transform(**{**settings, "input_size": (channels, *size)}, is_training=False)
    fits = steps_check(steps.transforms)

    def preprocess(picture: Image.Image) -> Tensor:
        fits(picture.size)
        return steps(picture.convert("L") if channels == 1 else picture)

    preprocess.__doc__ = f"resize and crop to {size[1]} x {size[0]}, {settings['interpolation']}"
    return preprocess


def _timm_labels(
    module: Any, folder: Path, config: Config, notices: list[str]
) -> tuple[list[str], bool, StatedActivation | None]:
    """Names from the config, from a file beside the weights, or of ImageNet where the number of classes is its own."""
    from timm.data import ImageNetInfo, infer_imagenet_subset

    classes, stored = int(module.num_classes), config.get("pretrained_cfg") or {}
    names = next(filter(None, (part.get(key) for key in ("label_names", "labels") for part in (config, stored))), None)
    described = config.get("label_descriptions") or stored.get("label_descriptions") or {}
    if isinstance(names, dict | list | tuple) and names:
        entries = names.items() if isinstance(names, dict) else enumerate(names)
        names = {int(key): described.get(name, name) if isinstance(name, str) else name for key, name in entries}
    subset = None if names or names_beside(folder, classes) else infer_imagenet_subset(module)
    if subset:
        info = ImageNetInfo(subset)
        names = [info.index_to_description(index) for index in range(classes)]
        return names, True, stated_activation(config)
    return labels_of(config, notices, classes, names=names, folder=folder)
