"""Near copies: all that comparing each with each would find, and no flat pictures beside."""

import io
import time

import numpy as np
import pytest
from PIL import Image, ImageDraw

from xaihub.duplicates import confirmed, groups, near_copies, near_pairs, small
from xaihub.images import perceptual_hash


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


# Of pictures


def scene(seed: int) -> Image.Image:
    """Coarse shapes, other ones for each seed."""
    random = np.random.default_rng(seed)
    picture = Image.new("RGB", (120, 120), tuple(random.integers(0, 255, 3).tolist()))
    draw = ImageDraw.Draw(picture)
    for _ in range(12):
        x, y, size = random.integers(0, 110, 3).tolist()
        draw.ellipse((x, y, x + size // 2 + 8, y + size // 2 + 8), fill=tuple(random.integers(0, 255, 3).tolist()))
    return picture


def saved(picture: Image.Image, quality: int) -> Image.Image:
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=quality)
    return Image.open(stream).convert("RGB")


def found(pictures: list[Image.Image]) -> list[list[int]]:
    pairs = near_pairs([perceptual_hash(picture) for picture in pictures])
    return confirmed(pairs, np.stack([small(picture) for picture in pictures])).tolist()


@pytest.mark.parametrize("seed", range(5))
def test_a_copy_that_was_saved_again_or_made_smaller_is_a_near_copy_and_another_scene_is_not(seed):
    picture = scene(seed)

    pictures = [picture, saved(picture, 30), picture.resize((70, 70), Image.Resampling.LANCZOS), scene(seed + 100)]

    assert found(pictures) == [[0, 1], [0, 2], [1, 2]]


def test_flat_pictures_of_different_colours_have_equal_hashes_and_are_no_copies():
    flat = [Image.new("RGB", (40, 40), colour) for colour in ("red", "blue", "white", "red")]

    assert {perceptual_hash(picture) for picture in flat} == {0}
    assert found(flat) == [[0, 3]]
