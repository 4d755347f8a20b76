"""From a dataset and a backbone to a classifier's folder: trained, measured, explained and described."""

import json
import os
import platform
import shutil
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from xaihub import hub
from xaihub.cards.model import write_card
from xaihub.classifier import Classifier
from xaihub.datasets import LabelledPictures
from xaihub.datasets.splits import Source
from xaihub.downloads import cache_folder
from xaihub.errors import HubError, UnsupportedModelError
from xaihub.families import FAMILIES, staged
from xaihub.families.from_transformers import Backbone, load_backbone
from xaihub.finetuning.examples import write_examples
from xaihub.finetuning.fitting import FineTuned, fine_tune, run_key
from xaihub.finetuning.pixel_store import PixelStore, read_pixels
from xaihub.finetuning.settings import FineTuning, refuse_too_few
from xaihub.folders import folder_named
from xaihub.loading import Limits, Plan, fetch_planned, load_classifier, preflight
from xaihub.measuring import Trained, in_words, measure, metrics_of, write_json, write_measured
from xaihub.progress import Progress, part, silent
from xaihub.training import default_device

__all__ = ["MARK", "forget", "train_classifier"]

MARK = "training.json"
CHOSE_THE_EPOCH = "That split also chose the epoch, so these figures are somewhat optimistic."
CHOSE_THE_SHARE = "They also chose how many layers are trained, so these figures are somewhat optimistic."
_FOLD_FIGURES = ("accuracy", "accuracy_interval", "auroc", "auroc_interval", "macro_f1", "n")


def train_classifier(
    folder: Path,
    source: Source,
    backbone: str | Path = "microsoft/resnet-18",
    settings: FineTuning | None = None,
    *,
    name: str,
    limits: Limits | None = None,
    device: str | None = None,
    token: hub.Token = None,
    memory: int = 2 * 2**30,
    public: bool = False,
    progress: Progress = silent,
) -> Path:
    """Fills the folder with a classifier, and gives the folder of checkpoints that may go once that one is safe.

    Args:
        folder: an empty one.
        name: what the classifier will be called: a repository's id or a folder's name.
        memory: bytes for pixels; beyond, pictures are read again in each epoch.
        public: it will be shown to everyone, so pictures of a private or gated dataset stay out of its card.

    Raises:
        DatasetError: the dataset cannot teach anything.
        UnsupportedModelError: the backbone cannot be used, and why.
        HubError: something cannot be fetched.
        CancelledError: from `progress`; the same call later goes on from there.
    """
    settings = settings or FineTuning()
    progress(0.0, f"Looking at {backbone}")
    plan = fit_for_training(preflight(backbone, token=token, limits=limits))
    rows, labels, validation, test = opened(source, settings.folds, progress)
    fetched = fetch_planned(plan, token=token, progress=progress)
    with staged(fetched, plan.files, plan.config, FAMILIES[plan.family], plan.repo_id) as (stage, _):
        held = load_backbone(stage, labels, plan.repo_id, seed=settings.seed)
    training = read_pixels(rows, held.transform, labels, budget=memory, progress=part(progress, 0.0, 0.05))
    judge = None if validation is None else read_pixels(validation, held.transform, labels, budget=memory)
    work = cache_folder() / "training" / run_key(settings, f"{plan.repo_id}@{plan.revision}", training, judge)
    tuned = fine_tune(
        held, training, judge, settings, work=work, device=device or default_device(),
        progress=part(progress, 0.05, 0.9),
    )  # fmt: skip
    held.module.to("cpu")
    held.save(folder)
    record = _record(plan, source, training, held, tuned, settings)
    write_json(folder / "training.json", record)
    unseen, caution = test or validation, "" if test else CHOSE_THE_EPOCH
    shown = (unseen or rows) if rows.public or not public else None
    _finish(folder, name, record, training, unseen, shown, caution, part(progress, 0.9, 1.0))
    return work


