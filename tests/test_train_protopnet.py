"""The script as somebody types it, for both kinds: what it writes, what it refuses, and what a kill leaves."""

import io
import json

import pytest
from prototype_child import black_box, prototypes
from tiny_models import TOKEN
from training_child import class_folders, tinted

from scripts import evaluate_classifier
from scripts.train_protopnet import parser, settings_of
from xaihub import load_classifier
from xaihub.datasets import write_split


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XAIHUB_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """The folders of a classifier and of its training pictures."""
    return black_box(tmp_path_factory.mktemp("given"))


def read(folder, name="metrics.json"):
    return json.loads((folder / name).read_text("utf-8"))


def unseen(folder, **splits):
    """A dataset folder of pictures that nobody was trained on: unseen(folder, test=4)."""
    start = 20_000
    for split, count in splits.items():
        rows = []
        for label, colour in enumerate(("blue", "red")):
            for place in range(count):
                stream = io.BytesIO()
                tinted(start + place, colour).save(stream, "PNG")
                rows.append({"image": stream.getvalue(), "label": label})
            start += 1000
        write_split(folder, split, rows, ("fake", "real"))
    return folder


@pytest.mark.parametrize("kind", ["head", "protopnet"])
def test_what_is_written_loads_by_its_folder_and_is_measured_beside_the_black_box(given, kind, tmp_path, capsys):
    network, data = given

    assert prototypes(data, network, tmp_path / "made", kind=kind) == 0

    made = tmp_path / "made"
    assert capsys.readouterr().out.splitlines()[-1] == str(made)
    classifier = load_classifier(made)
    held = classifier.prototypes
    assert (held.kind, held.fitted_to) == ((kind, "predictions") if kind == "head" else (kind, "labels"))
    assert classifier.labels == ("fake", "real")
    assert all(f"{held.labels[each.owner]}/" in each.key and each.picture.size == (32, 32) for each in held.gallery)
    record = read(made, "training.json")
    assert record["prototypes"]["distinct_sources"] == {"fake": 3, "real": 3}
    assert record["prototypes"]["warnings"] == held.made["warnings"] == []
    assert [row["stage"] for row in record["history"]] == (["warm-up", "joint", "joint"] if kind != "head" else [])
    assert len(set(record["perceptual_hashes"])) == 24
    assert record["backbone"]["id"] == "classifier"
    assert (made / "black_box").exists() == (kind == "protopnet")
    assert (made / "README.md").read_text("utf-8").startswith("---\n")
    assert not list((tmp_path / "cache" / "training").glob("*"))  # no checkpoints once the result is safe

    others = unseen(tmp_path / "others", test=4)
    asked = ["--model", str(made), "--data", str(others), "--to", str(tmp_path / "metrics.json")]
    assert evaluate_classifier.main(asked) == 0
    metrics = read(tmp_path)
    assert metrics["n"] == 8
    assert metrics["distinct_sources_per_class"] == {"fake": 3, "real": 3}
    assert 0 <= metrics["agreement"] <= 1


def test_a_test_split_is_measured_at_once_and_a_validation_split_chooses_the_epoch(given, tmp_path):
    data = unseen(tmp_path / "data", train=6, validation=3, test=4)

    assert prototypes(data, given[0], tmp_path / "made") == 0

    metrics, record = read(tmp_path / "made"), read(tmp_path / "made", "training.json")
    assert (metrics["split"], metrics["n"], metrics["caution"]) == ("test", 8, "")
    assert metrics["agreement"] is not None
    assert all("validation_loss" in row for row in record["history"] if row["stage"] == "joint")


def test_the_same_command_gives_the_same_bytes(given, tmp_path):
    network, data = given
    for name in ("one", "other"):
        assert prototypes(data, network, tmp_path / name / "made", kind="head") == 0

    for name in ("model.safetensors", "config.json", "prototypes.parquet"):
        assert (tmp_path / "one" / "made" / name).read_bytes() == (tmp_path / "other" / "made" / name).read_bytes()


