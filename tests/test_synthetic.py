"""Paper pets are a ground truth only while these hold."""

import numpy as np
import pytest
from PIL import Image, ImageFilter

from xaihub.synthetic import MARKS, PARTS, PETS, Nuisance, deciding_parts, draw_pet, paper_pets, write_folder

SEEDS = (1, 2, 3)


def pixels(pet) -> np.ndarray:
    return np.asarray(pet.image, dtype=int)


def grown(mask: np.ndarray, by: int = 3) -> np.ndarray:
    """The mask and all within `by` pixels, where edges are smooth and short shadows fall."""
    return np.asarray(Image.fromarray(mask).convert("L").filter(ImageFilter.MaxFilter(2 * by + 1))) > 0


def changed(first, second) -> np.ndarray:
    """(H, W), true where the two pictures differ."""
    return (pixels(first) != pixels(second)).any(-1)


@pytest.mark.parametrize("label", PETS)
def test_the_same_seed_draws_the_same_pet_and_another_seed_another(label):
    first, again, other = draw_pet(label, 1), draw_pet(label, 1), draw_pet(label, 2)

    assert np.array_equal(pixels(first), pixels(again))
    assert all(np.array_equal(first.masks[name], again.masks[name]) for name in first.masks)
    assert changed(first, other).mean() > 0.5


@pytest.mark.parametrize("seed", SEEDS)
def test_two_classes_drawn_alike_differ_in_their_deciding_parts_only(seed):
    for label in PETS:
        for other in PETS:
            pet, twin = draw_pet(label, seed), draw_pet(other, seed)
            parts = deciding_parts(label, other)
            there = np.zeros((160, 160), bool)
            for part in parts:
                there |= pet.masks[part] | twin.masks[part]
            assert not (changed(pet, twin) & ~grown(there)).any()
            assert changed(pet, twin).any() == (label != other)


def test_the_deciding_parts_are_those_of_the_table():
    assert deciding_parts("cat", "fox") == ("tail",)
    assert deciding_parts("cat", "mouse") == deciding_parts("dog", "cat") == ("ears",)
    assert deciding_parts("rabbit", "dog") == ("ears", "tail")
    assert deciding_parts("fox", "fox") == ()
    assert {deciding_parts(label) for label in PETS} == {("ears", "tail")}


def test_ground_coat_pose_and_place_carry_no_class():
    """What is no deciding part is the same whatever the class, so its masks agree wherever no ear or tail covers it."""
    for seed in SEEDS:
        pets = [draw_pet(label, seed) for label in PETS]
        covered = np.logical_or.reduce([pet.deciding_mask for pet in pets])
        for part in ("head", "body", "whiskers", "scarf"):
            assert all(np.array_equal(pet.masks[part] & ~covered, pets[0].masks[part] & ~covered) for pet in pets)


@pytest.mark.parametrize("label", PETS)
def test_every_part_lies_within_the_pet_and_what_decides_is_there_to_be_seen(label):
    for seed in range(12):
        pet = draw_pet(label, seed)
        assert set(pet.masks) == {*PARTS, "pet"}
        assert all(mask.dtype == bool and mask.shape == (160, 160) for mask in pet.masks.values())
        assert np.array_equal(np.logical_or.reduce([pet.masks[part] for part in PARTS]), pet.masks["pet"])
        assert all(pet.masks[part].sum() > 100 for part in ("ears", "tail", "head", "body"))
        assert 0.15 < pet.masks["pet"].mean() < 0.6
        assert pet.deciding_mask.mean() < 0.15


def test_masks_are_where_the_parts_are():
    """Ears are above the body, and the tail beside it, on the side that is mirrored or not."""
    for seed in range(6):
        heights = {
            name: np.nonzero(mask)[0].mean() for name, mask in draw_pet("rabbit", seed).masks.items() if mask.any()
        }
        assert heights["ears"] < heights["head"] < heights["body"]
        assert heights["tail"] > heights["head"]
    sides = {np.sign(_centre(pet.masks["tail"]) - _centre(pet.masks["body"])) for pet in paper_pets(20)}
    assert sides == {-1.0, 1.0}


def test_whiskers_and_scarf_are_worn_by_lot_in_every_class():
    for part in ("whiskers", "scarf"):
        for label in PETS:
            worn = {bool(draw_pet(label, seed, size=80).masks[part].any()) for seed in range(10)}
            assert worn == {False, True}


def test_a_larger_picture_shows_the_same_drawing():
    small, large = draw_pet("fox", 5), draw_pet("fox", 5, size=320)

    assert large.image.size == (320, 320)
    halved = np.asarray(large.image.resize((160, 160), Image.Resampling.BOX), dtype=int)
    assert np.abs(halved - pixels(small)).mean() < 6
    agreement = large.masks["tail"].reshape(160, 2, 160, 2).mean((1, 3)) >= 0.5
    assert (agreement != small.masks["tail"]).mean() < 0.005


