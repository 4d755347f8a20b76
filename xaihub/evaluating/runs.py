"""Models and pictures by name, and where the results go: a folder, a dataset of the Hub, the models' own cards."""

import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from xaihub import hub
from xaihub.cards.evaluation import results_card, with_explanations
from xaihub.classifier import Classifier
from xaihub.datasets import LabelledPictures
from xaihub.datasets.splits import Source
from xaihub.downloads import cache_folder
from xaihub.errors import HubError, RepoNotFoundError
from xaihub.evaluating.chapters import Chapter, chapter_of
from xaihub.evaluating.marked import questions_about, read_boxes
from xaihub.evaluating.pieces import key_of
from xaihub.evaluating.plans import Metrics, refuse_seed
from xaihub.evaluating.questions import opened
from xaihub.evaluating.report import report
from xaihub.evaluating.running import measured
from xaihub.evaluating.tables import markdown, read_rows, rows_of, write_csv, write_parquet
from xaihub.evaluating.words import HOW_INTERVALS, few_pictures, findings
from xaihub.folders import folder_named, replacing_file
from xaihub.loading import Limits, load_classifier, preflight
from xaihub.metrics import METRICS
from xaihub.progress import Progress, part, silent
from xaihub.references import load_references
from xaihub.training import default_device

__all__ = ["MARK", "Order", "describe_models", "evaluate_models", "prepare", "write_results"]

MARK = "evaluation.json"
_PREDICTED = "the one that the classifier predicts"
_MARKED = "of the classes that the box stands for, the one that is most probable to the classifier"


@dataclass(frozen=True)
class Order:
    """What is to be evaluated.

    Attributes:
        models: folders or Hub ids. `boxes`: a CSV file, see marked.py. `references`: where twins are searched.
        show: whether the report may show pictures; None for those of public datasets of the Hub alone.
    """

    models: Sequence[str]
    source: Source
    methods: Sequence[str] | None = None
    metrics: Metrics = None
    boxes: Path | None = None
    references: str | None = None
    seed: int = 0
    show: bool | None = None


def evaluate_models(
    order: Order,
    *,
    limits: Limits | None = None,
    token: hub.Token = None,
    folder: Path | None = None,
    progress: Progress = silent,
) -> list[Chapter]:
    """What is to be told of each model. What was measured is kept in the cache, so a run that was stopped goes on.

    Args:
        folder: where it is kept instead.

    Raises:
        DatasetError: the pictures or the boxes cannot be read.
        HubError, UnsupportedModelError: a model cannot be had.
        XaihubError: the seed or a metric's setting cannot be.
    """
    refuse_seed(order.seed)
    pictures, marked = opened(order.source, progress), None
    if order.boxes is not None:
        pictures, marked = questions_about(pictures, read_boxes(order.boxes))
    chapters = []
    for place, model in enumerate(order.models):
        mine = part(progress, place / len(order.models), (place + 1) / len(order.models))
        classifier = _opened(model, token, limits)
        found = measured(
            classifier, pictures, order.methods, order.metrics,
            targets=None if marked is None else [each.classes for each in marked],
            masks=None if marked is None else [each.boxes for each in marked],
            references=None if order.references is None else load_references(order.references, token=token),
            folder=folder or cache_folder() / "evaluations", seed=order.seed, progress=mine,
        )  # fmt: skip
        show = _may_show(order, pictures) if order.show is None else order.show
        asked = _PREDICTED if marked is None else _MARKED
        chapters.append(chapter_of(found, pictures, asked=asked, seed=order.seed, show=show))
    return chapters


def _may_show(order: Order, pictures: LabelledPictures) -> bool:
    """Whether anybody may see the pictures: those of a folder of one's own are nobody else's business."""
    return pictures.public and folder_named(str(order.source.data)) is None


def _opened(model: str, token: hub.Token, limits: Limits | None) -> Classifier:
    """The classifier; a folder's is called by the folder's name, since its path is nobody else's business."""
    plan = preflight(model, token=token, limits=limits)
    classifier = load_classifier(plan, token=token, device=default_device())
    folder = folder_named(model)
    return classifier if folder is None else replace(classifier, repo_id=folder.resolve().name)


def prepare(draft: Path, to: Path | str, token: hub.Token = None) -> None:
    """Brings the tables of earlier runs into the draft, which then stand beside the new ones.

    Raises:
        HubError: the Hub does not answer.
    """
    if isinstance(to, Path):
        held = {path.name: path for path in sorted((to / "data").glob("*.parquet"))}
    else:
        try:
            repo = hub.look(to, token=token, repo_type="dataset")
        except RepoNotFoundError:
            return
        paths = [path for path in repo.files if path.startswith("data/") and path.endswith(".parquet")]
        folder = hub.fetch(repo, paths, token=token)
        held = {Path(path).name: folder / path for path in paths}
    (draft / "data").mkdir(exist_ok=True)
    for name, path in held.items():
        shutil.copyfile(path, draft / "data" / name)


