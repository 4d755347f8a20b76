"""What asks for near copies, on images of few things on a plain ground: nothing is refused, and nothing goes unsaid."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from copied_images import cells, dot, jpeg, scaled, scene
from toy_networks import ColourCounter, classifier_of

from xaihub.auditing import audit
from xaihub.building import build_references
from xaihub.cards.dataset import dataset_card
from xaihub.curation import Origin, Recipe, build_dataset
from xaihub.datasets import LabelledPictures, from_pairs
from xaihub.errors import DatasetError
from xaihub.finetuning.folding import folds_of
from xaihub.finetuning.pixel_store import read_pixels
from xaihub.finetuning.runs import circumstances
from xaihub.images import perceptual_hash, pixel_digest
from xaihub.measuring import Trained, describe, measure
from xaihub.measuring.measuring import trained_images
from xaihub.prototype_maps import look

LABELS = ("red", "blue")


def dots(seeds, name="dots"):
    return from_pairs(name, [(f"{name}/{seed}", LABELS[seed % 2], dot(seed)) for seed in seeds])


@pytest.fixture(scope="module")
def classifier():
    made = classifier_of(ColourCounter(0.01))
    return replace(made, labels=("red", "green", "blue"))


@pytest.fixture(scope="module")
def training(classifier):
    return read_pixels(dots(range(24), "train"), classifier.transform, LABELS)


def test_five_folds_of_dots_are_not_refused(training):
    folds = folds_of(training, 5, 0)
    for label in (0, 1):
        assert sorted(torch.bincount(folds[training.truth == label], minlength=5).tolist()) == [2, 2, 2, 3, 3]


def test_new_dots_are_measured_as_new_and_the_card_is_written(classifier, training, tmp_path):
    record = json.loads(json.dumps(circumstances(training, 1.0)))

    found = measure(classifier, dots(range(100, 124), "test"), trained_on=trained_images(record))
    describe(tmp_path, "somebody/dots", found.metrics, {"license": "mit"})

    assert found.metrics["near_copies_of_training"] <= 1, "by chance, less than one"
    assert (tmp_path / "README.md").is_file()


def test_training_dots_that_were_saved_again_are_known_from_the_record(classifier, training, tmp_path):
    record = json.loads(json.dumps(circumstances(training, 1.0)))
    again = [(f"{seed}", LABELS[seed % 2], scaled(dot(seed), 0.75)) for seed in range(24)]

    found = measure(classifier, from_pairs("again", again), trained_on=trained_images(record))

    assert found.metrics["near_copies_of_training"] == 24
    with pytest.raises(DatasetError, match="that measures memory"):
        describe(tmp_path, "somebody/dots", found.metrics, {})


def test_an_older_record_of_hashes_alone_says_nothing_where_they_tell_nothing(classifier, training):
    """The hashes of these very test images are alike although the images are not."""
    old = Trained(training.hashes.tolist())

    assert measure(classifier, dots(range(100, 148)), trained_on=old).metrics["near_copies_of_training"] is None
    scenes = from_pairs("scenes", [(str(seed), LABELS[seed % 2], scene(seed)) for seed in range(12)])
    known = Trained([perceptual_hash(jpeg(scene(seed), 80)) for seed in range(6)])
    assert measure(classifier, scenes, trained_on=known).metrics["near_copies_of_training"] == 6


def test_a_record_names_images_that_are_there_under_two_labels(classifier):
    pairs = [(str(seed), LABELS[seed % 2], scene(seed)) for seed in range(10)]
    pairs.append(("4 again", "blue", jpeg(scene(4), 60)))

    held = read_pixels(from_pairs("scenes", pairs), classifier.transform, LABELS)

    assert circumstances(held, 1.0)["two_labels"] == [["4", "4 again"]]


@pytest.mark.parametrize("draw", [dot, cells])
def test_an_audit_finds_no_copies_among_images_of_few_things_and_names_the_true_ones(draw):
    def split(name, seeds, edit=lambda image: image, label=lambda seed: "ab"[seed % 2]):
        sources = [(f"{name}/{seed}", label(seed), lambda seed=seed: edit(draw(seed))) for seed in seeds]
        return LabelledPictures("things", sources, ("a", "b"), split=name)

    train = split("train", range(24))
    copied = split("copied", range(3), lambda image: scaled(image, 0.5), lambda _: "a")
    report = audit(train, others=[split("test", range(100, 124)), copied])

    assert report.copies.across == tuple((f"train/{seed}", f"copied/{seed}", "copied") for seed in range(3))
    assert report.copies.inside == ()
    assert report.copies.contradicting == (("train/1", "copied/1"),), "a copy does not span two labels without a word"


def test_a_dataset_of_dots_is_split_in_the_shares_and_says_what_is_there_under_two_labels(tmp_path):
    origins = []
    for label, seeds in (("red", range(0, 40, 2)), ("blue", range(1, 41, 2))):
        pairs = [(f"{seed}", label, dot(seed, 96)) for seed in seeds]
        if label == "blue":
            pairs.append(("of red", label, jpeg(dot(0, 96), 95)))
        origins.append(Origin(label, "folder", label, from_pairs(label, pairs)))
    (tmp_path / "made").mkdir()

    report = build_dataset(origins, tmp_path / "made", Recipe(shares={"train": 0.5, "test": 0.5}, fair=False))

    assert report["duplicates"] == report["two_labels"] == [["red/0", "blue/of red"]]
    assert sum(report["splits"]["train"].values()) in (20, 21)
    assert "1 of these groups have the same image under two labels" in dataset_card(report, "somebody/dots")[1]


def test_prototypes_take_dots_for_as_many_sources_as_they_are(classifier):
    looked = look(classifier, dots(range(24)))
    assert len(set(looked.copies)) == 24


def test_references_of_other_dots_are_no_copies_of_the_query_and_its_own_file_is(classifier):
    """Colours counted anywhere: to the network, and by their hashes, dots of one colour are all the same."""
    references = build_references(classifier, dots(range(24)), batch_size=8)
    vector = references.index().vectors([0])[0]
    seen = references.picture(0)
    alike = references.duplicates(vector, pixel_digest(seen), perceptual_hash(seen))
    assert len(alike) > 1, "else this shows nothing"

    assert references.duplicates(vector, "of another file", perceptual_hash(seen), lambda: seen).tolist() == [0]
    other = classifier.transform.view(dot(100)).image
    assert references.duplicates(vector, pixel_digest(other), perceptual_hash(other), lambda: other).tolist() == []


def test_crops_that_are_not_there_are_left_out_by_hash_and_vector_as_before(classifier):
    references = build_references(classifier, dots(range(24)), batch_size=8)
    without = replace(references, pictures=(None,) * len(references))
    vector, seen = references.index().vectors([0])[0], references.picture(0)
    given = pixel_digest(seen), perceptual_hash(seen)
    by_hash = references.duplicates(vector, *given)
    np.testing.assert_array_equal(without.duplicates(vector, *given, lambda: seen), by_hash)
