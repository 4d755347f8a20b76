"""From a question about a dataset to its audit, and from one of its pictures to why the classifier answered so.

Knows nothing of gradio, as the desk that it uses.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from xaihub.curated import STARTER
from xaihub.errors import XaihubError
from xaihub.progress import Progress, part, until
from xaihub.ui.asking import Asked, Question
from xaihub.ui.desk import Desk
from xaihub.ui.tokens import token_for

if TYPE_CHECKING:
    from xaihub.auditing import AuditReport
    from xaihub.datasets import LabelledPictures
    from xaihub.loading import Plan

__all__ = ["AuditDesk", "AuditQuestion", "Audited"]

TRIALS = 60  # pictures that are changed, thirteen passes each: on two cores half a minute of a MobileNet
FEWEST = 20  # of few pictures half are changed, but no fewer


@dataclass(frozen=True)
class AuditQuestion:
    """What the boxes said when Audit was pressed.

    Attributes:
        model: "" to audit the dataset alone.
        limit: how many pictures are looked at.
        token: the visitor's, or "".
    """

    model: str
    dataset: str
    limit: int
    token: str = field(default="", repr=False)


@dataclass(frozen=True, eq=False)
class Audited:
    """One answered question. It holds neither the classifier nor the pictures, only small ones of those shown."""

    plan: "Plan | None"
    dataset: str
    limit: int
    report: "AuditReport"


class AuditDesk:
    """Where audits are made; one for the whole app, beside the desk whose models it uses."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk

    def answer(self, question: AuditQuestion, progress: Progress) -> Iterator[Audited]:
        """Once: the audit.

        Raises:
            XaihubError: the dataset or the classifier cannot be had, or there is nothing to compare.
        """
        from xaihub.auditing import audit

        plan = classifier = None
        if question.model:
            progress(0.01, f"Checking {question.model}")
            plan = self.desk.look(question.model, question.token)
            classifier = self.desk.classifier(plan, question.token, part(progress, 0.02, 0.3))
        with until(self.desk.settings.embed_seconds, part(progress, 0.3, 1.0), "The audit") as limited:
            pictures, others = self._pictures(question.dataset, question.limit, question.token, part(limited, 0.0, 0.1))
            trials = min(TRIALS, max(FEWEST, question.limit // 2))
            found = audit(pictures, classifier, others=others, trials=trials, progress=part(limited, 0.1, 1.0))
        yield Audited(plan, question.dataset, question.limit, found)

    def explained(self, audited: Audited, key: str, token: str, progress: Progress) -> Iterator[Asked]:
        """Why the classifier answered as it did on one picture: its map, then its twins and counterfactuals as well.

        The dataset is asked for again, with this visitor's token: whoever may no longer read it sees nothing of it.

        Raises:
            XaihubError: there was no classifier, or there is no such picture.
        """
        if audited.plan is None:
            raise XaihubError("This audit was made without a classifier, so there is no answer to explain. Choose one.")
        pictures, _ = self._pictures(audited.dataset, audited.limit, token, part(progress, 0.0, 0.1), alone=True)
        get = next((source for name, _, source in pictures.sources if name == key), None)
        if get is None:
            raise XaihubError(f"{audited.dataset} has no picture {key[:80]!r} any more. Press Audit again.")
        model = audited.plan.repo_id
        question = Question(_file(get()), model, audited.dataset, audited.limit, token=token)
        yield from self.desk.answer(question, part(progress, 0.1, 1.0))

    def _pictures(
        self, dataset: str, limit: int, token: str, progress: Progress, *, alone: bool = False
    ) -> "tuple[LabelledPictures, list[LabelledPictures]]":
        """The split that is audited, and the others unless it is wanted alone."""
        from xaihub import hub, open_dataset
        from xaihub.datasets import splits_of

        if dataset == STARTER:
            return self._starter(limit), []
        name, asks_with = hub.clean_repo_id(dataset), token_for("dataset", dataset, token, self.desk.settings)
        progress(0.0, f"Checking {name}")

        def of(split: str | None) -> "LabelledPictures":
            return open_dataset(name, split=split, token=asks_with, local=False, limit=limit, progress=progress)

        first = of(None)
        if alone:
            return first, []
        splits = [split for split in splits_of(name, token=asks_with, local=False) if split != first.split]
        return first, [of(split) for split in splits]

    def _starter(self, limit: int) -> "LabelledPictures":
        """The starter's own references, as a dataset: they come with the package."""
        from functools import partial

        from xaihub import load_references
        from xaihub.datasets import LabelledPictures
        from xaihub.datasets.pictures import draw, drawn, same

        references = self.desk.references.get(STARTER) or self.desk.references.put(STARTER, load_references(STARTER))
        found = [
            (key, label, partial(same, data))
            for key, label, data in zip(references.keys, references.labels, references.pictures, strict=True)
            if data is not None
        ]
        chosen = draw(found, limit, seed=0)
        names = tuple(dict.fromkeys(label for _, label, _ in found if label is not None))
        return LabelledPictures(STARTER, chosen, names, note=drawn(len(chosen), len(found)))


def _file(given: bytes | Path | Image.Image) -> str | bytes:
    if isinstance(given, bytes):
        return given
    if isinstance(given, Path):
        return str(given)
    stream = io.BytesIO()
    given.save(stream, "PNG")
    return stream.getvalue()