def fit_for_training(plan: Plan) -> Plan:
    """The plan, if what it loads can be trained further.

    Raises:
        UnsupportedModelError: it cannot, and what could.
    """
    if plan.family not in ("transformers", "timm"):
        raise UnsupportedModelError(
            f"{plan.repo_id} is a classifier of {plan.family}; what can be fine-tuned are classifiers of transformers"
            " and timm, such as microsoft/resnet-18 or timm/resnet18.a1_in1k."
        )
    return plan


def opened(
    source: Source, folds: int, progress: Progress
) -> tuple[LabelledPictures, tuple[str, ...], LabelledPictures | None, LabelledPictures | None]:
    """The training pictures and their classes, and the splits that choose the epoch and that measure, if there are."""
    splits = source.splits()
    rows = source.open(source.split, progress)
    named = [label for _, label, _ in rows.sources if label is not None]
    labels = tuple(name for name in dict.fromkeys([*rows.label_names, *named]) if name in set(named))
    refuse_too_few(rows.name, labels, named, folds)
    others = {
        name: source.open(name, progress) for name in ("validation", "test") if name in splits and name != rows.split
    }
    return rows, labels, others.get("validation"), others.get("test")


def contradictions(training: PixelStore) -> list[list[str]]:
    """The keys of images that are there under two labels, group by group."""
    truth, keys = training.truth.tolist(), [key for key, _, _ in training.rows.sources]
    return [
        [keys[place] for place in group]
        for group in training.content_groups
        if len({truth[place] for place in group}) > 1
    ]


def _record(
    plan: Plan, source: Source, training: PixelStore, held: Backbone, tuned: FineTuned, settings: FineTuning
) -> dict[str, Any]:
    """What `training.json` holds."""
    record = {
        **origins(plan, source, training),
        "preprocessing": held.transform.description,
        "head": f"{', '.join(held.heads)}, new",
        "settings": asdict(settings),
        "history": [dict(row) for row in tuned.history],
        "kept": tuned.kept,
        "trained": tuned.trained,
        "calibration": {**asdict(tuned.calibration), "in_words": tuned.calibration.in_words},
        **circumstances(training, tuned.seconds),
    }
    if tuned.choice is not None:
        record["choice"] = {**asdict(tuned.choice), "share": tuned.choice.share, "in_words": tuned.choice.in_words}
    if tuned.out_of_fold is not None and tuned.fold_of is not None:
        record["folds"] = _fold_record(training, tuned.out_of_fold, tuned.fold_of)
    return record


def origins(plan: Plan, source: Source, training: PixelStore) -> dict[str, Any]:
    """What a record of a training begins with: the network it began with, and the pictures."""
    rows, counts = training.rows, torch.bincount(training.truth, minlength=len(training.labels)).tolist()
    return {
        "format": 1,
        "labels": list(training.labels),
        "backbone": {
            "id": plan.repo_id if plan.folder is None else plan.folder.resolve().name,
            "on_hub": plan.repo is not None,
            "revision": plan.revision,
            "family": plan.family,
            "licence": plan.licence,
        },
        "dataset": {
            "id": rows.name,
            "on_hub": folder_named(str(source.data)) is None,
            "revision": rows.revision,
            "config": rows.config,
            "split": rows.split,
            "fingerprint": training.fingerprint,
            "pictures": len(training),
            "counts": dict(zip(training.labels, counts, strict=True)),
            "licence": rows.licence,
            **_said_of(source),
        },
    }


def circumstances(training: PixelStore, seconds: float) -> dict[str, Any]:
    """What a record of a training ends with: how it ran, and what near copies of its pictures are known by."""
    return {
        "left_out": len(training.lost),
        "seconds": round(seconds, 1),
        "machine": _machine(),
        "versions": {name: version(name) for name in ("torch", "transformers", "timm", "numpy", "pillow")},
        "perceptual_hashes": [f"{hashed:016x}" for hashed in training.hashes.tolist()],
        "content_sketches": [row.astype(">u8").tobytes().hex() for row in training.sketches],
        "two_labels": contradictions(training),
    }


