"""The same content: copies are found whatever was done to their files, and images of alike grounds are no copies."""

from pathlib import Path

import numpy as np
import pytest
from copied_images import EDITS, RESAVES, cells, digit, dot, jpeg, product, radiograph, scaled, scene
from PIL import Image, ImageDraw

from xaihub.images import perceptual_hash
from xaihub.same_content import copies_by_sketch, expected_below, same_content, sketches, small

PHOTOGRAPHS = Path(__file__).parents[1].resolve().parent / "shared" / "data"
KINDS = {"dots": dot, "cells": cells, "digits": digit, "products": product, "radiographs": radiograph, "scenes": scene}


def smalls(images):
    return np.stack([small(image) for image in images])


def found(images, first=None):
    return same_content(smalls(images), first).tolist()


def test_dots_at_random_places_on_grey_are_no_copies_although_their_hashes_and_means_are_alike():
    train, test = [dot(seed) for seed in range(24)], [dot(seed) for seed in range(100, 124)]
    hashes = np.array([perceptual_hash(image) for image in [*train, *test]], dtype=np.uint64)
    alike = np.bitwise_count(hashes[:24, None] ^ hashes[None, 24:]) <= 4
    assert alike.any(0).sum() > 12, "else this shows nothing"

    assert found([*train, *test], 24) == []
    assert found([*train, *test]) == []


@pytest.mark.parametrize("kind", KINDS)
def test_two_hundred_images_of_a_kind_have_no_copies_but_equal_ones(kind):
    images = [KINDS[kind](seed) for seed in range(200)]
    equal = [[i, j] for i in range(200) for j in range(i + 1, 200) if images[i].tobytes() == images[j].tobytes()]

    pairs = found(images)

    assert [pair for pair in equal if pair not in pairs] == []
    assert len(pairs) - len(equal) <= 1, "by chance, less than one"


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_saved_again_or_resized_is_found_of_every_kind(kind):
    """Of dots JPEG moves the colours by half a pixel, and a few others lie that near by chance: most are found."""
    images = [KINDS[kind](seed) for seed in range(24)]
    for name in RESAVES if kind != "dots" else RESAVES[1:]:
        pairs = found([*images, *(EDITS[name](image) for image in images)], 24)
        assert all(second == first + 24 for first, second in pairs), name
        assert len(pairs) >= (24 if kind != "dots" else 20), name


@pytest.mark.parametrize("name", EDITS)
def test_whatever_is_done_to_a_scene_that_leaves_its_content_makes_a_copy(name):
    images = [scene(seed) for seed in range(40)]

    pairs = found([*images, *map(EDITS[name], images)], 40)

    assert all(second == first + 40 for first, second in pairs)
    assert len(pairs) >= 36


@pytest.mark.parametrize("sample", ["imagenet_sample", "hymenoptera", "cats_real_fake"])
def test_of_photographs_copies_are_found_and_no_other_pair(sample):
    if not (PHOTOGRAPHS / sample).is_dir():
        pytest.skip("shared/data is not here")
    files = sorted(file for file in (PHOTOGRAPHS / sample).rglob("*") if file.suffix.lower() in (".jpg", ".png"))[:60]
    images = [Image.open(file).convert("RGB") for file in files]
    assert found(images) == []
    for name in ("jpeg30", "half", "crop", "mirrored", "darker"):
        pairs = found([*images, *map(EDITS[name], images)], 60)
        assert all(second == first + 60 for first, second in pairs), name
        assert len(pairs) >= 57, name


def test_the_same_place_with_and_without_a_small_thing_is_not_the_same_content():
    """A board in many colours, and one part more: 1 % of the area, which no mean would notice."""
    board = scene(3, 200)
    with_part = board.copy()
    there = board.getpixel((100, 100))
    ImageDraw.Draw(with_part).rectangle((90, 90, 110, 110), fill=tuple((level + 128) % 256 for level in there))

    assert np.abs(smalls([board])[0].astype(int) - smalls([with_part])[0]).mean() < 3
    assert found([board, with_part, jpeg(board, 40)]) == [[0, 2]]


