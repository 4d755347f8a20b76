"""The audit: what tells a dataset's labels apart beside what its pictures show, and whether a classifier goes by it."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xaihub import hub
from xaihub.auditing.findings import findings
from xaihub.auditing.looking import Hashed, Looked, hashed, look_through
from xaihub.auditing.nuisances import NUISANCES
from xaihub.auditing.records import Case, Copies, Finding
from xaihub.auditing.report import MARK, MISTAKES, RIGHT, AuditReport
from xaihub.auditing.sight import small_file
from xaihub.auditing.slices import slices
from xaihub.auditing.trials import Turned, intervene
from xaihub.auditing.using import Said, answers_of, telling
from xaihub.classifier import Classifier
from xaihub.datasets import LabelledPictures
from xaihub.datasets.splits import Source
from xaihub.errors import PictureError, XaihubError
from xaihub.images import open_picture
from xaihub.loading import load_classifier
from xaihub.progress import Progress, part, silent
from xaihub.same_content import same_content

__all__ = ["MARK", "NUISANCES", "AuditReport", "Finding", "audit", "refuse_numbers"]

TRIALS = 100  # pictures that are changed: a share of 80 % is then known to 8 points
MOST_THUMBS = 240


def audit(
    dataset: LabelledPictures | str | Path,
    classifier: Classifier | str | Path | None = None,
    *,
    others: Sequence[LabelledPictures] | None = None,
    limit: int | None = None,
    trials: int = TRIALS,
    seed: int = 0,
    token: hub.Token = None,
    progress: Progress = silent,
    **source: Any,
) -> AuditReport:
    """What of a labelled dataset tells its labels without what the pictures show, and whether a classifier goes by it.

    Every picture is decoded once, from the bytes of its file as they are; broken ones are counted and named. Nothing
    but a few numbers of each is kept.

    Args:
        dataset: as `open_dataset` gives it, or what that takes: a folder or a dataset's id on the Hub.
        classifier: asked about every picture once, and about `trials` pictures with one nuisance changed: one that
            is loaded, or what `load_classifier` takes: a folder or a model's id.
        others: further splits, whose near copies are looked for; those that the dataset has, if it is named.
        limit: at most so many pictures of each split, evenly from the labels, if the dataset is named.
        trials: pictures that the interventions are tried on; 0 not to try them.
        seed: of folds, permutations and of what is drawn; 0 or more.
        token: for the dataset, and for the classifier where it is named.
        source: further arguments of `open_dataset` that say how it is read (`split`, `config`, `revision`, `layout`,
            `label_column`, `image_column`), if the dataset is named.

    Raises:
        XaihubError: a negative number of trials, or a negative seed.
        DatasetError: fewer than two labels have pictures that can be read, or they have too few to be compared.
        HubError: the dataset or the classifier cannot be read.
        UnsupportedModelError: the classifier that is named cannot be used here.
        CancelledError: from `progress`.
    """
    refuse_numbers(trials, seed)
    if isinstance(classifier, str | Path):
        classifier = load_classifier(classifier, token=token, progress=part(progress, 0.0, 0.0))
    if not isinstance(dataset, LabelledPictures):
        choice = Source(dataset, limit=limit, token=token, **source)
        dataset, named = _opened(choice, seed, progress)
        others = named if others is None else others
    looked = look_through(dataset, classifier, part(progress, 0.0, 0.5))
    copies = _copies(looked, others or (), part(progress, 0.5, 0.6))
    said = answers_of(looked, classifier) if classifier is not None else None
    told = telling(looked, said, folds_seed=seed, progress=part(progress, 0.6, 0.7))
    turned: dict[str, Turned] = {}
    if classifier is not None and trials:
        trying = part(progress, 0.7, 0.97)
        turned = intervene(dataset, looked, classifier, trials=trials, seed=seed, progress=trying)
    found = findings(looked, said, told, turned, copies)
    cases = _cases(looked, said)
    shown = [key for one in found for key in _shown_with(one, turned)] + _of_cells(cases)
    progress(0.98, "Drawing the pictures")
    thumbs = _thumbs([dataset, *(others or ())], shown)
    return AuditReport(
        dataset.name, dataset.revision, dataset.split, dataset.about, dict(Counter(looked.labels)),
        dict(dataset.skipped), looked.unlabelled, classifier.name if classifier is not None else "", told.links, found,
        turned, slices(looked, said) if said is not None else (), cases, copies, seed, told.least, told.needed, thumbs,
    )  # fmt: skip


def refuse_numbers(trials: int, seed: int) -> None:
    """Nothing, unless a number is given that an audit cannot be made with.

    Raises:
        XaihubError: which one, and what to give.
    """
    if trials < 0:
        raise XaihubError(
            f"{trials} pictures cannot be changed. Give the number of trials, such as {TRIALS}, or 0 to try nothing."
        )
    if seed < 0:
        raise XaihubError(f"A seed of {seed} cannot be used: lots are drawn by whole numbers from 0 on. Give one.")


def _shown_with(one: Finding, turned: Mapping[str, Turned]) -> list[str]:
    """The keys of its examples, and of an answer that was turned."""
    flipped = [example[0] for name in one.changes for example in turned[name].examples[:1]]
    return [key for side in one.examples for key in side.keys] + flipped


def _opened(source: Source, seed: int, progress: Progress) -> tuple[LabelledPictures, list[LabelledPictures]]:
    """The split to be audited, the one named or else train where there is one, and the others."""
    names = source.splits()

    def of(split: str | None) -> LabelledPictures:
        return source.open(split, part(progress, 0.0, 0.0), seed=seed)

    usual = next((name for name in names if name == "train"), names[0] if names else None)
    first = of(source.split or usual)
    return first, [of(name) for name in names if name != first.split]


def _copies(looked: Looked, others: Sequence[LabelledPictures], progress: Progress) -> Copies:
    inside = [tuple(looked.keys[i] for i in group) for group in looked.together if len(group) > 1]
    label = dict(zip(looked.keys, looked.labels, strict=True))
    across: list[tuple[str, str, str]] = []
    torn: list[tuple[str, ...]] = []
    counts: dict[str, int] = {}
    for place, other in enumerate(others):
        name = other.split or other.name
        theirs = hashed(other, part(progress, place / len(others), (place + 1) / len(others)))
        counts[name] = len(theirs.keys)
        for mine, yours in _alike(looked.compared, theirs):
            across.append((looked.keys[mine], theirs.keys[yours], name))
            if theirs.labels[yours] not in (None, looked.labels[mine]):
                torn.append(across[-1][:2])
    contradicting = [group for group in inside if len({label[key] for key in group}) > 1] + torn
    return Copies(tuple(across), counts, tuple(inside), tuple(contradicting))


def _alike(mine: Hashed, theirs: Hashed) -> Iterable[tuple[int, int]]:
    pairs = same_content(np.concatenate([mine.small, theirs.small]), len(mine.keys))
    return [(int(here), int(there) - len(mine.keys)) for here, there in pairs]


def _cases(looked: Looked, said: Said | None) -> tuple[Case, ...]:
    if said is None:
        return ()
    return tuple(
        Case(looked.keys[i], looked.labels[i], said.labels[said.answers[i]], float(said.probability[i]))
        for i in range(len(looked))
        if said.known[i]
    )


def _of_cells(cases: Sequence[Case]) -> list[str]:
    """The keys of the pictures that the cells of the confusion matrix open, mistakes before what is right."""
    shown: list[str] = []
    counted: Counter[tuple[str, str]] = Counter()
    for case in sorted(cases, key=lambda one: (one.right, -one.probability)):
        counted[case.label, case.answer] += 1
        if counted[case.label, case.answer] <= (RIGHT if case.right else MISTAKES):
            shown.append(case.key)
    return shown


def _thumbs(datasets: Sequence[LabelledPictures], keys: Sequence[str]) -> dict[str, bytes]:
    wanted = dict.fromkeys(list(dict.fromkeys(keys))[:MOST_THUMBS])
    found: dict[str, bytes] = {}
    for pictures in datasets:
        for key, _, get in pictures.sources:
            if key in wanted and key not in found:
                try:
                    found[key] = small_file(open_picture(get()))
                except PictureError:  # it has gone since it was looked at
                    continue
    return found
