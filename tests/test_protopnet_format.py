"""Prototype networks as files: they come back as they were from the Hub, and nothing in them is believed."""

import argparse
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import TINY, TOKEN, answers, changed, lively, picture
from tiny_prototypes import black_box_folder, opened, prototyped, saved

import xaihub
from xaihub import build_references, explain, load_classifier, preflight, terminal
from xaihub.cards.prototypes import write_prototype_card
from xaihub.datasets import from_pairs
from xaihub.errors import PictureError, ReferencesError, TooLargeError, UnsupportedModelError
from xaihub.families.from_protopnet import load_black_box, save_prototypes
from xaihub.loading import Limits
from xaihub.prototypes.files import GALLERY

LAYER = "black_box.resnet.encoder.stages.1.layers.1"


@pytest.fixture(scope="module")
def black_box(tmp_path_factory) -> Path:
    return black_box_folder(tmp_path_factory.mktemp("black-box"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory, black_box) -> Path:
    """A whole, good one, to be read or spoiled."""
    return saved(tmp_path_factory.mktemp("prototypes"), black_box, kind="protopnet")


@pytest.fixture
def files(folder) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def deliver(to: str, source: Path, *options: str) -> None:
    parser = argparse.ArgumentParser()
    terminal.add_destination(parser, "the classifier")
    with terminal.delivering(parser.parse_args(["--to", to, *options]), kind="model", mark="config.json") as draft:
        for file in (path for path in source.rglob("*") if path.is_file()):
            (draft / file.relative_to(source)).parent.mkdir(parents=True, exist_ok=True)
            (draft / file.relative_to(source)).write_bytes(file.read_bytes())
        write_prototype_card(draft, to)


def same_gallery(one, other) -> bool:
    return [vars(each) for each in one] == [vars(each) for each in other]


def test_it_comes_back_from_the_hub_by_id_as_it_was_saved(hub, folder, black_box, tmp_path, monkeypatch):
    monkeypatch.setenv("XAIHUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub.add_user("alice", token=TOKEN)
    deliver("alice/cats", folder)
    hub.requests.clear()

    classifier = load_classifier("alice/cats", token=TOKEN)

    before, pixels = prototyped(opened(black_box), kind="protopnet"), opened(black_box).transform(picture())[None]
    torch.testing.assert_close(classifier.transform(picture())[None], pixels)
    torch.testing.assert_close(classifier.logits(pixels), before.logits(pixels), atol=1e-6, rtol=0)
    assert classifier.module is classifier.prototypes.network
    assert same_gallery(classifier.prototypes.gallery, before.prototypes.gallery)
    assert classifier.prototypes.gallery[3].picture.size == (64, 64)
    assert (classifier.labels, classifier.prototypes.kind) == (("cat", "dog", "hen"), "protopnet")
    assert classifier.prototypes.black_box_labels == classifier.labels
    assert classifier.prototypes.made == before.prototypes.made
    assert (classifier.target_layer.name, classifier.target_layer.proof) == (LAYER, "bottleneck")
    assert classifier.fingerprint == before.fingerprint
    assert not [seen for seen in hub.requests if "/resolve/" in seen.path and "black_box" in seen.path]


def test_the_class_itself_is_pushed_and_pulled_with_its_gallery(hub, folder):
    from transformers import AutoImageProcessor, AutoModelForImageClassification

    hub.add_user("alice", token=TOKEN)
    model = xaihub.ProtoPNetForImageClassification.from_pretrained(folder)
    model.push_to_hub("alice/pushed", token=TOKEN, private=True)
    AutoImageProcessor.from_pretrained(folder, backend="pil", trust_remote_code=False).push_to_hub(
        "alice/pushed", token=TOKEN
    )

    pulled = AutoModelForImageClassification.from_pretrained(
        "alice/pushed", token=TOKEN, use_safetensors=True, trust_remote_code=False
    )
    pixels = load_classifier(folder).transform(picture())[None]
    assert type(pulled) is type(model)
    torch.testing.assert_close(answers(pulled, pixels), answers(model, pixels))
    assert same_gallery(pulled.gallery, model.gallery)
    assert same_gallery(load_classifier("alice/pushed", token=TOKEN).prototypes.gallery, model.gallery)
    loss = pulled(pixels, labels=torch.tensor([1])).loss
    torch.testing.assert_close(loss, -answers(model, pixels).log_softmax(1)[0, 1])
    assert pulled(pixels, return_dict=False)[0].shape == (1, 3)


def test_its_maps_and_twins_are_those_of_any_classifier(folder):
    classifier = load_classifier(folder)
    rows = [(f"{seed}", "cat", picture(seed=seed)) for seed in range(1, 7)]
    references = build_references(classifier, from_pairs("alice/pets", rows), fidelity=False)

    shown = explain(classifier, picture(), ["gradcam", "twins"], references=references)

    assert shown["gradcam"][0].heatmap.shape == (64, 64)
    assert shown["gradcam"][0].heatmap.max() == 1
    assert shown["twins"]
    assert load_classifier(folder, target_layer="head.add_on").target_layer.name == "head.add_on"


@pytest.mark.parametrize("name", ["vit", "swin"])
def test_networks_of_tokens_come_back_as_well(tmp_path, name):
    black_box = black_box_folder(tmp_path / "black box", name)
    found, made = load_classifier(saved(tmp_path / "made", black_box)), prototyped(opened(black_box))

    pixels = made.transform(picture())[None]
    torch.testing.assert_close(found.logits(pixels), made.logits(pixels), atol=1e-6, rtol=0)
    assert found.target_layer.name == f"black_box.{TINY[name].layer}"


@pytest.mark.parametrize("wrapped", [True, False])
def test_networks_of_timm_come_back_in_the_wrapper_of_transformers(tmp_path, wrapped):
    import timm

    torch.manual_seed(0)
    network, folder = lively(timm.create_model("test_resnet", num_classes=3)), tmp_path / "timm"
    timm.models.save_for_hf(network, folder, safe_serialization=True)
    made = prototyped(opened(folder) if wrapped else load_classifier(folder))

    save_prototypes(tmp_path / "made", made, like=folder, black_box=None, pictures=True)

    found, pixels = load_classifier(tmp_path / "made"), made.transform(picture())[None]
    torch.testing.assert_close(found.transform(picture())[None], pixels)
    torch.testing.assert_close(found.logits(pixels), made.logits(pixels), atol=1e-6, rtol=0)
    assert found.target_layer.name.startswith("black_box.timm_model.")


def test_saving_leaves_the_classifier_as_it_was(tmp_path, black_box):
    made = prototyped(opened(black_box))
    before = made.fingerprint

    save_prototypes(tmp_path / "made", made, like=black_box, black_box=None, pictures=True)

    assert prototyped(opened(black_box)).fingerprint == before
    assert load_classifier(tmp_path / "made").fingerprint == before
    del made.__dict__["fingerprint"]  # computed anew
    assert made.fingerprint == before
    assert not list((tmp_path / "made").glob("black_box"))


def test_a_network_that_transformers_cannot_build_is_not_saved(tmp_path, black_box):
    from toy_networks import SmallNet, classifier_of

    own = prototyped(classifier_of(SmallNet()))

    with pytest.raises(UnsupportedModelError, match="rest on a SmallNet, which transformers cannot build"):
        save_prototypes(tmp_path / "made", own, like=black_box, black_box=None, pictures=True)
    with pytest.raises(ValueError, match="has no prototypes to save"):
        save_prototypes(tmp_path / "made", opened(black_box), like=black_box, black_box=None, pictures=True)


def test_pictures_of_a_private_dataset_stay_out_and_all_else_works(tmp_path, black_box):
    folder = saved(tmp_path / "made", black_box, pictures=False)
    classifier = load_classifier(folder)

    assert [each.data for each in classifier.prototypes.gallery] == [None] * 6
    assert classifier.prototypes.gallery[1].key == "train/1"
    with pytest.raises(ReferencesError, match="train/1"):
        _ = classifier.prototypes.gallery[1].picture
    assert explain(classifier, picture(), ["gradcam"])["gradcam"]
    write_prototype_card(folder, "made")
    assert not (folder / "images").exists()
    assert "pictures are not passed on" in (folder / "README.md").read_text("utf-8")


def refused(hub, files, words, error=UnsupportedModelError):
    """The repository is refused in these words before any of its weights is fetched."""
    hub.add_files("alice/spoiled", files)
    hub.requests.clear()
    with pytest.raises(error, match=words):
        load_classifier("alice/spoiled", token=False)
    weights = [seen for seen in hub.requests if ".safetensors" in seen.path or ".parquet" in seen.path]
    assert all(seen.method == "GET" and seen.status == 206 for seen in weights)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"auto_map": {"AutoModelForImageClassification": "evil.Net"}}, "needs code of its own"),
        ({"black_box": None}, "does not say in which network its prototypes are looked for"),
        ({"pretrained_cfg": {"input_size": [3, 9000, 9000]}}, "asks for pictures of 9000 pixels a side"),
        ({"transformers_weights": "http://elsewhere"}, "asks for further files"),
        ({"layers": [{"input_size": [9000, 9000]}]}, "asks for pictures of 9000 pixels a side"),
        ({"layers": []}, "describes no layer of prototypes .it names no layer"),
        ({"layers": [{"name": "x"}]}, "describes no layer of prototypes"),
        ({"id2label": {"0": "cat"}}, "its 3 classes are not all named"),
        ({"id2label": {"a": "cat"}}, "describes no layer of prototypes"),
        ({"kind": "evil"}, "it is of kind 'evil'"),
        ({"prototypes": "many"}, "describes no layer of prototypes"),
    ],
)
def test_a_config_that_cannot_be_meant_is_refused(hub, files, settings, words):
    refused(hub, changed(files, **settings), words)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"auto_map": {"AutoModel": "evil.Net"}}, "in a network that needs code of its own"),
        (
            {"model_type": "protopnet", "architectures": None},
            "in a network that is not an image classifier but of",
        ),
        ({"architectures": ["BertForMaskedLM"]}, "in a network that is not an image classifier but BertForMaskedLM"),
        ({"use_pretrained_backbone": True}, "in a network that asks for further files"),
        ({"image_size": 100_000}, "in a network that asks for pictures of 100000 pixels"),
        ({"problem_type": "regression"}, "in a network that predicts a number"),
    ],
)
def test_what_is_asked_of_every_classifier_is_asked_of_the_network_below(hub, files, settings, words):
    inner = json.loads(files["config.json"])["black_box"]

    refused(hub, changed(files, black_box=inner | settings), words)


