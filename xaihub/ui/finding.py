"""Live search of the Hub's classifiers, which never makes anybody wait."""

import threading
import time

from xaihub.curated import CURATED_MODELS
from xaihub.ui.words import similar_words

__all__ = ["Finder"]

AT_ONCE = 4  # questions to the Hub; whoever types meanwhile waits a little, then gets what is known here
PATIENCE = 5.0  # seconds
REST = 60.0  # seconds without a question after the Hub gave nothing for the whole list: it is probably unreachable


class Finder:
    """Suggestions for the model box. An unreachable Hub is left alone for a while: asking it takes long."""

    def __init__(self) -> None:
        self._silent_until = 0.0
        self._lock = threading.Lock()
        self._turns = threading.BoundedSemaphore(AT_ONCE)

    def suggest(self, typed: str) -> list[tuple[str, str]]:
        """Choices for the box that the Hub finds for a text, besides the curated ones that it has already."""
        typed = typed.strip()
        if len(typed) < 2 or not self._turns.acquire(timeout=PATIENCE):
            return []
        try:
            return [(name, name) for name in self._search(typed[:80], 12) if name not in CURATED_MODELS]
        finally:
            self._turns.release()

    def similar(self, repo_id: str, count: int = 3) -> list[str]:
        """Classifiers that resemble one that was refused; none if the Hub does not answer."""
        found: list[str] = []
        for words in similar_words(repo_id):
            found += [name for name in self._search(words, count + 1) if name != repo_id and name not in found]
            if len(found) >= count:
                break
        return found[:count]

    def _search(self, words: str, limit: int) -> list[str]:
        with self._lock:
            if time.monotonic() < self._silent_until:
                return []
        from xaihub import hub

        found = hub.search_models(words, limit=limit, token=False)
        if not found and not words:
            with self._lock:
                self._silent_until = time.monotonic() + REST
        return found


def curated_choices() -> list[tuple[str, str]]:
    """(what is shown, the id) of the models that are known to work."""
    return [(f"{name} ({what})", name) for name, what in CURATED_MODELS.items()]
