"""Stop: each run asks, whenever it reports progress, whether its visitor still wants it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from xaihub.errors import CancelledError
from xaihub.progress import Progress

__all__ = ["Stops"]


class Stops:
    """The runs under way, by visitor."""

    def __init__(self) -> None:
        self._running: dict[str, threading.Event] = {}
        self._lock = threading.Lock()

    def stop(self, visitor: str) -> bool:
        """Whether there was a run to stop; it ends at its next report of progress."""
        with self._lock:
            event = self._running.get(visitor)
        if event is None:
            return False
        event.set()
        return True

    @contextmanager
    def watched(self, visitor: str, progress: Progress) -> Iterator[Progress]:
        """The same progress, which raises CancelledError once the visitor has pressed Stop."""
        event = threading.Event()
        with self._lock:
            earlier, self._running[visitor] = self._running.get(visitor), event
        if earlier is not None:
            earlier.set()  # one run for each visitor: a second tab's, or one that was cancelled while it waited

        def report(share: float, stage: str) -> None:
            if event.is_set():
                raise CancelledError("Stopped.")
            progress(share, stage)

        try:
            yield report
        finally:
            with self._lock:
                if self._running.get(visitor) is event:
                    del self._running[visitor]