def trained_by(training: PixelStore) -> Trained:
    """Return what near copies of the training images are known by."""
    return Trained(training.hashes.tolist(), training.sketches)


def _fold_record(training: PixelStore, answers: Tensor, fold_of: Tensor) -> dict[str, Any]:
    keys, truth = [key for key, _, _ in training.rows.sources], training.truth.numpy()
    right = (answers.argmax(1) == training.truth).double()
    count = int(fold_of.max()) + 1
    return {
        "count": count,
        "accuracies": [float(right[fold_of == fold].mean()) for fold in range(count)],
        "metrics": metrics_of(keys, truth, answers.double().numpy(), training.labels),
    }


def _said_of(source: Source) -> dict[str, Any]:
    """What the dataset's own report says of how its pictures were treated, where it has one."""
    try:
        held = _report(source)
    except (HubError, OSError, ValueError):  # it is no part of what is learned from
        return {}
    texts = {name: [str(line) for line in held.get(name) or ()] for name in ("steps", "leaks")}
    return {"fair": held.get("fair"), **texts} if held.get("format") == 1 else {}


def _report(source: Source) -> dict[str, Any]:
    if folder := folder_named(str(source.data)):
        file = folder / "dataset.json"
        held = json.loads(file.read_text("utf-8")) if file.is_file() else {}
        return held if isinstance(held, dict) else {}
    repo_id = hub.clean_repo_id(str(source.data))
    repo = hub.look(repo_id, revision=source.revision, token=source.token, repo_type="dataset")
    return hub.read_json(repo, "dataset.json", token=source.token)


def _finish(
    folder: Path,
    name: str,
    record: dict[str, Any],
    training: PixelStore,
    unseen: LabelledPictures | None,
    shown: LabelledPictures | None,
    caution: str,
    progress: Progress,
) -> None:
    """Measures the classifier that the folder now holds, and writes what describes it; `shown` are for its examples."""
    classifier = replace(load_classifier(folder, device=default_device()), repo_id=name)
    metrics = dict[str, Any]()
    if unseen is not None:
        metrics = dict(measure(classifier, unseen, trained_on=trained_by(training), progress=progress).metrics)
        metrics["caution"] = caution
    elif "folds" in record:
        metrics = {**record["folds"]["metrics"], **_of_folds(name, classifier, training, record["folds"]["count"])}
        record["folds"]["headline"] = True
        if record.get("choice", {}).get("compared"):
            metrics["caution"] += f" {CHOSE_THE_SHARE}"
    else:
        metrics = {"accuracy": None, "n": 0, "caution": "Nothing unseen was measured.", "classifier": name}
    if "folds" in record:
        metrics["folds"] = {k: record["folds"][k] for k in ("count", "accuracies")} | {
            k: record["folds"]["metrics"][k] for k in _FOLD_FIGURES
        }
    write_measured(folder, metrics)
    if shown is not None:
        known = metrics if unseen is not None else {}
        record["examples"] = write_examples(folder, classifier, shown, known, progress)
    write_json(folder / "training.json", record)
    write_card(folder, name)


def _of_folds(name: str, classifier: Classifier, training: PixelStore, count: int) -> dict[str, Any]:
    rows = training.rows
    return {
        "dataset": rows.name,
        "dataset_revision": rows.revision,
        "dataset_config": rows.config,
        "split": f"{rows.split or 'all'}, cross-validated",
        "classifier": name,
        "classifier_revision": classifier.revision,
        "caution": f"Each by one of {count} networks that did not see it, trained like this one on the other folds.",
    }


def _machine() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{os.cpu_count()} cores ({platform.machine()}), {torch.get_num_threads()} used"


def measured_in_words(folder: Path) -> str:
    """One line on how well the classifier in the folder does, for a terminal."""
    metrics = json.loads((folder / "metrics.json").read_text("utf-8"))
    return in_words(metrics) + (f", split {metrics['split']}" if metrics.get("split") else "")


def forget(work: Path) -> None:
    """Removes a run's checkpoints."""
    shutil.rmtree(work, ignore_errors=True)
