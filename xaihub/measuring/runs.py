"""A classifier measured on a split of a dataset, and where the figures go: a file, a folder, or the model's card."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xaihub import hub
from xaihub.cards.model import with_metrics, write_card
from xaihub.cards.prototypes import MARK as PROTOTYPES
from xaihub.cards.prototypes import write_prototype_card
from xaihub.classifier import Classifier
from xaihub.datasets.splits import Source
from xaihub.errors import DatasetError
from xaihub.folders import replacing_file
from xaihub.loading import Limits, Plan, load_classifier, preflight
from xaihub.measuring.asking import untouched
from xaihub.measuring.measuring import Measured, measure, trained_images, write_json, write_measured
from xaihub.progress import Progress, silent
from xaihub.prototypes.files import GALLERY
from xaihub.training import default_device

__all__ = ["MARK", "describe", "evaluate_classifier", "prepare", "write_file"]

MARK = "metrics.json"


def evaluate_classifier(
    model: str | Path,
    source: Source,
    *,
    limits: Limits | None = None,
    token: hub.Token = None,
    batch_size: int | None = None,
    progress: Progress = silent,
) -> tuple[Classifier, Measured]:
    """The classifier and what it does on a split: the one named, the only one, or test, validation, in that order.

    Raises:
        DatasetError: the dataset's classes are not the classifier's, or it has no such split.
        HubError: something cannot be read.
    """
    plan = preflight(model, token=token, limits=limits)
    classifier = load_classifier(plan, token=token, device=default_device(), progress=progress)
    rows = source.open(source.to_measure(), progress)
    trained = trained_images(_training_record(plan, token))
    black_box = untouched(plan, classifier, token=token, limits=limits, progress=progress)
    return classifier, measure(
        classifier, rows, batch_size=batch_size, trained_on=trained, black_box=black_box, progress=progress
    )


def _training_record(plan: Plan, token: hub.Token) -> dict[str, Any]:
    """The classifier's `training.json`, or {}."""
    if plan.folder is not None:
        file = plan.folder / "training.json"
        return json.loads(file.read_text("utf-8")) if file.is_file() else {}
    return hub.read_json(plan.repo, "training.json", token=token) if plan.repo is not None else {}


def write_file(file: Path, metrics: Mapping[str, Any]) -> None:
    """The figures as one JSON file, there whole or not at all."""
    with replacing_file(file) as draft:
        write_json(draft, metrics)


def prepare(draft: Path, to: Path | str, token: hub.Token = None) -> Mapping[str, Any]:
    """Brings into the draft what the destination, a classifier, already holds and the figures must not displace.

    Returns:
        The head of the card of a model on the Hub, else {}.

    Raises:
        HubError: there is no such model.
    """
    if isinstance(to, Path):
        if (to / "config.json").is_file():
            shutil.copytree(to, draft, dirs_exist_ok=True)
        return {}
    repo = hub.look(to, token=token)
    wanted = ["README.md", "training.json", "images/examples.jpg"]
    if GALLERY in repo.files:
        wanted += ["config.json", GALLERY]
    held = [path for path in wanted if path in repo.files]
    folder = hub.fetch(repo, held, token=token)
    for path in held:
        (draft / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / path, draft / path)
    return hub.card_as_read(repo, token=token)


def describe(draft: Path, name: str, metrics: Mapping[str, Any], head: Mapping[str, Any]) -> None:
    """Writes the figures, their picture and, for a classifier, its card: ours anew, another's with our section.

    Args:
        head: of another's card, as `prepare` gave it; without one a card that is not ours is left alone.

    Raises:
        DatasetError: every picture is one that it was trained on.
    """
    if metrics["near_copies_of_training"] == metrics["n"]:
        raise DatasetError(
            f"All {metrics['n']:,} pictures of {metrics['dataset']} are ones it was trained on: that measures memory,"
            " and no card should show it. Name another split (--split), or write the figures to a .json file."
        )
    write_measured(draft, metrics)
    card = draft / "README.md"
    prototypes = (draft / GALLERY).is_file()
    if prototypes and _is_unwritten_or_ours(card):
        write_prototype_card(draft, name)
    elif not prototypes and _is_ours(draft / "training.json"):
        write_card(draft, name)
    elif head or name.count("/") == 1:
        text = card.read_text("utf-8", errors="replace") if card.is_file() else ""
        card.write_text(hub.card_text(*with_metrics(name, head, hub.card_body(text), metrics)), "utf-8")


def _is_unwritten_or_ours(card: Path) -> bool:
    """Whether there is no card of prototypes yet, or one that was written here."""
    return not card.is_file() or PROTOTYPES in card.read_text("utf-8", errors="replace")


def _is_ours(file: Path) -> bool:
    """Whether it is the record of a training here; another's file may have the same name."""
    try:
        held = json.loads(file.read_text("utf-8"))
        return held["format"] == 1 and {"labels", "backbone", "dataset", "settings"} <= set(held)
    except (OSError, ValueError, KeyError, TypeError):
        return False
