"""Splits of a dataset: the same share of every class in each, and no group in two of them."""

import hashlib
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence

from xaihub.errors import DatasetError

__all__ = ["assign", "parse_shares", "shuffled"]


def parse_shares(words: Sequence[str]) -> dict[str, float]:
    """Split name -> share, of words such as train=0.8 test=0.2, which may be joined by commas.

    Raises:
        DatasetError: they cannot be read, or do not add up to 1.
    """
    shares: dict[str, float] = {}
    for word in (part for text in words for part in text.split(",") if part):
        name, _, number = word.partition("=")
        try:
            share = float(number)
        except ValueError:
            share = math.nan
        if not re.fullmatch(r"[A-Za-z]\w*", name, re.ASCII) or not 0 < share <= 1 or name in shares:
            raise DatasetError(
                f"The split {word!r} cannot be read. Give each split once, by name and share: train=0.8 test=0.2."
            )
        shares[name] = share
    if abs(sum(shares.values()) - 1) > 1e-6:
        raise DatasetError(
            f"The splits {', '.join(f'{name}={share:g}' for name, share in shares.items()) or '(none)'} add up to"
            f" {sum(shares.values()):g}, not to 1. Give shares of the whole: train=0.8 test=0.2, or train=1."
        )
    return shares


def shuffled(keys: Sequence[str], seed: int) -> list[int]:
    """The places of the keys in an order by seed, which does not depend on the order they come in."""
    return sorted(range(len(keys)), key=lambda place: hashlib.sha256(f"{seed} {keys[place]}".encode()).digest())


def assign(
    labels: Sequence[str], groups: Sequence[Sequence[int]], order: Sequence[int], shares: Mapping[str, float]
) -> list[str]:
    """The split of each picture: each class in the given shares, and each group whole.

    Groups of several go first, each to the split that lacks most of what it holds; the others then make up the shares,
    so that these are met to the picture unless a group is larger than a split.

    Args:
        labels: (N,), the class of each.
        groups: places that must stay together; together they hold each place once.
        order: the places in the order in which they are dealt out.

    Raises:
        DatasetError: a split would have no picture of a class.
    """
    missing = {label: _counts(label, count, shares) for label, count in sorted(Counter(labels).items())}
    place_in_order = {place: turn for turn, place in enumerate(order)}
    turns = sorted(groups, key=lambda group: (-len(group), min(place_in_order[place] for place in group)))
    splits = [""] * len(labels)
    for group in turns:
        needs = Counter(labels[place] for place in group)
        split = max(shares, key=lambda name: sum(min(missing[label][name], many) for label, many in needs.items()))
        if len(group) == 1:
            split = max(shares, key=missing[labels[group[0]]].__getitem__)
        for place in group:
            splits[place] = split
            missing[labels[place]][split] -= 1
    _refuse_empty(labels, splits, shares)
    return splits


def _counts(label: str, count: int, shares: Mapping[str, float]) -> dict[str, int]:
    """How many of `count` each split gets: at least one, the rest by the largest remainder."""
    if count < len(shares):
        raise DatasetError(
            f"There are {count} pictures of {label!r}, and each of the {len(shares)} splits ({', '.join(shares)}) needs"
            " one at least. Give fewer splits or more pictures."
        )
    exact = {name: share * count for name, share in shares.items()}
    counts = {name: max(1, math.floor(value + 1e-9)) for name, value in exact.items()}
    while (left := count - sum(counts.values())) != 0:
        step = 1 if left > 0 else -1
        open_to = [name for name in shares if counts[name] + step >= 1]
        counts[max(open_to, key=lambda name: step * (exact[name] - counts[name]))] += step
    return counts


def _refuse_empty(labels: Sequence[str], splits: Sequence[str], shares: Mapping[str, float]) -> None:
    there = set(zip(splits, labels, strict=True))
    for split in shares:
        for label in sorted(set(labels)):
            if (split, label) not in there:
                raise DatasetError(
                    f"The split {split!r} would have no picture of {label!r}: near copies, which must stay together,"
                    " leave too few to divide. Give fewer splits or more pictures."
                )