def test_the_published_recipe_is_one_word_and_each_of_its_parts_an_option():
    def asked(*options):
        return settings_of(parser().parse_args(["--data", "D", "--to", "P", *options]))

    usual, published = asked(), asked("--recipe", "published")
    assert (usual.similarity, usual.pooled, usual.start, usual.distinct) == ("cosine", 5, "head", True)
    assert (published.similarity, published.add_on, published.pooled, published.least) == (
        "log-distance", "published", 1, 0.0,
    )  # fmt: skip
    assert (published.cluster, published.separation, published.other_weights) == (0.8, 0.08, 1e-4)
    assert (published.distinct, published.last_layer, published.distilled) == (False, "gradient", 0.0)
    assert asked("--similarity", "log-distance").start == "head"
    assert asked("--add-on", "published").start == "random"
    assert asked("--recipe", "published", "--epochs", "3").epochs == 3


def test_a_prototype_classifier_is_published(hub, given, tmp_path, monkeypatch, capsys):
    hub.add_user("alice", token=TOKEN)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.chdir(tmp_path)  # where no folder is called alice
    network, data = given

    assert prototypes(data, network, "alice/pets", kind="head") == 0

    assert capsys.readouterr().out.splitlines()[-1].endswith("/alice/pets")
    assert {"model.safetensors", "config.json", "prototypes.parquet", "README.md", "training.json"} <= set(
        hub.repo("alice/pets").head.files
    )
    assert load_classifier("alice/pets").prototypes.kind == "head"


@pytest.fixture(scope="module")
def spoiled(given, tmp_path_factory):
    """Datasets and classifiers that cannot do, by name."""
    folder = tmp_path_factory.mktemp("spoiled")
    class_folders(folder / "one", 4, real="red")
    class_folders(folder / "dogs", 4, dog="red", hen="blue")
    assert prototypes(given[1], given[0], folder / "prototypes", kind="head") == 0
    (folder / "torchvision").mkdir()
    described = {"architecture": "torchvision.models.resnet18", "num_classes": 3, "id2label": {"0": "a"}}
    (folder / "torchvision" / "config.json").write_text(json.dumps(described))
    (folder / "torchvision" / "model.safetensors").write_bytes((given[0] / "model.safetensors").read_bytes())
    return folder


@pytest.mark.parametrize(
    ("data", "network", "options", "says"),
    [
        ("one", None, (), "only one class, 'real'"),
        ("nowhere", None, (), "nowhere"),
        ("dogs", None, ("--fit", "predictions"), "does not have the classes of dogs ('dog', 'hen')"),
        (None, "prototypes", (), "is a classifier of protopnet"),
        (None, "torchvision", (), "is a classifier of torchvision"),
        (None, None, ("--per-class", "0"), "per_class is 0; it must be 1 or more"),
        (None, None, ("--epochs", "-1"), "epochs is -1; it must be 0 or more"),
        (None, None, ("--rate", "7"), "A rate of 7.0 trains nothing"),
        (None, None, ("--add-on", "published", "--start", "head"), "cannot start from them"),
        (None, None, ("--kind", "head"), "--warm-up is for --kind protopnet: a head is fitted, not trained"),
        (None, None, ("--split", "test"), "has no split 'test'. It is a folder of class folders"),
    ],
)
def test_what_cannot_be_made_is_one_sentence_and_leaves_nothing(
    data, network, options, says, spoiled, given, tmp_path, capsys
):
    chosen = spoiled / data if data else given[1]
    code = prototypes(chosen, spoiled / network if network else given[0], tmp_path / "made", *options)

    assert code == 2
    assert says in capsys.readouterr().err.strip().splitlines()[-1]
    assert not (tmp_path / "made").exists()


def test_classes_that_the_network_does_not_know_are_learned_from_their_labels(spoiled, given, tmp_path):
    assert prototypes(spoiled / "dogs", given[0], tmp_path / "made", kind="head") == 0

    made = load_classifier(tmp_path / "made")
    assert (made.labels, made.prototypes.fitted_to) == (("dog", "hen"), "labels")


def test_an_interrupted_training_goes_on_from_its_last_epoch(given, tmp_path, monkeypatch):
    """What a stopped process kept is used: the next one runs fewer epochs."""
    from xaihub.prototype_training.course import PrototypeCourse

    network, data = given
    ran = []
    whole = PrototypeCourse.epoch

    def counted(self, number):
        ran.append((self.stage, number))
        if len(ran) == 3:
            raise KeyboardInterrupt
        return whole(self, number)

    monkeypatch.setattr(PrototypeCourse, "epoch", counted)
    assert prototypes(data, network, tmp_path / "made") == 130
    assert prototypes(data, network, tmp_path / "made") == 0

    assert ran == [("warm-up", 0), ("joint", 0), ("joint", 1), ("joint", 1)]
