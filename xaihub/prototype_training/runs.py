"""From a dataset and a classifier to a folder with one that answers by prototypes: made, measured and described."""

import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from xaihub import hub
from xaihub.cards.prototypes import write_prototype_card
from xaihub.classifier import Classifier
from xaihub.datasets import LabelledPictures
from xaihub.datasets.pictures import draw, drawn
from xaihub.datasets.splits import Source
from xaihub.downloads import cache_folder
from xaihub.errors import DatasetError, UnsupportedModelError
from xaihub.families import FAMILIES, staged
from xaihub.families.from_protopnet import load_black_box, save_prototypes
from xaihub.finetuning.fitting import run_key
from xaihub.finetuning.pixel_store import PixelStore, read_pixels
from xaihub.finetuning.runs import CHOSE_THE_EPOCH, circumstances, fit_for_training, opened, origins, trained_by
from xaihub.loading import Limits, Plan, fetch_planned, load_classifier, preflight
from xaihub.measuring import measure, write_json, write_measured
from xaihub.passes import target_layer_of
from xaihub.progress import Progress, part, silent
from xaihub.prototype_fitting import fit_prototypes
from xaihub.prototype_maps import Looked, look, most_pictures
from xaihub.prototype_training.fitting import Trained, exactly, train_network
from xaihub.prototype_training.settings import PrototypeTraining
from xaihub.prototype_training.watching import spread_of
from xaihub.prototypes import FittedTo, Kind, Prototypes
from xaihub.training import default_device

__all__ = ["MARK", "train_prototypes"]

MARK = "training.json"


def train_prototypes(
    folder: Path,
    source: Source,
    backbone: str | Path,
    kind: Kind = "head",
    settings: PrototypeTraining | None = None,
    *,
    name: str,
    fitted_to: FittedTo | None = None,
    limits: Limits | None = None,
    device: str | None = None,
    token: hub.Token = None,
    memory: int = 2 * 2**30,
    public: bool = False,
    progress: Progress = silent,
) -> Path:
    """Fills the folder with a classifier by prototypes, and gives the folder of checkpoints that may then go.

    Args:
        folder: an empty one.
        backbone: the classifier that prototypes are made from: a folder or a Hub id.
        name: what the new one will be called: a repository's id or a folder's name.
        fitted_to: what the backbone predicts, or the labels. None: a head to its predictions where its classes are the
            dataset's; everything else to the labels.
        memory: bytes for pixels; beyond, pictures are read again in each epoch.
        public: it will be shown to everyone, so pictures of a private or gated dataset stay out of it.

    Raises:
        DatasetError: the dataset cannot teach anything.
        UnsupportedModelError: the backbone cannot be used, and why.
        HubError: something cannot be fetched.
        CancelledError: from `progress`; the same call later goes on from there.
    """
    started, settings = time.monotonic(), settings or PrototypeTraining()
    progress(0.0, f"Looking at {backbone}")
    plan = fit_for_training(preflight(backbone, token=token, limits=limits))
    rows, labels, validation, test = opened(source, 0, progress)
    like = fetch_planned(plan, token=token, progress=progress)
    with staged(like, plan.files, plan.config, FAMILIES[plan.family], plan.repo_id) as (stage, config):
        black_box = load_black_box(stage, config, _details(plan, device or default_device()))
    fitted_to = _fitted_to(fitted_to, kind, black_box, labels, rows.name)
    held = memory if kind == "protopnet" else 0  # a head looks at each picture once
    few = _as_many_as_fit(black_box, rows, settings.seed)
    training = read_pixels(few, black_box.transform, labels, budget=held, progress=part(progress, 0.0, 0.05))
    judge = None if validation is None else read_pixels(validation, black_box.transform, labels, budget=held)
    looked = _looked(black_box, training, settings.seed, part(progress, 0.05, 0.15))
    work = cache_folder() / "training" / run_key(
        settings, f"{plan.repo_id}@{plan.revision}, {kind}, {fitted_to}", training, judge
    )  # fmt: skip
    rest = part(progress, 0.15, 0.85)
    if kind == "head":
        trained = _fitted(looked, fitted_to, settings, rest)
    else:
        trained = train_network(looked, training, judge, settings, fitted_to, work=work, progress=rest)
    trained = replace(trained, seconds=time.monotonic() - started)
    classifier = replace(trained.classifier, prototypes=_described(trained, kind))
    untouched, shown = like if kind == "protopnet" else None, rows.public or not public
    save_prototypes(folder, classifier, like=like, black_box=untouched, pictures=shown)
    write_json(folder / MARK, _record(plan, source, training, classifier, trained, settings))
    caution = "" if test or kind == "head" else CHOSE_THE_EPOCH
    _finish(folder, name, black_box, training, test or validation, caution, part(progress, 0.85, 1.0))
    return work


