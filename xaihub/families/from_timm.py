"""timm's own Hub format. The wrapper that transformers writes is loaded by transformers."""

import inspect
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor, nn

from xaihub.classifier import Classifier
from xaihub.errors import UnsupportedModelError
from xaihub.families.base import Config, family, finish, labels_of, refuse_unfit

__all__ = ["asks_for_more", "load_timm"]

_TIMM_PREPROCESSING = (
    "input_size", "test_input_size", "fixed_input_size", "min_input_size", "pool_size", "interpolation", "crop_pct",
    "test_crop_pct", "crop_mode", "mean", "std", "num_classes", "first_conv", "classifier",
)  # fmt: skip


def asks_for_more(config: Config) -> bool:
    """Whether a timm config asks the library to load something else, from a path, an address or another repository."""
    if "architecture" not in config:
        return False
    import timm

    own = set(inspect.signature(timm.create_model).parameters)
    arguments = set(config.get("model_args") or {}) & (own | {"pretrained_model_args"})
    return bool(arguments) or not timm.is_model(str(config["architecture"]))


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
            f"names the architecture {name!r}, which neither torchvision nor timm {timm.__version__} knows."
            " Bring a network"
            " of your own with Classifier.from_module."
        )
    if asks_for_more({**config, "architecture": name.split(".")[0]}):
        return "asks for further files by itself while loading, which is not allowed here."
    return "has no classes (num_classes 0): it only describes pictures." if config.get("num_classes") == 0 else ""


@family("timm", claims=_claims_timm, refuses=_refuses_timm)
def load_timm(folder: Path, config: Config, details: dict[str, Any]) -> Classifier:
    """A classifier in timm's own Hub format."""
    import timm
    from timm.data import create_transform, resolve_data_config

    stored = dict(config.get("pretrained_cfg") or config)
    arguments = dict(config.get("model_args") or {})
    classes = int(arguments.pop("num_classes", None) or config.get("num_classes") or stored.get("num_classes") or 1000)
    if config.get("global_pool") and "global_pool" not in arguments:
        arguments["global_pool"] = config["global_pool"]
    clean = {key: stored[key] for key in _TIMM_PREPROCESSING if stored.get(key) is not None}
    try:
        module = timm.create_model(
            str(config["architecture"]).split(".")[0],
            pretrained=True,
            pretrained_cfg={**clean, "num_classes": classes, "file": str(folder / "model.safetensors")},
            num_classes=classes,
            **arguments,
        )
    except RuntimeError as error:
        refuse_unfit(details["repo_id"], [str(error).strip().splitlines()[-1].strip()], ())
        raise
    settings = resolve_data_config(pretrained_cfg=clean)
    steps = create_transform(**settings, is_training=False)
    if settings["input_size"][0] not in (1, 3):
        raise UnsupportedModelError(
            f"This model reads {settings['input_size'][0]} channels; only grey and RGB pictures work."
        )

    def preprocess(picture: Image.Image) -> Tensor:
        return steps(picture.convert("L") if settings["input_size"][0] == 1 else picture)

    preprocess.__doc__ = "resize and crop to {2} x {1}, {0}".format(
        settings["interpolation"], *settings["input_size"][1:]
    )
    notices: list[str] = []
    labels, named = _timm_labels(module, config, stored, classes, notices)
    return finish(
        module,
        labels,
        preprocess,
        notices,
        details,
        family="timm",
        architecture=str(config["architecture"]),
        named=named,
    )


def _timm_labels(
    module: nn.Module, config: Config, stored: Config, classes: int, notices: list[str]
) -> tuple[list[str], bool]:
    from timm.data import ImageNetInfo, infer_imagenet_subset

    names = config.get("label_names") or stored.get("label_names") or stored.get("labels")
    described = config.get("label_descriptions") or stored.get("label_descriptions") or {}
    if names and len(names) == classes:
        ordered = [names[key] for key in sorted(names, key=int)] if isinstance(names, dict) else names
        return [str(described.get(name, name)) for name in ordered], True
    subset = infer_imagenet_subset(module)
    if subset:
        info = ImageNetInfo(subset)
        return [info.index_to_description(i) for i in range(classes)], True
    return labels_of({}, notices, classes)
