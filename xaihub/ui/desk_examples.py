"""Examples beside an answer: the rows that are found at once, and the smallest change, which takes many passes."""

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from xaihub.errors import CancelledError, ReferencesMismatchError, XaihubError
from xaihub.progress import Progress, part, silent, until
from xaihub.ui.asking import Asked, Question
from xaihub.ui.desk_references import refilled
from xaihub.ui.desk_shown import example_map, example_methods
from xaihub.ui.desk_trust import Trusting
from xaihub.ui.words import named_class

if TYPE_CHECKING:
    from xaihub.classifier import Classifier
    from xaihub.methods import Query
    from xaihub.records import Evidence
    from xaihub.references import ReferenceSet

__all__ = ["CHANGE", "Examples"]

CHANGE = "swap"  # the method whose picture the classifier is asked about many times
SOON = 30.0  # seconds that it may take at most to be looked for unasked: most are found in half of them


class Examples(Trusting):
    """The part of the desk that searches references."""

    @abstractmethod
    def _references(self, classifier: "Classifier", question: Question, progress: Progress) -> "ReferenceSet":
        """Those that the question names."""

    @abstractmethod
    def _embedded_again(self, asked: Asked, limit: int, looks: str, token: str, progress: Progress) -> "ReferenceSet":
        """The pictures of another classifier's references, embedded for this one."""

    def lacks_change(self, asked: Asked) -> bool:
        """Whether the smallest change can still be looked for."""
        beside = asked.references is not None and asked.query is not None and not asked.trouble
        return beside and CHANGE in example_methods() and CHANGE not in asked.explanation.evidence

    def change_seconds(self, asked: Asked) -> float | None:
        """How long the smallest change takes at most; None before a pass of this classifier was timed."""
        from xaihub import METHODS

        query = self._query(asked)
        each = self.pace.of_pass(query.classifier)
        return None if each is None else each * METHODS[CHANGE].cost(query.classifier)

    def is_soon(self, asked: Asked) -> bool:
        """Whether the smallest change takes so little time that it is looked for unasked."""
        seconds = self.change_seconds(asked)
        return seconds is not None and seconds <= SOON

    def smallest_change(self, asked: Asked, progress: Progress = silent) -> Asked:
        """The same answer with the smallest change; what was asked stays as it is, so a stopped search changes nothing.

        Raises:
            XaihubError: the classifier had to leave. A CancelledError: from `progress`, or at the time limit.
        """
        from xaihub import METHODS

        title = METHODS[CHANGE].title
        with until(self.settings.compute_seconds, progress, title) as limited:
            limited(0.0, f"{title}: asking the classifier about pictures with a few cells of another")
            draft = self._draft(asked, query=self._query(asked).about(progress=limited))
            found = self._shown(draft, CHANGE, _about(draft))
        for one in found.evidence:
            self.pace.passed(self._query(draft).classifier, int(one.facts.get("forwards") or 0), found.seconds)
        return self._settled(self._with(draft, {CHANGE: found}))

    @abstractmethod
    def _seen_by(
        self, query: "Query", references: "ReferenceSet", token: str, progress: Progress
    ) -> "tuple[ReferenceSet, str]":
        """The references without the spaces whose embedders cannot be had, and why; the query knows the others."""

    @abstractmethod
    def _reader(self, references: "ReferenceSet", token: str) -> str:
        """The space that can be searched with words, or ""."""

    def adopt(self, asked: Asked, limit: int, progress: Progress, looks: str = "", token: str = "") -> Iterator[Asked]:
        """Once: the pictures of another classifier's references, embedded for this one, and their examples."""
        if asked.foreign is None:
            yield asked
            return
        references = self._embedded_again(asked, limit, looks.strip(), token, part(progress, 0.0, 0.8))
        asked = self._searching(asked, references, token, part(progress, 0.8, 0.95))
        asked.foreign, asked.trouble = None, ""
        yield self._rows(asked)

    def _rows(self, asked: Asked) -> Asked:
        """The examples. They are kept when only the class changes: they are found by what the classifier predicted."""
        query = self._query(asked)
        about = (*_about(asked), example_map(query.map))
        shown = {name: self._shown(asked, name, about) for name in example_methods() if name != CHANGE}
        asked = self._without_change(self._with(asked, shown))
        known = asked.seen.get((CHANGE, _about(asked)))
        asked = asked if known is None else self._with(asked, {CHANGE: known})
        asked.contrasts = self._contrasts(asked)
        if self.lacks_change(asked) and not self.is_soon(asked):
            self._time_pass(query, again=True)
        return asked

    def _without_change(self, asked: Asked) -> Asked:
        """The smallest change is to another class that was asked for earlier."""
        now = asked.explanation
        evidence = {name: shown for name, shown in now.evidence.items() if name != CHANGE}
        notes = {name: said for name, said in now.notes.items() if name != CHANGE}
        asked.explanation = replace(now, evidence=evidence, notes=notes)
        return asked

    def _contrasts(self, asked: Asked) -> "dict[str, Evidence]":
        """Class -> what on the visitor's picture speaks for the predicted class rather than that one."""
        query = self._query(asked)
        contrasts: dict[str, Evidence] = {}
        for name in ("counterfactuals", "semifactuals"):
            for evidence in asked.explanation.evidence.get(name, ()):
                own = evidence.facts["predicted"]
                other = str(evidence.facts.get("against") if name == "semifactuals" else own)
                if "against" in evidence.facts and other not in contrasts:
                    draft = replace(asked, query=query.about(target=None, against=other))
                    for one in self.show(draft, "discriminant").evidence[:1]:
                        contrasts[other] = one
        return contrasts

    def _beside(self, asked: Asked, question: Question, progress: Progress) -> Asked:
        """The same with examples, or with the sentence that says why there are none: the heatmap stays either way."""
        query = self._query(asked)
        try:
            references = self._references(query.classifier, question, part(progress, 0.0, 0.7))
            try:
                references.check(query.classifier)
            except ReferencesMismatchError:
                asked.foreign = references
                raise
            filling = part(progress, 0.7, 0.8)
            references, told = refilled(self.settings, query.classifier, references, question, filling)
            asked.query = query.about(against=named_class(question.against, query.classifier.labels))
            asked = self._searching(asked, references, question.token, part(progress, 0.8, 0.95))
            asked.told = f"{told} {asked.told}".strip()
            progress(0.95, "Searching the references")
            return self._rows(asked)
        except CancelledError:
            raise
        except XaihubError as error:
            asked.trouble = str(error)
            return asked

    def _searching(self, asked: Asked, references: "ReferenceSet", token: str, progress: Progress) -> Asked:
        """With references to search, by the eyes that can be had."""
        query = self._query(asked)
        seen, asked.told = self._seen_by(query, references, token, progress)
        asked.query, asked.references = query.about(references=seen), seen
        asked.whole, asked.reader = references, self._reader(references, token)
        return asked


def _about(asked: Asked) -> tuple[Any, ...]:
    """What the examples depend on, besides the map that they carry."""
    assert asked.query is not None  # noqa: S101  who computes them has asked for it
    return ("examples", asked.query.against, id(asked.query.references))
