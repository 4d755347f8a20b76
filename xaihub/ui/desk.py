"""From a visitor's question to explanations: who may ask what, what is kept, and what need not be computed again.

Knows nothing of gradio, and imports torch only when the first question comes.
"""

import threading
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from xaihub.curated import STARTER
from xaihub.errors import CancelledError, ReferencesMismatchError, XaihubError
from xaihub.images import open_picture
from xaihub.progress import Progress, until
from xaihub.ui.settings import Settings
from xaihub.ui.shelf import Shelf
from xaihub.ui.tokens import token_for
from xaihub.ui.words import named_class

if TYPE_CHECKING:
    from xaihub.classifier import Classifier
    from xaihub.loading import Plan
    from xaihub.methods import Query
    from xaihub.records import Evidence, Explanation
    from xaihub.references import ReferenceSet

__all__ = ["Asked", "Desk", "Question"]


@dataclass(frozen=True)
class Question:
    """What the boxes said when Explain was pressed.

    Attributes:
        picture: the file that was sent, or its bytes.
        references: a dataset's id, or "".
        limit: how many of its pictures to embed.
        target, against: a class as `named_class` reads it, or "".
        token: the visitor's, or "".
    """

    picture: str | bytes
    model: str
    references: str = ""
    limit: int = 200
    target: str = ""
    against: str = ""
    method: str = "gradcam"
    layer: str = ""
    token: str = field(default="", repr=False)


@dataclass(eq=False)
class Asked:
    """One answered question, of which more can be asked without another pass of the picture.

    Attributes:
        query: None once its classifier had to leave.
        explanation: what is shown now.
        plan: where its classifier came from.
        trouble: why there are no examples beside it, in words.
        foreign: references of another classifier, whose pictures can be embedded for this one.
        choices: what was asked: `target`, `against` and `method`.
        seen: what was computed already, for choices that come back.
    """

    query: "Query | None"
    explanation: "Explanation"
    plan: "Plan"
    choices: dict[str, str]
    references: "ReferenceSet | None" = None
    trouble: str = ""
    foreign: "ReferenceSet | None" = None
    seen: dict[tuple[Any, ...], tuple[tuple["Evidence", ...], tuple[str, ...]]] = field(default_factory=dict)

    @property
    def method(self) -> str:
        """The one whose map is large."""
        return self.choices["method"]


