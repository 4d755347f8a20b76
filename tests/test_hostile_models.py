"""Repositories that are no classifier, or mean harm: refused in words, nothing of theirs run, fetched or filled."""

import json
import threading

import pytest
import torch
from tiny_models import TINY, build, changed, files_of, lively, processor_of

from xaihub import hub as hub_room
from xaihub import load_classifier
from xaihub.errors import DownloadError, UnsupportedModelError
from xaihub.families import read_config
from xaihub.families.base import building

VIT = TINY["vit"]
PROCESSOR = "preprocessor_config.json"


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, bytes]:
    """A whole, good repository, to be spoiled."""
    return files_of(build(VIT), processor_of(VIT), folder=tmp_path_factory.mktemp("vit"))


@pytest.fixture(scope="module")
def timm_files(tmp_path_factory) -> dict[str, bytes]:
    """The same as timm writes it."""
    import timm

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("timm")
    timm.models.save_for_hf(lively(timm.create_model("test_resnet", num_classes=3)), folder, safe_serialization=True)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def refused(hub, files, words, error=UnsupportedModelError):
    """The repository is refused in these words, and none of its weights is fetched."""
    hub.add_files("alice/tiny", files)
    hub.requests.clear()
    with pytest.raises(error, match=words):
        load_classifier("alice/tiny", token=False)
    weights = [seen for seen in hub.requests if ".safetensors" in seen.path or ".bin" in seen.path]
    assert all(seen.method == "GET" and seen.status == 206 for seen in weights)


def test_weights_that_could_run_programs_are_not_fetched(hub, files):
    only_bin = {"config.json": files["config.json"], "pytorch_model.bin": b"\x80\x04evil", "training_args.bin": b"x"}

    refused(hub, only_bin, "alice/tiny has its weights only as pytorch_model.bin, a format that can run programs")


def test_a_repository_without_weights_says_so(hub, files):
    refused(hub, {"config.json": files["config.json"], "training_args.bin": b"x"}, "has no weights .no model.safetens")
    hub.add_files("alice/card", {"README.md": "---\npipeline_tag: text-to-image\n---\n"})
    with pytest.raises(UnsupportedModelError, match="has no weights"):
        load_classifier("alice/card", token=False)
    refused_text = "alice/only is a model for image-segmentation without a config.json"
    hub.add_files("alice/only", {"model.safetensors": files["model.safetensors"]}, pipeline_tag="image-segmentation")
    with pytest.raises(UnsupportedModelError, match=refused_text):
        load_classifier("alice/only", token=False)


def test_code_that_comes_with_a_model_is_never_run(hub, files):
    config = {"auto_map": {"AutoModelForImageClassification": "evil.Net"}}
    processor = {"image_processor_type": "EvilProcessor", "auto_map": {"AutoImageProcessor": "evil.EvilProcessor"}}
    evil = {"evil.py": "raise SystemExit('this was run')"}

    refused(hub, {**changed(files, **config), **evil}, "needs code of its own .'auto_map' in its config.json.")
    spoiled = {**files, PROCESSOR: b"{}"}
    words = r"needs code of its own for its pictures .'auto_map' in its preprocessor_config.json."
    refused(hub, {**changed(spoiled, PROCESSOR, **processor), **evil}, words)
    assert not [seen for seen in hub.requests if "evil.py" in seen.path]


def test_a_processor_that_transformers_has_itself_is_taken_from_there(hub, files):
    hub.add_files("alice/tiny", changed(files, PROCESSOR, auto_map={"AutoImageProcessor": "evil.P"}))

    assert load_classifier("alice/tiny", token=False).transform.description.startswith("ViTImageProcessorPil")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{broken", "config.json of alice/tiny is not valid JSON .* Tell its author"),
        (b"[1, 2, 3]", "config.json of alice/tiny holds a list, not a configuration"),
        (b" " * (17 * 2**20), "config.json of alice/tiny has 17 MB; that is no configuration"),
    ],
)
def test_a_config_that_is_none_is_refused(hub, files, content, words):
    refused(hub, {**files, "config.json": content}, words, DownloadError)


