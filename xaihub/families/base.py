"""What the loaders of all libraries share: the table of families, and the last steps to a Classifier."""

import inspect
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from xaihub.classifier import Activation, Classifier
from xaihub.errors import UnsupportedModelError
from xaihub.preprocessing import Preprocess, Transform
from xaihub.registry import Registry

__all__ = [
    "FAMILIES", "IMAGENET_MEAN", "IMAGENET_STD", "Family", "family", "family_of", "finish", "labels_of", "read_config",
    "refuse_unfit", "weight_files",
]  # fmt: skip

Config = Mapping[str, Any]
Load = Callable[[Path, Config, dict[str, Any]], Classifier]

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Family:
    """One library's classifiers.

    Attributes:
        claims: whether a repository with this `config.json` is one of them.
        refuses: why this one cannot be explained, or "" if it can; asked before anything large is fetched.
        load: (folder, config, details of `Classifier`) -> Classifier.
        files: what it reads beside `config.json` and the weights.
    """

    name: str
    claims: Callable[[Config], bool]
    refuses: Callable[[Config], str]
    load: Load
    files: tuple[str, ...] = ()


FAMILIES: Registry[Family] = Registry("family of models")


def family(
    name: str,
    *,
    claims: Callable[[Config], bool],
    refuses: Callable[[Config], str] = lambda _config: "",
    files: tuple[str, ...] = (),
) -> Callable[[Load], Load]:
    """Registers a loader; families are asked in the order they were registered, whether a config is theirs."""

    def register(load: Load) -> Load:
        FAMILIES.add(name, Family(name, claims, refuses, load, files))
        return load

    return register


def family_of(config: Config, where: str) -> Family:
    """The first family that claims the config.

    Raises:
        UnsupportedModelError: no family does, or the one that does refuses it.
    """
    found = next((entry for entry in FAMILIES.values() if entry.claims(config)), None)
    if found is None:
        raise UnsupportedModelError(
            f"{where} has a config.json that no known library claims. What works: image classifiers of"
            " transformers and timm,"
            " and torchvision's with 'architecture' in config.json."
        )
    if reason := found.refuses(config):
        raise UnsupportedModelError(f"{where} {reason}")
    return found


def weight_files(files: Mapping[str, int], where: str) -> list[str]:
    """The safetensors files that hold the weights.

    Raises:
        UnsupportedModelError: there are none, and what there is instead.
    """
    safe = sorted(path for path in files if re.fullmatch(r"model(-\d+-of-\d+)?\.safetensors", path))
    if "model.safetensors" in safe:
        return ["model.safetensors"]
    if safe:
        return [*safe, "model.safetensors.index.json"] if "model.safetensors.index.json" in files else safe
    pickles = [path for path in files if path.endswith((".bin", ".pt", ".pth", ".ckpt", ".pkl", ".h5", ".msgpack"))]
    if pickles:
        raise UnsupportedModelError(
            f"{where} has its weights only as {pickles[0]}, a format that can run programs when opened, so it is not"
            " opened here. Its author can convert it at https://huggingface.co/spaces/safetensors/convert;"
            " then it works."
        )
    if "adapter_config.json" in files:
        raise UnsupportedModelError(
            f"{where} is an adapter, not a whole model. Merge it into its base model and publish that."
        )
    raise UnsupportedModelError(
        f"{where} has no weights (no model.safetensors). It may not be a model that is ready to use."
    )


def labels_of(id2label: Mapping[Any, Any], notices: list[str], classes: int | None = None) -> tuple[list[str], bool]:
    """The classes' names in the order of their indices, and whether a person gave them."""
    if not id2label:
        notices.append("It does not name its classes, so they are called by their numbers.")
        return [f"class {index}" for index in range(classes or 0)], False
    labels = [str(id2label[key]) for key in sorted(id2label, key=int)]
    if all(re.fullmatch(r"LABEL_\d+", label) for label in labels):
        notices.append("Its authors did not name its classes (LABEL_0, LABEL_1, ...).")
        return labels, False
    return labels, True


def refuse_unfit(where: str, missing: Any, unexpected: Any) -> None:
    lost = sorted(map(str, missing)) or sorted(map(str, unexpected))
    if lost:
        raise UnsupportedModelError(
            f"{where} has weights that do not fill its network ({len(lost)} do not fit, such as"
            f" {lost[0][:120]}). A part of it"
            " would be random, so its answers would mean nothing. A model that was fine-tuned for classification works."
        )


def finish(
    module: nn.Module,
    labels: list[str],
    transform: Preprocess,
    notices: list[str],
    details: dict[str, Any],
    *,
    family: str,
    architecture: str,
    named: bool,
    activation: Activation = "softmax",
) -> Classifier:
    device, layer = details.pop("device", None), details.pop("target_layer", None)
    module = module.eval().float()
    if device is not None:
        module = module.to(device)
    for parameter in module.parameters():
        parameter.requires_grad_(False)  # nothing here trains; explanations take gradients of activations only
    facts = {
        **details.pop("facts", {}),
        "library": family,
        "architecture": architecture,
        "parameters": sum(parameter.numel() for parameter in module.parameters()),
        "named classes": named,
    }
    measured = Transform(transform, inspect.getdoc(transform) or "")
    try:
        return Classifier.from_module(
            module, labels=labels, transform=measured, target_layer=layer, activation=activation,
            notices=tuple(notices), facts=facts, **details,
        )  # fmt: skip
    except (RuntimeError, ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise UnsupportedModelError(
            f"{details['repo_id']} was loaded, but could not be run on a picture ({str(error).splitlines()[0][:160]})."
        ) from error


def read_config(folder: Path) -> dict[str, Any]:
    """`config.json` of a folder.

    Raises:
        UnsupportedModelError: there is none, or it is no JSON object.
    """
    file = folder / "config.json"
    if not file.is_file():
        raise UnsupportedModelError(f"{folder} has no config.json, so nothing says what model it holds.")
    try:
        config = json.loads(file.read_text("utf-8"))
    except ValueError as error:
        raise UnsupportedModelError(f"{file} is not valid JSON ({error}).") from error
    if not isinstance(config, dict):
        raise UnsupportedModelError(f"{file} holds a {type(config).__name__}, not a configuration.")
    return config
