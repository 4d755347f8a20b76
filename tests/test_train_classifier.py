"""The two scripts as somebody types them: what they write, what they refuse, and what a kill leaves."""

import io
import json
import multiprocessing
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from killing import dies, moments
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_models import TINY, TOKEN, build, processor_of, push
from training_child import RESNET, backbone, class_folders, tinted, train, train_quietly

from scripts import evaluate_classifier
from xaihub.datasets import open_dataset, write_split


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XAIHUB_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return backbone(tmp_path_factory.mktemp("network"))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return class_folders(tmp_path_factory.mktemp("pictures") / "pets")


def evaluate(model, data, to, *options) -> int:
    return evaluate_classifier.main(["--model", str(model), "--data", str(data), "--to", str(to), *options])


def read(folder, name="metrics.json"):
    return json.loads((folder / name).read_text("utf-8"))


def png(picture) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    return stream.getvalue()


def dataset_folder(folder, classes, **splits):
    """A dataset folder whose classes are in this order: dataset_folder(f, ["real", "fake"], train=6, test=4)."""
    start = 0
    for split, count in splits.items():
        rows = [
            {"image": png(tinted(start + 100 * k + i, "red" if label == "real" else "blue")), "label": k}
            for k, label in enumerate(classes)
            for i in range(count)
        ]
        write_split(folder, split, rows, classes)
        start += 5000
    return folder


def test_what_is_written_is_loaded_by_plain_transformers_with_the_classes_in_order(pictures, network, tmp_path, capsys):
    from transformers import AutoImageProcessor, AutoModelForImageClassification

    assert train(pictures, network, tmp_path / "made", "--folds", "3") == 0

    made = tmp_path / "made"
    assert capsys.readouterr().out.splitlines()[-1] == str(made)
    model = AutoModelForImageClassification.from_pretrained(made)
    processor = AutoImageProcessor.from_pretrained(made, backend="pil")
    assert model.config.id2label == {0: "fake", 1: "real"}
    right = 0
    with torch.no_grad():
        for row in open_dataset(pictures):
            logits = model(**processor(images=row.picture, return_tensors="pt")).logits
            right += model.config.id2label[int(logits.argmax())] == row.label
    assert right >= 11  # of 12, which it was trained on
    record, metrics = read(made, "training.json"), read(made)
    assert record["dataset"]["counts"] == {"fake": 6, "real": 6}
    assert len(record["history"]) == 3
    assert len(set(record["perceptual_hashes"])) == 12
    assert metrics["n"] == 12
    assert metrics["folds"]["count"] == 3
    assert "cross-validated" in metrics["split"]
    assert (
        str(tmp_path)
        not in "".join(p.read_text("utf-8") for p in made.glob("*.json")) + (made / "README.md").read_text()
    )
    assert sorted(p.name for p in (made / "images").iterdir()) == ["confusion.png", "examples.jpg"]
    assert not list((tmp_path / "cache" / "training").iterdir())  # no checkpoints once the result is safe


def test_the_test_split_is_measured_and_the_validation_split_chooses_the_epoch(network, tmp_path):
    data = dataset_folder(tmp_path / "data", ["real", "fake"], train=6, validation=3, test=4)

    assert train(data, network, tmp_path / "made") == 0

    metrics, record = read(tmp_path / "made"), read(tmp_path / "made", "training.json")
    assert (metrics["split"], metrics["n"], metrics["caution"]) == ("test", 8, "")
    assert metrics["near_copies_of_training"] == 0
    assert metrics["confusion"]["labels"] == ["real", "fake"]
    assert all("validation_loss" in row for row in record["history"])
    assert record["kept"].startswith("epoch ")


def test_without_a_test_split_the_card_says_that_the_figures_are_optimistic(network, tmp_path):
    data = dataset_folder(tmp_path / "data", ["real", "fake"], train=6, validation=3)

    assert train(data, network, tmp_path / "made") == 0

    assert read(tmp_path / "made")["split"] == "validation"
    assert "somewhat optimistic" in (tmp_path / "made" / "README.md").read_text("utf-8")


def test_without_anything_unseen_the_card_says_so_and_how_to_measure(pictures, network, tmp_path):
    assert train(pictures, network, tmp_path / "made", "--epochs", "0") == 0

    assert read(tmp_path / "made")["accuracy"] is None
    card = (tmp_path / "made" / "README.md").read_text("utf-8")
    assert "Nothing that the network had not seen was measured" in card
    assert "scripts/evaluate_classifier.py --model made" in card
    assert "model-index" not in card


