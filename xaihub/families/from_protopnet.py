"""Classifiers that answer by prototypes, and the black boxes that such classifiers are made from."""

import shutil
from collections.abc import Mapping
from dataclasses import replace
from operator import index
from pathlib import Path
from typing import Any, get_args

import torch

from xaihub.classifier import Classifier
from xaihub.errors import UnsupportedModelError, first_line
from xaihub.families.base import (
    Config,
    building,
    family,
    family_of,
    finish,
    labels_of,
    refuse_unfit,
    stated_activation,
    unusable,
)
from xaihub.families.cleaning import clean_config, leads_elsewhere
from xaihub.families.from_transformers import (
    _processor_or_default,
    _quiet_transformers,
    _refuses_processor,
    _refuses_transformers,
    _transformers_transform,
    load_transformers,
)
from xaihub.families.weights import weight_files
from xaihub.outputs import Reading
from xaihub.prototypes import AddOn, FittedTo, Kind, Prototypes, PrototypeSettings, Similarity
from xaihub.prototypes.files import GALLERY
from xaihub.target_layer import TargetLayer, fused
from xaihub.tracing import Layout, View

__all__ = ["BLACK_BOX", "PREPARED", "load_black_box", "load_protopnet", "save_prototypes", "settings_of", "views_of"]

BLACK_BOX = "black_box"  # the folder beside the weights, and the part of the network
PREPARED = ("preprocessor_config.json", "processor_config.json")
_MOST_SIMILARITIES = 2**25  # of one picture: 128 MB
_WHY = (
    "Its prototypes are compared with the places of this layer, so everything that its answer rests on passes through"
    " here."
)


def settings_of(config: Config) -> PrototypeSettings:
    """What a config.json says of its layer of prototypes.

    Raises:
        LookupError, TypeError, ValueError: it says what cannot be.
    """
    held = dict(config["prototypes"])
    settings = PrototypeSettings(**{**held, "owners": tuple(map(index, held["owners"]))})
    if settings.add_on not in get_args(AddOn) or settings.similarity not in get_args(Similarity):
        raise ValueError(f"it compares by {str(settings.add_on)[:40]!r} and {str(settings.similarity)[:40]!r}")
    return settings


def views_of(config: Config) -> dict[str, View]:
    """Layer -> how it is read as a map.

    Raises:
        LookupError, TypeError, ValueError: it says what cannot be.
    """
    views = {}
    for layer in config["layers"]:
        (rows, columns), (height, width) = (tuple(map(index, layer[name])) for name in ("grid", "input_size"))
        prefix, channels = index(layer["prefix_tokens"]), index(layer["channels"])
        if layer["layout"] not in get_args(Layout) or min(rows, columns, height, width, channels, prefix + 1) < 1:
            raise ValueError(f"layer {str(layer['name'])[:80]!r} gives no map")
        places = tuple(map(index, layer.get("places") or ()))
        if places and sorted(place for place in places if place >= 0) != list(range(rows * columns)):
            raise ValueError(f"layer {str(layer['name'])[:80]!r} does not show each of its places once")
        views[str(layer["name"])] = View(layer["layout"], (rows, columns), prefix, channels, (height, width), places)
    if not views:
        raise ValueError("it names no layer that is compared")
    return views


def _refuses_protopnet(config: Config) -> str:
    inner = config.get("black_box")
    if not isinstance(inner, Mapping):
        return "does not say in which network its prototypes are looked for ('black_box' in its config.json)."
    if "auto_map" in config:
        return _refuses_transformers(config)
    if reason := _refuses_transformers(inner):
        return f"looks for its prototypes in a network that {reason}"
    if leads_elsewhere(config):
        return "asks for further files by itself while loading, which is not allowed here."
    prepared = [config.get("pretrained_cfg"), inner.get("pretrained_cfg"), config.get("layers")]
    return unusable(prepared) or _refuses_settings(config)


def _refuses_settings(config: Config) -> str:
    """Why its layer of prototypes cannot be built, or would fill this machine; or ""."""
    try:
        settings, views = settings_of(config), views_of(config)
        _check_words(config, settings.classes)
    except (LookupError, TypeError, ValueError) as error:
        return (
            f"has a config.json that describes no layer of prototypes ({first_line(error)}). Its author can save it"
            " again with xaihub."
        )
    cells = max(view.grid[0] * view.grid[1] for view in views.values())
    if len(settings.owners) * cells <= _MOST_SIMILARITIES:
        return ""
    return (
        f"compares {len(settings.owners):,} prototypes with {cells:,} places of each picture, too many to hold here."
        " One with fewer prototypes, or on a later layer, would work."
    )


def _check_words(config: Config, classes: int) -> None:
    names, kind, fitted_to = config.get("id2label"), config.get("kind"), config.get("fitted_to")
    if not isinstance(names, Mapping) or sorted(names, key=int) != [str(place) for place in range(classes)]:
        raise ValueError(f"its {classes} classes are not all named")
    if kind not in get_args(Kind) or fitted_to not in get_args(FittedTo):
        raise ValueError(f"it is of kind {str(kind)[:40]!r}, fitted to {str(fitted_to)[:40]!r}")


