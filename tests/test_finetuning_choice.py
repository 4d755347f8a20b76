"""What is trained is chosen by images that were not seen: rarely, by enough of them, in runs that can be stopped."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from training_child import backbone, class_folders, train

from xaihub.datasets import open_dataset
from xaihub.errors import CancelledError
from xaihub.families.from_transformers import load_backbone
from xaihub.finetuning.choosing import Choice, Tried, leaves_room, tried
from xaihub.finetuning.fitting import fine_tune, run_key
from xaihub.finetuning.pixel_store import read_pixels
from xaihub.finetuning.settings import FineTuning

LABELS = ("real", "fake")
QUICK = FineTuning(epochs=4, learning_rate=2e-2, batch_size=4, averaged=2, copies=2, calibration_folds=2)
RED_OR_BLUE = 16  # images of each class


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return backbone(tmp_path_factory.mktemp("network"))


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    return open_dataset(class_folders(tmp_path_factory.mktemp("data") / "pets", RED_OR_BLUE))


def sighted(network):
    return load_backbone(network, LABELS, "tiny")


def colour_blind(network):
    """Its first layer adds the three colours up, so no layer above can tell red from blue as long as it is kept."""
    held = sighted(network)
    with torch.no_grad():
        weight = held.module.resnet.embedder.embedder.convolution.weight
        weight.copy_(weight.sum(1, keepdim=True) / held.transform.span[:, None, None])
    return held


def stored(held, rows):
    return read_pixels(rows, held.transform, LABELS)


@pytest.mark.parametrize(
    ("images", "right", "room"),
    [
        (200, 193, False),  # three and a half of a hundred: cats
        (100, 89, False),  # with half of the 11 mistakes 5 answers change, which is 1 chance in 16
        (100, 88, True),  # 6: 1 chance in 32
        (20, 8, True),
        (12, 1, False),
        (1000, 951, False),  # told from chance with ease, but rare
        (1000, 949, True),
    ],
)
def test_more_is_tried_where_half_the_mistakes_could_be_told_from_chance_and_are_not_rare(images, right, room):
    assert leaves_room(Tried(0.25, images, right, 0.5)) is room


def test_the_figures_are_those_after_the_best_temperature():
    """Of answers with logits (z, 0) a quarter is wrong: sigmoid(z / T) is 3/4 at best, whatever z was."""
    logits, truth = torch.tensor([[8.0, 0.0]] * 400), torch.tensor([0, 0, 0, 1] * 100)

    found = tried(0.25, logits, truth)

    assert (found.images, found.right) == (400, 300)
    assert found.log_loss == pytest.approx(-0.75 * math.log(0.75) - 0.25 * math.log(0.25), abs=1e-4)


def test_the_lower_loss_is_chosen_and_of_equals_the_usual_share():
    usual, worse, better = Tried(0.25, 40, 25, 0.5), Tried(1.0, 40, 30, 0.5), Tried(1.0, 40, 20, 0.4)

    assert Choice("", usual).share == 0.25
    assert Choice("", usual, (usual, worse)).share == 0.25
    assert Choice("", usual, (usual, better)).share == 1.0


def test_where_the_lower_layers_are_blind_to_the_difference_all_are_trained(network, rows, tmp_path):
    held = colour_blind(network)
    before = held.module.resnet.embedder.embedder.convolution.weight.clone()

    found = fine_tune(held, stored(held, rows), None, replace(QUICK, epochs=6), work=tmp_path)

    usual, more = found.choice.compared
    assert (usual.share, more.share, found.choice.share, found.trained) == (0.25, 1.0, 1.0, "all layers")
    assert usual == found.choice.first  # compared on all images
    assert usual.right <= 24  # a guess would have 16 of 32
    assert more.right >= 28
    assert not torch.equal(held.module.resnet.embedder.embedder.convolution.weight, before)
    assert found.calibration.after == pytest.approx(more.log_loss, abs=1e-5)  # by the answers of all layers


def test_where_the_upper_layers_suffice_no_other_network_is_trained(network, rows, tmp_path):
    held, said, settings = sighted(network), [], replace(QUICK, epochs=6)

    found = fine_tune(
        held, stored(held, rows), None, settings, work=tmp_path, progress=lambda _, stage: said.append(stage)
    )

    assert found.choice.share == 0.25
    assert found.choice.compared == ()
    assert not any(stage.startswith("All layers") for stage in said)
    assert not (tmp_path / "all-layers").exists()
    given, again = sighted(network), replace(settings, trained_share=0.25)
    assert fine_tune(given, stored(given, rows), None, again, work=tmp_path / "given").choice is None
    chosen, as_given = held.module.state_dict(), given.module.state_dict()
    assert all(torch.equal(chosen[name], as_given[name]) for name in chosen)  # the same bytes as a quarter gives


def test_all_layers_are_given_up_after_the_first_part_that_they_answer_worse(network, rows, tmp_path):
    """Labels that are noise: nobody's answers get better, and the first parts show it."""
    held = sighted(network)
    noise = replace(stored(held, rows), truth=torch.arange(2 * RED_OR_BLUE) % 2)

    found = fine_tune(held, noise, None, replace(QUICK, epochs=2, calibration_folds=4), work=tmp_path)

    usual, more = found.choice.compared
    assert found.choice.share == 0.25
    assert more.log_loss >= usual.log_loss
    assert usual.images == more.images < found.choice.first.images == 32
    assert found.trained.endswith("the layers up to it are unchanged")