def test_a_config_that_lies_about_sizes_is_refused_while_the_network_grows(hub, files):
    config = json.loads(files["config.json"])
    inner = {**config["black_box"], "hidden_sizes": [8, 12_000]}
    hub.add_files("alice/lies", changed(files, black_box=inner))
    with pytest.raises(UnsupportedModelError, match="describes a network of more than"):
        load_classifier("alice/lies", token=False)
    hub.add_files("alice/wide", changed(files, prototypes={**config["prototypes"], "width": 10**6}))
    with pytest.raises(UnsupportedModelError, match="describes a network of more than"):
        load_classifier("alice/wide", token=False)
    many = {**config["prototypes"], "owners": [0] * 600_000}
    refused(hub, changed(files, prototypes=many), "compares 600,000 prototypes with 64 places of each picture")


def test_weights_that_do_not_fill_it_are_refused(tmp_path, files):
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    tensors = load_file(tmp_path / "model.safetensors")
    save_file({name: value for name, value in tensors.items() if "head.vectors" not in name}, tmp_path / "x")
    (tmp_path / "x").rename(tmp_path / "model.safetensors")

    with pytest.raises(UnsupportedModelError, match="weights that do not fill its network"):
        load_classifier(tmp_path)


def test_only_safetensors_are_opened_and_the_gallery_counts_as_a_download(hub, files):
    only = {name: content for name, content in files.items() if not name.endswith(".safetensors")}
    refused(hub, {**only, "pytorch_model.bin": b"\x80\x04evil"}, "a format that can run programs")
    hub.add_files("alice/large", {**files, GALLERY: files[GALLERY] + bytes(2**20)})

    assert GALLERY in preflight("alice/large", token=False).files
    with pytest.raises(TooLargeError, match="1 MB"):
        preflight("alice/large", token=False, limits=Limits(size=2**20))


