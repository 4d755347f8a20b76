"""Which few places everything passes through: the smallest cut of a computation, and of those the latest."""

from collections import Counter, defaultdict, deque
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["Wiring", "latest_cut", "wiring"]

Wiring = Sequence[Sequence[int]]  # of each node, the nodes its value was computed from; node 0 is the answer
Side = tuple[int, bool]  # a node, and whether its lower side (towards the pixels) is meant


def wiring(answer: Tensor, leaf: Tensor, marked: Sequence[Any]) -> tuple[Wiring, int, list[int]]:
    """What the answer was computed from, as plain numbers: nothing of autograd's graph is held.

    Args:
        answer: with a graph.
        leaf: where the computation began.
        marked: nodes of autograd's graph.

    Returns:
        The wiring; the number of the leaf; the numbers of the marked nodes. A marked node that the answer does not
        rest on has no wires.
    """
    numbers: dict[Any, int] = {answer.grad_fn: 0}
    wires: list[list[int]] = []
    waiting: deque[Any] = deque([answer.grad_fn])
    while waiting:
        sources = [source for source, _ in waiting.popleft().next_functions if source is not None]
        for source in sources:
            if source not in numbers:
                numbers[source] = len(numbers)
                waiting.append(source)
        wires.append([numbers[source] for source in sources])
    ends = [torch.autograd.graph.get_gradient_edge(leaf).node, *marked]
    for node in ends:
        if node not in numbers:
            numbers[node] = len(numbers)
            wires.append([])
    return wires, numbers[ends[0]], [numbers[node] for node in marked]


def latest_cut(wires: Wiring, end: int, candidates: Collection[int], most: int) -> tuple[int, ...] | None:
    """The fewest candidates without which nothing connects the answer (node 0) with `end`; of equals the latest.

    The fewest nodes that part two others are as many as there are paths between these that share none of them
    (Menger, 1927). Such paths are found one by one (Ford and Fulkerson, 1956); when there is no further one, what can
    still be reached from the answer ends at the cut that is nearest to it.

    Returns:
        Node numbers in ascending order; None where more than `most` would be needed, or all of them are not enough.
    """
    paths = _Paths(wires, frozenset(candidates) - {0, end})
    if paths.pass_by(end):
        return None
    for count in range(most + 1):
        steps = paths.search()
        if (end, False) not in steps:
            return tuple(sorted(v for v in paths.candidates if (v, False) in steps and (v, True) not in steps))
        if count < most:
            paths.add(steps, end)
    return None


class _Paths:
    """Paths from the answer to the leaf, of which each candidate carries one at most."""

    def __init__(self, wires: Wiring, candidates: frozenset[int]) -> None:
        self.wires, self.candidates = wires, candidates
        self._into: defaultdict[int, Counter[int]] = defaultdict(Counter)  # node -> from where, how many paths
        self._through: Counter[int] = Counter()

    def pass_by(self, end: int) -> bool:
        """Whether a path meets no candidate at all."""
        seen, waiting = {0}, [0]
        while waiting:
            for source in self.wires[waiting.pop()]:
                if source not in seen and source not in self.candidates:
                    seen.add(source)
                    waiting.append(source)
        return end in seen

    def search(self) -> dict[Side, Side]:
        """All that can be reached with the paths so far in place, each with the step that led there."""
        steps: dict[Side, Side] = {(0, True): (0, True)}
        waiting = deque(steps)
        while waiting:
            side = waiting.popleft()
            for following in self._following(side):
                if following not in steps:
                    steps[following] = side
                    waiting.append(following)
        return steps

    def _following(self, side: Side) -> Iterator[Side]:
        node, lower = side
        if lower:
            for source in self.wires[node]:
                yield source, False
            if self._through[node]:
                yield node, False  # a path may be taken back
        else:
            if node not in self.candidates or not self._through[node]:
                yield node, True
            for origin, count in self._into[node].items():
                if count:
                    yield origin, True

    def add(self, steps: dict[Side, Side], end: int) -> None:
        """One more path, along the steps that led to the end."""
        side: Side = (end, False)
        while side != (0, True):
            (node, lower), before = side, steps[side]
            if node == before[0]:
                self._through[node] += 1 if lower else -1
            elif lower:  # back along a wire that a path had taken
                self._into[before[0]][node] -= 1
            else:
                self._into[node][before[0]] += 1
            side = before
