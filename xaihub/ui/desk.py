"""From a visitor's question to explanations: who may ask what, what is kept, and what need not be computed again.

Knows nothing of gradio, and imports torch only when the first question comes.
"""

import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from xaihub.errors import CancelledError, ReferencesMismatchError, TargetLayerError, XaihubError
from xaihub.images import open_picture
from xaihub.progress import Progress, part, silent, until
from xaihub.ui.asking import Asked, Question, Shown
from xaihub.ui.desk_references import layer_of, references_for
from xaihub.ui.pace import Pace, is_slow
from xaihub.ui.settings import Settings
from xaihub.ui.shelf import Shelf, classifier_bytes, references_bytes
from xaihub.ui.tokens import token_for
from xaihub.ui.words import named_class

if TYPE_CHECKING:
    from xaihub.classifier import Classifier
    from xaihub.loading import Plan
    from xaihub.methods import Query
    from xaihub.references import ReferenceSet

__all__ = ["Asked", "Desk", "Question", "Shown", "example_map"]


LONGEST = 300  # letters of layers joined by +
QUICK, FEW = 0.2, 4  # a classifier whose pass takes less than so many seconds is timed over so many pictures


class Desk:
    """Where questions are answered. One for the whole app; safe from several threads."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.classifiers: Shelf[Classifier] = Shelf(settings.memory_megabytes * 2**20, classifier_bytes, self._forget)
        self.references: Shelf[ReferenceSet] = Shelf(settings.references_megabytes * 2**20, references_bytes)
        self.pace = Pace(settings.compute_seconds)
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
        from xaihub.loading import fetch_planned, load_classifier

        known = self.loaded(plan)
        if known is not None:
            return known
        asks_with = token_for(plan.repo_id, token, self.settings)
        limited = until(self.settings.download_seconds, progress, f"Downloading {plan.repo_id}")
        if plan.repo is not None or plan.listing is not None:  # torchvision's own are fetched as they are built
            fetch_planned(plan, token=asks_with, progress=limited)
        while not self._loading.acquire(timeout=0.2):
            limited(0.0, "Waiting for another classifier to load")
        try:
            built = self.loaded(plan) or load_classifier(plan, token=asks_with, local=False, progress=limited)
            return self.classifiers.put((plan.repo_id, plan.revision), built)
        finally:
            self._loading.release()

    def answer(self, question: Question, progress: Progress) -> Iterator[Asked]:
        """The heatmap as soon as it is there, then the same with its examples."""
        asked = self.begin(question, progress)
        asked = self._settled(self._main(self._watched(asked, part(progress, 0.65, 0.9))))
        yield asked
        if question.references.strip():
            slow = is_slow(asked.method, self._query(asked).classifier)
            yield self._beside(asked, question, part(progress, 0.9 if slow else 0.7, 1.0))

    def begin(self, question: Question, progress: Progress, earlier: Sequence[Asked] = ()) -> Asked:
        """The picture after its one pass through the classifier: nothing is explained yet.

        Args:
            earlier: of the same visitor; one of them comes back if it is this picture in this classifier.
        """
        from xaihub import METHODS, Query, explain_query

        picture = open_picture(question.picture)
        method = METHODS[question.method].name  # an unknown one is refused before anything is fetched
        progress(0.02, f"Checking {question.model}")
        plan = self.look(question.model, question.token)
        known = next((asked for asked in earlier if asked.is_of(plan, picture)), None)
        if known is not None and not question.layer:
            return known
        classifier = self.classifier(plan, question.token, part(progress, 0.05, 0.55))
        progress(0.6, "Looking through the classifier")
        if question.layer:
            classifier = _at_layer(classifier, question.layer)
        labels = classifier.labels
        target, against = named_class(question.target, labels), named_class(question.against, labels)
        query = Query(classifier, picture, target=target, against=against, map=method)
        self._time_pass(query)
        choices = {name: getattr(question, name) for name in ("target", "against", "method", "layer")}
        asked = Asked(query, explain_query(query, []), plan, choices)
        self._asked.add(asked)
        return asked

    def again(self, asked: Asked, progress: Progress = silent, **changes: Any) -> Asked:
        """The same picture asked about another `target`, `method` or `against`: no new pass of the picture.

        What was asked before stays as it is, so work that is stopped half-way changes nothing.

        Raises:
            XaihubError: the classifier had to leave, or there is no such class or method.
        """
        from xaihub import METHODS

        labels = self._query(asked).classifier.labels
        about: dict[str, Any] = {}
        for name in ("target", "against"):
            if name in changes:
                about[name] = named_class(changes[name], labels)
        if "method" in changes:
            about["map"] = METHODS[changes["method"]].name
        draft = replace(asked, choices=asked.choices | changes)
        self._asked.add(draft)
        draft = self._settled(self._main(self._watched(draft, progress, **about)))
        progress(1.0, "Drawing")
        return self._rows(draft) if draft.references is not None else draft

    def show(self, asked: Asked, name: str) -> Shown:
        """What one method shows for the query's target, from memory if it was shown before."""
        from xaihub import METHODS

        query = self._query(asked)
        return self._shown(asked, name, ("map", query.target, query.other if METHODS[name].compares else None))

    def adopt(self, asked: Asked, limit: int, progress: Progress) -> Iterator[Asked]:
        """Once: the pictures of another classifier's references, embedded for this one, and their examples."""
        from xaihub import build_references
        from xaihub.datasets import from_pairs

        query, foreign = self._query(asked), asked.foreign
        if foreign is None:
            yield asked
            return
        key = (query.classifier.name, layer_of(query.classifier), "again", foreign.made, limit)
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
        """The large map."""
        return self._with(asked, {asked.method: self.show(asked, asked.method)})

    def _rows(self, asked: Asked) -> Asked:
        """The examples. They are kept when only the class changes: they are found by what the classifier predicted."""
        query = self._query(asked)
        about = ("examples", query.against, example_map(query.map), id(query.references))
        return self._with(asked, {name: self._shown(asked, name, about) for name in _example_methods()})

    def _with(self, asked: Asked, shown: dict[str, Shown]) -> Asked:
        now = asked.explanation
        evidence = {**now.evidence, **{name: one.evidence for name, one in shown.items()}}
        notes = {**now.notes, **{name: one.notes for name, one in shown.items()}}
        target = self._query(asked).target
        asked.explanation = replace(now, target=target, evidence=_current(asked, evidence), notes=notes)
        return asked

    def _shown(self, asked: Asked, name: str, about: tuple[Any, ...]) -> Shown:
        if (name, about) not in asked.seen:
            asked.seen[name, about] = self._computed(self._query(asked), name)
        return asked.seen[name, about]

    def _computed(self, query: "Query", name: str) -> Shown:
        from xaihub import METHODS, explain_query

        missing = METHODS[name].missing(query.classifier, query.references)
        if missing:
            return Shown((), (missing,))
        query.notes.pop(name, None)
        began = time.perf_counter()
        new = explain_query(query, [name])
        seconds = time.perf_counter() - began
        self.pace.took(query.classifier, METHODS[name], seconds)
        return Shown(new.evidence.get(name, ()), tuple(new.notes.get(name, ())), seconds)

    def _time_pass(self, query: "Query") -> None:
        """Makes the shared pass; once for each classifier, then, a few plain ones, since a first pass is a slow one."""
        known = self.pace.of_pass(query.classifier)
        began = time.perf_counter()
        query.logits  # noqa: B018  it is computed here
        count = FEW if time.perf_counter() - began < QUICK else 1
        if known is None:
            pixels = query.view.pixels.expand(count, -1, -1, -1)
            began = time.perf_counter()
            query.classifier.logits(pixels)
            self.pace.passed(query.classifier, count, time.perf_counter() - began)

    def _watched(self, asked: Asked, progress: Progress, **about: Any) -> Asked:
        """With a query that tells its progress and is stopped by the time limit."""
        from xaihub import METHODS

        what = METHODS[asked.method].title
        limited = until(self.settings.compute_seconds, progress, what)
        limited(0.0, what)
        asked.query = self._query(asked).about(progress=limited, **about)
        return asked

    def _settled(self, asked: Asked) -> Asked:
        """With a query that may be asked later, when its time limit and whoever watched it are gone."""
        asked.query = self._query(asked).about(progress=silent)
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
        return references_for(self, classifier, question, progress)

    def _query(self, asked: Asked) -> "Query":
        if asked.query is None:
            raise XaihubError("This result was put away to make room for other visitors. Press Explain again.")
        return asked.query

    def _forget(self, classifier: "Classifier") -> None:
        """Results hold on to their classifier: those of one that leaves let go of it, else nothing would be freed."""
        for asked in list(self._asked):
            if asked.query is not None and asked.query.classifier.module is classifier.module:
                asked.query = None


def _at_layer(classifier: "Classifier", name: str) -> "Classifier":
    """The same classifier at another layer; each part of a name costs a pass, so it has an end."""
    if len(name) > LONGEST:
        raise TargetLayerError(f"A layer's name has at most {LONGEST} letters here; this one has {len(name):,}.")
    return classifier.with_layer(name.strip())


def _current(asked: Asked, evidence: dict[str, Any]) -> dict[str, Any]:
    """Only what answers the question as it now stands: the map of an earlier choice is no longer shown."""
    return {name: shown for name, shown in evidence.items() if name == asked.method or name in _example_methods()}


def example_map(name: str) -> str:
    """Whose map the examples carry: that of the large one where it takes one backward pass, else Grad-CAM."""
    from xaihub.cams import CAMS

    return name if name in CAMS else "gradcam"


def _example_methods() -> list[str]:
    """The methods that search references: shown as rows of pictures beside the map."""
    from xaihub import METHODS

    return [name for name, method in METHODS.items() if "references" in method.needs]
