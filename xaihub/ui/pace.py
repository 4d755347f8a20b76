"""How long things take on this host: measured when they run, so that a menu can say it before they run again."""

import math
import threading
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from xaihub.classifier import Classifier
    from xaihub.methods import Method

__all__ = ["Pace", "cost_in_words", "is_slow", "time_in_words", "total_in_words"]

TELLING = 20  # passes in a row tell more of a pass than a single one does


class Pace:
    """Seconds, by classifier: of one forward pass of one picture, and of each method that ran.

    Args:
        limit: seconds that one method may take on this host.
    """

    def __init__(self, limit: float = math.inf) -> None:
        self.limit = limit
        self._passes: WeakKeyDictionary[Any, tuple[int, float]] = WeakKeyDictionary()
        self._took: WeakKeyDictionary[Any, dict[tuple[str, str], float]] = WeakKeyDictionary()
        self._lock = threading.Lock()

    def passed(self, classifier: "Classifier", passes: int, seconds: float) -> None:
        """So many passes took so long: the longest row counts; of equal ones the fastest, since the others waited."""
        with self._lock:
            before, least = self._passes.get(classifier.module, (0, 0.0))
            if passes > before or (passes == before and seconds < least):
                self._passes[classifier.module] = passes, seconds

    def took(self, classifier: "Classifier", method: "Method", seconds: float) -> None:
        """A method ran. Its first time counts: a later one may have found most of its passes made."""
        passes, key = method.cost(classifier), (_layer(classifier), method.name)
        with self._lock:
            known = self._took.setdefault(classifier.module, {})
            first = known.setdefault(key, seconds) is seconds
        searches = "references" in method.needs  # and ends as soon as it has found: its cost is the most it can be
        if first and passes >= TELLING and not method.above and not searches:
            self.passed(classifier, passes, seconds)

    def of_pass(self, classifier: "Classifier") -> float | None:
        """Seconds of one pass; None before the first."""
        with self._lock:
            passes, seconds = self._passes.get(classifier.module, (0, 0.0))
        return seconds / passes if passes else None

    def of(self, classifier: "Classifier", method: "Method") -> float | None:
        """Seconds that a method will take; None where that is not known before it has run."""
        with self._lock:
            known = self._took.get(classifier.module, {}).get((_layer(classifier), method.name))
        each = self.of_pass(classifier)
        if known is not None or method.above or each is None:
            return known
        return each * method.cost(classifier)


def is_slow(name: str, classifier: "Classifier") -> bool:
    """Whether a method needs more passes than one may make without having been named."""
    from xaihub.methods import FEW_PASSES, METHODS

    return METHODS[name].cost(classifier) > FEW_PASSES


def cost_in_words(method: "Method", classifier: "Classifier | None", pace: Pace) -> str:
    """ "1,000 passes, about 40 s here"; "" for what costs nothing beyond the pass that all share."""
    if classifier is None:
        return _unloaded(method)
    passes = method.cost(classifier)
    if not passes:
        return ""
    seconds = pace.of(classifier, method)
    where = " of the layers above" if method.above else ""
    time = f", about {time_in_words(seconds)} here" if seconds is not None else ""
    late = f", beyond the limit of {pace.limit:.0f} s" if (seconds or 0) > pace.limit else ""
    return f"{passes:,} pass{'es' * (passes > 1)}{where}{time}{late}"


def total_in_words(
    names: Sequence[str], times: int, classifier: "Classifier | None", pace: Pace, limit: float, vary: str
) -> str:
    """HTML: what a comparison will cost before it is run; what is slow is named.

    Args:
        names: the methods.
        times: for how many classes or models each of them runs.
        limit: the host's, in seconds, for a comparison.
    """
    from xaihub import METHODS

    methods = [METHODS[name] for name in names if name in METHODS]
    if classifier is not None:
        methods = [method for method in methods if not method.missing(classifier, None)]
    shared = "one pass of each model" if vary == "models" else "one shared pass"
    maps = len(methods) * times
    slow = [f"{method.title} ({cost_in_words(method, classifier, pace)})" for method in methods if method.passes]
    line = f"{maps} map{'s' * (maps != 1)} from {shared}" + (f", and more passes for {'; '.join(slow)}" if slow else "")
    seconds = sum(pace.of(classifier, method) or 0 for method in methods) * times if classifier is not None else 0
    late = f" That may be beyond this host's limit of {limit:.0f} s." if seconds > limit else ""
    most = "at most " if vary == "classes" else ""  # where many pictures are tried, their answers serve every class
    together = f" Together {most}about {time_in_words(seconds)} here." if slow and seconds else ""
    return f'<p class="xh-note" role="status">{escape(line)}.{together}{late}</p>'


def _unloaded(method: "Method") -> str:
    if callable(method.passes):
        return "as many passes as the model makes it need"
    return f"{method.passes:,} passes" if method.passes else ""


def time_in_words(seconds: float) -> str:
    """ "0.04 s", "3.2 s", "40 s", "2 min": no more figures than a measurement on a shared host deserves."""
    if seconds >= 100:
        return f"{seconds / 60:.0f} min"
    if seconds >= 10:
        return f"{seconds:.0f} s"
    return f"{seconds:.1f} s" if seconds >= 0.1 else f"{max(seconds, 0.01):.2f} s"


def _layer(classifier: "Classifier") -> str:
    return classifier.target_layer.name if classifier.target_layer else ""
