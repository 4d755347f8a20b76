"""The card says what the records say, as YAML and as words, whatever a stranger's names are."""

import numpy as np
import pytest
from huggingface_hub import ModelCard

from xaihub import hub
from xaihub.cards.model import model_card, with_metrics
from xaihub.measuring.measuring import metrics_of

TRAINING = {
    "labels": ["real", "fake"],
    "backbone": {"id": "microsoft/resnet-18", "on_hub": True, "revision": "a" * 40, "licence": "apache-2.0"},
    "dataset": {
        "id": "alice/pets", "on_hub": True, "revision": "b" * 40, "split": "train", "pictures": 10,
        "counts": {"real": 5, "fake": 5}, "leaks": ["Formats differ."], "steps": ["Cropped to squares."],
    },
    "preprocessing": "resize to 224", "head": "classifier, new", "settings": {"seed": 0, "batch_norm": "frozen"},
    "kept": "the mean of the last 5 of 10 epochs", "left_out": 2, "seconds": 61.2, "machine": "2 cores",
    "versions": {"torch": "2.9"},
}  # fmt: skip


@pytest.fixture
def metrics():
    truth = np.array([0] * 6 + [1] * 4)
    probabilities = np.array([[0.9, 0.1]] * 5 + [[0.3, 0.7]] + [[0.2, 0.8]] * 4)
    origin = {"dataset": "alice/pets", "dataset_revision": "b" * 40, "split": "test", "caution": ""}
    return metrics_of([f"test/{i}" for i in range(10)], truth, probabilities, ["real", "fake"]) | origin


def text_of(*made):
    return hub.card_text(*made)


def test_the_head_holds_what_was_measured_and_where_it_came_from(metrics):
    card = ModelCard(text_of(*model_card("alice/cats", TRAINING, metrics)))

    assert card.data.license == "apache-2.0"
    assert card.data.base_model == "microsoft/resnet-18"
    assert card.data.datasets == ["alice/pets"]
    assert (card.data.library_name, card.data.pipeline_tag) == ("transformers", "image-classification")
    accuracy = next(result for result in card.data.eval_results if result.metric_type == "accuracy")
    assert (accuracy.metric_value, accuracy.dataset_split) == (0.9, "test")


def test_the_text_says_the_figures_with_their_intervals_and_the_mistakes(metrics):
    text = text_of(*model_card("alice/cats", TRAINING, metrics, pictures=["confusion.png", "examples.jpg"]))

    assert "| real | 100.0% (56.6% to 100.0%) | 83.3% (43.6% to 97.0%) |" in text
    assert "| accuracy | 90.0% (59.6% to 98.2%) |" in text
    assert "| test/5 | real | fake | 0.70 |" in text
    assert "1 mistake, the most confident first" in text
    assert "images/confusion.png" in text
    assert "images/examples.jpg" in text
    assert "bootstrap resamples" in text
    assert "Formats differ." in text
    assert "- Cropped to squares." in text
    assert "2 were left out" in text
    assert "[microsoft/resnet-18](https://huggingface.co/microsoft/resnet-18) at aaaaaaaaaaaa" in text
    assert 'load_classifier("alice/cats")' in text


def test_folders_are_named_without_a_link_and_what_is_not_known_is_left_out(metrics):
    local = {
        **TRAINING,
        "backbone": {"id": "mine", "on_hub": False, "revision": None, "licence": None},
        "dataset": {**TRAINING["dataset"], "id": "pets", "on_hub": False, "revision": None, "split": None},
    }
    card = ModelCard(text_of(*model_card("cats", local, metrics)))

    assert card.data.base_model is None
    assert card.data.license is None
    assert "the folder mine" in card.text
    assert "huggingface.co/mine" not in card.text


def test_a_name_stays_a_name_in_yaml_and_in_the_tables(metrics):
    odd = ["no", "a: b | <b>c</b>\n# d"]
    found = metrics_of(["k"] * 2, np.array([0, 1]), np.eye(2), odd) | {"dataset": "x", "split": None}

    text = text_of(*model_card("cats", {**TRAINING, "labels": odd}, found))

    assert "\\<b\\>" in text
    assert "\n# d" not in text
    assert ModelCard(text).data.to_dict()["pipeline_tag"] == "image-classification"


def test_anothers_card_keeps_its_words_and_gets_one_section_of_ours(metrics):
    head, body = {"license": "mit", "tags": ["mine"]}, "# My model\n\nMade with care.\n"

    once = with_metrics("bob/net", head, body, metrics)
    twice = with_metrics("bob/net", *once, {**metrics, "split": "validation"})

    text = text_of(*twice)
    assert text.count("## Measured with xaihub") == 1
    assert "Made with care." in text
    assert "alice/pets, validation" in text
    assert "alice/pets, test" not in text
    assert ModelCard(text).data.license == "mit"
