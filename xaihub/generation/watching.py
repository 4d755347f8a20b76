"""Each denoising step told as progress, the time left estimated from the steps so far."""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from xaihub.errors import CancelledError
from xaihub.progress import Progress

__all__ = ["Watch", "in_words"]


class Watch:
    """How far the making of pictures is, and how long it will take; takes the place of a pipeline's progress bar.

    Args:
        rounds: how often the pipeline will be called.
        steps: of denoising in each call, as far as it is known.
        max_hours: beyond this estimate the work is stopped.
        advice: what would make it faster, for the sentence that says so.
    """

    def __init__(
        self,
        rounds: int,
        steps: int,
        *,
        max_hours: float,
        progress: Progress,
        advice: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.rounds, self.steps, self.max_hours = rounds, max(1, steps), max_hours
        self.progress, self.advice, self.clock = progress, advice, clock
        self.round, self.done, self.seconds, self.fastest = 0, 0, 0.0, float("inf")
        self.since = clock()
        self.label = ""

    def begin(self, label: str) -> None:
        """A call of the pipeline begins; `label` says which pictures it makes."""
        self.label, self.done = label, 0
        self.progress(self.share(), f"{label}, first step" if not self.seconds else f"{label}, {self.left()} left")
        self.since = self.clock()

    def end(self) -> None:
        """A call of the pipeline has ended."""
        if not self.done:  # it has no progress bar to be watched
            self.steps = 1
            self.step()
        self.round, self.done = self.round + 1, 0

    def step(self, count: float | None = 1) -> None:
        """A denoising step is done.

        Raises:
            CancelledError: the whole would take longer than allowed.
        """
        now = self.clock()
        taken = (now - self.since) / max(1, int(count or 1))
        self.since = now
        self.done += int(count or 1)
        first = not self.seconds
        self.fastest = min(self.fastest, taken)
        self.seconds = taken if first or self.seconds > 2 * self.fastest else 0.9 * self.seconds + 0.1 * taken
        self._refuse_too_long(first)
        self.progress(self.share(), f"{self.label}, step {self.done} of {self.steps}, {self.left()} left")

    def share(self) -> float:
        """Of all steps, how much is done."""
        return min(1.0, (self.round + min(1.0, self.done / self.steps)) / max(1, self.rounds))

    def left(self) -> str:
        """The time that is left, in words."""
        return in_words(self._seconds_left())

    def _seconds_left(self) -> float:
        return max(0.0, self.seconds * (self.rounds * self.steps - self.round * self.steps - self.done))

    def _refuse_too_long(self, first: bool) -> None:
        if first and self.steps > 1:  # the first step also warms up; the second says how long one takes
            return
        hours = self._seconds_left() / 3600
        if hours > self.max_hours:
            raise CancelledError(
                f"Making the pictures would take about {in_words(hours * 3600)} (one step takes"
                f" {self.seconds:.3g} s), longer than the {self.max_hours:g} hours allowed. {self.advice} Or allow more"
                " with --max-hours: it may be stopped at any time and goes on where it was."
            )

    def bar(self, iterable: Iterable[Any] | None = None, total: int | None = None) -> Any:
        """What a pipeline gets where it asks for a progress bar."""
        if total is None and hasattr(iterable, "__len__"):
            total = len(iterable)  # type: ignore[arg-type]
        self.steps = max(1, int(total or self.steps))
        self.since = self.clock()
        return _Bar(self, iterable)


class _Bar:
    """A progress bar that only tells how many steps are done, for both ways in which pipelines use one."""

    def __init__(self, watch: Watch, iterable: Iterable[Any] | None) -> None:
        self.watch, self.iterable = watch, iterable

    def __iter__(self) -> Iterator[Any]:
        for item in () if self.iterable is None else self.iterable:
            yield item
            self.watch.step()

    def update(self, count: float | None = 1) -> None:
        self.watch.step(count)

    def __enter__(self) -> "_Bar":
        return self

    def __exit__(self, *_exc: object) -> None:
        return None

    def __getattr__(self, _name: str) -> Callable[..., None]:
        return lambda *_args, **_kwargs: None  # set_description, close and whatever else a bar can do


def in_words(seconds: float) -> str:
    """A span of time as somebody would say it: 40 s, 12 min, 3 h 20 min, 4 days."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{seconds / 86400:.0f} days"
