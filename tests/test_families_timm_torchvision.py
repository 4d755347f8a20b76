"""Classifiers of timm and torchvision: in timm's own Hub format, in transformers' wrapper, as a bare state dict."""

import hashlib
import json

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_models import (
    LABELS,
    TOKEN,
    assert_explained,
    assert_right_way_up,
    assert_same_network,
    layer_of,
    lively,
    picture,
    push,
    tensors_of,
)
from torch import nn

from xaihub import load_classifier
from xaihub.errors import DownloadError, HubUnreachableError, UnsupportedModelError
from xaihub.families import from_torchvision
from xaihub.loading import fetch_checked


def push_timm(hub, module: nn.Module, **config) -> str:
    import timm

    hub.add_user("alice", token=TOKEN)
    timm.models.push_to_hf_hub(module, "alice/tiny", token=TOKEN, model_config=config)
    return hub.repo("alice/tiny").head.sha


def timm_network(name: str, **settings) -> nn.Module:
    import timm

    torch.manual_seed(0)
    return lively(timm.create_model(name, **settings))


def test_a_classifier_that_timm_pushed_keeps_its_own_classes(hub):
    module = timm_network("test_resnet", num_classes=3)
    sha = push_timm(hub, module, label_names=["n01", "n02", "n03"], label_descriptions={"n01": "cat", "n03": "hen"})

    classifier = load_classifier("alice/tiny", token=False)

    assert layer_of(classifier) == ("layer4.0", "NCHW", (5, 5), 0, "bottleneck")
    assert (classifier.revision, classifier.labels, classifier.notices) == (sha, ("cat", "n02", "hen"), ())
    assert_same_network(classifier, module)
    assert_explained(classifier, 160)
    assert_right_way_up(classifier)


def test_timms_thousand_classes_are_those_of_imagenet(hub):
    module = timm_network("test_resnet")
    push_timm(hub, module)

    classifier = load_classifier("alice/tiny", token=False)

    assert len(classifier.labels) == 1000
    assert classifier.labels[1].startswith("goldfish")
    assert_same_network(classifier, module)


def test_a_vision_transformer_of_timm_is_read_without_its_class_token_and_at_its_own_size(hub):
    module = timm_network("vit_tiny_patch16_224", img_size=64, depth=3, embed_dim=48, num_classes=3)
    push_timm(hub, module)

    classifier = load_classifier("alice/tiny", token=False)

    assert layer_of(classifier) == ("blocks.1", "NLC", (4, 4), 1, "bottleneck")
    assert classifier.labels == ("class 0", "class 1", "class 2")
    assert "does not name its classes" in classifier.notices[0]
    assert_same_network(classifier, module)
    assert_explained(classifier, 64)
    assert_right_way_up(classifier)


def test_a_grey_classifier_of_timm_is_given_grey_pictures(hub):
    module = timm_network("test_resnet", num_classes=3, in_chans=1)
    with pytest.MonkeyPatch.context() as quiet:
        quiet.setattr("logging.root.manager.disable", 50)  # timm says how it averaged three means
        push_timm(hub, module)

    classifier = load_classifier("alice/tiny", token=False)

    assert classifier.transform.channels == 1
    red, grey = Image.new("RGB", (64, 64), (255, 0, 0)), Image.new("RGB", (64, 64), (76, 76, 76))
    torch.testing.assert_close(classifier.transform(red), classifier.transform(grey))  # ITU-R 601: red is 76 of 255
    assert_same_network(classifier, module)
    assert_explained(classifier, 160)
    assert_right_way_up(classifier)


def test_timms_wrapper_in_transformers_is_preprocessed_as_timm_would(hub):
    from timm.data import create_transform, resolve_data_config
    from transformers import TimmWrapperConfig, TimmWrapperForImageClassification

    stored = {
        "input_size": [3, 96, 96],
        "mean": [0.1, 0.2, 0.3],
        "std": [0.5, 0.5, 0.5],
        "crop_pct": 0.9,
        "interpolation": "bicubic",
    }
    config = TimmWrapperConfig(
        architecture="test_resnet", label_names=list(LABELS.values()), num_labels=3, pretrained_cfg=stored
    )
    torch.manual_seed(0)
    module = lively(TimmWrapperForImageClassification(config))
    sha = push(hub, "alice/tiny", module)

    classifier = load_classifier("alice/tiny", token=False)

    assert layer_of(classifier) == ("timm_model.layer4.0", "NCHW", (3, 3), 0, "bottleneck")
    assert (classifier.revision, classifier.labels, classifier.notices) == (sha, ("cat", "dog", "hen"), ())
    transform = create_transform(**resolve_data_config(pretrained_cfg=stored))
    torch.testing.assert_close(classifier.transform(picture()), transform(picture()))
    assert_same_network(classifier, module)
    assert_explained(classifier, 96)
    assert_right_way_up(classifier)