@pytest.mark.parametrize("mark", MARKS)
def test_a_corner_mark_changes_its_own_corner_only(mark):
    plain, marked = draw_pet("dog", 4), draw_pet("dog", 4, nuisance=Nuisance(corner_mark=mark))

    assert "corner_mark" not in plain.masks
    assert not (changed(plain, marked) & ~grown(marked.masks["corner_mark"])).any()
    assert changed(plain, marked)[130:, 130:].sum() > 150
    assert not marked.masks["corner_mark"][:130].any()
    assert not marked.masks["corner_mark"][:, :130].any()


def test_a_tint_multiplies_each_channel_by_its_factor():
    plain, tinted = draw_pet("dog", 4), draw_pet("dog", 4, nuisance=Nuisance(tint=(1.0, 0.5, 0.8)))

    errors = np.abs(pixels(tinted) - pixels(plain) * [1.0, 0.5, 0.8])
    assert errors[pixels(plain) < 255].max() <= 1  # at 255 the plain picture is cut off
    assert all(np.array_equal(plain.masks[name], tinted.masks[name]) for name in plain.masks)


def test_jpeg_changes_every_region_a_little_and_more_at_low_quality():
    plain, fine, coarse = (draw_pet("cat", 4, nuisance=Nuisance(jpeg_quality=quality)) for quality in (None, 90, 10))

    errors = [np.abs(pixels(pet) - pixels(plain)).mean() for pet in (fine, coarse)]
    assert 0 < errors[0] < errors[1] < 12
    assert np.array_equal(plain.masks["pet"], coarse.masks["pet"])


def test_a_pets_scale_and_a_pictures_size_can_be_planted():
    plain, small, large = (
        draw_pet("cat", 4, nuisance=nuisance) for nuisance in (Nuisance(), Nuisance(pet_scale=0.5), Nuisance(size=240))
    )

    assert small.masks["pet"].sum() / plain.masks["pet"].sum() == pytest.approx(0.25, abs=0.03)
    assert large.image.size == (240, 240)
    assert plain.image.size == (160, 160)


def test_classes_take_turns_and_a_picture_depends_on_the_seed_and_its_index_alone():
    few, many = list(paper_pets(3, seed=9, size=64)), list(paper_pets(10, seed=9, size=64))

    assert [pet.label for pet in many] == [*PETS, *PETS]
    assert all(np.array_equal(pixels(a), pixels(b)) for a, b in zip(few, many, strict=False))
    assert np.array_equal(pixels(draw_pet(many[7].label, many[7].seed, size=64)), pixels(many[7]))
    assert len({pet.seed for pet in many}) == 10


def test_a_nuisance_is_planted_class_by_class_and_leaves_the_rest_of_the_picture_alone():
    plain = list(paper_pets(10))
    planted = list(paper_pets(10, plant=lambda label, random: Nuisance("dot" if label == "cat" else None)))

    assert [("corner_mark" in pet.masks) for pet in planted] == [pet.label == "cat" for pet in planted]
    for before, after in zip(plain, planted, strict=True):
        assert changed(before, after).any() == (before.label == "cat")


def test_a_folder_holds_the_pictures_by_class_and_their_masks(tmp_path):
    pets = list(paper_pets(6, size=64))

    folder = write_folder(pets, tmp_path / "pets")

    assert {path.name for path in folder.iterdir()} == {*PETS, "masks.npz"}
    assert list(tmp_path.iterdir()) == [folder]  # no draft is left behind
    with np.load(folder / "masks.npz") as masks:
        for index, pet in enumerate(pets):
            with Image.open(folder / pet.label / f"{index:05d}.png") as image:
                assert np.array_equal(np.asarray(image), pixels(pet))
            assert all(np.array_equal(masks[f"{pet.label}/{index:05d}/{part}"], pet.masks[part]) for part in pet.masks)


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    def breaking_off():
        yield draw_pet("cat", 0, size=32)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_folder(breaking_off(), tmp_path / "pets")

    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_holds_something_is_left_alone(tmp_path):
    (tmp_path / "letter.txt").write_text("mine")

    with pytest.raises(FileExistsError, match="holds something else"):
        write_folder([draw_pet("cat", 0, size=32)], tmp_path)


def test_an_unknown_class_or_mark_is_refused_by_its_name():
    with pytest.raises(ValueError, match=r"'cow'.*cat, dog, fox, mouse, rabbit"):
        draw_pet("cow", 0)
    with pytest.raises(ValueError, match=r"'star'.*dot, ring, flower"):
        draw_pet("cat", 0, nuisance=Nuisance(corner_mark="star"))


def _centre(mask: np.ndarray) -> float:
    return float(np.nonzero(mask)[1].mean())
