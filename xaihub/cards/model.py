"""The card of a classifier: what it tells apart, how well, how it was trained, and when not to trust it."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from xaihub import hub

__all__ = ["AUGMENTATION", "model_card", "with_metrics", "write_card"]

AUGMENTATION = (
    "Training pictures were mirrored, moved by whole pixels with a mirrored border, and made a little brighter or"
    " darker, more or less contrasty. Nothing blurred, resampled or compressed them, and no noise was added: traces of"
    " how a picture was made are what tells a generated picture from a photograph, and such changes would erase or"
    " create them."
)
MIXUP = (
    "What the trained layers were given of two pictures, and their labels, was mixed"
    " ([mixup](https://arxiv.org/abs/1710.09412)), so that they learn fewer pictures by heart."
)
_WHAT_F1_MEANS = "the harmonic mean of precision and recall"
_BEGIN, _END = "<!-- measured by xaihub -->", "<!-- end of what xaihub measured -->"
_NOTHING_MEASURED = """Nothing that the network had not seen was measured: the dataset has neither a test nor a
validation split, and no cross-validation was asked for. What it would do on new pictures is not known. To find out:

```sh
python scripts/evaluate_classifier.py --model {name} --data OTHER_PICTURES --to metrics.json
```

or train again with `--folds 5`."""


def model_card(
    name: str, training: Mapping[str, Any], metrics: Mapping[str, Any], *, pictures: Sequence[str] = ()
) -> tuple[dict[str, Any], str]:
    """What `hub.card_text` takes: the head's fields and the text below it.

    Args:
        name: the repository's id, or the folder's name.
        training: `training.json`.
        metrics: `metrics.json`; its accuracy is None where nothing was measured.
        pictures: which files of images/ there are.
    """
    sections = [
        f"# {name.rsplit('/', 1)[-1]}",
        _summary(training, metrics),
        "## How to use it\n\n" + _usage(name),
        "## How well it does\n\n" + _measured(name, metrics, training, pictures),
        *_examples(training, pictures),
        "## How it was trained\n\n" + _trained(training),
        "## Limits\n\n" + _limits(training, metrics),
    ]
    return _head(name, training, metrics), "\n\n".join(section for section in sections if section)


def with_metrics(
    name: str, data: Mapping[str, Any], body: str, metrics: Mapping[str, Any]
) -> tuple[dict[str, Any], str]:
    """Somebody's own card with our figures: in its `model-index`, and in a section that the next ones replace."""
    title = name.rsplit("/", 1)[-1]
    index = hub.model_index(title, metrics, config=metrics.get("dataset_config"))
    before, _, rest = body.partition(_BEGIN)
    after = rest.partition(_END)[2]
    section = f"{_BEGIN}\n## Measured with xaihub\n\n{_measured(name, metrics, {}, ['confusion.png'])}\n{_END}"
    return {**data, "model-index": index}, f"{before.rstrip()}\n\n{section}{after.rstrip()}".lstrip()


def write_card(folder: Path, name: str) -> None:
    """Writes README.md from the records that the folder holds."""
    training = json.loads((folder / "training.json").read_text("utf-8"))
    metrics = json.loads((folder / "metrics.json").read_text("utf-8"))
    pictures = sorted(path.name for path in (folder / "images").glob("*"))
    (folder / "README.md").write_text(hub.card_text(*model_card(name, training, metrics, pictures=pictures)), "utf-8")


def _head(name: str, training: Mapping[str, Any], metrics: Mapping[str, Any]) -> dict[str, Any]:
    backbone, dataset = training["backbone"], training["dataset"]
    title = name.rsplit("/", 1)[-1]
    return {
        "license": backbone.get("licence"),
        "library_name": "transformers",
        "pipeline_tag": "image-classification",
        "base_model": backbone["id"] if backbone.get("on_hub") else None,
        "datasets": [dataset["id"]] if dataset.get("on_hub") else None,
        "tags": ["xaihub", "image-classification"],
        "metrics": ["accuracy", "f1", "roc_auc"] if metrics.get("accuracy") is not None else None,
        "model-index": hub.model_index(title, metrics, config=metrics.get("dataset_config")) or None,
    }