class Desk:
    """Where questions are answered. One for the whole app; safe from several threads."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.classifiers: Shelf[Classifier] = Shelf(settings.memory_megabytes * 2**20, _classifier_bytes, self._forget)
        self.references: Shelf[ReferenceSet] = Shelf(settings.references_megabytes * 2**20, _references_bytes)
        self._loading = threading.Lock()
        self._asked: weakref.WeakSet[Asked] = weakref.WeakSet()

    def look(self, model: str, token: str) -> "Plan":
        """The plan for a classifier, asked with this visitor's token, also for one that is in memory already."""
        from xaihub.loading import preflight

        return preflight(model, token=token_for(model, token, self.settings), local=False)

    def loaded(self, plan: "Plan") -> "Classifier | None":
        return self.classifiers.get((plan.repo_id, plan.revision))

    def classifier(self, plan: "Plan", token: str, progress: Progress) -> "Classifier":
        """The planned classifier; downloads go side by side, building one at a time."""
        from xaihub import hub
        from xaihub.loading import load_classifier

        known = self.loaded(plan)
        if known is not None:
            return known
        asks_with = token_for(plan.repo_id, token, self.settings)
        limited = until(self.settings.download_seconds, progress, f"Downloading {plan.repo_id}")
        if plan.repo is not None:
            hub.fetch(plan.repo, plan.files, token=asks_with, progress=limited)
        while not self._loading.acquire(timeout=0.2):
            limited(0.0, "Waiting for another classifier to load")
        try:
            built = self.loaded(plan) or load_classifier(plan, token=asks_with, local=False, progress=limited)
            return self.classifiers.put((plan.repo_id, plan.revision), built)
        finally:
            self._loading.release()

    def answer(self, question: Question, progress: Progress) -> Iterator[Asked]:
        """The heatmap as soon as it is there, then the same with its examples."""
        from xaihub import Query, explain_query

        picture = open_picture(question.picture)
        progress(0.02, f"Checking {question.model}")
        plan = self.look(question.model, question.token)
        classifier = self.classifier(plan, question.token, _part(progress, 0.05, 0.55))
        progress(0.6, "Looking through the classifier")
        if question.layer:
            classifier = classifier.with_layer(question.layer)
        limited = until(self.settings.compute_seconds, progress, "The explanation")
        query = Query(classifier, picture, target=named_class(question.target, classifier.labels), map=question.method)
        choices = {"target": question.target, "against": question.against, "method": question.method}
        asked = Asked(query, explain_query(query, []), plan, choices)
        limited(0.65, "Explaining")
        self._asked.add(asked)
        yield self._main(asked)
        if question.references.strip():
            yield self._beside(asked, question, _part(progress, 0.7, 1.0))

    def again(self, asked: Asked, **changes: Any) -> Asked:
        """The same picture asked about another `target`, `method` or `against`: no new pass of the picture.

        Raises:
            XaihubError: the classifier had to leave, or there is no such class.
        """
        query = self._query(asked)
        labels = query.classifier.labels
        about: dict[str, Any] = {}
        if "target" in changes:
            about["target"] = named_class(changes["target"], labels)
        if "against" in changes:
            about["against"] = named_class(changes["against"], labels)
        if "method" in changes:
            about["map"] = changes["method"]
        asked.query = query.about(**about)
        asked.choices |= changes
        self._main(asked)
        return self._rows(asked) if asked.references is not None else asked

    def adopt(self, asked: Asked, limit: int, progress: Progress) -> Iterator[Asked]:
        """Once: the pictures of another classifier's references, embedded for this one, and their examples."""
        from xaihub import build_references
        from xaihub.datasets import from_pairs

        query, foreign = self._query(asked), asked.foreign
        if foreign is None:
            yield asked
            return
        key = (query.classifier.name, _layer(query.classifier), "again", foreign.made, limit)
        references = self.references.get(str(key))
        if references is None:
            step = max(1, len(foreign) // max(1, limit))
            rows = range(0, len(foreign), step)[:limit]  # they lie sorted by class, so a stride takes from each
            pairs = [(foreign.keys[i], str(foreign.labels[i] or ""), foreign.picture(i)) for i in rows]
            limited = until(self.settings.embed_seconds, progress, "Embedding the references")
            pictures = from_pairs(f"{foreign.made.dataset} (crops)", pairs)
            references = build_references(query.classifier, pictures, progress=limited)
            self.references.put(str(key), references)
        asked.references, asked.foreign, asked.trouble = references, None, ""
        asked.query = query.about(references=references)
        yield self._rows(asked)

    def _main(self, asked: Asked) -> Asked:
        """The large map, from memory if it was shown before."""
        query = self._query(asked)
        return self._run(asked, [asked.method], ("target", query.target))

    def _rows(self, asked: Asked) -> Asked:
        """The examples. They are kept when only the class changes: they are found by what the classifier predicted."""
        query = self._query(asked)
        return self._run(asked, _example_methods(), ("examples", query.against, query.map, id(query.references)))

    def _run(self, asked: Asked, methods: list[str], about: tuple[Any, ...]) -> Asked:
        from xaihub import METHODS, explain_query

        query, now = self._query(asked), asked.explanation
        evidence, notes = dict(now.evidence), dict(now.notes)
        for name in methods:
            if (name, about) not in asked.seen:
                missing = METHODS[name].missing(query.classifier, query.references)
                query.notes.pop(name, None)
                new = explain_query(query, [] if missing else [name])
                asked.seen[name, about] = new.evidence.get(name, ()), (missing,) if missing else new.notes.get(name, ())
            evidence[name], notes[name] = asked.seen[name, about]
        asked.explanation = replace(now, target=query.target, evidence=_current(asked, evidence), notes=notes)
        return asked

    def _beside(self, asked: Asked, question: Question, progress: Progress) -> Asked:
        """The same with examples, or with the sentence that says why there are none: the heatmap stays either way."""
        query = self._query(asked)
        try:
            references = self._references(query.classifier, question, progress)
            try:
                references.check(query.classifier)
            except ReferencesMismatchError:
                asked.foreign = references
                raise
            against = named_class(question.against, query.classifier.labels)
            asked.query, asked.references = query.about(references=references, against=against), references
            progress(0.95, "Searching the references")
            return self._rows(asked)
        except CancelledError:
            raise
        except XaihubError as error:
            asked.trouble = str(error)
            return asked

    def _references(self, classifier: "Classifier", question: Question, progress: Progress) -> "ReferenceSet":
        """From the shelf, the Hub or the package; the Hub is asked with this visitor's token before any is given."""
        from xaihub import build_references, hub, load_references, open_dataset

        name = question.references.strip()
        if name == STARTER:
            return self.references.get(STARTER) or self.references.put(STARTER, load_references(STARTER))
        token = token_for(name, question.token, self.settings)
        progress(0.0, f"Checking {name}")
        name = hub.clean_repo_id(name)
        repo = hub.look(name, token=token, repo_type="dataset")
        saved = "references.json" in repo.files
        layer, limit = _layer(classifier), int(question.limit)
        key = (name, repo.revision) if saved else (name, repo.revision, classifier.name, layer, limit)
        known = self.references.get(key)
        if known is not None:
            return known
        if saved:
            progress(0.1, f"Downloading the references {name}")
            return self.references.put(key, load_references(name, revision=repo.revision, token=token, local=False))
        limited = until(self.settings.embed_seconds, progress, f"Embedding {name}")
        pictures = open_dataset(
            name, revision=repo.revision, token=token, local=False, limit=limit, progress=_part(limited, 0.0, 0.2)
        )
        return self.references.put(key, build_references(classifier, pictures, progress=_part(limited, 0.2, 1.0)))

    def _query(self, asked: Asked) -> "Query":
        if asked.query is None:
            raise XaihubError("This result was put away to make room for other visitors. Press Explain again.")
        return asked.query

    def _forget(self, classifier: "Classifier") -> None:
        """Results hold on to their classifier: those of one that leaves let go of it, else nothing would be freed."""
        for asked in list(self._asked):
            if asked.query is not None and asked.query.classifier.module is classifier.module:
                asked.query = None


def _current(asked: Asked, evidence: dict[str, Any]) -> dict[str, Any]:
    """Only what answers the question as it now stands: the map of an earlier choice is no longer shown."""
    return {name: shown for name, shown in evidence.items() if name == asked.method or name in _example_methods()}


def _example_methods() -> list[str]:
    """The methods that search references: shown as rows of pictures beside the map."""
    from xaihub import METHODS

    return [name for name, method in METHODS.items() if "references" in method.needs]


def _layer(classifier: "Classifier") -> str:
    return classifier.target_layer.name if classifier.target_layer else ""


def _part(progress: Progress, start: float, end: float) -> Progress:
    """The same progress, for a stage that is one part of the whole."""
    return lambda share, stage: progress(start + (end - start) * min(1.0, max(0.0, share)), stage)


def _classifier_bytes(classifier: "Classifier") -> int:
    tensors = [*classifier.module.parameters(), *classifier.module.buffers()]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _references_bytes(references: "ReferenceSet") -> int:
    held = references.embeddings, references.logits
    return sum(tensor.numel() * tensor.element_size() for tensor in held) + sum(map(len, references.pictures))
