"""The layers from first to last, and one picture's map at each of them."""

from itertools import pairwise

import pytest
import torch
from tiny_models import TINY, build, picture
from torch import Tensor, nn
from toy_networks import SmallNet, classifier_of

from xaihub.cams import CAMS
from xaihub.errors import TargetLayerError
from xaihub.explaining import explain_query
from xaihub.methods import Query
from xaihub.stages import cautious, common_gradient, stages, strip


class Block(nn.Module):
    """A residual block: what lies inside it is a side road."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU())

    def forward(self, maps: Tensor) -> Tensor:
        return maps + self.inner(maps)


class Residual(nn.Module):
    """Three grids, 32, 16 and 8 places, of as many residual blocks as are asked for; a mean and a linear head."""

    def __init__(self, blocks: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.one = nn.Sequential(*(Block(8) for _ in range(blocks)))
        self.down = nn.Conv2d(8, 12, 3, stride=2, padding=1)
        self.two = nn.Sequential(*(Block(12) for _ in range(blocks)))
        self.further = nn.Conv2d(12, 16, 3, stride=2, padding=1)
        self.three = nn.Sequential(*(Block(16) for _ in range(blocks)))
        self.head = nn.Linear(16, 3)

    def forward(self, pixels: Tensor) -> Tensor:
        maps = self.three(self.further(self.two(self.down(self.one(self.stem(pixels))))))
        return self.head(maps.mean((-2, -1)))


def names(layers) -> list[str]:
    return [layer.name for layer in layers]


@pytest.fixture(scope="module")
def residual():
    return classifier_of(Residual(4))


def test_the_first_the_target_and_the_last_of_each_grid_are_shown_in_the_order_of_the_pass(residual):
    shown = stages(residual, most=4)
    assert names(shown) == ["stem", "one", "two", "three.3"]  # "one" gives what its last block gives
    assert [layer.grid for layer in shown] == [(32, 32), (32, 32), (16, 16), (8, 8)]
    assert shown[-1] is residual.target_layer


def test_what_lies_inside_a_residual_block_is_no_stage(residual):
    shown = names(stages(residual, most=15))
    assert shown == [
        "stem", *(f"one.{i}" for i in range(4)), "down", *(f"two.{i}" for i in range(4)), "further",
        *(f"three.{i}" for i in range(4)),
    ]  # fmt: skip
    assert names(stages(residual, most=99)) == shown


def test_no_more_are_shown_than_asked_and_they_lie_evenly(residual):
    every = names(stages(residual, most=99))
    for most in (8, 11, 14):
        places = [every.index(name) for name in names(stages(residual, most=most))]
        assert len(places) == most
        steps = [b - a for a, b in pairwise(places)]
        assert min(steps) >= 1
        assert max(steps) <= 3
    assert names(stages(residual, most=2)) == ["stem", "three.3"]


def test_a_layer_of_ones_own_choice_is_among_them(residual):
    chosen = residual.with_layer("two.1.inner.0")
    assert "two.1.inner.0" in names(stages(chosen, most=4))
    assert names(stages(chosen, most=4))[0] == "stem"


def test_the_blocks_of_a_transformer_are_its_stages():
    shown = stages(classifier_of(build(TINY["vit"]), (64, 64)))
    assert names(shown)[-2:] == ["vit.layers.0", "vit.layers.1"]
    assert not any("attention" in name or "mlp" in name for name in names(shown))
    assert shown[-1].prefix_tokens == 1


@pytest.mark.parametrize("family", ["resnet", "convnext", "vit", "swin", "levit", "segformer"])
def test_every_family_has_stages_that_end_at_its_target_layer(family):
    classifier = classifier_of(build(TINY[family]), (TINY[family].size,) * 2)
    shown = stages(classifier)
    assert len(set(names(shown))) == len(shown) <= 8
    assert {part.name for part in classifier.target_layer.layers} <= set(names(shown))
    sizes = [layer.grid[0] * layer.grid[1] for layer in shown]
    assert sizes == sorted(sizes, reverse=True)
    query = Query(classifier, picture())
    assert len(strip(query, shown, "layercam").shown) == len(shown)


def test_a_network_without_a_map_says_why():
    flat = classifier_of(nn.Sequential(nn.Flatten(), nn.Linear(32 * 32 * 3, 3)))
    with pytest.raises(TargetLayerError, match="No layer of this network keeps a map"):
        stages(flat)


@pytest.mark.parametrize("method", CAMS)
def test_the_strip_shows_what_each_layer_shows_when_it_is_asked_alone(method):
    classifier = classifier_of(SmallNet(), classes=3)
    query = Query(classifier, picture(), target="green")
    found = strip(query, stages(classifier), method)
    assert found.target == 1
    for layer, evidence, vector in zip(found.layers, found.shown, found.vectors, strict=True):
        alone = Query(classifier.with_layer(layer.name), picture(), target="green")
        expected = explain_query(alone, [method])[method][0]
        torch.testing.assert_close(torch.from_numpy(evidence.raw), torch.from_numpy(expected.raw), rtol=1e-4, atol=1e-6)
        assert evidence.caption == expected.caption
        torch.testing.assert_close(vector, nn.functional.normalize(alone.passed.embedding[0], dim=0))


def test_the_strip_costs_one_pass_and_leaves_the_network_as_it_was():
    classifier = classifier_of(SmallNet())
    layers = stages(classifier)
    passes: list[int] = []
    handle = classifier.module.register_forward_hook(lambda *_: passes.append(1))
    found = strip(Query(classifier, picture()), layers)
    handle.remove()
    assert passes == [1]
    assert found.prediction.labels == classifier.labels
    assert all(not part._forward_hooks for part in classifier.module.modules())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in classifier.module.parameters())


def test_only_a_map_of_several_layers_can_be_a_strip():
    classifier = classifier_of(SmallNet())
    with pytest.raises(ValueError, match=r"drawn by one of gradcam, .* not by 'occlusion'"):
        strip(Query(classifier, picture()), stages(classifier), "occlusion")


def test_the_common_share_of_a_gradient_is_known_on_paper():
    flat = torch.tensor([[[2.0, 2.0]], [[-1.0, -1.0]]])  # the same at both places, in each of two channels
    assert common_gradient(flat) == pytest.approx(1)
    assert common_gradient(torch.tensor([[[1.0, -1.0]]])) == pytest.approx(0)
    assert common_gradient(torch.tensor([[[3.0, 1.0]]])) == pytest.approx(0.8)  # mean 2: 2 * 2^2 of 3^2 + 1^2
    assert common_gradient(torch.zeros(2, 3, 3)) == 0


def test_grad_cam_is_doubted_where_its_mean_says_little_and_such_maps_are_not_fused():
    classifier = classifier_of(Residual(4))
    layers = stages(classifier, most=4)
    found = strip(Query(classifier, picture()), layers)
    assert found.common[-1] == pytest.approx(1, abs=0.5)
    doubted = [cautious("gradcam", share) for share in found.common]
    assert doubted[0].startswith("Grad-CAM weighs each channel by one number for the whole picture, but here ")
    assert doubted[-1] == ""
    assert cautious("hirescam", 0.0) == ""
    assert found.fused.facts["layers"] == sum(not doubt for doubt in doubted) < len(layers)
    assert strip(Query(classifier, picture()), layers, "layercam").fused.facts["layers"] == len(layers)