def _summary(training: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    labels = [f"**{_text(label)}**" for label in training["labels"]]
    shown = ", ".join(labels[:20]) + (f" and {len(labels) - 20:,} more" if len(labels) > 20 else "")
    told = f"It tells {len(labels):,} classes apart: {shown}. Fine-tuned from {_named(training['backbone'])} on"
    return f"{told} {_named(training['dataset'])} with xaihub. {_in_short(metrics)}"


def _in_short(metrics: Mapping[str, Any]) -> str:
    if metrics.get("accuracy") is None:
        return "Nothing unseen was measured."
    said = f"Accuracy {_share(metrics['accuracy'], metrics['accuracy_interval'])} on {metrics['n']:,} pictures."
    copies = metrics.get("near_copies_of_training")
    return f"{said} **{copies:,} of them are, or nearly are, pictures it was trained on.**" if copies else said


def _usage(name: str) -> str:
    return (
        "```python\nfrom xaihub import explain, load_classifier\n\n"
        f'classifier = load_classifier("{name}")  # AutoModelForImageClassification.from_pretrained loads it as well\n'
        'explain(classifier, "picture.jpg").save("why/")\n```'
    )


def _measured(name: str, metrics: Mapping[str, Any], training: Mapping[str, Any], pictures: Sequence[str]) -> str:
    if metrics.get("accuracy") is None:
        return _NOTHING_MEASURED.format(name=name)
    parts = [_measured_on(metrics), _overall(metrics), _classes(metrics)]
    if "confusion.png" in pictures:
        parts.append("![How often each true class (row) was answered as each class (column)](images/confusion.png)")
    parts += [_copies(metrics), _folds(training), _mistakes(metrics), f"Intervals: {metrics['how_intervals']}"]
    return "\n\n".join(part for part in parts if part)


def _measured_on(metrics: Mapping[str, Any]) -> str:
    split = metrics.get("split")
    where = f"{_text(metrics['dataset'])}{f', {_text(split)}' if split else ''}"
    told = f"Measured on {metrics['n']:,} pictures ({where})."
    return f"{told} {metrics['caution']}" if metrics.get("caution") else told


def _overall(metrics: Mapping[str, Any]) -> str:
    rows = [
        ("accuracy", _share(metrics["accuracy"], metrics["accuracy_interval"])),
        ("macro F1, " + _WHAT_F1_MEANS, _share(metrics.get("macro_f1"), metrics.get("macro_f1_interval"))),
        ("AUROC", _number(metrics.get("auroc"), metrics.get("auroc_interval"))),
        (
            "calibration error: how far probabilities are from the share that is right",
            _number(metrics.get("calibration_error"), metrics.get("calibration_error_interval")),
        ),
    ]
    return _table(("", "with its 95 % interval"), rows)


def _classes(metrics: Mapping[str, Any]) -> str:
    classes = list(metrics["per_class"].items())
    rows = [
        (
            _text(label),
            _share(of["precision"], of["precision_interval"]),
            _share(of["recall"], of["recall_interval"]),
            _share(of["f1"], of["f1_interval"]),
            f"{of['support']:,}",
        )
        for label, of in classes[:50]
    ]
    more = "" if len(classes) <= 50 else f"\n\nThe other {len(classes) - 50:,} classes stand in metrics.json."
    return _table(("class", "precision", "recall", "F1", "pictures"), rows) + more


def _copies(metrics: Mapping[str, Any]) -> str:
    copies = metrics.get("near_copies_of_training")
    if not copies:
        return "" if copies is None else "None of these pictures is a near copy of a training picture."
    without = _share(metrics["accuracy_without_them"], metrics.get("accuracy_without_them_interval"))
    return f"{copies:,} of these pictures are near copies of training pictures. Without them the accuracy is {without}."


def _folds(training: Mapping[str, Any]) -> str:
    folds = training.get("folds")
    if not folds or folds.get("headline"):
        return ""
    found = folds["metrics"]
    return (
        f"Cross-validated on the training pictures ({folds['count']} folds, near copies kept together): accuracy"
        f" {_share(found['accuracy'], found['accuracy_interval'])}, AUROC"
        f" {_number(found['auroc'], found['auroc_interval'])}."
    )


def _mistakes(metrics: Mapping[str, Any]) -> str:
    wrong = metrics["mistakes"]
    if not wrong:
        return "There was no mistake among them."
    rows = [(_text(m["key"]), _text(m["label"]), _text(m["predicted"]), f"{m['probability']:.2f}") for m in wrong[:10]]
    told = f"{len(wrong):,} mistake{'s' * (len(wrong) != 1)}, the most confident first; all stand in metrics.json."
    return told + "\n\n" + _table(("picture", "true class", "answer", "probability"), rows)


def _examples(training: Mapping[str, Any], pictures: Sequence[str]) -> list[str]:
    if "examples.jpg" not in pictures:
        return []
    told = training.get("examples") or "Pictures and where the network looked (Grad-CAM)."
    return [f"## Examples\n\n{told}\n\n![Pictures with the places that spoke for the answer](images/examples.jpg)"]


def _trained(training: Mapping[str, Any]) -> str:
    settings, backbone, dataset = training["settings"], training["backbone"], training["dataset"]
    idle = _idle(training)
    rows = [
        ("backbone", f"{_named(backbone)}{_at(backbone)}"),
        (
            "dataset",
            f"{_named(dataset)}{_at(dataset)}, {dataset['pictures']:,} pictures, split {dataset['split'] or 'none'}",
        ),
        ("pictures of each class", ", ".join(f"{_text(k)} {v:,}" for k, v in list(dataset["counts"].items())[:20])),
        ("preprocessing", _text(training["preprocessing"])),
        ("weights kept", training["kept"]),
        ("head", training["head"]),
        *[
            (name.replace("_", " "), "chosen" if value is None else str(value))
            for name, value in settings.items()
            if name not in idle
        ],
        ("time of the last run", f"{training['seconds']:.0f} s on {training['machine']}"),
        ("versions", ", ".join(f"{name} {held}" for name, held in training["versions"].items())),
    ]
    first = "The new head alone was trained, on the features of the unchanged network."
    if training.get("history", True):
        first = (
            "First the new head alone, on the features of the unchanged network, then, at a low learning rate"
            f" ([LP-FT](https://arxiv.org/abs/2202.10054)), {training.get('trained', 'all layers')}. {AUGMENTATION}"
        )
        if training["settings"].get("mixup"):
            first += f" {MIXUP}"
    for part in ("choice", "calibration"):
        if said := training.get(part, {}).get("in_words"):
            first += f"\n\n{said}"
    steps = "\n".join(f"- {_text(step, 1000)}" for step in dataset.get("steps", ()))
    treated = f"How the dataset's pictures were treated before:\n\n{steps}\n\n" if steps else ""
    return f"{first}\n\n{treated}{_table(('', ''), rows)}"


def _idle(training: Mapping[str, Any]) -> set[str]:
    """Settings that had no part in this training."""
    if not training.get("history", True):
        kept = {"seed", "head_strength", "head_epochs", "folds", "calibration_folds"}
        return set(training["settings"]) - kept
    chosen = any("validation_loss" in epoch for epoch in training.get("history", ()))
    return {"averaged"} if chosen else {"patience"}


def _limits(training: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    told = [
        f"It answers with one of its {len(training['labels']):,} classes whatever it is shown; a picture of anything"
        " else gets an answer too, often a confident one.",
        "It learned from one source of each class. Pictures from another camera, another generator or another way of"
        " cropping and compressing may be judged by things that only happened to differ here.",
        *(f"About the training pictures: {_text(leak, 1000)}" for leak in training["dataset"].get("leaks", ())),
        *([f"Of the training pictures {_plural(training['left_out'])} left out."] if training.get("left_out") else []),
        *([_under_two_labels(training["two_labels"])] if training.get("two_labels") else []),
        "A heatmap says where evidence was found, not why it was there.",
    ]
    if metrics.get("accuracy") is not None and metrics["n"] < 1000:
        told.insert(0, f"The figures rest on {metrics['n']:,} pictures: take their intervals seriously.")
    return "\n".join(f"- {line}" for line in told)


def _split_of(dataset: Mapping[str, Any]) -> str:
    return f"split {_text(dataset['split'])}, " if dataset.get("split") else ""


def _plural(count: int) -> str:
    return "one was" if count == 1 else f"{count:,} were"


def _named(what: Mapping[str, Any]) -> str:
    kind = "datasets/" if "pictures" in what else ""
    name = _text(what["id"])
    return f"[{name}](https://huggingface.co/{kind}{what['id']})" if what.get("on_hub") else f"the folder {name}"


def _at(what: Mapping[str, Any]) -> str:
    return f" at {str(what['revision'])[:12]}" if what.get("revision") else ""


def _share(value: float | None, interval: Sequence[float] | None) -> str:
    if value is None:
        return "–"
    return f"{value:.1%}" + (f" ({interval[0]:.1%} to {interval[1]:.1%})" if interval else "")


def _number(value: float | None, interval: Sequence[float] | None) -> str:
    if value is None:
        return "–"
    return f"{value:.3f}" + (f" ({interval[0]:.3f} to {interval[1]:.3f})" if interval else "")


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _text(value: Any, most: int = 200) -> str:
    """A stranger's words, so that they stay words: no markup, no new line, no cell of a table."""
    kept = "".join(f"\\{c}" if c in "\\`*_{}[]<>|#!" else c for c in str(value))
    return " ".join(kept.split())[:most]


def _under_two_labels(groups: Sequence[Sequence[str]]) -> str:
    """In words; the keys may be anybody's names of files, so that only training.json has them."""
    return f"{len(groups):,} of them {'is' if len(groups) == 1 else 'are'} there under two labels (training.json)."
