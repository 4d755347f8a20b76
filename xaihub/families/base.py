"""What the loaders of all libraries share: the table of families, and the last steps to a Classifier."""

import inspect
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_parameter_registration_hook,
)

from xaihub.class_names import class_names
from xaihub.classifier import Classifier, StatedActivation
from xaihub.downloads import checked_json
from xaihub.errors import (
    DamagedFileError,
    DownloadError,
    UnsafeFileError,
    UnsupportedModelError,
    XaihubError,
    first_line,
)
from xaihub.families.bounds import Allowance, faulty_numbers
from xaihub.families.name_files import name_files, names_beside
from xaihub.families.resizing import MOST_RESIZED
from xaihub.preprocessing import Preprocess, Transform
from xaihub.registry import Registry

__all__ = [
    "FAMILIES", "IMAGENET_MEAN", "IMAGENET_STD", "Family", "building", "family", "family_of", "finish", "huge_pictures",
    "labels_of", "read_config", "refuse_unfit", "stated_activation", "text_of", "unusable",
]  # fmt: skip

Config = Mapping[str, Any]
Load = Callable[[Path, Config, dict[str, Any]], Classifier]

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
MOST_EDGE = 2048  # pixels; a stranger's preprocessing could ask for more than this machine has memory
MOST_PATCHES = 4096  # of one picture: SigLIP 2 has 256 or so
MOST_BUFFERED = 16_000_000  # numbers in tables of positions and the like, that no weights state
MOST_PARTS = 10_000  # tensors of any network, however small: each costs Python some kilobytes
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
        names: whether files beside the weights are read that may name the classes.
        clean: the config -> what of it the library gets to see.
    """

    name: str
    claims: Callable[[Config], bool]
    refuses: Callable[[Config], str]
    load: Load
    files: tuple[str, ...] = ()
    refuses_file: Callable[[Config], str] = lambda _settings: ""
    tables: tuple[str, ...] = ()
    names: bool = False
    clean: Callable[[Config], dict[str, Any]] = dict

    def along(self, held: Mapping[str, int]) -> list[str]:
        """The files that `load` reads beside weights and JSON, of those that a repository holds: path -> size."""
        return [*(name for name in self.tables if name in held), *(name_files(held) if self.names else ())]


FAMILIES: Registry[Family] = Registry("family of models")


def family(
    name: str,
    *,
    claims: Callable[[Config], bool],
    refuses: Callable[[Config], str] = lambda _config: "",
    files: tuple[str, ...] = (),
    refuses_file: Callable[[Config], str] = lambda _settings: "",
    tables: tuple[str, ...] = (),
    names: bool = False,
    clean: Callable[[Config], dict[str, Any]] = dict,
) -> Callable[[Load], Load]:
    """Registers a loader; families are asked in the order they were registered, whether a config is theirs."""

    def register(load: Load) -> Load:
        FAMILIES.add(name, Family(name, claims, refuses, load, files, refuses_file, tables, names, clean))
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


def text_of(config: Config, key: str) -> str:
    """Return what a config says in words under a key; "" where it says nothing, or no word."""
    value = config.get(key)
    return value if isinstance(value, str) else ""


def unusable(settings: Any) -> str:
    """Why pictures cannot be prepared by these settings, or not within bounds; "" if they can."""
    return faulty_numbers(settings) or huge_pictures(settings)


def huge_pictures(settings: Any, key: str = "") -> str:
    """Why the pictures that a preprocessing asks for are too large, or ""; sizes are found by their keys, at any depth.

    `key` is where the settings were found.
    """
    if isinstance(settings, Mapping) and (reason := _many_patches(settings)):
        return reason
    if isinstance(settings, Mapping | list | tuple):
        parts = settings.items() if isinstance(settings, Mapping) else [("", value) for value in settings]
        inside = next(filter(None, (huge_pictures(value, f"{key} {name}".strip()[-100:]) for name, value in parts)), "")
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
            inside = f"{key} {name}" if isinstance(settings, Mapping) else f"{key}.{name}"
            yield from _numbers(value, inside[-100:])  # a stranger's keys can be long
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

    A config can claim any depth and width. A network of more parameters, or more buffers, than its weights have bytes
    is refused while it grows, before it fills this machine; so is one that is made of far more parts than are stored.

    Raises:
        UnsupportedModelError: the network could not be built, or would be larger than its weights.
    """
    most = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    owner, sizes, total = threading.get_ident(), dict[tuple[int, str], int](), 0
    buffers, of_buffers = dict[tuple[int, str], int](), 0

    def hold(module: nn.Module, name: str, buffer: torch.Tensor | None) -> None:
        nonlocal of_buffers
        if threading.get_ident() != owner or buffer is None:
            return
        place = id(module), name
        of_buffers += buffer.numel() - buffers.get(place, 0)
        buffers[place] = buffer.numel()
        if of_buffers > max(most, MOST_BUFFERED):
            raise UnsupportedModelError(
                f"{where} describes a network with tables of more than {of_buffers / 1e6:,.1f} M numbers beside its"
                f" {most / 2**20:,.1f} MB of weights. Its config.json belongs to other weights."
            )

    def count(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        nonlocal total
        if threading.get_ident() != owner or parameter is None:
            return
        place = id(module), name  # loading registers each parameter once more
        total += parameter.numel() - sizes.get(place, 0)
        sizes[place] = parameter.numel()
        # a stored tensor takes some forty bytes of header at least, so that parts are bounded by bytes, too
        if total > most or len(sizes) > max(MOST_PARTS, most // 40):
            raise UnsupportedModelError(
                f"{where} describes a network of more than {most / 1e6:,.1f} M parameters, but its weights have only"
                f" {most / 2**20:,.1f} MB. Its config.json belongs to other weights."
            )

    handles = register_module_parameter_registration_hook(count), register_module_buffer_registration_hook(hold)
    try:
        with Allowance(where, most):
            yield
    except XaihubError:
        raise
    except Exception as error:
        raise UnsupportedModelError(
            f"{where} could not be built from its files ({first_line(error)}). Its config.json may be wrong or made"
            " for another version of its library. Another model of the same kind may work."
        ) from error
    finally:
        for handle in handles:
            handle.remove()


def labels_of(
    config: Config, notices: list[str], classes: int, *, names: Any = None, folder: Path | None = None
) -> tuple[list[str], bool, StatedActivation | None]:
    """The classes' names, whether a person gave them, and the activation that goes with them, if anything says so.

    Args:
        config: read for `id2label`, `label2id` and `problem_type`.
        classes: how many numbers the network gives for each image.
        names: those that a library keeps elsewhere, in place of `id2label`.
        folder: where a file may name the classes, if nothing else does.
    """
    given, reverse, stated = names or config.get("id2label"), config.get("label2id"), stated_activation(config)
    given = given if isinstance(given, Mapping | list | tuple) else {}
    beside = None if given or reverse or folder is None else names_beside(folder, classes)
    if beside is not None:
        notices.append(f"The names of its classes are from {beside.file}.")
        given, stated = beside.names, stated or ("sigmoid" if beside.tags else None)
    labels, named = class_names(given, classes, notices, reverse)
    if stated is None and not named and classes > 1 and folder is not None:
        notices.append(
            "Nothing says whether its classes exclude each other: that they do is assumed (softmax). If they are tags,"
            " of which several hold at once, load it with activation='sigmoid'."
        )
    return labels, named, stated


def stated_activation(config: Config) -> StatedActivation | None:
    """Return the activation that a config's `problem_type` states: "sigmoid" of several labels at once; or None."""
    inside = config.get("pretrained_cfg")
    kind = config.get("problem_type") or (inside.get("problem_type") if isinstance(inside, Mapping) else None)
    known: dict[str, StatedActivation] = {
        "multi_label_classification": "sigmoid", "single_label_classification": "softmax",
    }  # fmt: skip
    return known.get(str(kind))


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
    activation: StatedActivation | None = None,
) -> Classifier:
    device, layer = details.pop("device", None), details.pop("target_layer", None)
    activation = details.pop("activation", None) or activation or "softmax"  # as the libraries' own pipelines do
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
        DownloadError: it is damaged, or beyond what such a file can be.
    """
    file = folder / name
    if not file.is_file():
        raise UnsupportedModelError(f"{folder} has no {name}, so nothing says what model it holds.")
    try:
        return checked_json(file, str(file))
    except (UnsafeFileError, DamagedFileError):
        raise
    except DownloadError as error:
        raise UnsupportedModelError(str(error)) from error
