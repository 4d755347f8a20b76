"""Progress of long work, and its end: one function, called often.

Between two calls of it a thread may be stopped, too: whoever runs work says what ends it (`checking`), and loops,
downloads and the layers of a running network (`hooks.between_layers`) ask (`checkpoint`).
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from xaihub.errors import CancelledError

__all__ = ["Pace", "Progress", "checking", "checkpoint", "part", "quietly", "silent", "until", "waiting"]

Progress = Callable[[float, str], None]  # share done in [0, 1], stage in words; raises CancelledError to stop
Check = Callable[[], None]  # raises CancelledError to stop


class _Thread(threading.local):
    """Checks that end the work of this thread, and the seconds that it has spent waiting for its turn."""

    checks: tuple[Check, ...] = ()
    waited = 0.0


_THREAD = _Thread()


def checkpoint() -> None:
    """Raise CancelledError if the work of this thread was stopped or its time is over; costs next to nothing."""
    for check in _THREAD.checks:
        check()


@contextmanager
def checking(check: Check) -> Iterator[None]:
    """While open, each `checkpoint` on this thread asks `check` as well."""
    _THREAD.checks = (*_THREAD.checks, check)
    try:
        yield
    finally:  # of a generator this may be another thread, which has other checks
        _THREAD.checks = tuple(each for each in _THREAD.checks if each is not check)


@contextmanager
def waiting() -> Iterator[None]:
    """While open, no time limit of this thread's work runs down."""
    began = time.monotonic()
    try:
        yield
    finally:
        _THREAD.waited += time.monotonic() - began


def _clock() -> float:
    """Seconds of this thread's work, without those that it waited."""
    return time.monotonic() - _THREAD.waited


def silent(share: float, stage: str) -> None:
    """Progress that nobody watches."""


def part(progress: Progress, start: float, end: float) -> Progress:
    """The same progress, for a stage that is one part of the whole."""
    return lambda share, stage: progress(start + (end - start) * min(1.0, max(0.0, share)), stage)


class Pace:
    """How long the rest of some work takes, at the pace of its steps in this process so far."""

    def __init__(self) -> None:
        self._begun, self._steps = 0.0, 0

    def left(self, steps: int) -> str:
        """In words; called after each step with the number of those to come."""
        if not self._steps:
            self._begun = time.monotonic()  # the first step builds what later ones use again
        self._steps += 1
        seconds = (time.monotonic() - self._begun) / max(1, self._steps - 1) * steps
        return f"{seconds:.0f} s left" if seconds < 90 else f"about {seconds / 60:.0f} min left"


@contextmanager
def quietly(logging: Any) -> Iterator[None]:
    """Without another library's bars and remarks: what matters of them is said in words of ours.

    Args:
        logging: its `utils.logging`, which transformers and diffusers have alike.
    """
    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()


@contextmanager
def until(seconds: float, progress: Progress, what: str) -> Iterator[Progress]:
    """While open, the work of this thread is stopped once so many seconds have passed; gives the same progress.

    Seconds that it waits for its turn do not count.

    Raises:
        CancelledError: from a `checkpoint` or the given progress, after the time limit.
    """
    end = _clock() + seconds

    def check() -> None:
        if _clock() > end:
            raise CancelledError(
                f"{what} took longer than the limit of {seconds:.0f} s on this host. Try something smaller."
            )

    def watched(share: float, stage: str) -> None:
        check()
        progress(share, stage)

    with checking(check):
        yield watched
