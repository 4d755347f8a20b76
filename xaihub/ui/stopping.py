"""Stop: work runs beside the handler that waits for it, so a visitor who presses Stop waits for nothing.

gradio can cancel a handler only between its steps: one that waits for a silent server would hold the queue until that
server speaks. Here the handler leaves at once, and the work ends by itself when it next reports progress, or before the
next layer of a running network. Until then it keeps its place: whoever asks anew waits for what they stopped.
"""

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from xaihub.errors import CancelledError
from xaihub.progress import Progress, checking
from xaihub.ui.turns import Turns, Visitor

__all__ = ["EndedError", "Stops"]

Thing = TypeVar("Thing")


class EndedError(CancelledError):
    """The visitor ended the run, by Stop or by asking something else; its text is what is left to say, or "".

    The run says it, though Stop has said it already: what the run gave before may be shown only after that.
    """


class _Ending(threading.Event):
    """Set when a run shall end; whoever waits for what the run tells, or for its turn, wakes up."""

    said = ""

    def __init__(self, turns: Turns) -> None:
        super().__init__()
        self.turns, self.told = turns, queue.SimpleQueue[tuple[str, Any]]()

    def set(self) -> None:
        super().set()
        self.told.put(("ended", None))
        self.turns.wake()

    def error(self) -> EndedError:
        return EndedError(self.said)


class Stops:
    """The runs under way, by visitor.

    Args:
        turns: of the whole app.
    """

    def __init__(self, turns: Turns | None = None) -> None:
        self.turns = turns or Turns()
        self._running: dict[Visitor, _Ending] = {}
        self._lock = threading.Lock()

    def stop(self, visitor: Visitor, said: str = "") -> bool:
        """Whether there was a run to stop; `said` is what it then says."""
        with self._lock:
            ending = self._running.get(visitor)
        if ending is not None:
            ending.said = said
            ending.set()
        return ending is not None

    def under_way(self, visitor: Visitor) -> object | None:
        """The visitor's run, to be compared with a later one; None where there is none."""
        with self._lock:
            return self._running.get(visitor)

    def run(
        self,
        visitor: Visitor,
        work: Callable[[Progress], Iterator[Thing]],
        progress: Progress,
        *,
        unasked: bool = False,
    ) -> Iterator[Thing]:
        """Yield what the work yields once it is its turn; progress is told in the caller's thread, where gradio knows
        whose bar it is.

        Args:
            unasked: whether the work only follows upon an earlier answer: then it does not end what the visitor has
                asked since, but gives way to it.

        Raises:
            EndedError: `stop` was called for the visitor, a later run of theirs has begun, or an unasked one gave way.
            BusyError: there is no place for it in the queue.
        """
        stopped = _Ending(self.turns)
        with self._lock:
            earlier = self._running.get(visitor)
            if earlier is not None and unasked:
                raise EndedError
            self._running[visitor] = stopped
        if earlier is not None:
            earlier.set()
        given = visitor, work, stopped
        threading.Thread(target=_work, args=given, daemon=True, name="question").start()
        try:
            yield from _heard(stopped, progress)
        finally:  # also when gradio closes this generator, because the visitor left
            stopped.set()
            with self._lock:
                if self._running.get(visitor) is stopped:
                    del self._running[visitor]


def _work(visitor: Visitor, work: Callable[[Progress], Iterator[Any]], stopped: _Ending) -> None:
    turns, told = stopped.turns, stopped.told

    def check() -> None:
        if stopped.is_set():
            raise stopped.error()

    def report(share: float, stage: str) -> None:
        check()
        told.put(("progress", (share, stage)))
        turns.breathe(share)

    try:
        with turns.place(visitor, report, stopped.is_set), checking(check):
            from xaihub.hooks import between_layers  # imports torch

            with between_layers():
                for thing in work(report):
                    told.put(("thing", thing))
                    report(1.0, "Drawing")
        told.put(("end", None))
    except BaseException as error:  # noqa: BLE001  it is raised again where somebody waits for it
        told.put(("error", error))


def _heard(stopped: _Ending, progress: Progress) -> Iterator[Any]:
    while not stopped.is_set():
        kind, value = stopped.told.get()
        if kind == "progress":
            progress(*value)
        elif kind == "thing":
            yield value
        elif kind == "error":
            raise value
        elif kind == "end":
            return
    raise stopped.error()
