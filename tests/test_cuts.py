"""The smallest, latest cut of a computation, against a search through all cuts."""

import itertools
import random

import pytest
import torch

from xaihub.cuts import latest_cut, wiring

# From the answer (0) down to the pixels (the last node): each node names what it was computed from.
CHAIN = [[1], [2], [3], []]
BRANCHES = [[1, 2], [3], [4], [5], [5], [6], []]  # 5 splits into 3 and 4, which go on as 1 and 2
CROSSED = [[1, 2], [3, 4], [3, 4], [5], [5], []]  # branches that also feed each other


def connected(wires, end, without):
    reached, waiting = {0}, [0]
    while waiting:
        for source in wires[waiting.pop()]:
            if source not in reached and source not in without:
                reached.add(source)
                waiting.append(source)
    return end in reached


def every_smallest_cut(wires, end, candidates, most):
    for size in range(most + 1):
        found = [cut for cut in itertools.combinations(sorted(candidates), size) if not connected(wires, end, set(cut))]
        if found:
            return found
    return []


def test_of_a_chain_it_is_the_candidate_nearest_to_the_answer():
    assert latest_cut(CHAIN, 3, {1, 2}, most=1) == (1,)
    assert latest_cut(CHAIN, 3, {2}, most=1) == (2,)


def test_parallel_branches_take_one_node_each_unless_an_earlier_one_is_enough():
    assert latest_cut(BRANCHES, 6, {1, 2, 3, 4}, most=2) == (1, 2)
    assert latest_cut(BRANCHES, 6, {1, 3, 4}, most=2) == (1, 4)
    assert latest_cut(BRANCHES, 6, {1, 2, 3, 4, 5}, most=2) == (5,)
    assert latest_cut(CROSSED, 5, {1, 2, 3, 4}, most=2) == (1, 2)


def test_there_is_none_where_a_way_meets_no_candidate_or_more_are_needed_than_allowed():
    assert latest_cut(BRANCHES, 6, {1, 3}, most=4) is None
    assert latest_cut(BRANCHES, 6, {1, 2, 3, 4}, most=1) is None
    assert latest_cut(CHAIN, 3, (), most=1) is None


def test_neither_the_answer_nor_the_pixels_are_a_cut():
    assert latest_cut(CHAIN, 3, {0, 3}, most=1) is None


@pytest.mark.parametrize("seed", range(60))
def test_it_is_a_smallest_cut_and_no_other_of_that_size_is_later(seed):
    chance = random.Random(seed)
    count = 9
    wires = [
        sorted({chance.randrange(node + 1, count) for _ in range(chance.randint(1, 3))}) if node < count - 1 else []
        for node in range(count)
    ]
    candidates = set(chance.sample(range(1, count - 1), chance.randint(3, count - 2)))

    expected = every_smallest_cut(wires, count - 1, candidates, most=3)
    cut = latest_cut(wires, count - 1, candidates, most=3)

    if not expected:
        assert cut is None
        return
    assert cut in expected
    for other in expected:  # every way from the answer meets ours no later than any other
        assert not any(connected(wires, node, set(cut)) for node in set(other) - set(cut))


def test_wiring_tells_what_the_answer_was_computed_from_and_holds_no_tensor():
    leaf = torch.ones(3, requires_grad=True)
    left, right = (leaf * 2).clone(), (leaf * 3).clone()
    unused = (leaf * 5).clone()

    wires, end, marked = wiring((left + right).sum(), leaf, [left.grad_fn, right.grad_fn, unused.grad_fn])

    assert latest_cut(wires, end, marked, most=2) == tuple(sorted(marked[:2]))
    assert list(wires[marked[2]]) == []
    assert all(isinstance(source, int) for row in wires for source in row)
