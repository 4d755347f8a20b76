"""Height comes before width wherever a library says so, and only what was assumed is said to be assumed."""

import json

import numpy as np
import pytest
from loopback_hub import LoopbackHub
from test_families_timm_torchvision import SQUEEZENET, squeezenet
from tiny_models import LABELS, TINY, build, changed, files_of, picture, processor_of, tensors_of

from xaihub import explain, load_classifier
from xaihub.classifier import Classifier


def torchvision(hub: LoopbackHub, **settings) -> Classifier:
    config = {key: value for key, value in {**SQUEEZENET, **settings}.items() if value is not None}
    hub.add_files("alice/tiny", {"config.json": json.dumps(config), "model.safetensors": tensors_of(squeezenet())})
    return load_classifier("alice/tiny", token=False)


def test_the_input_of_a_torchvision_folder_is_channels_height_width(hub):
    from torchvision.transforms import v2

    classifier = torchvision(hub, input=[3, 128, 256], resize_shortest=None, center_crop=None)

    assert classifier.input_size == (128, 256)
    assert classifier.target_layer.grid == (7, 15)
    resized = np.asarray(v2.Resize((128, 256))(picture()), dtype=np.float32)
    expected = (resized / 255 - SQUEEZENET["mean"]) / SQUEEZENET["std"]
    np.testing.assert_allclose(classifier.transform(picture()).permute(1, 2, 0), expected, atol=1e-5)
    explanation = explain(classifier, picture(), ["gradcam"])
    assert explanation["gradcam"][0].heatmap.shape == (128, 256)
    assert explanation.image.size == (256, 128)
    assert np.allclose(explanation.crop, (0, 0, 100, 80), atol=1.5)


@pytest.mark.parametrize(
    ("settings", "size", "said"),
    [
        ({"input": [3, 96, 128], "center_crop": [96, 128], "resize_shortest": 128}, (96, 128), ""),
        ({"center_crop": {"height": 64, "width": 96}}, (64, 96), ""),
        ({"input": [3, 96, 128], "center_crop": None}, (96, 128), "assumed: centre crop 128 x 96."),
        ({"resize_shortest": None}, (96, 96), "assumed: resize to 96."),
        ({"resize_shortest": None, "center_crop": None}, (96, 96), "assumed: resize to 96, centre crop 96."),
        ({"mean": None}, (96, 96), "assumed: ImageNet mean."),
        ({"std": None}, (96, 96), "assumed: ImageNet deviation."),
        ({"mean": None, "std": None}, (96, 96), "assumed: ImageNet mean, ImageNet deviation."),
        (
            {"input": [3, 64, 96], "center_crop": None, "resize_shortest": None},
            (64, 96),
            "assumed: resize to 96 x 64.",
        ),
        (
            {"input": None, "center_crop": None, "resize_shortest": None, "mean": None},
            (224, 224),
            "assumed: resize to 224, centre crop 224, ImageNet mean.",
        ),
        ({"interpolation": "bicubic"}, (96, 96), ""),
    ],
)
def test_each_piece_that_a_torchvision_folder_does_not_state_is_said_to_be_assumed_and_no_other(
    hub, settings, size, said
):
    classifier = torchvision(hub, **settings)
    assert classifier.input_size == size
    assert classifier.notices == ((f"Its config.json does not state all of its preprocessing; {said}",) if said else ())


def test_the_interpolation_of_a_torchvision_folder_is_its_own(hub):
    from torchvision.transforms import InterpolationMode, v2

    cubic = torchvision(hub, interpolation="bicubic").transform.picture_of(
        torchvision(hub, interpolation="bicubic").transform(picture())
    )
    expected = v2.CenterCrop(96)(v2.Resize(104, interpolation=InterpolationMode.BICUBIC)(picture()))
    assert np.abs(np.asarray(cubic).astype(int) - np.asarray(expected)).max() <= 1


def test_the_input_size_of_timm_is_channels_height_width(hub):
    import timm

    module = timm.create_model("test_vit", num_classes=3, img_size=(64, 96)).eval()
    config = {
        "architecture": "test_vit", "num_classes": 3, "num_features": 64, "model_args": {"img_size": [64, 96]},
        "pretrained_cfg": {"input_size": [3, 64, 96], "crop_pct": 1.0, "mean": [0.5] * 3, "std": [0.5] * 3,
                           "interpolation": "bilinear", "fixed_input_size": True, "label_names": list("abc")},
    }  # fmt: skip
    hub.add_files("alice/tiny", {"config.json": json.dumps(config), "model.safetensors": tensors_of(module)})
    classifier = load_classifier("alice/tiny", token=False)
    assert classifier.input_size == (64, 96)
    assert classifier.target_layer.grid == (4, 6)
    assert classifier.notices == ()


@pytest.mark.parametrize(
    ("processor", "size", "expected"),
    [
        ("ViTImageProcessor", {"height": 64, "width": 96}, (64, 96)),
        ("ViTImageProcessor", {"width": 96, "height": 64}, (64, 96)),
        ("ViTImageProcessor", 64, (64, 64)),
        ("ConvNextImageProcessor", {"shortest_edge": 64}, (64, 64)),
    ],
)
def test_the_sizes_of_transformers_go_by_their_names(hub, tmp_path, processor, size, expected):
    tiny = TINY["resnet"]
    files = files_of(build(tiny), processor_of(tiny), folder=tmp_path)
    files = changed(files, "preprocessor_config.json", image_processor_type=processor, size=size, crop_pct=1.0)
    hub.add_files("alice/tiny", files)
    classifier = load_classifier("alice/tiny", token=False)
    assert classifier.input_size == expected
    assert classifier.labels == tuple(LABELS.values())
    assert classifier.notices == ()


@pytest.mark.parametrize("crop", [{"height": 48, "width": 64}, 56])
def test_a_crop_of_transformers_is_an_edge_or_height_and_width(hub, tmp_path, crop):
    tiny = TINY["resnet"]
    files = files_of(build(tiny), processor_of(tiny), folder=tmp_path)
    files = changed(
        files, "preprocessor_config.json", image_processor_type="CLIPImageProcessor", crop_size=crop,
        size={"shortest_edge": 64}, crop_pct=None,
    )  # fmt: skip
    hub.add_files("alice/tiny", files)
    expected = (48, 64) if isinstance(crop, dict) else (56, 56)
    assert load_classifier("alice/tiny", token=False).input_size == expected


def test_a_model_without_preprocessing_whose_image_size_is_height_and_width_gets_these(hub, tmp_path):
    tiny = TINY["vit"]
    files = files_of(build(tiny, image_size=(64, 96)), folder=tmp_path)
    hub.add_files("alice/tiny", files)
    classifier = load_classifier("alice/tiny", token=False)
    assert classifier.input_size == (64, 96)
    assert classifier.target_layer.grid == (4, 6)
    assert "resize to 96 x 64, ImageNet mean and deviation" in classifier.notices[0]