@pytest.mark.parametrize("classes", [["real", "fake"], ["fake", "real"]], ids=" then ".join)
def test_a_classifier_that_always_says_real_finds_all_real_ones_and_no_other(classes, network, tmp_path):
    """Its classes in either order: with the names swapped it would be "fake" whose recall is 1."""
    data, made = dataset_folder(tmp_path / "data", classes, train=4, test=5), tmp_path / "made"
    assert train(data, network, made, "--epochs", "0") == 0
    always(made, classes.index("real"))

    assert evaluate(made, data, made) == 0

    metrics = read(made)
    assert {label: row["recall"] for label, row in metrics["per_class"].items()} == {"real": 1.0, "fake": 0.0}
    assert metrics["per_class"]["fake"]["precision"] is None
    row = dict(zip(classes, metrics["confusion"]["matrix"], strict=True))
    real = classes.index("real")
    assert [row["real"][real], row["fake"][real], row["real"][1 - real], row["fake"][1 - real]] == [5, 5, 0, 0]
    assert {mistake["label"] for mistake in metrics["mistakes"]} == {"fake"}
    card = (made / "README.md").read_text("utf-8")
    assert "| real | 50.0% (23.7% to 76.3%) | 100.0% (56.6% to 100.0%) |" in card
    assert "| fake | – | 0.0% (0.0% to 43.4%) |" in card
    assert dark_columns(made / "images" / "confusion.png") == [real]


def always(folder, index):
    """Changes the weights so that one class is answered whatever the picture."""
    weights = load_file(folder / "model.safetensors")
    weights["classifier.1.weight"].zero_()
    weights["classifier.1.bias"] = torch.tensor([3.0 if i == index else -3.0 for i in range(2)])
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def dark_columns(file):
    """Which of the two columns of cells are full, from the picture's pixels alone."""
    with Image.open(file) as drawn:
        pixels = np.asarray(drawn.convert("RGB")).astype(int)
    lines = np.flatnonzero((pixels == (222, 222, 228)).all(2).sum(0) > 60)  # between the cells
    dark = np.flatnonzero((pixels == (20, 60, 140)).all(2).sum(0) > 60)
    return sorted({int(column > (lines.min() + lines.max()) / 2) for column in dark})


def test_the_figures_go_into_one_file_where_it_ends_in_json(pictures, network, tmp_path, capsys):
    train(pictures, network, tmp_path / "made")

    assert evaluate(tmp_path / "made", pictures, tmp_path / "figures" / "metrics.json") == 0

    metrics = read(tmp_path / "figures")
    assert metrics["near_copies_of_training"] == 12  # they are the training pictures
    assert metrics["accuracy_without_them"] is None
    assert [p.name for p in (tmp_path / "figures").iterdir()] == ["metrics.json"]
    assert "of 12 pictures right (95 % interval" in capsys.readouterr().out


def test_a_backbone_of_timm_becomes_a_classifier_that_plain_transformers_loads(hub, pictures, tmp_path):
    """timm writes the number of classes and their names to three places, and each would win over the new ones."""
    import timm
    from transformers import AutoImageProcessor, AutoModelForImageClassification

    hub.add_user("alice", token=TOKEN)
    made = timm.create_model("test_resnet", num_classes=3)
    config = {"label_names": ["n01", "n02", "n03"], "model_args": {"num_classes": 3}}
    timm.models.push_to_hf_hub(made, "alice/tiny", token=TOKEN, model_config=config)

    assert train(pictures, "alice/tiny", tmp_path / "made", "--epochs", "1") == 0

    model = AutoModelForImageClassification.from_pretrained(tmp_path / "made")
    assert model.config.id2label == {0: "fake", 1: "real"}
    processed = AutoImageProcessor.from_pretrained(tmp_path / "made")(tinted(0, "red"), return_tensors="pt")
    assert model(**processed).logits.shape == (1, 2)
    assert read(tmp_path / "made", "training.json")["backbone"]["id"] == "alice/tiny"
    assert "base_model: alice/tiny" in (tmp_path / "made" / "README.md").read_text("utf-8")


