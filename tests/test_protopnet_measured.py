"""Prototypes are measured beside their black box, and the card says what they are, how good, and what is wrong."""

import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import ModelCard
from PIL import Image
from tiny_models import TOKEN, picture
from tiny_prototypes import black_box_folder, opened, prototyped, saved

from xaihub import load_classifier
from xaihub.cards.prototypes import write_prototype_card
from xaihub.datasets import from_pairs
from xaihub.datasets.splits import Source
from xaihub.hub import check_card
from xaihub.intervals import wilson
from xaihub.measuring import evaluate_classifier, measure

ROOT = Path(__file__).parents[1]
LABELS = ("cat", "dog", "hen")
COUNT = 9
TRAINING = {
    "format": 1, "labels": list(LABELS),
    "backbone": {"id": "alice/tiny", "on_hub": True, "revision": "a" * 40, "licence": "apache-2.0"},
    "dataset": {
        "id": "alice/pets", "on_hub": True, "revision": "b" * 40, "split": "train", "pictures": 12,
        "counts": {"cat": 4, "dog": 4, "hen": 4}, "licence": "cc-by-4.0", "leaks": ["Formats <b>differ</b>."],
    },
    "preprocessing": "resize to 64", "settings": {"per_class": 2, "head": {"sparsity": 0.003}}, "kept": "the last",
    "seconds": 3.2, "machine": "2 cores", "versions": {"torch": "2.9"}, "perceptual_hashes": ["0" * 16],
}  # fmt: skip


