"""From a visitor's question to explanations: who may ask what, what is kept, and what need not be computed again.

Knows nothing of gradio, and imports torch only when the first question comes.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from xaihub.errors import TargetLayerError, XaihubError
from xaihub.images import open_picture
from xaihub.progress import Progress, part, silent, until
from xaihub.ui.asking import Asked, Question, Shown
from xaihub.ui.desk_examples import Examples
from xaihub.ui.desk_references import embed_again, references_for
from xaihub.ui.desk_shown import example_map
from xaihub.ui.desk_words import reader_of, seen_by
from xaihub.ui.disk import HostDisk
from xaihub.ui.memory import trim
from xaihub.ui.pace import is_slow
from xaihub.ui.settings import Settings
from xaihub.ui.shelf import Shelf, classifier_bytes, embedder_bytes, references_bytes
from xaihub.ui.tokens import token_for
from xaihub.ui.turns import Turns, lane, staying
from xaihub.ui.words import named_class

if TYPE_CHECKING:
    from xaihub.classifier import Classifier
    from xaihub.embedders import Embedder
    from xaihub.loading import Plan
    from xaihub.methods import Query
    from xaihub.references import ReferenceSet

__all__ = ["Asked", "Desk", "Question", "Shown", "example_map"]


LONGEST = 300  # letters of layers joined by +


class Desk(Examples):
    """Where questions are answered. One for the whole app; safe from several threads."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.classifiers: Shelf[Classifier] = Shelf(settings.memory_megabytes * 2**20, classifier_bytes, self._forget)
        self.references: Shelf[ReferenceSet] = Shelf(settings.references_megabytes * 2**20, references_bytes)
        self.embedders: Shelf[Embedder] = Shelf(settings.embedders_megabytes * 2**20, embedder_bytes, self._unsee)
        self.turns = Turns(settings.queue, settings.queue_each, settings.asks_per_minute, settings.short_seconds)
        self.disk = HostDisk(settings)
        self._loading = threading.Lock()

    def look(self, model: str, token: str) -> "Plan":
        """The plan for a classifier, asked with this visitor's token, also for one that is in memory already."""
        from xaihub.loading import preflight

        with self.disk.looking("model", model):
            return preflight(model, token=token_for("model", model, token, self.settings), local=False)

    def loaded(self, plan: "Plan") -> "Classifier | None":
        return self.classifiers.get((plan.repo_id, plan.revision))

    def classifier(self, plan: "Plan", token: str, progress: Progress) -> "Classifier":
        """The planned classifier; downloads go side by side, building one at a time."""
        from xaihub.loading import fetch_planned, load_classifier

        known = self.loaded(plan)
        if known is not None:
            self.disk.touch(plan)
            return known
        asks_with = token_for("model", plan.repo_id, token, self.settings)
        what = f"Downloading {plan.repo_id}"
        with until(self.settings.download_seconds, progress, what) as limited, self.disk.room(plan):
            with lane("fetch"):
                fetch_planned(plan, token=asks_with, progress=limited)
            with self._turn(limited):
                built = self.loaded(plan) or load_classifier(plan, token=asks_with, local=False, progress=limited)
                return self.classifiers.put((plan.repo_id, plan.revision), built)

    def embedder(self, name: str, token: str, progress: Progress, *, words: bool = False) -> "Embedder":
        """What looks alike to a network of the Hub, or to none; the Hub is asked with this visitor's token each time.

        Args:
            words: also the half of it that reads.
        """
        from xaihub.embedders import EMBEDDERS
        from xaihub.hub_embedders import load_embedder, plan_embedder
        from xaihub.loading import fetch_planned

        if name in EMBEDDERS:
            return EMBEDDERS[name]
        asks_with = token_for("model", name, token, self.settings)
        with self.disk.looking("model", name.partition("@")[0]):
            plan = plan_embedder(name, token=asks_with, local=False, words=words)
        key, reading = ((plan.repo_id, plan.revision, reads) for reads in (words, True))

        def held() -> "Embedder | None":
            return self.embedders.get(key) or self.embedders.get(reading)

        known = held()
        if known is not None:
            self.disk.touch(plan)
            return known
        what = f"Downloading {plan.repo_id}"
        with until(self.settings.download_seconds, progress, what) as limited, self.disk.room(plan):
            with lane("fetch"):
                fetch_planned(plan, token=asks_with, progress=limited)
            with self._turn(limited):
                loaded = held() or load_embedder(plan, token=asks_with, local=False, words=words, progress=limited)
                return self.embedders.put(reading if getattr(loaded, "reads_words", False) else key, loaded)

    @contextmanager
    def _turn(self, progress: Progress) -> Iterator[None]:
        """One visitor at a time; who waits can stop."""
        while not self._loading.acquire(timeout=0.2):
            progress(0.0, "Waiting for another network to load")
        try:
            with staying():  # whoever moved to another queue here would keep all others from loading
                yield
        finally:
            self._loading.release()
            trim()  # what was refused leaves nothing behind

    def answer(self, question: Question, progress: Progress) -> Iterator[Asked]:
        """The heatmap as soon as it is there, then the same with its examples."""
        asked = self.begin(question, progress)
        asked = self._watched(asked, part(progress, 0.65, 0.9))
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

        query = self._query(asked)
        about: dict[str, Any] = {}
        for name in ("target", "against"):
            if name in changes:
                about[name] = named_class(changes[name], query.classifier.labels)
        if "method" in changes:
            about["map"] = METHODS[changes["method"]].name
        changed = query.about(**about)
        if changed.named_other == changed.target:
            if changes.get("against"):
                raise XaihubError(
                    f"{changes['against']!r} is the class that is explained. Compare it with another one."
                )
            changes["against"], about["against"] = "", None  # another class is explained now
        draft = self._draft(asked, choices=asked.choices | changes)
        draft = self._watched(draft, progress, **about)
        progress(1.0, "Drawing")
        return self._rows(draft) if draft.references is not None else draft

    def _references(self, classifier: "Classifier", question: Question, progress: Progress) -> "ReferenceSet":
        return references_for(self, classifier, question, progress)

    def _embedded_again(self, asked: Asked, limit: int, looks: str, token: str, progress: Progress) -> "ReferenceSet":
        return embed_again(self, asked, limit, looks, token, progress)

    def _seen_by(
        self, query: "Query", references: "ReferenceSet", token: str, progress: Progress
    ) -> "tuple[ReferenceSet, str]":
        return seen_by(self, query, references, token, progress)

    def _reader(self, references: "ReferenceSet", token: str) -> str:
        return reader_of(self, references, token)

    def _unsee(self, embedder: "Embedder") -> None:
        """Results whose picture was seen by an embedder that leaves are put away: they would hold it in memory."""
        for asked in list(self._asked):
            if asked.query is not None and any(held is embedder for held in list(asked.query.memory.values())):
                asked.query = None

    def _forget(self, classifier: "Classifier") -> None:
        """Results hold on to their classifier: those of one that leaves let go of it, else nothing would be freed."""
        for asked in list(self._asked):
            if asked.query is not None and asked.query.classifier.module is classifier.module:
                asked.query = None
        trim()


def _at_layer(classifier: "Classifier", name: str) -> "Classifier":
    """The same classifier at another layer; each part of a name costs a pass, so it has an end."""
    if len(name) > LONGEST:
        raise TargetLayerError(f"A layer's name has at most {LONGEST} letters here; this one has {len(name):,}.")
    return classifier.with_layer(name.strip())