def test_a_classifier_is_published_and_its_measured_card_as_well(hub, pictures, network, tmp_path, monkeypatch, capsys):
    hub.add_user("alice", token=TOKEN)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.chdir(tmp_path)  # where no folder is called alice
    assert train(pictures, network, "alice/pets", "--epochs", "1") == 0
    others = class_folders(tmp_path / "others", 4, real="red", fake="blue")
    for place, path in enumerate(sorted(others.rglob("*.png"))):
        tinted(7000 + place, "red" if path.parent.name == "real" else "blue").save(path)

    assert evaluate("alice/pets", others, "alice/pets") == 0

    assert capsys.readouterr().out.splitlines()[-1].endswith("/alice/pets")
    files = hub.repo("alice/pets").head.files
    metrics = json.loads(files["metrics.json"].content)
    assert metrics["n"] == 8
    assert "model.safetensors" in files
    card = files["README.md"].content.decode()
    assert "model-index" in card
    assert "Measured on 8 pictures (others)" in card
    assert not list((tmp_path / "cache" / "training").iterdir())


def test_another_persons_model_keeps_its_card_and_gets_our_figures(hub, pictures, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.chdir(tmp_path)
    network = build(RESNET, labels={0: "real", 1: "fake"})
    push(hub, "alice/theirs", network, processor_of(RESNET))
    before = hub.repo("alice/theirs").head.files

    assert evaluate("alice/theirs", pictures, "alice/theirs", "--public") == 0

    files = hub.repo("alice/theirs").head.files
    card = files["README.md"].content.decode()
    assert files["model.safetensors"] == before["model.safetensors"]
    assert {"metrics.json", "images/confusion.png"} <= set(files)
    assert "## Measured with xaihub" in card
    assert "name: Accuracy" in card


@pytest.fixture
def spoiled(network, tmp_path):
    """Datasets and backbones that cannot do, by name."""
    class_folders(tmp_path / "one", real="red")
    five = class_folders(tmp_path / "five", 3, real="red", fake="blue")
    (five / "real" / "2.png").unlink()
    lonely = class_folders(tmp_path / "lonely", 4, hen="red", real="red", fake="blue")
    for place in (1, 2, 3):
        (lonely / "hen" / f"{place}.png").unlink()
    flat = tmp_path / "flat"
    flat.mkdir()
    (flat / "a.png").write_bytes(png(tinted(0, "red")))
    headless = backbone(tmp_path / "headless", TINY["vit"])
    config = json.loads((headless / "config.json").read_text())
    (headless / "config.json").write_text(json.dumps(config | {"architectures": ["ViTModel"]}))
    other = backbone(tmp_path / "other", TINY["vit"])
    (other / "config.json").write_bytes((network / "config.json").read_bytes())
    pickled = backbone(tmp_path / "pickled")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    torchvision = backbone(tmp_path / "torchvision")
    described = {"architecture": "torchvision.models.resnet18", "num_classes": 3, "id2label": {"0": "a"}}
    (torchvision / "config.json").write_text(json.dumps(described))
    coded = backbone(tmp_path / "coded")
    config = json.loads((coded / "config.json").read_text())
    (coded / "config.json").write_text(json.dumps(config | {"auto_map": {"AutoModel": "code.Net"}}))
    return tmp_path


@pytest.mark.parametrize(
    ("data", "network_name", "options", "says"),
    [
        ("one", None, (), "only one class, 'real'"),
        ("five", None, (), "The class 'real' of five has 2 pictures; at least 3 are needed"),
        ("lonely", None, ("--folds", "3"), "'hen' of lonely has 1 picture;"),
        ("flat", None, (), "holds no pictures in class folders"),
        ("nowhere", None, (), "nowhere"),
        (None, "headless", (), "is not an image classifier but ViTModel"),
        (None, "other", (), "weights that do not fill its network"),
        (None, "pickled", (), "a format that can run programs"),
        (None, "coded", (), "needs code of its own"),
        (None, None, ("--folds", "1"), "1 folds leave nothing to train on"),
        (None, None, ("--epochs", "-2"), "epochs is -2; it must be 0 or more"),
        (None, None, ("--batch-size", "0"), "batch_size is 0; it must be 1 or more"),
        (None, None, ("--folds", "9"), "'fake' of pets has 6 pictures; 9 folds need 9"),
        (None, None, ("--learning-rate", "0"), "trains nothing"),
        (None, None, ("--split", "test"), "has no split 'test'. It is a folder of class folders"),
        (None, "torchvision", (), "is a classifier of torchvision; what can be fine-tuned"),
    ],
)
def test_what_cannot_be_trained_is_one_sentence_and_leaves_nothing(
    data, network_name, options, says, spoiled, pictures, network, tmp_path, capsys
):
    chosen = spoiled / data if data else pictures
    code = train(chosen, spoiled / network_name if network_name else network, tmp_path / "made", *options)

    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert code == 2
    assert says in said
    assert not (tmp_path / "made").exists()


def test_a_broken_picture_is_left_out_and_counted(network, tmp_path):
    data = class_folders(tmp_path / "data")
    (data / "real" / "3.png").write_bytes(b"no picture")

    assert train(data, network, tmp_path / "made", "--epochs", "1") == 0

    assert read(tmp_path / "made", "training.json")["left_out"] == 1
    assert "one was left out" in (tmp_path / "made" / "README.md").read_text("utf-8")


def test_labels_that_are_strings_are_classes(hub, network, tmp_path):
    import datasets
    from tiny_datasets import push_rows

    columns = datasets.Features({"image": datasets.Image(), "label": datasets.Value("string")})
    rows = {
        "image": [tinted(i, "red" if i % 2 else "blue") for i in range(12)],
        "label": ["zebra" if i % 2 else "ant" for i in range(12)],
    }
    push_rows(hub, "alice/striped", rows, columns)

    assert train("alice/striped", network, tmp_path / "made", "--epochs", "0") == 0

    assert read(tmp_path / "made", "config.json")["id2label"] == {"0": "ant", "1": "zebra"}
    assert "alice/striped" in (tmp_path / "made" / "README.md").read_text("utf-8")


def test_measuring_names_both_lists_where_the_classes_differ(pictures, network, tmp_path, capsys):
    other = class_folders(tmp_path / "other", 3, ant="red", bee="blue")
    train(pictures, network, tmp_path / "made", "--epochs", "0")

    assert evaluate(tmp_path / "made", other, tmp_path / "metrics.json") == 2

    said = capsys.readouterr().err
    assert "has the classes 'ant', 'bee'" in said
    assert "answers with 'fake', 'real'" in said


def test_a_folder_with_something_else_is_never_replaced(pictures, network, tmp_path, capsys):
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "thesis.tex").write_text("years of work")

    assert train(pictures, network, tmp_path / "made") == 2

    assert "holds something else" in capsys.readouterr().err
    assert (tmp_path / "made" / "thesis.tex").read_text() == "years of work"


