"""The layers that stay as they are: where they end, that nothing is lost there, and what is kept of their maps."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_models import TINY, build
from torch import nn
from training_child import RESNET, backbone, class_folders

from xaihub.datasets import open_dataset
from xaihub.errors import DatasetError
from xaihub.families.from_transformers import load_backbone
from xaihub.finetuning.fitting import fine_tune
from xaihub.finetuning.inputs import AT_ONCE, Inputs, affordable, kept_maps
from xaihub.finetuning.pixel_store import read_pixels
from xaihub.finetuning.settings import FineTuning
from xaihub.finetuning.trunk import Tail, find_trunk

LABELS = ("real", "fake")
QUICK = FineTuning(epochs=2, batch_size=4, averaged=2, copies=3, calibration_folds=2)


def pixels(count=3, size=32, seed=0):
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


def timm_resnet():
    import timm

    return timm.create_model("test_resnet", num_classes=3)


def timm_vit():
    import timm

    return timm.create_model("test_vit", num_classes=3, img_size=32, patch_size=8)


def torchvision_resnet():
    import torchvision

    return torchvision.models.resnet18(weights=None, num_classes=3)


def of_transformers(name):
    return lambda: build(RESNET if name == "resnet" else TINY[name])


NETWORKS = {
    "resnet": (of_transformers("resnet"), 32),
    "vit": (of_transformers("vit"), TINY["vit"].size),
    "swin": (of_transformers("swin"), TINY["swin"].size),
    "timm resnet": (timm_resnet, 64),
    "timm vit": (timm_vit, 32),
    "torchvision resnet18": (torchvision_resnet, 64),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_above_the_trunk_other_images_are_answered_as_by_the_whole_network(name):
    torch.manual_seed(0)
    made, size = NETWORKS[name]
    module = made().eval()
    before = {key: value.clone() for key, value in module.state_dict().items()}

    trunk = find_trunk(module, pixels(2, size), 0.25)

    others = pixels(5, size, seed=1)
    with torch.no_grad():
        expected = module(others)
        found = Tail(module, trunk)(trunk.maps(module, others))
    expected, found = (each if torch.is_tensor(each) else each.logits for each in (expected, found))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert (expected[0] - expected[1]).abs().max() > 1e-4  # they are answered differently
    assert 0 < trunk.share < 1
    with torch.no_grad():
        again = module(others)
    assert torch.equal(
        again if torch.is_tensor(again) else again.logits, expected
    )  # nothing is left in place of layers
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())


@pytest.mark.parametrize(("share", "last"), [(0.25, "5"), (0.5, "3"), (0.75, "1")])
def test_of_eight_layers_of_equal_cost_a_quarter_of_the_arithmetic_is_the_last_two(share, last):
    layers = [layer for _ in range(8) for layer in (nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.Tanh()),)]
    module = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
    module[0] = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Tanh())

    trunk = find_trunk(module.eval(), pixels(2, 16), share)

    assert trunk.name == last
    # the first layer has three channels in place of eight
    assert trunk.share == pytest.approx((7 - int(last)) / (7 + 3 / 8), abs=0.01)


class Bypassed(nn.Module):
    """Each block's sum with the image itself: no layer's output is all that the answer rests on."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(nn.Conv2d(3, 3, 3, padding=1) for _ in range(4))
        self.head = nn.Linear(3, 2)

    def forward(self, images):
        maps = images
        for block in self.blocks:
            maps = block(maps).tanh() + images
        return self.head(maps.mean((2, 3)))


