"""A name belongs to the output whose index its key is: nothing is named by its place in a list of keys."""

import json

import pytest
import torch
from tiny_models import TINY, build, changed, files_of, picture, processor_of, tensors_of
from toy_networks import ColourCounter, to_pixels

from xaihub import Classifier, load_classifier
from xaihub.class_names import class_names


@pytest.mark.parametrize(
    ("given", "classes", "labels", "words"),
    [
        ({"0": "cat", "1": "dog"}, 2, ["cat", "dog"], ()),
        ({1: "dog", 0: "cat"}, 2, ["cat", "dog"], ()),
        (["cat", "dog"], 2, ["cat", "dog"], ()),
        ({"1": "cat", "2": "dog"}, 2, ["cat", "dog"], ("from 1 to 2", "output 0 is 'cat'")),
        ({"1": "cat", "3": "hen"}, 3, ["cat", "class 1", "hen"], ("from 1 to 3", "does not name 1 of its 3")),
        ({"1": "dog", "2": "hen"}, 3, ["class 0", "dog", "hen"], ("does not name 1 of its 3 classes (0)",)),
        ({"0": "cat", "2": "hen"}, 3, ["cat", "class 1", "hen"], ("does not name 1 of its 3 classes (1)",)),
        ({"0": "cat", "2": "hen"}, 2, ["cat", "class 1"], ("its 2 outputs do not have ('2: hen')",)),
        ({"0": "cat", "7": "hen"}, 10, ["cat", *map("class {}".format, range(1, 7)), "hen", "class 8", "class 9"],
         ("does not name 8 of its 10 classes (1, 2, 3, ...)",)),
        ({"-1": "none", "0": "cat", "1": "dog"}, 2, ["cat", "dog"], ("do not have ('-1: none')",)),
        ({"0": "cat", "dog": "dog", "1.5": "x"}, 2, ["cat", "class 1"], ("2 entries of its id2label are left out",)),
        ({"cat": 0, "dog": "1"}, 2, ["cat", "dog"], ("read the other way round",)),
        ({"0": "cat", "00": "dog", "1": "hen"}, 2, ["cat", "hen"], ("left out", "'00: dog'")),
        ({"0": "cat", "1": None, "2": " "}, 3, ["cat", "class 1", "class 2"], ("does not name 2 of its 3",)),
        ({"0": "crane", "1": "crane", "2": "dog"}, 3, ["crane", "crane", "dog"], ("have the same name ('crane')",)),
        ({"0": "no", "1": "yes"}, 1, ["no", "yes"], ()),
        ({"0": "yes"}, 1, ["yes"], ()),
        ({}, 2, ["class 0", "class 1"], ("does not name its classes",)),
        ({"0": "LABEL_0", "1": "LABEL_1"}, 2, ["LABEL_0", "LABEL_1"], ("did not name its classes (LABEL_0",)),
        ({"0": "x" * 10_000}, 2, ["x" * 10_000, "class 1"], ("does not name",)),
    ],
)  # fmt: skip
def test_the_key_of_a_name_is_the_index_of_its_output(given, classes, labels, words):
    notices: list[str] = []

    assert class_names(given, classes, notices)[0] == labels
    assert bool(notices) == bool(words)
    for word in words:
        assert word in " ".join(notices)
    assert all(len(notice) < 400 for notice in notices)


@pytest.mark.parametrize(
    ("id2label", "label2id", "labels", "words"),
    [
        ({"0": "cat", "1": "dog"}, {"cat": 1, "dog": 0}, ["cat", "dog"], "contradicts its id2label ('cat: 1, not 0'"),
        ({"0": "cat", "1": "dog"}, {"cat": "0", "dog": "1"}, ["cat", "dog"], ""),
        ({"0": "cat", "1": "dog"}, {"LABEL_0": 0, "LABEL_1": 1}, ["cat", "dog"], ""),
        (None, {"dog": 1, "cat": 0}, ["cat", "dog"], ""),
        ({"1": "cat", "2": "dog"}, {"cat": 1, "dog": 2}, ["cat", "dog"], "from 1 to 2"),
    ],
)
def test_label2id_is_compared_and_takes_its_place_where_it_lacks(id2label, label2id, labels, words):
    notices: list[str] = []

    assert class_names(id2label or {}, 2, notices, label2id)[0] == labels
    assert len(notices) == bool(words)
    assert words in "".join(notices)


# Every loader goes this way. Which output is which is known: its bias is the largest.

BIASES = [0.0, 9.0, 0.0]  # every image is of class 1


def transformers_folder(folder, id2label) -> None:
    network = build(TINY["vit"])
    with torch.no_grad():
        network.classifier.bias.copy_(torch.tensor(BIASES) * 9)
    files = files_of(network, processor_of(TINY["vit"]), folder=folder)
    for name, content in changed(files, id2label=id2label, label2id=None).items():
        (folder / name).write_bytes(content)


def torchvision_folder(folder, id2label) -> None:
    from torchvision import models

    torch.manual_seed(0)
    network = models.mobilenet_v3_small(num_classes=3)
    with torch.no_grad():
        network.classifier[-1].bias.copy_(torch.tensor(BIASES))
    (folder / "model.safetensors").write_bytes(tensors_of(network))
    config = {"architecture": "torchvision.models.mobilenet_v3_small", "num_classes": 3, "input": [3, 32, 32]}
    (folder / "config.json").write_text(json.dumps({**config, "id2label": id2label}))


def timm_folder(folder, id2label) -> None:
    import timm

    torch.manual_seed(0)
    network = timm.create_model("test_resnet", num_classes=3)
    with torch.no_grad():
        network.get_classifier().bias.copy_(torch.tensor(BIASES) * 9)
    timm.models.save_for_hf(network, folder, model_config={"label_names": id2label}, safe_serialization=True)


@pytest.mark.parametrize("make", [transformers_folder, torchvision_folder, timm_folder])
@pytest.mark.parametrize(
    ("id2label", "predicted", "words"),
    [
        ({"1": "cat", "2": "dog", "3": "hen"}, "dog", "counts its classes from 1 to 3"),
        ({"0": "cat", "2": "hen"}, "class 1", "does not name 1 of its 3 classes (1)"),
        ({"2": "hen", "1": "dog", "0": "cat"}, "dog", ""),
    ],
    ids=["from one", "a gap", "in any order"],
)
def test_every_library_s_names_go_to_the_outputs_of_their_keys(tmp_path, make, id2label, predicted, words):
    make(tmp_path, id2label)

    classifier = load_classifier(tmp_path)

    assert classifier.predict(picture()).label == predicted
    assert any(words in notice for notice in classifier.notices) or not words
    assert bool(words) == any("id2label" in notice for notice in classifier.notices)


def test_names_for_more_outputs_than_there_are_stay_a_refusal_of_transformers(tmp_path):
    transformers_folder(tmp_path, {str(i): f"kind {i}" for i in range(12)})

    with pytest.raises(Exception, match=r"weights that do not fill its network"):
        load_classifier(tmp_path)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ({1: "red", 2: "green", 3: "blue"}, ("red", "green", "blue")),
        ({0: "red", 2: "blue"}, ("red", "class 1", "blue")),
        ({2: "blue", 0: "red", 1: "green"}, ("red", "green", "blue")),
    ],
)
def test_labels_given_by_index_to_a_network_of_ones_own_are_read_the_same_way(labels, expected):
    classifier = Classifier.from_module(ColourCounter(), labels=labels, transform=to_pixels((32, 32)))

    assert classifier.labels == expected
    assert len(classifier.notices) == (sorted(labels) != [0, 1, 2])