SQUEEZENET = {
    "architecture": "torchvision.models.squeezenet1_1", "num_classes": 3, "input": [3, 96, 96], "resize_shortest": 104,
    "center_crop": 96, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225],
    "id2label": {"2": "hen", "0": "cat", "1": "dog"},
}  # fmt: skip


def squeezenet(classes: int = 3) -> nn.Module:
    from torchvision import models

    torch.manual_seed(0)
    module = models.squeezenet1_1(num_classes=classes)
    nn.init.normal_(module.classifier[1].weight, std=0.1)
    nn.init.constant_(module.classifier[1].bias, 1)  # a ReLU follows: at 0 half of the classes would be silent
    return module.eval()


def test_a_state_dict_of_torchvision_is_built_as_its_config_says(hub):
    from torchvision.transforms import v2

    module = squeezenet()
    config = json.dumps(SQUEEZENET)
    sha = hub.add_files("alice/tiny", {"config.json": config, "model.safetensors": tensors_of(module)})

    classifier = load_classifier("alice/tiny", token=False)

    assert layer_of(classifier) == ("features.12", "NCHW", (5, 5), 0, "bottleneck")
    assert (classifier.revision, classifier.labels, classifier.notices) == (sha, ("cat", "dog", "hen"), ())
    resized = v2.CenterCrop(96)(v2.Resize(104)(picture()))
    seen = torch.from_numpy(np.asarray(resized).copy()).permute(2, 0, 1) / 255
    expected = (seen - torch.tensor(SQUEEZENET["mean"])[:, None, None]) / torch.tensor(SQUEEZENET["std"])[:, None, None]
    torch.testing.assert_close(classifier.transform(picture()), expected)
    assert_same_network(classifier, module)
    assert_explained(classifier, 96)
    assert_right_way_up(classifier)


def test_torchvisions_published_weights_come_from_a_file_whose_hash_is_checked(hub, tmp_path):
    module = squeezenet(1000)
    torch.save(module.state_dict(), tmp_path / "weights.pth")
    content = (tmp_path / "weights.pth").read_bytes()
    name = f"squeezenet1_1-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    hub.add_files("alice/weights", {name: content, "squeezenet1_1-0000dead.pth": content})
    address = f"{hub.endpoint}/alice/weights/resolve/main"

    file = fetch_checked(f"{address}/{name}", tmp_path / "cache")
    assert fetch_checked(f"{address}/{name}", tmp_path / "cache") == file
    assert len(hub.requests) == 1  # the second time it is there
    with pytest.raises(DownloadError, match=r"sha256 does not begin with 0000dead\. Try again"):
        fetch_checked(f"{address}/squeezenet1_1-0000dead.pth", tmp_path / "cache")
    with pytest.raises(HubUnreachableError, match=r"does not answer, so x-1234\.pth cannot be had"):
        fetch_checked("http://127.0.0.1:9/x-1234.pth", tmp_path / "cache")
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [name]  # no half of a file stays

    _, weights = from_torchvision.torchvision_published("squeezenet1_1")
    details = {"repo_id": "torchvision/squeezenet1_1", "revision": None}
    classifier = from_torchvision.load_torchvision_published("squeezenet1_1", weights, file, details)
    assert classifier.labels[1] == "goldfish"
    assert_same_network(classifier, module)


def test_an_architecture_that_torchvision_does_not_have_is_refused_with_the_nearest():
    with pytest.raises(UnsupportedModelError, match=r"no classifier 'resnet19'\. Did you mean 'resnet18'\?"):
        load_classifier("torchvision/resnet19", token=False)