def test_a_validation_split_chooses_where_there_is_one(network, rows, tmp_path):
    held = colour_blind(network)
    more = open_dataset(class_folders(tmp_path / "more", 2 * RED_OR_BLUE))
    others = replace(more, sources=[each for each in more.sources if int(Path(each[0]).stem) >= RED_OR_BLUE])

    found = fine_tune(held, stored(held, rows), stored(held, others), QUICK, work=tmp_path / "work")

    assert (found.choice.source, found.choice.share, found.trained) == ("the validation split", 1.0, "all layers")
    assert found.calibration.source == "the validation split"


def test_a_stopped_choice_goes_on_and_ends_with_the_same_bytes(network, rows, tmp_path):
    held = colour_blind(network)
    whole = fine_tune(held, stored(held, rows), None, QUICK, work=tmp_path / "whole")
    expected, said = held.module.state_dict(), []

    def stop(_share, stage):
        said.append(stage)
        if len(said) in (30, 65, 100):
            raise CancelledError("stopped")

    for _ in range(3):
        fresh = colour_blind(network)
        with pytest.raises(CancelledError):
            fine_tune(fresh, stored(fresh, rows), None, QUICK, work=tmp_path / "part", progress=stop)
    again = colour_blind(network)
    found = fine_tune(again, stored(again, rows), None, QUICK, work=tmp_path / "part")

    assert any(stage.startswith("All layers. Fold") for stage in said)
    assert found.choice == whole.choice
    assert all(torch.equal(tensor, expected[name]) for name, tensor in again.module.state_dict().items())


def test_a_chosen_share_has_another_key_than_a_given_one(network, rows):
    store = stored(sighted(network), rows)
    keys = {run_key(replace(QUICK, trained_share=share), "a@1", store, None) for share in (None, 0.25, 1.0)}
    assert len(keys) == 3


def test_the_record_and_the_card_say_how_it_was_chosen(network, tmp_path):
    data = class_folders(tmp_path / "pets", 6)

    assert train(data, network, tmp_path / "made", "--epochs", "1", cache=tmp_path / "cache") == 0

    record = json.loads((tmp_path / "made" / "training.json").read_text("utf-8"))
    card = Path(tmp_path / "made" / "README.md").read_text("utf-8")
    assert (record["settings"]["trained_share"], record["choice"]["share"]) == (None, 0.25)
    assert record["choice"]["first"]["images"] == 12
    assert record["choice"]["in_words"] in card
    assert "| trained share | chosen |" in card


def test_cross_validated_figures_of_images_that_also_chose_say_so(network, tmp_path):
    """Both classes are red: a guess is wrong often enough for all layers to be tried."""
    data = class_folders(tmp_path / "alike", RED_OR_BLUE, real="red", fake="red")
    made = tmp_path / "made"

    assert train(data, network, made, "--epochs", "1", "--folds", "2", cache=tmp_path / "cache") == 0

    record, metrics = (json.loads((made / f"{name}.json").read_text("utf-8")) for name in ("training", "metrics"))
    assert [each["share"] for each in record["choice"]["compared"]] == [0.25, 1.0]
    assert "They also chose how many layers are trained" in metrics["caution"]
    assert record["choice"]["in_words"].startswith("What is trained was chosen by 2-fold out-of-fold predictions, on ")