def rewritten(folder: Path, target: Path, change, **options) -> Path:
    """The classifier beside a gallery that somebody changed."""
    for name in ("config.json", "model.safetensors", "preprocessor_config.json"):
        (target / name).write_bytes((folder / name).read_bytes())
    table = change(pq.read_table(folder / GALLERY))
    pq.write_table(table, target / GALLERY, **{"compression": "snappy", **options})
    return target


def with_column(name, values, kind=None):
    def change(table):
        place = table.schema.get_field_index(name)
        return table.set_column(place, name, pa.array(values, kind or table.schema.field(name).type))

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (with_column("owner", [0, 0, 1, 2, 2, 2]), "prototype 3 is of class 2, not 1"),
        (with_column("row", [0, 1, 2, 3, 4, 8]), "cell 8, 6 of prototype 5 lies on no grid of 8 x 8"),
        (with_column("column", [-1] * 6), "lies on no grid"),
        (with_column("rows", [10**9] * 6), "lies on no grid"),
        (with_column("row", ["0"] * 6, pa.string()), "its rows are string"),
        (with_column("key", [None] * 6), "has no key"),
        (with_column("key", ["x" * 10**6] * 6), "letters in 6 rows"),
        (with_column("key", [1] * 6, pa.int64()), "does not fit its network"),
        (lambda table: table.slice(1), "different numbers of rows"),
        (lambda table: table.drop_columns(["image"]), "image"),
    ],
)
def test_a_gallery_that_does_not_fit_its_network_is_a_sentence(folder, tmp_path, change, words):
    with pytest.raises(UnsupportedModelError, match=words):
        load_classifier(rewritten(folder, tmp_path, change))


