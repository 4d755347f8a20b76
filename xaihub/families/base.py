"""What the loaders of all libraries share: the table of families, and the last steps to a Classifier."""

import inspect
import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from xaihub.classifier import Activation, Classifier
from xaihub.errors import UnsupportedModelError, XaihubError, first_line
from xaihub.families.resizing import MOST_RESIZED
from xaihub.preprocessing import Preprocess, Transform
from xaihub.registry import Registry

__all__ = [
    "FAMILIES", "IMAGENET_MEAN", "IMAGENET_STD", "Family", "building", "family", "family_of", "finish", "huge_pictures",
    "labels_of", "read_config", "refuse_unfit",
]  # fmt: skip

Config = Mapping[str, Any]
Load = Callable[[Path, Config, dict[str, Any]], Classifier]

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
MOST_EDGE = 2048  # pixels; a stranger's preprocessing could ask for more than this machine has memory
MOST_PATCHES = 4096  # of one picture: SigLIP 2 has 256 or so
LEAST_CROP = 0.1  # of the resized picture; less is another way to ask for a huge one


@dataclass(frozen=True)
class Family:
    """One library's classifiers.

    Attributes:
        claims: whether a repository with this `config.json` is one of them.
        refuses: why this one cannot be explained, or "" if it can; asked before anything large is fetched.
        load: (folder, config, details of `Classifier`) -> Classifier.
        files: the JSON files it reads beside `config.json`.
        refuses_file: the same as `refuses`, of what one of `files` holds.
        tables: the parquet files that `load` reads.
    """

    name: str
    claims: Callable[[Config], bool]
    refuses: Callable[[Config], str]
    load: Load
    files: tuple[str, ...] = ()
    refuses_file: Callable[[Config], str] = lambda _settings: ""
    tables: tuple[str, ...] = ()


FAMILIES: Registry[Family] = Registry("family of models")


def family(
    name: str,
    *,
    claims: Callable[[Config], bool],
    refuses: Callable[[Config], str] = lambda _config: "",
    files: tuple[str, ...] = (),
    refuses_file: Callable[[Config], str] = lambda _settings: "",
    tables: tuple[str, ...] = (),
) -> Callable[[Load], Load]:
    """Registers a loader; families are asked in the order they were registered, whether a config is theirs."""

    def register(load: Load) -> Load:
        FAMILIES.add(name, Family(name, claims, refuses, load, files, refuses_file, tables))
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


def huge_pictures(settings: Any, key: str = "") -> str:
    """Why the pictures that a preprocessing asks for are too large, or ""; sizes are found by their keys, at any depth.

    `key` is where the settings were found.
    """
    if isinstance(settings, Mapping) and (reason := _many_patches(settings)):
        return reason
    if isinstance(settings, Mapping | list | tuple):
        parts = settings.items() if isinstance(settings, Mapping) else [("", value) for value in settings]
        inside = next(filter(None, (huge_pictures(value, f"{key} {name}".strip()) for name, value in parts)), "")
        return inside or (_crops_much(settings) if not key and isinstance(settings, Mapping) else "")
    if not isinstance(settings, int | float) or isinstance(settings, bool):
        return ""
    if key.endswith("crop_pct"):
        return "" if settings >= LEAST_CROP else f"crops its pictures to {settings} of their size ({key}), too little."
    if settings > MOST_EDGE and re.search("size|crop|edge|resize|input", key):
        return f"asks for pictures of {settings} pixels a side ({key}); at most {MOST_EDGE} are given here."
    return ""


def _crops_much(settings: Config) -> str:
    """The same of pictures that are resized to far more than is kept of them; "" if none is."""
    found = dict(_numbers(settings))
    share = min((value for key, value in found.items() if key.endswith("crop_pct") and value > 0), default=1.0)
    edge = max((value for key, value in found.items() if re.search("size|edge", key) and "patch" not in key), default=0)
    if share >= 1 or (edge / share) ** 2 <= MOST_RESIZED:
        return ""
    return (
        f"resizes its pictures to {edge / share:,.0f} pixels a side (size {edge:,.0f}, crop_pct {share:g}); at most"
        f" {MOST_RESIZED**0.5:,.0f} are made here."
    )


