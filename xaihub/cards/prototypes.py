"""The card of a classifier that answers by prototypes: what they are, how well it does, and when not to trust it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from xaihub import hub
from xaihub.cards.model import _at, _measured, _named, _share, _table, _text
from xaihub.errors import PictureError
from xaihub.families.from_protopnet import settings_of
from xaihub.figures import Patch, prototypes_sheet
from xaihub.prototypes import Prototype, PrototypeLayer, PrototypeNetwork, Prototypes
from xaihub.prototypes.alarms import collapse
from xaihub.prototypes.files import GALLERY, read_gallery, read_weights
from xaihub.regions import cell_box

__all__ = ["MARK", "Held", "prototype_card", "write_prototype_card"]

MARK = "<!-- prototypes described by xaihub -->"

_MOST_CLASSES, _MOST_SHOWN = 20, 10  # rows of the picture, and prototypes in each


@dataclass(frozen=True, eq=False)
class Held:
    """What the folder of such a classifier says of itself.

    Attributes:
        config: `config.json`. `training`: `training.json`, or {}. `metrics`: `metrics.json`, or {}.
        gallery: (P,), where its prototypes come from.
        weights: (P,), what each counts for its class.
        pictures: which files of images/ there are.
    """

    config: Mapping[str, Any]
    gallery: tuple[Prototype, ...]
    weights: tuple[float, ...]
    training: Mapping[str, Any]
    metrics: Mapping[str, Any]
    pictures: tuple[str, ...] = ()

    @property
    def labels(self) -> list[str]:
        names = self.config["id2label"]
        return [str(names[key]) for key in sorted(names, key=int)]

    @property
    def made(self) -> Prototypes:
        """The prototypes, on a network of which only the weights above them are known."""
        layer = PrototypeLayer(settings_of(self.config))
        with torch.no_grad():
            layer.weights[layer.owners, range(len(self.weights))] = torch.tensor(self.weights)
        return Prototypes(PrototypeNetwork(nn.Identity(), {}, layer), self.gallery, tuple(self.labels))

    @property
    def by_class(self) -> list[list[int]]:
        """Of each class its prototypes, those that count most first."""
        made = self.made
        owned = [made.of_class(index) for index in range(len(self.labels))]
        return [sorted(own, key=lambda place: -self.weights[place]) for own in owned]

    @property
    def black_box(self) -> Mapping[str, Any]:
        return self.training.get("backbone") or {"id": self.config.get("black_box_id"), "on_hub": False}

    @property
    def dataset(self) -> Mapping[str, Any]:
        made = self.config.get("made") or {}
        known = {**made, "id": made.get("dataset"), "on_hub": False} if made.get("dataset") else {}
        return self.training.get("dataset") or known


def write_prototype_card(folder: Path, name: str) -> None:
    """Writes README.md and images/prototypes.jpg from the files that `save_prototypes` and a measurement wrote.

    Args:
        name: the repository's id, or the folder's name.

    Raises:
        UnsupportedModelError: its prototypes.parquet belongs to another network.
    """
    config = _record(folder / "config.json")
    gallery = read_gallery(folder / GALLERY, settings_of(config).owners, name)
    weights = tuple(weight or 0.0 for weight in read_weights(folder / GALLERY))
    records = _record(folder / "training.json"), _record(folder / "metrics.json")
    held = Held(config, gallery, weights, *records)
    _draw(folder / "images" / "prototypes.jpg", held)
    pictures = tuple(sorted(path.name for path in (folder / "images").glob("*")))
    card = prototype_card(name, Held(config, gallery, weights, *records, pictures))
    (folder / "README.md").write_text(hub.card_text(*card), "utf-8")


def _record(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text("utf-8")) if file.is_file() else {}


def _draw(file: Path, held: Held) -> None:
    """The prototypes of the first classes, those that count most first; nothing where their pictures are not kept."""
    rows = []
    for label, own in list(zip(held.labels, held.by_class, strict=True))[:_MOST_CLASSES]:
        shown = [patch for place in own[:_MOST_SHOWN] if (patch := _patch(held.gallery[place], held.weights[place]))]
        rows.append((label, shown))
    file.unlink(missing_ok=True)
    if any(shown for _, shown in rows):
        file.parent.mkdir(exist_ok=True)
        prototypes_sheet(rows).save(file, quality=90)


def _patch(prototype: Prototype, weight: float) -> Patch | None:
    if prototype.data is None:
        return None
    try:
        image = prototype.picture
    except PictureError:  # another's, and broken: the others are still shown
        return None
    return Patch(image, cell_box(prototype.cell, prototype.grid, image.size), f"weight {weight:.2f}")


def prototype_card(name: str, held: Held) -> tuple[dict[str, Any], str]:
    """What `hub.card_text` takes: the head's fields and the text below it."""
    sections = [
        f"# {name.rsplit('/', 1)[-1]}",
        _summary(held),
        "## How to use it\n\n" + _usage(name),
        "## Its prototypes\n\n" + _prototypes(held),
        "## How well it does\n\n" + _figures(name, held),
        "## How it was made\n\n" + _made(held),
        "## Limits\n\n" + _limits(held),
        MARK,
    ]
    return _head(name, held), "\n\n".join(section for section in sections if section)