def _looked(black_box: Classifier, training: PixelStore, seed: int, progress: Progress) -> Looked:
    """The training pictures as the black box sees them, in the store's order."""
    with exactly():
        looked = look(black_box, training.rows, seed=seed, progress=progress)
    if len(looked) != len(training):
        raise UnsupportedModelError(
            f"{black_box.repo_id} gives no finite numbers for {len(training) - len(looked)} of the"
            f" {len(training):,} pictures of {training.rows.name}. Use other weights, or take these pictures out."
        )
    return looked


def _details(plan: Plan, device: str) -> dict[str, Any]:
    return {
        "repo_id": plan.repo_id,
        "revision": plan.revision,
        "device": device,
        "facts": {"licence": plan.licence, "task": plan.task},
    }


def _fitted_to(
    asked: FittedTo | None, kind: Kind, black_box: Classifier, labels: tuple[str, ...], dataset: str
) -> FittedTo:
    same = set(black_box.labels) == set(labels)
    if asked == "predictions" and not same:
        raise DatasetError(
            f"{black_box.repo_id} does not have the classes of {dataset} ({', '.join(map(repr, labels[:10]))}), so what"
            " it predicts says nothing of them. Fit the prototypes to the labels (--fit labels), or train a classifier"
            " of these classes first (scripts/train_classifier.py)."
        )
    return asked or ("predictions" if same and kind == "head" else "labels")


def _as_many_as_fit(black_box: Classifier, rows: LabelledPictures, seed: int) -> LabelledPictures:
    """The pictures whose maps fit the memory, drawn evenly from the classes."""
    named = [source for source in rows.sources if source[1] is not None]
    chosen = draw(named, most_pictures(target_layer_of(black_box)), seed)
    return replace(rows, sources=chosen, note=drawn(len(chosen), len(rows)) or rows.note)


def _fitted(looked: Looked, fitted_to: FittedTo, settings: PrototypeTraining, progress: Progress) -> Trained:
    classifier = fit_prototypes(
        looked.classifier, looked, fitted_to=fitted_to, settings=settings.head, progress=progress
    )
    last = spread_of(_of(classifier))
    return Trained(classifier, (), "fitted once, on the unchanged network", last, 0.0)


def _of(classifier: Classifier) -> Prototypes:
    if classifier.prototypes is None:
        raise ValueError(f"{classifier.name} does not answer by prototypes.")
    return classifier.prototypes


def _described(trained: Trained, kind: Kind) -> Prototypes:
    """The prototypes, with what was seen of them while they were made."""
    held = _of(trained.classifier)
    made = {**held.made, "kept": trained.kept, **trained.spread.record}
    return replace(held, kind=kind, made=made)


def _record(
    plan: Plan,
    source: Source,
    training: PixelStore,
    classifier: Classifier,
    trained: Trained,
    settings: PrototypeTraining,
) -> dict[str, Any]:
    """What `training.json` holds."""
    held = _of(classifier)
    return {
        **origins(plan, source, training),
        "preprocessing": classifier.transform.description,
        "prototypes": {
            "kind": held.kind,
            "fitted_to": held.fitted_to,
            "count": len(held.gallery),
            **trained.spread.record,
        },
        "settings": asdict(settings.head if held.kind == "head" else settings),
        "history": [dict(row) for row in trained.history],
        "kept": trained.kept,
        **circumstances(training, trained.seconds),
    }


def _finish(
    folder: Path,
    name: str,
    black_box: Classifier,
    training: PixelStore,
    unseen: LabelledPictures | None,
    caution: str,
    progress: Progress,
) -> None:
    """Measures what the folder now holds beside the black box, and writes what describes it."""
    classifier = replace(load_classifier(folder, device=str(black_box.device)), repo_id=name)
    metrics: Mapping[str, Any] = {
        "accuracy": None, "n": 0, "caution": "Nothing unseen was measured.", "classifier": name,
    }  # fmt: skip
    if unseen is not None:
        found = measure(classifier, unseen, trained_on=trained_by(training), black_box=black_box, progress=progress)
        metrics = {**found.metrics, "caution": caution}
    write_measured(folder, metrics)
    write_prototype_card(folder, name)
