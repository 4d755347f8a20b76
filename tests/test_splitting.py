"""Splits: every class in its share, groups whole, and sentences where that cannot be."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from xaihub.errors import DatasetError
from xaihub.splitting import assign, parse_shares, shuffled

SHARES = {"train": 0.6, "test": 0.4}


def test_shares_are_read_apart_or_joined_by_commas():
    assert parse_shares(["train=0.8", "validation=0.1", "test=0.1"]) == parse_shares(["train=.8,validation=.1,test=.1"])
    assert parse_shares(["train=1"]) == {"train": 1.0}


@pytest.mark.parametrize("words", [["train"], ["train=x"], ["=1"], ["../x=1"], ["a=0.5", "a=0.5"], ["a=1.5", "b=-0.5"]])
def test_a_split_that_cannot_be_read_is_a_sentence(words):
    with pytest.raises(DatasetError, match=r"The split '.*' cannot be read\. Give each split once"):
        parse_shares(words)


@pytest.mark.parametrize("words", [["train=0.8", "test=0.1"], []])
def test_shares_that_do_not_add_up_are_a_sentence(words):
    with pytest.raises(DatasetError, match=r"add up to 0(\.9)?, not to 1\. Give shares of the whole"):
        parse_shares(words)


def dealt(labels, groups, shares, seed=0):
    order = shuffled([str(place) for place in range(len(labels))], seed)
    return assign(labels, groups, order, shares)


def test_every_class_has_its_share_to_the_picture():
    labels = ["a"] * 50 + ["b"] * 30 + ["c"] * 7

    splits = dealt(labels, [[i] for i in range(87)], {"train": 0.8, "validation": 0.1, "test": 0.1})

    assert Counter(zip(labels, splits, strict=True)) == {
        ("a", "train"): 40, ("a", "validation"): 5, ("a", "test"): 5, ("b", "train"): 24, ("b", "validation"): 3,
        ("b", "test"): 3, ("c", "train"): 5, ("c", "validation"): 1, ("c", "test"): 1,
    }  # fmt: skip


def test_a_picture_keeps_its_split_whatever_order_the_pictures_come_in():
    keys = [f"key {i}" for i in range(40)]
    splits = assign(["a"] * 40, [[i] for i in range(40)], shuffled(keys, 0), SHARES)
    backwards = assign(["a"] * 40, [[i] for i in range(40)], shuffled(keys[::-1], 0), SHARES)

    assert backwards == splits[::-1]


@pytest.mark.parametrize("seed", range(10))
def test_groups_stay_whole_and_shares_are_met_as_far_as_they_allow(seed):
    random = np.random.default_rng(seed)
    labels = [("a", "b")[i] for i in random.integers(0, 2, 120)]
    edges = [0, *sorted(random.choice(range(1, 120), 60, replace=False).tolist()), 120]
    groups = [list(range(*pair)) for pair in pairwise(edges)]

    splits = dealt(labels, groups, {"train": 0.7, "validation": 0.2, "test": 0.1}, seed)

    assert all(len({splits[place] for place in group}) == 1 for group in groups)
    for label in "ab":
        mine = Counter(split for split, of in zip(splits, labels, strict=True) if of == label)
        assert mine["train"] / labels.count(label) == pytest.approx(0.7, abs=0.08)


def test_too_few_pictures_for_the_splits_are_a_sentence():
    with pytest.raises(
        DatasetError, match=r"There are 2 pictures of 'b', and each of the 3 splits \(train, dev, test\)"
    ):
        dealt(["a"] * 5 + ["b"] * 2, [[i] for i in range(7)], {"train": 0.8, "dev": 0.1, "test": 0.1})
    with pytest.raises(DatasetError, match="The split 'test' would have no picture of 'a': near copies"):
        dealt(["a"] * 4, [[0, 1, 2, 3]], SHARES)