def _numbers(settings: Any, key: str = "") -> Iterator[tuple[str, float]]:
    """Every number in it, with the keys that lead to it."""
    if isinstance(settings, Mapping | list | tuple):
        for name, value in settings.items() if isinstance(settings, Mapping) else enumerate(settings):
            yield from _numbers(value, f"{key} {name}" if isinstance(settings, Mapping) else f"{key}.{name}")
    elif isinstance(settings, int | float) and not isinstance(settings, bool):
        yield key, float(settings)


def _many_patches(settings: Config) -> str:
    """The same of a picture that is cut into a number of patches, whatever its size (SigLIP 2); "" if none is."""
    named = [name for name in settings if re.fullmatch("(max|min)(_num)?_patches", str(name))]
    if not named and "patch_size" not in settings:
        return ""
    counts, edge = [settings[name] for name in named] or [256], settings.get("patch_size")  # transformers' defaults
    edge = edge if isinstance(edge, int | float) else 16
    most = max((count for count in counts if isinstance(count, int | float)), default=0)
    if most <= MOST_PATCHES and edge <= MOST_EDGE and most * edge**2 <= MOST_EDGE**2:
        return ""
    return (
        f"asks for pictures of {most} patches of {edge} x {edge} pixels; at most {MOST_PATCHES:,} patches and"
        f" {MOST_EDGE} x {MOST_EDGE} pixels are given here."
    )


@contextmanager
def building(where: str, folder: Path) -> Iterator[None]:
    """Around a library that builds a network from a stranger's files: whatever it raises becomes a refusal.

    A config can claim any depth and width. A network of more parameters than its weights have bytes is refused while
    it grows, before it fills this machine.

    Raises:
        UnsupportedModelError: the network could not be built, or would be larger than its weights.
    """
    most = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    owner, sizes, total = threading.get_ident(), dict[tuple[int, str], int](), 0

    def count(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        nonlocal total
        if threading.get_ident() != owner or parameter is None:
            return
        place = id(module), name  # loading registers each parameter once more
        total += parameter.numel() - sizes.get(place, 0)
        sizes[place] = parameter.numel()
        if total > most:
            raise UnsupportedModelError(
                f"{where} describes a network of more than {most / 1e6:,.1f} M parameters, but its weights have only"
                f" {most / 2**20:,.1f} MB. Its config.json belongs to other weights."
            )

    handle = register_module_parameter_registration_hook(count)
    try:
        yield
    except XaihubError:
        raise
    except Exception as error:
        raise UnsupportedModelError(
            f"{where} could not be built from its files ({first_line(error)}). Its config.json may be wrong or made"
            " for another version of its library. Another model of the same kind may work."
        ) from error
    finally:
        handle.remove()


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
    except (RuntimeError, ValueError, TypeError, KeyError, IndexError, AttributeError, AssertionError) as error:
        raise UnsupportedModelError(
            f"{details['repo_id']} was loaded, but could not be run on a picture ({first_line(error)}). Its"
            " preprocessing may not belong to it; another model of the same kind may work."
        ) from error


def read_config(folder: Path, name: str = "config.json") -> dict[str, Any]:
    """A JSON file of a folder.

    Raises:
        UnsupportedModelError: there is none, or it is no JSON object.
    """
    file = folder / name
    if not file.is_file():
        raise UnsupportedModelError(f"{folder} has no {name}, so nothing says what model it holds.")
    try:
        config = json.loads(file.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise UnsupportedModelError(f"{file} is not valid JSON ({error}).") from error
    if not isinstance(config, dict):
        raise UnsupportedModelError(f"{file} holds a {type(config).__name__}, not a configuration.")
    return config
