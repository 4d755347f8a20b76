"""How alike maps are: against Spearman's formula as plain loops, and on maps whose answer is known on paper."""

import math

import numpy as np
import pytest

from xaihub.agreement import agreement, common_box, on_box, ranks


def spearman_in_loops(first, second) -> float:
    """Pearson's correlation of the ranks; equal values share the mean of their places."""

    def places(values):
        return [
            sum(other < value for other in values) + (sum(other == value for other in values) - 1) / 2
            for value in values
        ]

    a, b = places(list(first.flat)), places(list(second.flat))
    mean_a, mean_b = sum(a) / len(a), sum(b) / len(b)
    together = sum((x - mean_a) * (y - mean_b) for x, y in zip(a, b, strict=True))
    return together / math.sqrt(sum((x - mean_a) ** 2 for x in a) * sum((y - mean_b) ** 2 for y in b))


def test_it_is_spearmans_rank_correlation_also_where_values_are_equal():
    generator = np.random.default_rng(0)
    maps = [generator.integers(0, 5, (4, 6)) / 4 for _ in range(3)] + [generator.random((4, 6))]
    got = agreement(maps)
    wanted = [[spearman_in_loops(a, b) for b in maps] for a in maps]
    np.testing.assert_allclose(got, wanted, atol=1e-12)


def test_only_the_order_counts_and_a_reversed_one_is_minus_one():
    heat = np.array([[0.0, 0.1], [0.5, 1.0]])
    got = agreement([heat, heat**3, 1 - heat, np.array([[0.0, 0.5], [0.1, 1.0]])])
    np.testing.assert_allclose(got[0], [1, 1, -1, 0.8])  # 1 - 6 * (1 + 1) / (4 * 15), on paper


def test_a_flat_map_agrees_with_nothing_not_even_with_itself():
    got = agreement([np.zeros((2, 2)), np.array([[0.0, 1.0], [2.0, 3.0]])])
    assert np.isnan(got[0]).all()
    assert got[1, 1] == 1


def test_maps_of_other_pixels_are_no_maps_to_compare():
    with pytest.raises(ValueError, match="do not lie on the same pixels"):
        agreement([np.zeros((2, 2)), np.zeros((2, 3))])
    assert agreement([]).shape == (0, 0)


def test_equal_values_share_the_mean_of_their_ranks():
    assert ranks(np.array([3.0, 0.0, 0.0, 7.0])).tolist() == [2.0, 0.5, 0.5, 3.0]


def test_the_common_part_is_what_every_crop_and_the_picture_hold():
    assert common_box([(10, 0, 90, 80), (20, -5, 120, 75)], (100, 80)) == (20, 0, 90, 75)
    assert common_box([(0, 0, 10, 10), (10, 0, 20, 10)], (20, 10)) is None


def test_a_map_is_read_where_the_picture_has_it():
    heat = np.zeros((4, 8), dtype=np.float32)
    heat[1, 6] = 1  # row 2 of 4 and column 7 of 8, on a crop from (100, 50) to (180, 90)
    crop = (100.0, 50.0, 180.0, 90.0)
    right = on_box(heat, crop, (140.0, 50.0, 180.0, 90.0), (4, 4))
    assert np.argwhere(right == right.max()).tolist() == [[1, 2]]
    assert right[1, 2] == 1
    assert not on_box(heat, crop, (100.0, 50.0, 140.0, 90.0), (4, 4)).any()


def test_the_same_map_on_two_crops_agrees_on_their_common_part():
    """A ramp over a picture, seen through a narrow and a wide crop: both order the common pixels alike."""
    narrow, wide = (40.0, 0.0, 60.0, 100.0), (0.0, 0.0, 100.0, 100.0)
    ramp = np.linspace(0, 1, 50)[None].repeat(50, axis=0)
    box = common_box([narrow, wide], (100, 100))
    maps = [on_box(ramp, crop, box, (10, 10)) for crop in (narrow, wide)]
    assert agreement(maps)[0, 1] == pytest.approx(1)