def test_a_gallery_that_would_unpack_beyond_measure_is_refused(folder, tmp_path, monkeypatch):
    with pytest.raises(UnsupportedModelError, match="packed in a way that is not read"):
        load_classifier(rewritten(folder, tmp_path, lambda table: table, compression="zstd"))
    monkeypatch.setattr("xaihub.prototypes.files._MOST_BYTES", 1000)
    with pytest.raises(UnsupportedModelError, match="unpacked it has"):
        load_classifier(folder)


def test_a_gallery_that_is_missing_or_broken_is_a_sentence(folder, tmp_path):
    rewritten(folder, tmp_path, lambda table: table)
    (tmp_path / GALLERY).write_bytes(b"PAR1 no more")
    with pytest.raises(UnsupportedModelError, match="does not fit its network"):
        load_classifier(tmp_path)
    (tmp_path / GALLERY).unlink()
    with pytest.raises(UnsupportedModelError, match=f"has no {GALLERY}"):
        load_classifier(tmp_path)


def test_a_broken_picture_is_found_when_it_is_shown_and_costs_no_more(folder, tmp_path):
    broken = with_column("image", [{"bytes": b"GIF89a, not", "path": "/etc/passwd"}] * 6)
    classifier = load_classifier(rewritten(folder, tmp_path, broken))

    with pytest.raises(PictureError, match="is not a picture that can be read"):
        _ = classifier.prototypes.gallery[0].picture
    assert explain(classifier, picture(), ["gradcam"])["gradcam"]


def test_prototypes_are_not_made_from_prototypes_or_from_what_transformers_cannot_build(folder, black_box, tmp_path):
    config = json.loads((folder / "config.json").read_text())
    with pytest.raises(UnsupportedModelError, match="is a classifier of protopnet; what prototypes can be made from"):
        load_black_box(folder, config, {"repo_id": "alice/cats"})
    assert not any(parameter.requires_grad for parameter in opened(black_box).module.parameters())