def write_results(draft: Path, name: str, chapters: Sequence[Chapter], *, command: str) -> None:
    """Writes the page, the tables and the card; rows of earlier runs in data/ stay, those of the same run are replaced.

    Args:
        name: what the results will be called: the dataset's id, or the folder's name.
    """
    (draft / "data").mkdir(exist_ok=True)
    everything: list[dict[str, Any]] = []
    for chapter in chapters:
        rows = rows_of(chapter.scores, chapter.columns)
        write_parquet(draft / "data" / f"{_slug(chapter)}.parquet", rows)
        everything += rows
    write_csv(draft / "scores.csv", everything)
    (draft / "scores.md").write_text(_in_markdown(chapters), "utf-8")
    (draft / "report.html").write_text(report(chapters, command=command), "utf-8")
    facts = {"format": 1, "command": command, "models": [dict(chapter.facts) for chapter in chapters]}
    (draft / MARK).write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", "utf-8")
    held = [row for file in sorted((draft / "data").glob("*.parquet")) for row in read_rows(file)]
    told = {metric: (entry.title, entry.summary) for metric, entry in METRICS.items()}
    (draft / "README.md").write_text(hub.card_text(*results_card(name, held, told)), "utf-8")


def describe_models(
    order: Order,
    chapters: Sequence[Chapter],
    *,
    results: str | None = None,
    token: hub.Token = None,
    dry_run: bool = False,
) -> list[str]:
    """Puts a section on the explanations into each model's own card; gives the cards' places, or their new texts.

    A stranger's words in the card stay; a section of an earlier evaluation is replaced.

    Args:
        results: the dataset that holds the whole, to name it.

    Raises:
        HubError: this token may not write to a model, or the Hub refuses the card.
    """
    told = []
    for model, chapter in zip(order.models, chapters, strict=True):
        section = _section(chapter, results)
        if folder := folder_named(model):
            card = folder / "README.md"
            text = with_explanations(card.read_text("utf-8", errors="replace") if card.is_file() else "", section)
            if not dry_run:
                with replacing_file(card) as draft:
                    draft.write_text(text, "utf-8")
            told.append(text if dry_run else str(card))
        else:
            told.append(_describe_on_hub(hub.clean_repo_id(model), section, token, dry_run))
    return told


def _describe_on_hub(repo_id: str, section: str, token: hub.Token, dry_run: bool) -> str:
    repo = hub.look(repo_id, token=token)
    if "/" not in repo_id:
        raise HubError(f"{repo_id} has no owner whose card could be written. Evaluate a model of your own.")
    text = ""
    if "README.md" in repo.files:
        text = (hub.fetch(repo, ["README.md"], token=token) / "README.md").read_text("utf-8", errors="replace")
    head = hub.card_as_read(repo, token=token) or {"tags": ["xaihub"]}
    card = hub.card_text(head, with_explanations(hub.card_body(text), section))
    if dry_run:
        return card
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "README.md").write_text(card, "utf-8")
        return hub.publish(
            Path(folder), repo_id, repo_type="model", token=token, public=not repo.private,
            message="Explanations evaluated with xaihub",
        )  # fmt: skip


def _section(chapter: Chapter, results: str | None) -> str:
    """What a model's card says of its explanations."""
    where = f" The whole, with a page that explains each number: the dataset `{results}`." if results else ""
    about = f"On {chapter.facts['pictures']}; the class explained is {chapter.facts['class explained']}."
    listed = "\n".join(f"- {sentence}" for sentence in findings(chapter.scores))
    tables = markdown(chapter.scores).replace("\n### ", "\n#### ").replace("### ", "#### ", 1)
    return "\n\n".join(filter(None, [about + where, few_pictures(chapter.scores), listed, HOW_INTERVALS, tables]))


def _in_markdown(chapters: Sequence[Chapter]) -> str:
    parts = []
    for chapter in chapters:
        facts = "\n".join(f"- {name}: {value}" for name, value in chapter.facts.items() if value)
        listed = "\n".join(f"- {sentence}" for sentence in findings(chapter.scores))
        told = [f"## {chapter.model}", facts, few_pictures(chapter.scores), listed, markdown(chapter.scores)]
        parts.append("\n\n".join(filter(None, told)))
    return "\n\n".join([*parts, HOW_INTERVALS]) + "\n"


def _slug(chapter: Chapter) -> str:
    """A name for a model's rows: the same for the same model, pictures and layer, so that a new run replaces them."""
    about = [chapter.columns.get(name) for name in ("dataset", "dataset_revision", "split", "layer", "preprocessing")]
    plain = "".join(c if c.isalnum() or c in "._-" else "-" for c in chapter.model.rsplit("@", 1)[0])
    return f"{plain[-60:].strip('.-')}-{key_of([chapter.model, *about])[:8]}"