def test_a_file_nested_beyond_measure_is_refused(hub, tmp_path):
    deep = b'{"a":' * 100_000
    hub.add_files("alice/tiny", {"other.json": deep})
    with pytest.raises(DownloadError, match=r"other\.json of alice/tiny is nested more than 32 deep"):
        hub_room.read_json(hub_room.look("alice/tiny", token=False), "other.json", token=False)
    (tmp_path / "config.json").write_bytes(deep)
    with pytest.raises(DownloadError, match=r"config\.json is nested more than 32 deep"):
        read_config(tmp_path)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            {"model_type": "bert", "architectures": ["BertForSequenceClassification"]},
            "not an image classifier but BertFor",
        ),
        ({"model_type": "bert", "architectures": None}, "not an image classifier but of type bert"),
        ({"architectures": ["ViTModel"]}, "alice/tiny is not an image classifier but ViTModel"),
        ({"model_type": "clip", "architectures": ["CLIPModel"]}, "not an image classifier but CLIPModel"),
        ({"architectures": "ViTForMaskedImageModeling"}, "not an image classifier but ViTForMaskedImageModeling"),
        ({"model_type": "shieldgemma2", "architectures": ["ShieldGemma2ForImageClassification"]}, "answers with words"),
        ({"problem_type": "regression"}, "predicts a number .problem_type 'regression'., not classes"),
        ({"model_type": None}, "has a config.json that no known library claims. What works: image classifiers of"),
        ({"use_pretrained_backbone": True}, "asks for further files by itself"),
        ({"vision_config": {"use_pretrained_backbone": True}}, "asks for further files by itself"),
        ({"transformers_weights": "other.safetensors"}, "asks for further files by itself"),
        ({"attn_implementation": "evil/kernel"}, "asks for further files by itself"),
        ({"image_size": 100_000}, "asks for pictures of 100000 pixels a side .image_size.; at most 2048"),
    ],
)
def test_what_is_no_classifier_is_refused_by_its_config_alone(hub, files, settings, words):
    refused(hub, changed(files, **settings), words)


@pytest.mark.parametrize(
    "settings", [{"size": 100_000}, {"size": {"height": 9, "width": 4096}}, {"crop_size": {"shortest_edge": 3000.5}}]
)
def test_preprocessing_to_huge_pictures_is_refused_before_one_is_made(hub, files, settings):
    refused(hub, changed(files, PROCESSOR, **settings), "pixels a side .* at most 2048 are given here")


def test_preprocessing_that_crops_next_to_nothing_is_refused(hub, files):
    refused(hub, changed(files, PROCESSOR, crop_pct=0.001), "crops its pictures to 0.001 of their size")


@pytest.mark.parametrize(
    "settings", [{"num_hidden_layers": 10**6}, {"hidden_size": 10**6}, {"intermediate_size": 10**9}]
)
def test_a_network_larger_than_its_weights_is_refused_while_it_grows(hub, files, settings):
    hub.add_files("alice/tiny", changed(files, **settings))

    words = r"describes a network of more than 0\.2 M parameters, but its weights have only 0\.2 MB"
    with pytest.raises(UnsupportedModelError, match=words):
        load_classifier("alice/tiny", token=False)


def test_what_another_thread_builds_meanwhile_is_not_counted(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"x" * 1000)
    with building("alice/tiny", tmp_path):
        thread = threading.Thread(target=torch.nn.Linear, args=(500, 500))
        thread.start()
        thread.join()
        torch.nn.Linear(10, 10)
    torch.nn.Linear(500, 500)  # nor what is built afterwards
    with pytest.raises(UnsupportedModelError, match=r"more than 0\.0 M parameters"), building("alice/tiny", tmp_path):
        torch.nn.Linear(500, 500)


def test_a_network_whose_head_is_missing_is_refused(hub, tmp_path):
    from transformers import ViTConfig, ViTModel

    headless = files_of(ViTModel(ViTConfig(**VIT.settings)), folder=tmp_path)
    hub.add_files("alice/tiny", changed(headless, architectures=["ViTForImageClassification"]))

    with pytest.raises(UnsupportedModelError, match=r"do not fill its network .*such as classifier\.bias.* random"):
        load_classifier("alice/tiny", token=False)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"num_hidden_layers": 5}, "32 do not fit, such as vit.layers.3.attention"),
        ({"hidden_size": 16}, r"classifier.weight: \[3, 32\] in the weights, \[3, 16\] in the network"),
        ({"hidden_act": "no_such"}, "could not be built from its files .'no_such'.. Its config.json may be wrong"),
        ({"hidden_size": "large"}, "could not be built from its files .Validation error for field 'hidden_size'"),
        ({"id2label": {"cat": "0"}}, "could not be built from its files .invalid literal for int"),
        (
            {"quantization_config": {"quant_method": "gptq", "bits": 4}},
            "its weights are quantised .'quantization_config'",
        ),
    ],
)
def test_a_config_that_does_not_belong_to_its_weights_is_refused(hub, files, settings, words):
    hub.add_files("alice/tiny", changed(files, **settings))

    with pytest.raises(UnsupportedModelError, match=f"alice/tiny .*{words}"):
        load_classifier("alice/tiny", token=False)


