"""How long work says how far it is, and how it is stopped: one function, called often."""

import time
from collections.abc import Callable

from xaihub.errors import CancelledError

__all__ = ["Progress", "part", "silent", "until"]

Progress = Callable[[float, str], None]  # share done in [0, 1], stage in words; raises CancelledError to stop


def silent(share: float, stage: str) -> None:
    """Progress that nobody watches."""


def part(progress: Progress, start: float, end: float) -> Progress:
    """The same progress, for a stage that is one part of the whole."""
    return lambda share, stage: progress(start + (end - start) * min(1.0, max(0.0, share)), stage)


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
