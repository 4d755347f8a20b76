"""Measuring a classifier whose answers are known on paper."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from xaihub import Classifier
from xaihub.datasets import LabelledPictures, from_pairs
from xaihub.errors import CancelledError, DatasetError
from xaihub.images import perceptual_hash
from xaihub.measuring.measuring import Trained, measure, trained_images, write_measured

LABELS = ("red", "green", "blue")


class Brightest(nn.Module):
    """Scores each class by the mean of its colour channel, ten times."""

    def forward(self, pixels):
        return 10 * pixels.mean((-2, -1))


def pixels_of(picture):
    return torch.from_numpy(np.array(picture.resize((8, 8)))).permute(2, 0, 1) / 255


@pytest.fixture
def classifier():
    return Classifier.from_module(Brightest(), labels=LABELS, transform=pixels_of, repo_id="paper/colours")


def textured(seed, colour):
    """A picture with a hash of its own, in which one channel is the brightest."""
    levels = np.random.default_rng(seed).integers(0, 100, (24, 24, 3))
    levels[..., LABELS.index(colour)] += 120
    return Image.fromarray(levels.astype(np.uint8))


def shown(*labelled):
    """Pictures of (true label, colour)."""
    return from_pairs("paper", [(f"{i}", label, textured(i, colour)) for i, (label, colour) in enumerate(labelled)])


def test_labels_are_matched_by_name_and_not_by_place(classifier):
    """The dataset meets blue first, the classifier has it last."""
    found = measure(classifier, shown(("blue", "blue"), ("red", "red"), ("red", "green"), ("blue", "blue")))

    assert found.metrics["accuracy"] == 0.75
    assert found.metrics["confusion"]["labels"] == list(LABELS)
    assert found.metrics["confusion"]["matrix"] == [[1, 1, 0], [0, 0, 0], [0, 0, 2]]
    assert found.metrics["per_class"]["green"]["recall"] is None
    assert found.keys == ("0", "1", "2", "3")


def test_mistakes_are_named_the_most_confident_first(classifier):
    found = measure(classifier, shown(("red", "green"), ("red", "red"), ("blue", "red")), batch_size=2)

    mistakes = found.metrics["mistakes"]
    assert [mistake["probability"] for mistake in mistakes] == sorted([m["probability"] for m in mistakes])[::-1]
    assert {(m["key"], m["label"], m["predicted"]) for m in mistakes} == {("0", "red", "green"), ("2", "blue", "red")}


def test_batches_of_any_size_give_the_same_figures(classifier):
    pictures = shown(*[("red", "red"), ("green", "blue"), ("blue", "blue")] * 3)

    found = [measure(classifier, pictures, batch_size=size) for size in (1, 4, 9)]

    np.testing.assert_allclose(found[0].probabilities, found[1].probabilities, atol=1e-6)
    assert found[1].metrics["accuracy"] == found[2].metrics["accuracy"] == pytest.approx(2 / 3)


def test_near_copies_of_training_pictures_are_counted_and_taken_out(classifier):
    """By the hashes alone, which are all that older records hold."""
    pictures = shown(("red", "red"), ("red", "green"), ("green", "green"), ("blue", "red"))
    seen = [perceptual_hash(row.picture) for row in pictures][:2]
    close = [seen[0] ^ 0b101, seen[1]]  # two bits of 64 differ

    found = measure(classifier, pictures, trained_on=Trained(close))
    metrics = found.metrics

    assert found.in_words.endswith("2 of them are, or nearly are, pictures it was trained on; 50.0% without them")
    assert metrics["near_copies_of_training"] == 2
    assert metrics["accuracy"] == 0.5
    assert metrics["accuracy_without_them"] == 0.5
    assert measure(classifier, pictures).metrics["near_copies_of_training"] is None
    assert measure(classifier, pictures, trained_on=Trained([])).metrics["near_copies_of_training"] == 0


def test_hashes_are_read_from_a_training_record_and_anything_else_is_passed_over():
    assert trained_images({"perceptual_hashes": ["00000000000000ff", "zz", 7, None]}).hashes == [255]
    assert trained_images({}) is None
    assert trained_images({"perceptual_hashes": "00"}) is None
    sketched = trained_images({"content_sketches": ["0" * 15 + "1" + "f" * 48, "zz", "1" * 63, None]}).sketches
    assert sketched.tolist() == [[1, *[2**64 - 1] * 3]]


def test_other_classes_are_refused_with_both_lists(classifier):
    with pytest.raises(
        DatasetError, match="has the classes 'cat', 'red', but paper/colours answers with 'red', 'green'"
    ):
        measure(classifier, from_pairs("pets", [("a", "cat", textured(0, "red")), ("b", "red", textured(1, "red"))]))


def test_without_labels_there_is_nothing_to_measure(classifier):
    unlabelled = LabelledPictures("pets", [("a", None, lambda: textured(0, "red"))], (), split="test")

    with pytest.raises(DatasetError, match="pets has no labels in its split 'test'"):
        measure(classifier, unlabelled)


def test_a_broken_picture_is_left_out_and_counted(classifier):
    rows = [("a", "red", lambda: textured(0, "red")), ("b", "red", lambda: b"no picture")]

    found = measure(classifier, LabelledPictures("pets", rows, ("red",)))

    assert found.metrics["n"] == 1
    assert found.metrics["pictures_left_out"] == 1
    with pytest.raises(DatasetError, match="None of the 1 pictures of pets could be read"):
        measure(classifier, LabelledPictures("pets", rows[1:], ("red",)))


def test_measuring_can_be_stopped(classifier):
    def stop(share, stage):
        raise CancelledError("stopped")

    with pytest.raises(CancelledError):
        measure(classifier, shown(*[("red", "red")] * 4), batch_size=2, progress=stop)


def test_the_record_is_json_with_a_picture_beside_it(classifier, tmp_path):
    found = measure(classifier, shown(("red", "red"), ("blue", "green")))

    write_measured(tmp_path, found.metrics)

    assert json.loads((tmp_path / "metrics.json").read_text("utf-8")) == found.metrics
    with Image.open(tmp_path / "images" / "confusion.png") as drawn:
        assert drawn.width >= 300
    assert found.in_words == "50.0% of 2 pictures right (95 % interval 9.5% to 90.5%)"