def test_the_same_shape_in_another_colour_is_not_the_same_content():
    """Red and blue of one brightness: grey versions would be equal."""
    images = []
    for colour in ((255, 0, 0), (0, 34, 255)):
        image = Image.new("RGB", (64, 64), (128, 128, 128))
        ImageDraw.Draw(image).ellipse((20, 20, 40, 40), fill=colour)
        images.append(image)
    assert found([*images, scaled(images[0], 0.5)]) == [[0, 2]]


def test_flat_images_are_told_by_their_colours():
    flat = [Image.new("RGB", (40, 40), colour) for colour in ("red", "blue", "white", "red")]

    assert {perceptual_hash(image) for image in flat} == {0}
    assert found(flat) == [[0, 3]]
    assert found(flat, 2) == [[0, 3]]


@pytest.mark.parametrize("count", [0, 1])
def test_no_images_and_one_have_no_pairs(count):
    assert same_content(np.zeros((count, 16, 16, 3), np.uint8)).shape == (0, 2)


def test_copies_of_which_there_are_many_do_not_pass_for_chance():
    """Each of 30 scenes four times, cropped and saved otherwise: many alike pairs, and none of them by chance."""
    images = [EDITS[name](scene(seed)) for name in ("jpeg30", "crop", "mirrored", "half") for seed in range(30)]

    pairs = found(images)

    assert all((second - first) % 30 == 0 for first, second in pairs)
    assert len(pairs) >= 0.95 * 30 * 6


def test_thousands_of_alike_images_are_compared_without_comparing_each_pair_exactly(monkeypatch):
    """Two thousand radiographs are two million alike pairs: 20,000 of them are aligned, and 18,000 for chance."""
    from xaihub import same_content as module

    base, generator = smalls([radiograph(seed) for seed in range(40)]), np.random.default_rng(0)
    images = np.clip(base[generator.integers(0, 40, 2000)] + generator.normal(0, 4, (2000, 16, 16, 3)), 0, 255)
    images = images.astype(np.uint8)
    images[1999] = images[7]
    aligned, exact = [], module._aligned
    monkeypatch.setattr(module, "_aligned", lambda one, other: (aligned.append(len(one)), exact(one, other))[1])

    assert [7, 1999] in same_content(images).tolist()
    assert sum(aligned) <= 20_000 + 3 * 6_000


def test_what_is_expected_below_a_bound_continues_the_power_of_what_lies_above():
    """Of a number that grows with the fourth power, 16 pairs below 0.2 are expected where there are 10,000 below 1."""
    differences = np.sort((np.arange(10_000) / 10_000) ** 0.25)
    assert expected_below(0.2, differences) == pytest.approx(16, rel=0.1)
    assert expected_below(0.2, differences, weight=5.0) == pytest.approx(80, rel=0.1)
    assert expected_below(0.2, differences[differences < 0.2]) == 0, "copies alone lie below"


@pytest.mark.parametrize("kind", KINDS)
def test_sketches_find_copies_saved_again_and_nothing_else(kind):
    images = [KINDS[kind](seed) for seed in range(60)]
    stored = sketches(smalls(images[:30]))
    copies = sketches(smalls([jpeg(image, 95) for image in images]))

    among = copies_by_sketch(copies, stored)

    assert among[:30].sum() >= 27
    assert among[30:].sum() <= 1, "by chance, less than one"
    assert copies_by_sketch(copies[30:], stored).sum() <= 1


def test_a_sketch_is_the_same_on_every_machine():
    """It is stored with models: another one would find no copies."""
    expected = "c6136a49422617227fdce00ad4a87b66de0ee823211e77fdffc5237805696f25"
    held = "".join(f"{word:016x}" for word in sketches(smalls([dot(0)]))[0].tolist())
    assert (int(held, 16) ^ int(expected, 16)).bit_count() <= 2, "no more than rounding turns"
    assert not copies_by_sketch(sketches(smalls([dot(0)])), np.zeros((0, 4), np.uint64)).any()
