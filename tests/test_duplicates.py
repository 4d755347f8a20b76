"""Near hashes: all that comparing each with each would find."""

import time

import numpy as np
import pytest

from xaihub.duplicates import groups, near_copies, near_pairs


def slow_pairs(hashes, bits):
    """Each compared with each, as loops."""
    return [
        [first, second]
        for first in range(len(hashes))
        for second in range(first + 1, len(hashes))
        if (int(hashes[first]) ^ int(hashes[second])).bit_count() <= bits
    ]


def flipped(value: int, count: int, random: np.random.Generator) -> int:
    """The value with so many of its 64 bits the other way round."""
    for bit in random.choice(64, count, replace=False):
        value ^= 1 << int(bit)
    return value


@pytest.mark.parametrize("bits", [0, 1, 4, 7])
def test_pairs_are_those_of_the_slow_double_loop(bits):
    random = np.random.default_rng(bits)
    seeds = [int(value) for value in random.integers(0, 2**63, 60)] + [0, 2**64 - 1]
    hashes = seeds + [flipped(seed, count, random) for seed in seeds for count in (0, 1, 3, 4, 5, 8)]

    expected = slow_pairs(hashes, bits)

    assert near_pairs(np.array(hashes, dtype=np.uint64), bits=bits).tolist() == expected
    assert len(expected) >= len(seeds)


def test_many_equal_hashes_are_compared_in_pieces(monkeypatch):
    monkeypatch.setattr("xaihub.duplicates._CHUNK", 50)
    hashes = [7] * 40 + [9] * 3

    assert near_pairs(hashes).tolist() == slow_pairs(hashes, 4)


@pytest.mark.parametrize("count", [0, 1])
def test_no_pictures_and_one_have_no_pairs(count):
    assert near_pairs([5] * count).shape == (0, 2)
    assert groups(count, near_pairs([5] * count)) == [[0]] * count


def test_fifty_thousand_are_compared_in_seconds():
    random = np.random.default_rng(0)
    hashes = random.integers(0, 2**63, 50_000, dtype=np.uint64)
    hashes[49_999] = flipped(int(hashes[3]), 4, random)
    started = time.perf_counter()

    assert near_pairs(hashes).tolist() == [[3, 49_999]]
    assert time.perf_counter() - started < 20  # each with each would be 1.2 thousand million comparisons


def test_copies_across_two_sets_are_found_by_their_places():
    assert near_copies([0, 255], [7, 255, 2**64 - 1]) == [(0, 0), (1, 1)]  # 0 and 255 differ in eight bits
    assert near_copies([], [1]) == []


def test_groups_are_put_together_over_any_number_of_steps():
    assert groups(7, [(5, 1), (1, 3), (6, 0), (3, 6)]) == [[0, 1, 3, 5, 6], [2], [4]]
    assert groups(3, []) == [[0], [1], [2]]