def test_a_dry_run_writes_nothing_and_shows_the_card(pictures, network, tmp_path, capsys):
    assert train(pictures, network, tmp_path / "made", "--epochs", "0", "--dry-run") == 0

    shown = capsys.readouterr().out
    assert "model.safetensors" in shown
    assert "pipeline_tag: image-classification" in shown
    assert not (tmp_path / "made").exists()


def test_training_that_is_killed_again_and_again_ends_with_the_same_bytes(pictures, network, tmp_path, monkeypatch):
    here = Path(__file__).parent
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(here), str(here.parent)]))  # for what the server imports
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["training_server"])

    def training(name):
        return pictures, network, tmp_path / name, tmp_path / f"cache of {name}", "--epochs", "4", "--folds", "2"

    killed = [
        dies(context, train_quietly, training("killed"), tmp_path, moment)  # each goes on from where the last one died
        for moment in moments(context, train_quietly, training("whole"), tmp_path, seed=11)
    ]
    last = context.Process(target=train_quietly, args=training("killed"))
    last.start()
    last.join()

    assert killed[0]
    assert last.exitcode == 0
    for name in ("model.safetensors", "config.json", "metrics.json", "preprocessor_config.json"):
        expected = (tmp_path / "whole" / name).read_bytes().replace(b'"whole"', b'"killed"')
        assert (tmp_path / "killed" / name).read_bytes() == expected, name
    assert [path.name for path in tmp_path.glob(".killed*")] == []
    assert not list((tmp_path / "cache of killed" / "training").iterdir())


def test_no_card_shows_figures_of_the_training_pictures(pictures, network, tmp_path, capsys):
    made = tmp_path / "made"
    assert train(pictures, network, made, "--epochs", "0") == 0
    before = (made / "README.md").read_bytes()
    given = ["--model", str(made), "--data", str(pictures)]
    assert evaluate_classifier.main([*given, "--to", str(made)]) == 2
    assert "are ones it was trained on: that measures memory" in capsys.readouterr().err
    assert (made / "README.md").read_bytes() == before
    assert evaluate_classifier.main([*given, "--to", str(tmp_path / "metrics.json")]) == 0
    assert "pictures it was trained on" in capsys.readouterr().out