def test_weights_that_are_none_are_refused(hub, files):
    hub.add_files("alice/tiny", {**files, "model.safetensors": b"nonsense" * 100})

    with pytest.raises(DownloadError, match=r"alice/tiny did not arrive whole .*safetensors header is too"):
        load_classifier("alice/tiny", token=False)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            {"architecture": "hf-hub:evil/x"},
            "names the architecture 'hf-hub:evil/x', which neither torchvision nor timm",
        ),
        ({"architecture": "local-dir:/etc"}, "names the architecture 'local-dir:/etc', which neither"),
        ({"architecture": "resnet_of_mine"}, "names .* knows. Bring a network of your own with Classifier.from_module"),
        ({"model_args": {"checkpoint_path": "/etc/passwd"}}, "asks for further files by itself"),
        ({"model_args": {"pretrained_cfg": {"file": "/etc/passwd"}}}, "asks for further files by itself"),
        ({"model_args": {"pretrained_cfg_overlay": {"url": "http://evil/x"}}}, "asks for further files by itself"),
        ({"model_args": {"pretrained_strict": False}}, "asks for further files by itself"),
        ({"model_args": {"features_only": True}}, "asks for further files by itself"),
        ({"model_args": ["checkpoint_path"]}, "asks for further files by itself"),
        ({"num_classes": 0}, "has no classes .num_classes 0.: it only describes pictures"),
        ({"pretrained_cfg": {"input_size": [3, 10**5, 10**5]}}, "asks for pictures of 100000 pixels a side"),
        ({"pretrained_cfg": {"crop_pct": 0.0001}}, "crops its pictures to 0.0001 of their size"),
    ],
)
def test_a_timm_config_that_reaches_beyond_its_repository_is_refused(hub, timm_files, settings, words):
    refused(hub, changed(timm_files, **settings), f"alice/tiny {words}")


def test_the_same_is_refused_in_the_wrapper_of_transformers(hub, timm_files):
    wrapper = {"model_type": "timm_wrapper", "architectures": ["TimmWrapperForImageClassification"]}

    refused(hub, changed(timm_files, **wrapper, architecture="hf-hub:evil/x"), "asks for further files by itself")
    refused(hub, changed(timm_files, **wrapper, model_args={"checkpoint_path": "/x"}), "asks for further files")


def test_where_timms_weights_are_is_not_for_the_repository_to_say(hub, timm_files):
    config = json.loads(timm_files["config.json"])
    elsewhere = {"file": "/etc/passwd", "url": f"{hub.endpoint}/evil", "hf_hub_id": "evil/x", "custom_load": True}
    hub.add_files("alice/tiny", changed(timm_files, pretrained_cfg={**config["pretrained_cfg"], **elsewhere}))

    classifier = load_classifier("alice/tiny", token=False)

    hub.add_files("alice/same", timm_files)
    for mine, theirs in zip(
        classifier.module.parameters(), load_classifier("alice/same").module.parameters(), strict=True
    ):
        torch.testing.assert_close(mine, theirs)
    assert not [seen for seen in hub.requests if "evil" in seen.path]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"num_classes": 5, "model_args": {}}, "do not fill its network .* size mismatch for fc.bias"),
        ({"num_classes": "many", "model_args": {}}, "could not be built from its files .invalid literal for int"),
        ({"num_classes": 10**8, "model_args": {}}, "describes a network of more than 1.5 M parameters|allocate memory"),
        ({"architecture": "vit_tiny_patch16_224", "model_args": {"depth": 10**5}}, "describes a network of more than"),
        ({"pretrained_cfg": "resnet50.a1"}, "could not be built from its files"),
        ({"label_names": {"x": "cat", "1": "dog", "2": "hen"}}, "could not be built from its files .invalid literal"),
    ],
)
def test_a_timm_config_that_does_not_belong_to_its_weights_is_refused(hub, timm_files, settings, words):
    hub.add_files("alice/tiny", changed(timm_files, **settings))

    with pytest.raises(UnsupportedModelError, match=words):
        load_classifier("alice/tiny", token=False)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            {"architecture": "torchvision.models.squeezenet1_9"},
            "'squeezenet1_9', which there is not. Did you mean 'squeezenet1_[01]'",
        ),
        ({"center_crop": 10**6}, "asks for pictures of 1000000 pixels a side .center_crop."),
        ({"num_classes": 10**7}, "describes a network of more than"),
        ({"architecture": "torchvision.models.resnet18"}, "describes a network of more than"),
        ({"num_classes": 4}, r"2 do not fit, such as classifier.1.bias: \[3\] in the weights, \[4\] in the network"),
        ({"architecture": "torchvision.models.squeezenet1_0"}, "do not fill its network"),
        ({"num_classes": "many"}, "could not be built from its files .invalid literal for int"),
    ],
)
def test_a_torchvision_config_that_does_not_belong_to_its_weights_is_refused(hub, settings, words):
    from safetensors.torch import save
    from torchvision import models

    config = {"architecture": "torchvision.models.squeezenet1_1", "num_classes": 3, **settings}
    weights = save(models.squeezenet1_1(num_classes=3).state_dict())
    hub.add_files("alice/tiny", {"config.json": json.dumps(config), "model.safetensors": weights})

    with pytest.raises(UnsupportedModelError, match=words):
        load_classifier("alice/tiny", token=False)
