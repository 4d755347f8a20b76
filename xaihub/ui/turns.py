"""Whose turn it is: a few pieces of work at a time, visitors one after the other, short and long work side by side.

gradio's own queue is first come, first served, and frees a place when the handler leaves, though its work may go on.
Here the work itself holds its place until it has ended. There are three lanes: all work begins in the short one; what
computes for longer than a short question does gives way at its next word of progress and goes on in the long lane;
downloads, which compute nothing, have one of their own. In each lane the address that was served longest ago comes
first, of one address the visitor who was, of one visitor the question that came first.
"""

import threading
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from xaihub.errors import BusyError
from xaihub.progress import Progress, silent, waiting

__all__ = ["Turns", "Visitor", "lane", "staying"]

Lane = Literal["short", "long", "fetch"]

SIDE_BY_SIDE: dict[Lane, int] = {"short": 1, "long": 1, "fetch": 4}
TELL = 1.0  # seconds between two words to a question that waits
PATIENCE = 10.0  # seconds that a question waits for a place to wait at: who is refused at once asks again at once
NEXT = "Waiting: this question is the next"
REMEMBERED = 2000  # visitors and addresses of whom it is known when they were served last


@dataclass(frozen=True)
class Visitor:
    """Who asks.

    Attributes:
        session: of the browser's tab, or of the client; two visitors are the same if these are.
        address: where the request came from, or "".
    """

    session: str
    address: str = field(default="", compare=False)


@dataclass(eq=False)
class _Place:
    """One piece of work: where it waits or runs.

    Attributes:
        began: when it got its present place; None while it waits.
        new: whether it has never had one.
        turned_away: somebody who had none was given its place in the queue.
    """

    turns: "Turns"
    visitor: Visitor
    number: int
    report: Progress
    gone: Callable[[], bool]
    lane: Lane = "short"
    began: float | None = None
    new: bool = True
    turned_away: bool = False
    stays: bool = False
    share: float = 0.0


class _Here(threading.local):
    """The place of the work that this thread does."""

    place: _Place | None = None


_HERE = _Here()


@contextmanager
def lane(name: Lane) -> Iterator[None]:
    """While open, the work of this thread goes on in another lane; no matter where nobody takes turns.

    Raises:
        CancelledError: it was stopped while it waited there.
    """
    place = _HERE.place
    if place is None or place.lane == name or place.stays:
        yield
        return
    before = place.lane
    place.turns._move(place, name)
    try:
        yield
    finally:
        place.turns._move(place, before)


@contextmanager
def staying() -> Iterator[None]:
    """While open, the work of this thread keeps its place however long it takes: it holds what others wait for."""
    place = _HERE.place
    before = place.stays if place else False
    if place:
        place.stays = True
    try:
        yield
    finally:
        if place:
            place.stays = before


