"""Classifiers of transformers, of folders and of anyone: the right weights, the proved layer, an upright map."""

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_models import (
    LABELS,
    TINY,
    assert_explained,
    assert_right_way_up,
    assert_same_network,
    build,
    layer_of,
    lively,
    picture,
    processor_of,
    push,
)
from torch import Tensor, nn

from xaihub import Classifier, explain, load_classifier
from xaihub.errors import TargetLayerError


@pytest.mark.parametrize("name", TINY)
def test_a_classifier_of_transformers_is_explained_at_the_layer_of_its_family(hub, name):
    tiny = TINY[name]
    module = build(tiny)
    sha = push(hub, "alice/tiny", module, processor_of(tiny))

    classifier = load_classifier("alice/tiny", token=False)

    proof = "bottleneck" if tiny.keeps_places else "unconfirmed"
    assert layer_of(classifier) == (tiny.layer, tiny.layout, tiny.grid, tiny.prefix_tokens, proof)
    assert (classifier.revision, classifier.labels, classifier.notices) == (sha, ("cat", "dog", "hen"), ())
    assert classifier.input_size == (tiny.size, tiny.size)
    assert classifier.facts["architecture"] == tiny.head
    assert_same_network(classifier, module)
    assert_explained(classifier, tiny.size)
    if tiny.keeps_places:
        assert_right_way_up(classifier)


def test_pixels_are_what_the_repositorys_own_processor_makes_of_the_picture(hub):
    tiny = TINY["convnext"]  # resizes by the shorter edge, then crops
    processor = processor_of(tiny, image_mean=[0.1, 0.2, 0.3])
    push(hub, "alice/tiny", build(tiny), processor)

    classifier = load_classifier("alice/tiny", token=False)

    theirs = processor(images=picture(), return_tensors="pt")["pixel_values"][0]
    difference = (classifier.transform(picture()) - theirs).abs()
    assert difference.mean() < 0.01  # theirs is drawn by torchvision, ours by Pillow: resizing rounds otherwise
    assert classifier.transform.description == "ConvNextImageProcessorPil, 64 x 64 pixels"


def test_weights_in_half_precision_are_run_in_single(hub):
    module = build(TINY["resnet"])
    push(hub, "alice/tiny", module.half(), processor_of(TINY["resnet"]))

    classifier = load_classifier("alice/tiny", token=False)

    assert_same_network(classifier, module.float())


def test_an_older_commit_is_loaded_with_its_own_weights(hub):
    tiny = TINY["vit"]
    older, newer = build(tiny, seed=1), build(tiny, seed=2)
    sha = push(hub, "alice/tiny", older, processor_of(tiny))
    head = push(hub, "alice/tiny", newer)

    assert_same_network(load_classifier("alice/tiny", token=False), newer)
    pinned = load_classifier("alice/tiny", revision=sha, token=False)
    assert_same_network(pinned, older)
    assert pinned.revision == sha != head
    assert explain(pinned, picture(), ["gradcam"]).provenance["revision"] == sha
    assert load_classifier("alice/tiny", revision="main", token=False).revision == head


def test_a_folder_is_a_repository_too(hub, tmp_path):
    tiny = TINY["vit"]
    module = build(tiny)
    module.save_pretrained(tmp_path)
    processor_of(tiny).save_pretrained(tmp_path)

    classifier = load_classifier(tmp_path)

    assert_same_network(classifier, module)
    assert_explained(classifier, 64)
    assert_right_way_up(classifier)
    assert (classifier.repo_id, len(classifier.revision)) == (str(tmp_path), 40)
    assert hub.requests == []  # nobody was asked
    assert load_classifier(tmp_path).revision == classifier.revision
    processor_of(tiny, image_mean=[0.4, 0.4, 0.4]).save_pretrained(tmp_path)
    assert load_classifier(tmp_path).revision != classifier.revision  # other pixels are another classifier


class Simple(nn.Module):
    """Anyone's own network."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.second = nn.Conv2d(8, 16, 3, stride=2, padding=1)
        self.head = nn.Linear(16, 2)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.head(self.second(self.first(pixels).relu()).relu().mean((2, 3)))


def small_pixels(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.asarray(image.resize((64, 64))).copy()).permute(2, 0, 1) / 255


def test_anyones_own_network_is_a_classifier_and_is_not_changed():
    module = Simple().train()

    classifier = Classifier.from_module(module, labels={1: "dog", 0: "cat"}, transform=small_pixels)

    assert classifier.labels == ("cat", "dog")
    assert layer_of(classifier) == ("second", "NCHW", (16, 16), 0, "bottleneck")
    assert_explained(classifier, 64)
    assert_right_way_up(classifier)
    assert module.training
    assert all(parameter.requires_grad for parameter in module.parameters())
    with pytest.raises(ValueError, match="answers with 2 classes, but 3 labels"):
        Classifier.from_module(module, labels=["cat", "dog", "hen"], transform=small_pixels)


def test_a_network_without_a_map_predicts_and_says_why_no_map_can_be_drawn(hub):
    tiny = TINY["vit"]
    one_patch = build(tiny, patch_size=64)
    push(hub, "alice/tiny", one_patch, processor_of(tiny))

    classifier = load_classifier("alice/tiny", token=False)

    assert classifier.target_layer is None
    assert "No layer of this network keeps a map of the picture" in classifier.no_layer
    assert_same_network(classifier, one_patch)
    explanation = explain(classifier, picture())
    assert explanation.prediction.label in ("cat", "dog", "hen")
    assert explanation.notes["gradcam"] == (classifier.no_layer,)
    with pytest.raises(TargetLayerError, match=r"gradcam cannot run here\. No layer of this network"):
        explain(classifier, picture(), ["gradcam"])


def test_a_perceiver_has_no_map_since_its_latents_are_no_places(hub):
    from transformers import PerceiverConfig, PerceiverForImageClassificationFourier, PerceiverImageProcessor

    config = PerceiverConfig(
        num_latents=30, d_latents=24, num_blocks=1, num_self_attends_per_block=1, num_self_attention_heads=2,
        num_cross_attention_heads=1, image_size=64, id2label=LABELS,
    )  # fmt: skip
    torch.manual_seed(0)
    module = lively(PerceiverForImageClassificationFourier(config))
    square = {"height": 64, "width": 64}
    push(hub, "alice/tiny", module, PerceiverImageProcessor(size=square, crop_size=square))

    classifier = load_classifier("alice/tiny", token=False)

    assert_same_network(classifier, module)
    assert classifier.target_layer is None
    assert "No layer of this network keeps a map of the picture" in classifier.no_layer
    assert explain(classifier, picture()).prediction.label in ("cat", "dog", "hen")
