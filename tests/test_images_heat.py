"""What is computed of a picture (its hashes) and drawn over it (heat as colours, as words, at another size)."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from test_images import encoded, open_picture, slopes

from xaihub.images import blend, colourise, heat_in_words, perceptual_hash, pixel_digest, resize_heatmap, thumbnail

torch.set_num_threads(1)


def scene(seed):
    """Coarse structure with fine grain over it, as photographs have."""
    chance = np.random.default_rng(seed)
    coarse = Image.fromarray(chance.integers(0, 256, (6, 6, 3), dtype=np.uint8)).resize(
        (240, 180), Image.Resampling.BICUBIC
    )
    grain = chance.integers(-12, 13, (180, 240, 3))
    return Image.fromarray(np.clip(np.asarray(coarse).astype(int) + grain, 0, 255).astype(np.uint8))


def bits_apart(one, other):
    return (perceptual_hash(one) ^ perceptual_hash(other)).bit_count()


def test_the_perceptual_hash_has_a_bit_where_a_cell_is_brighter_than_its_left_neighbour():
    left_to_right = slopes(90, 80)
    assert perceptual_hash(left_to_right) == 2**64 - 1
    assert perceptual_hash(ImageOps.mirror(left_to_right)) == 0
    one_step = Image.new("L", (9, 8))
    one_step.putpixel((3, 1), 255)  # row 1: cell 2 -> 3 rises; bits run along the rows, the first is the highest
    assert perceptual_hash(one_step) == 1 << (63 - (8 + 2))


@pytest.mark.parametrize("seed", range(5))
def test_the_perceptual_hash_survives_a_jpeg_and_a_resize_but_not_another_picture_or_a_mirror(seed):
    picture = scene(seed)
    assert bits_apart(picture, open_picture(encoded(picture, "JPEG", quality=80))) <= 3
    assert bits_apart(picture, picture.resize((200, 150))) <= 3
    assert bits_apart(picture, thumbnail(picture, 96)) <= 4
    assert bits_apart(picture, scene(seed + 100)) > 16
    assert bits_apart(picture, ImageOps.mirror(picture)) > 16


def test_the_digest_is_of_the_pixels_whatever_file_they_came_in():
    digest = pixel_digest(slopes())
    assert digest == pixel_digest(open_picture(encoded(slopes(), "BMP"))) == pixel_digest(slopes().convert("RGBA"))
    assert len(digest) == 64
    other = slopes()
    other.putpixel((5, 5), (1, 2, 3))
    assert pixel_digest(other) != digest


def test_a_thumbnail_is_a_copy_that_keeps_its_proportions():
    picture = slopes(400, 200)
    assert thumbnail(picture, 100).size == (100, 50)
    assert thumbnail(picture, 800).size == picture.size == (400, 200), "never enlarged, and the original is left alone"


def test_a_heatmap_is_enlarged_as_torch_does_with_half_pixel_centres():
    heatmap = np.random.default_rng(0).random((7, 5), dtype=np.float32)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(heatmap)[None, None], size=(224, 160), mode="bilinear", align_corners=False
    )[0, 0]
    seen = resize_heatmap(heatmap, (160, 224))
    np.testing.assert_allclose(seen, expected.numpy(), atol=1e-5)
    np.testing.assert_allclose(resize_heatmap(heatmap.T.astype(np.float64), (224, 160)), expected.numpy().T, atol=1e-5)


def test_heat_runs_from_viridis_dark_purple_to_yellow_and_never_gets_darker():
    colours = colourise(np.linspace(0, 1, 257)[None])[0].astype(float)
    assert colours[[0, 128, 256]].tolist() == [[68, 1, 84], [33, 144, 141], [253, 231, 37]]
    luminance = colours @ (0.2126, 0.7152, 0.0722)
    assert np.diff(luminance).min() >= -0.5, "rounding only"
    assert luminance[-1] - luminance[0] > 180


def test_signed_heat_is_blue_against_white_for_none_and_red_for():
    against, none, for_it = colourise(np.array([[-1.0, 0.0, 1.0]]), signed=True)[0].tolist()
    assert (against, none, for_it) == ([5, 48, 97], [247, 247, 247], [103, 0, 31])


@pytest.mark.parametrize("signed", [False, True])
def test_values_that_are_no_numbers_or_out_of_range_take_the_nearest_colour(signed):
    seen = colourise(np.array([[np.nan, -np.inf, -9, np.inf, 9]], np.float32), signed=signed)
    expected = colourise(np.array([[0, -1, -1, 1, 1]], np.float32), signed=signed)
    assert seen.dtype == np.uint8
    assert np.array_equal(seen, expected)


def test_a_blend_is_so_much_picture_and_so_much_heat():
    heatmap = np.zeros((2, 3))
    heatmap[1, 2] = 1
    seen = np.asarray(blend(Image.new("L", (3, 2), 100), heatmap, opacity=0.25)).astype(int)
    assert seen[0, 0].tolist() == [92, 75, 96]  # 3/4 of 100, 1/4 of (68, 1, 84)
    assert seen[1, 2].tolist() == [138, 132, 84]
    assert np.array_equal(seen[0], seen[0, ::-1]), "only the lower right corner is hot"


def test_a_heatmap_of_another_size_is_not_blended():
    with pytest.raises(ValueError, match=r"A heatmap of shape \(3, 2\) does not lie on a picture of \(3, 2\)."):
        blend(Image.new("RGB", (3, 2)), np.zeros((3, 2)))


NINTHS = [
    "upper left", "upper middle", "upper right", "middle left", "centre", "middle right",
    "lower left", "lower middle", "lower right",
]  # fmt: skip


@pytest.mark.parametrize("place", range(9))
def test_heat_is_named_by_the_ninth_it_lies_in(place):
    heatmap = np.zeros((30, 60))
    heatmap[place // 3 * 10 + 4, place % 3 * 20 + 7] = 5
    assert heat_in_words(heatmap) == f"100% of the heat is in the {NINTHS[place]}"
    heatmap[(place // 3 + 1) % 3 * 10, (place + 1) % 3 * 20] = 3
    second = NINTHS[(place // 3 + 1) % 3 * 3 + (place + 1) % 3]
    assert heat_in_words(heatmap) == f"62% of the heat is in the {NINTHS[place]}, 38% in the {second}"


def test_only_positive_numbers_are_heat():
    heatmap = np.full((3, 3), -1.0)
    heatmap[0, 0], heatmap[1, 1], heatmap[2, 2] = np.nan, np.inf, 2
    assert heat_in_words(heatmap) == "100% of the heat is in the lower right"
    assert heat_in_words(-np.ones((7, 7))) == heat_in_words(np.zeros((7, 7))) == "there is no heat anywhere"
