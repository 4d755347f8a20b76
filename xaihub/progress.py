"""How long work says how far it is, and how it is stopped: one function, called often."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from xaihub.errors import CancelledError

__all__ = ["Pace", "Progress", "part", "quietly", "silent", "until"]

Progress = Callable[[float, str], None]  # share done in [0, 1], stage in words; raises CancelledError to stop


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


def until(seconds: float, progress: Progress, what: str) -> Progress:
    """The same progress, which stops the work once so many seconds have passed.

    Raises:
        CancelledError: from the returned function, when called after the time limit.
    """
    end = time.monotonic() + seconds

    def watched(share: float, stage: str) -> None:
        if time.monotonic() > end:
            raise CancelledError(
                f"{what} took longer than the limit of {seconds:.0f} s on this host. Try something smaller."
            )
        progress(share, stage)

    return watched