class Turns:
    """The lanes of one app; safe from several threads.

    Args:
        most: questions that may wait.
        each: of them, of one visitor.
        per_minute: questions of one visitor while others wait.
        short: seconds after which work is long.
    """

    def __init__(self, most: int = 20, each: int = 2, per_minute: int = 60, short: float = 2.0) -> None:
        self.most, self.each, self.per_minute, self.short = most, each, per_minute, short
        self._places: list[_Place] = []
        self._patient: set[Visitor] = set()
        self._count = 0
        self._served: OrderedDict[str | Visitor, int] = OrderedDict()
        self._asked: OrderedDict[Visitor, deque[float]] = OrderedDict()
        self._changed = threading.Condition()

    @contextmanager
    def place(
        self, visitor: Visitor, report: Progress = silent, gone: Callable[[], bool] = lambda: False
    ) -> Iterator[None]:
        """While open, this thread has a place; it waits for it, and says how many come before it.

        Args:
            report: told while it waits; what it raises ends the waiting.
            gone: whether nobody waits for the work any more.

        Raises:
            BusyError: this visitor has too many questions waiting already, or all visitors together.
        """
        place = self._entered(visitor, report, gone)
        outer, _HERE.place = _HERE.place, place
        try:
            self._wait(place)
            yield
        finally:
            _HERE.place = outer
            with self._changed:
                self._places.remove(place)
                self._changed.notify_all()

    def breathe(self, share: float = 0.0) -> None:
        """Called at each word of progress: long work gives way here to short questions that wait."""
        place = _HERE.place
        if place is None or place.turns is not self:
            return
        place.share = share
        if place.stays or place.lane != "short" or place.began is None:
            return
        with self._changed:
            long = time.monotonic() - place.began > self.short
            gives_way = long and any(other.lane == "short" for other in self._waiting())
        if gives_way:
            self._move(place, "long")

    def wake(self) -> None:
        """Lets all that waits look anew: somebody is gone."""
        with self._changed:
            self._changed.notify_all()

    def waiting(self, visitor: Visitor | None = None) -> int:
        """Return how many pieces of work wait: of one visitor, or of all."""
        with self._changed:
            return sum(visitor in (None, place.visitor) for place in self._waiting())

    def running(self) -> int:
        """Return how many pieces of work run, downloads included."""
        with self._changed:
            return sum(place.began is not None for place in self._places)

    # Coming in

    def _entered(self, visitor: Visitor, report: Progress, gone: Callable[[], bool]) -> _Place:
        with self._changed:
            self._refuse(visitor)
            if not self._has_room(visitor):
                self._be_patient(visitor, gone)
            self._count += 1
            place = _Place(self, visitor, self._count, report, gone)
            self._places.append(place)
            self._asked.setdefault(visitor, deque()).append(time.monotonic())
            self._asked.move_to_end(visitor)
            _trim(self._asked)
            return place

    def _refuse(self, visitor: Visitor) -> None:
        """Raise BusyError if this visitor asks too much."""
        mine = sum(place.visitor == visitor for place in self._waiting())
        if mine >= self.each:
            raise BusyError(
                f"You have {mine} question{'s' * (mine > 1)} waiting already, and no visitor may have more. Wait for an"
                " answer, or press Stop, and ask again."
            )
        asked, now = self._asked.get(visitor, deque()), time.monotonic()
        while asked and now - asked[0] > 60:
            asked.popleft()
        if len(asked) >= self.per_minute and any(place.visitor != visitor for place in self._waiting()):
            raise BusyError(
                f"You have asked {len(asked)} times in a minute, and others are waiting. Ask again in"
                f" {60 - (now - asked[0]):.0f} s."
            )

    def _has_room(self, visitor: Visitor) -> bool:
        """Return whether one more may wait; a newcomer is given the last place of whoever holds the most."""
        waits = self._waiting()
        if len(waits) < self.most:
            return True
        for whose in (_address, _session):
            held, mine = Counter(whose(place.visitor) for place in waits), whose(visitor)
            new = [place for place in waits if place.new]
            last = max(new, key=lambda place: (held[whose(place.visitor)], place.number), default=None)
            if last is not None and held[whose(last.visitor)] > held[mine] + 1:
                last.turned_away = True
                self._changed.notify_all()
                return True
        return False

    def _be_patient(self, visitor: Visitor, gone: Callable[[], bool]) -> None:
        """Wait for a while until one more may wait; only one question of each visitor."""
        end = time.monotonic() + PATIENCE * (visitor not in self._patient)
        self._patient.add(visitor)
        try:
            while not self._has_room(visitor):
                if gone() or time.monotonic() >= end:
                    raise BusyError(self._full())
                self._changed.wait(max(0.0, end - time.monotonic()))
        finally:
            self._patient.discard(visitor)

    def _full(self) -> str:
        waiting = f"{self.most} questions are" if self.most != 1 else "1 question is"
        return f"The queue is full: {waiting} waiting, and no more may. Ask again in a minute."

    # Waiting and running

    def _waiting(self) -> list[_Place]:
        return [p for p in self._places if p.began is None and not p.turned_away and not p.gone()]

    def _wait(self, place: _Place) -> None:
        """Until it is this place's turn in its lane."""
        with waiting():
            while True:
                with self._changed:
                    before = self._before(place)
                    if place.turned_away:
                        raise BusyError(self._full())
                    if before == 0:
                        self._begin(place)
                        return
                    self._changed.wait(TELL)
                    before = self._before(place)
                if before or place.gone():
                    place.report(place.share, f"Waiting: {before} before this question" if before > 1 else NEXT)

    def _before(self, place: _Place) -> int:
        """Return how many pieces of work come before it; 0 where it may run."""
        running = sum(other.lane == place.lane and other.began is not None for other in self._places)
        order = sorted((other for other in self._waiting() if other.lane == place.lane), key=self._order)
        ahead = order.index(place) if place in order else 0
        return max(0, running + ahead - SIDE_BY_SIDE[place.lane] + 1)

    def _order(self, place: _Place) -> tuple[int, int, int]:
        visitor = place.visitor
        return self._served.get(visitor.address, 0), self._served.get(visitor, 0), place.number

    def _begin(self, place: _Place) -> None:
        place.began, place.new = time.monotonic(), False
        self._count += 1
        for key in (place.visitor.address, place.visitor):
            self._served[key] = self._count
            self._served.move_to_end(key)
        _trim(self._served)
        self._changed.notify_all()

    def _move(self, place: _Place, name: Lane) -> None:
        """To another lane, where it waits for its turn."""
        with self._changed:
            place.lane, place.began = name, None
            self._changed.notify_all()
        self._wait(place)


def _address(visitor: Visitor) -> str:
    return visitor.address


def _session(visitor: Visitor) -> str:
    return visitor.session


def _trim(known: "OrderedDict[Any, Any]") -> None:
    while len(known) > REMEMBERED:
        known.popitem(last=False)