def _head(name: str, held: Held) -> dict[str, Any]:
    metrics, black_box, dataset = held.metrics, held.black_box, held.dataset
    known = metrics.get("accuracy") is not None
    index = hub.model_index(name.rsplit("/", 1)[-1], metrics, config=metrics.get("dataset_config")) if known else None
    return {
        "license": black_box.get("licence"),
        "library_name": "xaihub",
        "pipeline_tag": "image-classification",
        "base_model": black_box["id"] if black_box.get("on_hub") else None,
        "datasets": [dataset["id"]] if dataset.get("on_hub") else None,
        "tags": ["xaihub", "image-classification", "prototypes", "explainability"],
        "metrics": ["accuracy", "f1", "roc_auc"] if known else None,
        "model-index": index or None,
    }


def _summary(held: Held) -> str:
    labels = [f"**{_text(label)}**" for label in held.labels]
    shown = ", ".join(labels[:20]) + (f" and {len(labels) - 20:,} more" if len(labels) > 20 else "")
    source = f" of {_named({'pictures': 0, **held.dataset})}" if held.dataset else ""
    return (
        f"It tells {len(labels):,} classes apart: {shown}. *This looks like that*: each answer is a sum of likenesses"
        f" to {len(held.gallery):,} prototypes, which are patches{source}. {_how(held)} {_in_short(held.metrics)}"
    )


def _how(held: Held) -> str:
    black_box = _named(held.black_box)
    if held.config["kind"] == "protopnet":
        return (
            f"They were trained together with the network, which began as {black_box}"
            " ([Chen et al., 2019](https://arxiv.org/abs/1806.10574))."
        )
    explains = held.config["fitted_to"] == "predictions"
    to = "what that network predicts: an explanation of it" if explains else "the labels"
    return f"They lie on the unchanged features of {black_box}, and were fitted to {to}."


def _in_short(metrics: Mapping[str, Any]) -> str:
    if metrics.get("accuracy") is None:
        return "Nothing unseen was measured."
    said = f"Accuracy {_share(metrics['accuracy'], metrics['accuracy_interval'])} on {metrics['n']:,} pictures"
    if metrics.get("agreement") is None:
        return f"{said}."
    agreed = _share(metrics["agreement"], metrics["agreement_interval"])
    return f"{said}, on which it agrees with the network it was made from on {agreed}."


def _usage(name: str) -> str:
    return (
        "```python\nfrom xaihub import explain, load_classifier\n"
        f'classifier = load_classifier("{name}")\n'
        'explain(classifier, "picture.jpg", ["prototypes", "gradcam"]).save("why/")\n```\n\n'
        "It is a model of transformers as well: `xaihub.ProtoPNetForImageClassification.from_pretrained`. No code comes"
        " with it, and nothing in it is pickled."
    )


def _prototypes(held: Held) -> str:
    rows = []
    for label, own in list(zip(held.labels, held.by_class, strict=True))[:50]:
        sources = len({held.gallery[place].digest for place in own})
        used = sum(held.weights[place] > 0 for place in own)
        rows.append((_text(label), str(len(own)), str(used), str(sources), str(len(own) - sources)))
    table = _table(("class", "prototypes", "used", "different pictures", "duplicates"), rows)
    more = len(held.labels) - len(rows)
    parts = [_shown(held), table, f"The other {more:,} classes stand in {GALLERY}." if more else ""]
    parts.append(
        "A prototype is used if its weight is above 0, and a duplicate if another one of its class comes from the same"
        " picture."
    )
    parts += [f"**{_text(alarm, 1000)}**" for alarm in collapse(held.made)]
    return "\n\n".join(part for part in parts if part)