class Peeking(nn.Module):
    """Looks at the pixels again after the last layer, where no gradient shows it."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), *(nn.Conv2d(8, 8, 3, padding=1) for _ in range(3)))
        self.head = nn.Linear(8, 2)

    def forward(self, images):
        bright = images.detach().mean((1, 2, 3))[:, None]
        return self.head(self.blocks(images).tanh().mean((2, 3))) + bright


@pytest.mark.parametrize("made", [Bypassed, Peeking])
def test_where_something_passes_by_every_layer_there_is_no_trunk(made):
    torch.manual_seed(0)

    assert find_trunk(made().eval(), pixels(2), 0.25) is None


def test_the_upper_layers_get_the_gradients_that_they_get_in_the_whole_network_and_the_lower_none():
    module = build(RESNET).eval()
    images, truth = pixels(4), torch.tensor([0, 1, 2, 0])
    trunk = find_trunk(module, images[:2], 0.25)

    nn.functional.cross_entropy(module(images).logits, truth).backward()
    whole = {name: parameter.grad.clone() for name, parameter in module.named_parameters()}
    module.zero_grad(set_to_none=True)
    nn.functional.cross_entropy(Tail(module, trunk)(trunk.maps(module, images)).logits, truth).backward()

    above = {name for name, parameter in module.named_parameters() if parameter.grad is not None}
    assert {"classifier.1.weight", "resnet.encoder.stages.1.layers.0.layer.1.convolution.weight"} <= above
    assert not any(name.startswith(tuple(trunk.given)) for name in above)
    assert any(name.startswith(tuple(trunk.given)) for name in whole)
    for name in above:
        torch.testing.assert_close(module.get_parameter(name).grad, whole[name], atol=1e-6, rtol=1e-4)


# What is kept


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return backbone(tmp_path_factory.mktemp("network"))


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    return open_dataset(class_folders(tmp_path_factory.mktemp("data") / "pets"))


@pytest.fixture
def opened(network, rows):
    held = load_backbone(network, LABELS, "tiny")
    return held, read_pixels(rows, held.transform, LABELS)


def changed_since(before, held):
    return {name for name, tensor in held.module.state_dict().items() if not torch.equal(tensor, before[name])}


def test_maps_are_kept_in_a_file_and_computed_a_few_images_at_a_time(opened, tmp_path):
    _, store = opened
    sizes = []

    def below(images):
        sizes.append(len(images))
        return images[:, :, ::8, ::8] * 2

    maps = kept_maps(tmp_path / "maps.npy", store, below, QUICK, 3, torch.device("cpu"))

    assert isinstance(maps, np.memmap)  # read from the disk where a batch asks for it
    assert maps.shape == (12, 3, 3, 4, 4)
    assert (max(sizes), sum(sizes)) == (8, 36)
    assert (tmp_path / "maps.npy").stat().st_size < 12 * 3 * 48 * 4 + 200
    inputs = Inputs(store, QUICK, torch.device("cpu"), below, maps)
    live = Inputs(store, QUICK, torch.device("cpu"), below)
    places = torch.tensor([7, 0, 3])
    for way in (0, 1):  # as it is, and mirrored
        torch.testing.assert_close(inputs.seen(places, way), live.seen(places, way), atol=1e-6, rtol=0)
    sizes.clear()
    again = kept_maps(tmp_path / "maps.npy", store, below, QUICK, 3, torch.device("cpu"))
    assert (sizes, np.array_equal(again, maps)) == ([], True)  # the next process reads them
    assert AT_ONCE >= 8


def test_fewer_copies_are_kept_where_the_disk_may_hold_fewer(opened):
    held, store = opened
    trunk = find_trunk(held.module, pixels(2), 0.25)
    one = 4 * trunk.maps(held.module, trunk.one).numel() * len(store)  # bytes of a copy of each image

    def copies(rooms):
        return affordable(store, trunk, held.module, replace(QUICK, copies=8, disk=rooms * one))

    assert [copies(rooms) for rooms in (1, 2, 5, 99)] == [0, 2, 5, 8]


def test_what_is_trained_is_said_and_the_layers_below_are_those_of_the_backbone(opened, tmp_path):
    held, store = opened
    before = {name: tensor.clone() for name, tensor in held.module.state_dict().items()}

    found = fine_tune(held, store, None, QUICK, work=tmp_path)

    changed = changed_since(before, held)
    assert "resnet.encoder.stages.1.layers.0.layer.1.convolution.weight" in changed
    assert not any(name.startswith("resnet.embedder") for name in changed)
    assert found.trained.startswith("the layers above resnet.")
    assert found.trained.endswith("the layers up to it are unchanged")
    assert (tmp_path / "training-maps.npy").is_file()


def test_without_room_for_maps_the_lower_layers_run_again_and_stay_as_they_are_too(opened, tmp_path):
    held, store = opened
    before = {name: tensor.clone() for name, tensor in held.module.state_dict().items()}

    found = fine_tune(held, store, None, replace(QUICK, disk=0), work=tmp_path)

    changed = changed_since(before, held)
    assert "resnet.encoder.stages.1.layers.0.layer.1.convolution.weight" in changed
    assert not any(name.startswith("resnet.embedder") for name in changed)
    assert not (tmp_path / "training-maps.npy").exists()
    assert found.calibration.in_words.startswith("Not calibrated: ")


def test_all_layers_are_trained_where_that_is_asked_for(opened, tmp_path):
    held, store = opened
    before = {name: tensor.clone() for name, tensor in held.module.named_parameters()}

    found = fine_tune(held, store, None, replace(QUICK, trained_share=1.0), work=tmp_path)

    assert found.trained == "all layers"
    assert not any(torch.equal(tensor, before[name]) for name, tensor in held.module.named_parameters())


@pytest.mark.parametrize(("option", "value", "says"), [("trained_share", 0.0, "trained share"), ("mixup", 0.7, "half")])
def test_settings_that_mean_nothing_are_refused(option, value, says):
    with pytest.raises(DatasetError, match=says):
        FineTuning(**{option: value})