@pytest.fixture(scope="module")
def black_box(tmp_path_factory) -> Path:
    return black_box_folder(tmp_path_factory.mktemp("black-box"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory, black_box) -> Path:
    """A ProtoPNet with its black box beside it."""
    return saved(tmp_path_factory.mktemp("trained"), black_box, kind="protopnet")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for seed in range(COUNT):
        (folder / LABELS[seed % 3]).mkdir(exist_ok=True)
        picture(seed=50 + seed).save(folder / LABELS[seed % 3] / f"{seed}.png")
    return folder


def rows():
    return from_pairs("alice/unseen", [(str(seed), LABELS[seed % 3], picture(seed=50 + seed)) for seed in range(COUNT)])


def agreeing(one, other) -> int:
    """Counted picture by picture, each classifier with its own preprocessing."""
    return sum(
        one.predict(picture(seed=50 + seed)).label == other.predict(picture(seed=50 + seed)).label
        for seed in range(COUNT)
    )


def test_a_head_agrees_with_the_network_below_it_in_the_same_pass(black_box):
    classifier, untouched = prototyped(opened(black_box), copies=1), opened(black_box)
    passes = []
    handle = classifier.prototypes.network.black_box.register_forward_hook(lambda *seen: passes.append(len(seen[1][0])))

    metrics = measure(classifier, rows(), batch_size=4).metrics
    handle.remove()

    same = agreeing(classifier, untouched)
    assert 0 < same < COUNT
    assert metrics["agreement"] == same / COUNT
    assert metrics["agreement_interval"] == list(wilson(same, COUNT))
    assert metrics["agreement_note"] is None
    assert metrics["distinct_sources_per_class"] == {"cat": 1, "dog": 2, "hen": 2}
    assert passes == [4, 4, 1]


def test_a_classifier_without_prototypes_says_nothing_of_them(black_box):
    assert "agreement" not in measure(opened(black_box), rows()).metrics


def test_a_protopnet_is_held_against_the_black_box_beside_its_weights(trained, black_box, data):
    _, found = evaluate_classifier(trained, Source(str(data)))

    same = agreeing(load_classifier(trained), opened(black_box))
    assert found.metrics["agreement"] == same / COUNT
    assert found.metrics["distinct_sources_per_class"] == dict.fromkeys(LABELS, 2)
    assert f"{same / COUNT:.1%} as the network it was made from says" in found.in_words


def test_from_the_hub_the_black_box_is_fetched_at_the_same_commit(hub, trained, data):
    hub.add_user("alice", token=TOKEN)
    hub.add_folder("alice/cats", trained, private=True)
    sha = hub.repo("alice/cats").head.sha
    hub.requests.clear()

    _, found = evaluate_classifier("alice/cats", Source(str(data)), token=TOKEN)

    _, local = evaluate_classifier(trained, Source(str(data)))
    fetched = [seen.path for seen in hub.requests if "/resolve/" in seen.path]
    assert found.metrics["agreement"] == local.metrics["agreement"]
    assert {path.rpartition("black_box/")[2] for path in fetched if "black_box" in path} == {
        "config.json", "model.safetensors", "preprocessor_config.json",
    }  # fmt: skip
    assert all(sha in path for path in fetched if "black_box" in path)


def test_without_its_black_box_or_with_other_classes_the_agreement_is_null_and_says_why(
    trained, black_box, data, tmp_path
):
    alone = shutil.copytree(trained, tmp_path / "alone", ignore=shutil.ignore_patterns("black_box"))
    _, found = evaluate_classifier(alone, Source(str(data)))
    assert found.metrics["agreement"] is None
    assert "is not at hand" in found.metrics["agreement_note"]
    other = opened(black_box_folder(tmp_path / "other", labels={0: "cat", 1: "dog", 2: "cow"}))
    found = measure(load_classifier(trained), rows(), black_box=other)
    assert (found.metrics["agreement"], found.metrics["agreement_interval"]) == (None, None)
    assert "has no class 'hen'" in found.metrics["agreement_note"]


@pytest.fixture
def described(trained, tmp_path) -> Path:
    folder = shutil.copytree(trained, tmp_path / "cats")
    (folder / "training.json").write_text(json.dumps(TRAINING))
    (folder / "metrics.json").write_text(json.dumps({"accuracy": None, "n": 0}))
    write_prototype_card(folder, "alice/cats")
    return folder


def run(name: str, *arguments) -> int:
    spec = importlib.util.spec_from_file_location(f"script_{name}", ROOT / "scripts" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main([str(argument) for argument in arguments])


def test_the_same_command_measures_it_and_writes_its_card_anew(described, data, tmp_path):
    before = {path.name: path.read_bytes() for path in described.iterdir() if path.is_file()}
    assert "Nothing that it had not seen was measured" in before["README.md"].decode()

    assert run("evaluate_classifier", "--model", described, "--data", data, "--to", tmp_path / "metrics.json") == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert run("evaluate_classifier", "--model", described, "--data", data, "--to", described) == 0

    assert json.loads((described / "metrics.json").read_text()) == metrics
    text = (described / "README.md").read_text("utf-8")
    low, high = metrics["agreement_interval"]
    assert f"It calls {metrics['agreement']:.1%} ({low:.1%} to {high:.1%}) of these pictures what the network" in text
    assert f"| accuracy | {metrics['accuracy']:.1%}" in text
    assert (described / "model.safetensors").read_bytes() == before["model.safetensors"]
    assert (described / "black_box" / "model.safetensors").is_file()


def test_the_card_on_the_hub_is_written_anew_as_well(hub, described, data, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("XAIHUB_CACHE", str(tmp_path / "cache"))
    hub.add_user("alice", token=TOKEN)
    hub.add_folder("alice/cats", described, private=True)
    before = hub.repo("alice/cats").head.files

    assert run("evaluate_classifier", "--model", "alice/cats", "--data", data, "--to", "alice/cats") == 0

    files = hub.repo("alice/cats").head.files
    assert set(files) == set(before) | {"metrics.json", "images/confusion.png"}
    assert files["model.safetensors"] == before["model.safetensors"]
    assert "of these pictures what the network it was made from calls them" in files["README.md"].content.decode()


def test_the_card_says_what_the_prototypes_are_and_the_hub_takes_it(hub, described):
    hub.add_user("alice", token=TOKEN)
    text = (described / "README.md").read_text("utf-8")
    card = ModelCard(text)

    check_card(text, "alice/cats", "model", TOKEN)
    assert (card.data.license, card.data.base_model, card.data.datasets) == ("apache-2.0", "alice/tiny", ["alice/pets"])
    assert (card.data.library_name, card.data.pipeline_tag) == ("xaihub", "image-classification")
    for said in (
        'load_classifier("alice/cats")', "| cat | 2 | 2 | 2 | 0 |", "images/prototypes.jpg", "licence cc-by-4.0",
        "| head sparsity | 0.003 |", "| prototypes lie on | resnet.encoder.stages.1.layers.1 |",
        "trained together with the network",
        r"Formats \<b\>differ\</b\>.", "[alice/pets](https://huggingface.co/datasets/alice/pets) at bbbbbbbbbbbb",
    ):  # fmt: skip
        assert said in text
    assert "prototypes come from one picture" not in text
    sheet = np.asarray(Image.open(described / "images" / "prototypes.jpg").convert("RGB")).astype(int)
    assert ((sheet[..., 0] > 200) & (sheet[..., 1] > 170) & (sheet[..., 2] < 110)).sum() > 100, "boxes in yellow"


def test_the_card_raises_the_alarm_when_prototypes_have_collapsed(black_box, tmp_path):
    folder = saved(tmp_path / "collapsed", black_box, copies=1)
    config = json.loads((folder / "config.json").read_text())
    config["id2label"]["0"], config["made"]["dataset"] = "<i>a|b</i>", "x`y\n# z"
    (folder / "config.json").write_text(json.dumps(config))

    write_prototype_card(folder, "collapsed")

    text = (folder / "README.md").read_text("utf-8")
    assert "**2 of 6 prototypes come from one picture (train/0): they say the same again." in text
    assert r"**The 2 prototypes of class '\<i\>a\|b\</i\>' come from 1 picture only." in text
    assert "\n# z" not in text
    assert "unchanged features of the folder alice/tiny, and were fitted to what that network predicts" in text