def _shown(held: Held) -> str:
    if "prototypes.jpg" not in held.pictures:
        return (
            "Their pictures are not passed on, since the dataset is not open to everyone; who may read it finds each by"
            f" its row, which stands in {GALLERY}."
        )
    which = "" if len(held.labels) <= _MOST_CLASSES else f" of the first {_MOST_CLASSES} classes"
    return (
        "![Patches boxed in the pictures they come from, a row for each class](images/prototypes.jpg)\n\nThe"
        f" prototypes{which}, each boxed in the whole picture that the network saw, those that count most first. A box"
        " is where the patch lies; the network may have looked further around."
    )


def _figures(name: str, held: Held) -> str:
    metrics = held.metrics
    if metrics.get("accuracy") is None:
        return (
            "Nothing that it had not seen was measured. To find out what it does on new pictures:\n\n```sh\npython"
            f" scripts/evaluate_classifier.py --model {name} --data OTHER_PICTURES --to metrics.json\n```"
        )
    return f"{_agreed(metrics)}\n\n{_measured(name, metrics, {}, held.pictures)}"


def _agreed(metrics: Mapping[str, Any]) -> str:
    if metrics.get("agreement") is None:
        return _text(metrics.get("agreement_note") or "How often it agrees with that network was not measured.", 1000)
    share = _share(metrics["agreement"], metrics["agreement_interval"])
    return f"It calls {share} of these pictures what the network it was made from calls them."


def _made(held: Held) -> str:
    training, made = held.training, held.config.get("made") or {}
    fitted = "what the black box predicts" if held.config["fitted_to"] == "predictions" else "labels"
    rows = [
        ("black box", f"{_named(held.black_box)}{_at(held.black_box)}"),
        ("prototypes lie on", ", ".join(_text(layer["name"]) for layer in held.config["layers"])),
        ("fitted to", fitted),
        *_pictures(held.dataset),
        ("preprocessing", _text(training.get("preprocessing") or made.get("preprocessing") or "–")),
        *_settings(training.get("settings") or made.get("settings") or {}),
    ]
    if training:
        versions = ", ".join(f"{_text(name)} {_text(held)}" for name, held in training["versions"].items())
        took = f"{training['seconds']:.0f} s on {_text(training['machine'])}"
        rows += [("weights kept", _text(training["kept"])), ("time", took), ("versions", versions)]
    return _table(("", ""), rows)


def _pictures(dataset: Mapping[str, Any]) -> list[tuple[str, str]]:
    if not dataset:
        return []
    told = [f"{_named({'pictures': 0, **dataset})}{_at(dataset)}", f"{dataset['pictures']:,} pictures"]
    told += [f"{name} {_text(dataset[name])}" for name in ("split", "licence") if dataset.get(name)]
    counts = ", ".join(f"{_text(label)} {count:,}" for label, count in list(dataset.get("counts", {}).items())[:20])
    return [("dataset", ", ".join(told)), *([("pictures of each class", counts)] if counts else [])]


def _settings(settings: Mapping[str, Any], inside: str = "") -> list[tuple[str, str]]:
    rows = []
    for name, value in settings.items():
        if isinstance(value, Mapping):
            rows += _settings(value, f"{inside}{name} ")
        else:
            rows.append((_text(f"{inside}{name}".replace("_", " ")), _text(value)))
    return rows


def _limits(held: Held) -> str:
    told = [
        "A likeness is measured in the network's features: two patches that look alike to people may be far apart"
        " there, and the other way round.",
        f"It answers with one of its {len(held.labels):,} classes whatever it is shown. Where no prototype is"
        " recognised the answer is the bias alone.",
        *(f"About the pictures: {_text(leak, 1000)}" for leak in held.dataset.get("leaks") or ()),
    ]
    if any(each.data for each in held.gallery):
        licence = f" ({_text(held.dataset['licence'])})" if held.dataset.get("licence") else ""
        told.append(
            f"The prototypes' pictures are copies, so the licence and the terms of the dataset{licence} hold for them."
        )
    if held.metrics.get("accuracy") is not None and held.metrics["n"] < 1000:
        told.insert(0, f"The figures rest on {held.metrics['n']:,} pictures: take their intervals seriously.")
    return "\n".join(f"- {line}" for line in told)