@family(
    "protopnet",
    claims=lambda config: config.get("model_type") == "protopnet",
    refuses=_refuses_protopnet,
    files=PREPARED,
    refuses_file=_refuses_processor,
    tables=(GALLERY,),
    clean=lambda config: _cleaned(config),
)
def load_protopnet(folder: Path, config: Config, details: dict[str, Any]) -> Classifier:
    """A classifier that answers by prototypes, which `save_prototypes` wrote."""
    from xaihub.families.protopnet_model import ProtoPNetForImageClassification

    where = details["repo_id"]
    with _quiet_transformers(), building(where, folder):
        model, report = ProtoPNetForImageClassification.from_pretrained(
            folder, local_files_only=True, ignore_mismatched_sizes=True, dtype=torch.float32, output_loading_info=True
        )
    misfits = [str(key) for key, *_ in report.get("mismatched_keys", ())]
    refuse_unfit(where, misfits, report.get("missing_keys", ()))
    notices: list[str] = []
    labels, named, activation = labels_of(config, notices, len(config["id2label"]))
    inner = model.network.black_box.config
    transform = _transformers_transform(folder, inner, notices)
    chosen = details.get("target_layer")
    classifier = finish(
        model.network, labels, transform, notices, details, family="protopnet",
        architecture=f"prototypes on {type(model.network.black_box).__name__}", activation=activation, named=named,
    )  # fmt: skip
    made = config.get("made")
    prototypes = Prototypes(
        model.network, model.gallery, tuple(labels), config["kind"], config["fitted_to"],
        str(config.get("black_box_id")), tuple(map(str, config.get("black_box_labels") or ())),
        made if isinstance(made, Mapping) else {},
        Reading(activation="sigmoid" if stated_activation(config["black_box"]) == "sigmoid" else "softmax"),
    )  # fmt: skip
    if chosen is None:
        layer = _layer(model.network.views, classifier.target_layer)
        classifier = replace(classifier, target_layer=layer, no_layer="")
    return replace(classifier, prototypes=prototypes)


def _cleaned(config: Config) -> dict[str, Any]:
    import xaihub.families.protopnet_model  # noqa: F401  transformers knows the type from then on

    return clean_config(config)


def _layer(views: Mapping[str, View], found: TargetLayer | None) -> TargetLayer:
    """The layer below the prototypes; beside it those of the black box that were found to show where as well."""
    parts = tuple(TargetLayer(f"{BLACK_BOX}.{name}", view, "bottleneck", _WHY) for name, view in views.items())
    layer = parts[0] if len(parts) == 1 else fused(parts, "fused", _WHY)
    names = {part.name for part in parts}
    others = [other for other in (found.alternatives if found else ()) if other.name.startswith(f"{BLACK_BOX}.")]
    return replace(layer, alternatives=tuple(other for other in others if other.name not in names))


def load_black_box(folder: Path, config: Config, details: dict[str, Any]) -> Classifier:
    """The classifier in a folder as transformers builds it, timm's in its wrapper; frozen, its own head kept.

    Args:
        details: fields of `Classifier`, as `Family.load` takes them; `repo_id` among them.

    Raises:
        UnsupportedModelError: prototypes on it could not be saved, or it cannot be built.
    """
    found = family_of(config, details["repo_id"])
    if found.name not in ("transformers", "timm"):
        raise UnsupportedModelError(
            f"{details['repo_id']} is a classifier of {found.name}; what prototypes can be made from here are"
            " classifiers of transformers and timm, such as microsoft/resnet-18 or timm/resnet18.a1_in1k."
        )
    return load_transformers(folder, config, details)


def save_prototypes(
    folder: Path, classifier: Classifier, *, like: Path, black_box: Path | None, pictures: bool
) -> None:
    """Writes config.json, model.safetensors, prototypes.parquet and what says how pictures are prepared.

    Args:
        classifier: one that answers by prototypes.
        like: the folder of the classifier that they were made from: preprocessing is taken from there.
        black_box: the folder of the untouched classifier, copied into the subfolder black_box/ so that anybody can
            measure the agreement with it; None where `model.safetensors` holds it unchanged.
        pictures: whether the prototypes' pictures may be passed on.

    Raises:
        UnsupportedModelError: it rests on a network that transformers cannot build.
    """
    from xaihub.families.protopnet_model import of_prototypes

    if classifier.prototypes is None:
        raise ValueError(f"{classifier.name} has no prototypes to save. Fit some with xaihub.fit_prototypes.")
    folder.mkdir(parents=True, exist_ok=True)
    several = classifier.activation == "sigmoid"
    with _quiet_transformers():
        model = of_prototypes(classifier.prototypes, like, several=several, pictures=pictures)
        model.to(memory_format=torch.contiguous_format).save_pretrained(folder)
        _prepare(folder, model, like)
    if black_box is not None:
        held = {path.name: path.stat().st_size for path in black_box.iterdir() if path.is_file()}
        names = ["config.json", *weight_files(held, str(black_box)), *(name for name in PREPARED if name in held)]
        (folder / BLACK_BOX).mkdir(exist_ok=True)
        for name in names:
            shutil.copyfile(black_box / name, folder / BLACK_BOX / name)


def _prepare(folder: Path, model: Any, like: Path) -> None:
    """Brings along how pictures are prepared; timm's way is in the config already."""
    held = [name for name in PREPARED if (like / name).is_file()]
    for name in held:
        shutil.copyfile(like / name, folder / name)
    if not held and not hasattr(model.config, "pretrained_cfg"):
        _processor_or_default(like, model.network.black_box.config).save_pretrained(folder)
