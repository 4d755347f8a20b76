"""What methods show for an answered question: computed once, timed, watched, and kept for choices that come back."""

import time
import weakref
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from xaihub.errors import XaihubError
from xaihub.progress import Progress, silent, until
from xaihub.ui.asking import Asked, Shown
from xaihub.ui.pace import Pace
from xaihub.ui.settings import Settings

if TYPE_CHECKING:
    from xaihub.methods import Query

__all__ = ["Showing", "example_map", "example_methods"]

QUICK, FEW = 0.2, 4  # a classifier whose pass takes less than so many seconds is timed over so many pictures


class Showing:
    """The part of the desk that runs methods."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.pace = Pace(settings.compute_seconds)
        self._asked: weakref.WeakSet[Asked] = weakref.WeakSet()

    def show(self, asked: Asked, name: str) -> Shown:
        """What one method shows for the query's target, from memory if it was shown before."""
        from xaihub import METHODS

        query = self._query(asked)
        return self._shown(asked, name, ("map", query.target, query.other if METHODS[name].compares else None))

    def _main(self, asked: Asked) -> Asked:
        """The large map."""
        return self._with(asked, {asked.method: self.show(asked, asked.method)})

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

    def _time_pass(self, query: "Query", *, again: bool = False) -> None:
        """Makes the shared pass; once for each classifier, then, a few plain ones, since a first pass is a slow one.

        Args:
            again: time it also if it was timed: what a busy host makes slow need not stay slow.
        """
        known = None if again else self.pace.of_pass(query.classifier)
        began = time.perf_counter()
        query.logits  # noqa: B018  it is computed here
        count = FEW if time.perf_counter() - began < QUICK else 1
        if known is None:
            pixels = query.view.pixels.expand(count, -1, -1, -1)
            began = time.perf_counter()
            query.classifier.logits(pixels)
            self.pace.passed(query.classifier, count, time.perf_counter() - began)

    def _watched(self, asked: Asked, progress: Progress, **about: Any) -> Asked:
        """With its large map, whose progress is told and which is stopped by the time limit."""
        from xaihub import METHODS

        what = METHODS[asked.method].title
        with until(self.settings.compute_seconds, progress, what) as limited:
            limited(0.0, what)
            asked.query = self._query(asked).about(progress=limited, **about)
            return self._settled(self._main(asked))

    def _settled(self, asked: Asked) -> Asked:
        """With a query that may be asked later, when its time limit and whoever watched it are gone."""
        asked.query = self._query(asked).about(progress=silent)
        return asked

    def _draft(self, asked: Asked, **changes: Any) -> Asked:
        """A copy of which more is asked: work that is stopped half-way changes nothing."""
        draft = replace(asked, **changes)
        self._asked.add(draft)  # its classifier may have to leave
        return draft

    def _query(self, asked: Asked) -> "Query":
        if asked.query is None:
            raise XaihubError("This result was put away to make room for other visitors. Press Explain again.")
        return asked.query


def example_map(name: str) -> str:
    """Whose map the examples carry: that of the large one where it takes one backward pass, else Grad-CAM."""
    from xaihub.cams import CAMS

    return name if name in CAMS else "gradcam"


def example_methods() -> list[str]:
    """The methods that search references: shown as rows of pictures beside the map."""
    from xaihub import METHODS

    return [name for name, method in METHODS.items() if "references" in method.needs]


def _current(asked: Asked, evidence: dict[str, Any]) -> dict[str, Any]:
    """Only what answers the question as it now stands: the map of an earlier choice is no longer shown."""
    return {name: shown for name, shown in evidence.items() if name == asked.method or name in example_methods()}
