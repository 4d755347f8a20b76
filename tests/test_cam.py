"""Class activation maps: known on paper, equal to plain loops, and equal to pytorch-grad-cam's."""

import numpy as np
import pytest
import torch
from PIL import Image
from toy_networks import ColourCounter, SmallNet, classifier_of

from xaihub.cams import CAMS, heatmaps
from xaihub.maps import shown
from xaihub.explaining import explain
from xaihub.methods import METHODS, Query

NAMES = ["gradcam", "hirescam", "layercam", "gradcam++", "xgradcam"]


def picture_with_dot(colour, row=2, column=5, size=8) -> Image.Image:
    pixels = np.zeros((size, size, 3), dtype=np.uint8)
    pixels[row, column] = colour
    return Image.fromarray(pixels)


def noise(size=32, seed=0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8))


@pytest.mark.parametrize("name", NAMES)
def test_a_map_lights_only_the_pixel_that_made_the_score(name):
    classifier = classifier_of(ColourCounter(), size=(8, 8))
    evidence = explain(classifier, picture_with_dot((0, 255, 0)), [name], target="green")[name][0]

    expected = np.zeros((8, 8), dtype=np.float32)
    expected[2, 5] = 1
    np.testing.assert_allclose(evidence.heatmap, expected, atol=1e-6)
    assert "'green'" in evidence.caption
    assert classifier.target_layer.name in evidence.caption


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_map_says_so_in_words_and_stays_empty(name):
    evidence = explain(classifier_of(ColourCounter(), size=(8, 8)), Image.new("RGB", (8, 8)), [name], target=0)[name][0]
    assert not evidence.heatmap.any()
    assert np.isfinite(evidence.heatmap).all()
    assert "No positive evidence for 'red' at this layer" in evidence.caption


def test_the_raw_map_keeps_its_sign_and_the_shown_one_is_its_positive_part():
    raw = torch.tensor([[[-2.0, 1.0], [0.5, -4.0]]])
    np.testing.assert_allclose(shown(raw, (2, 2))[0], [[0, 1], [0.5, 0]])
    evidence = explain(classifier_of(SmallNet()), noise(), ["gradcam"])["gradcam"][0]
    np.testing.assert_allclose(evidence.heatmap, shown(torch.tensor(evidence.raw)[None], (32, 32))[0], atol=1e-6)


def test_grad_cam_is_cam_where_a_mean_and_a_linear_head_follow():
    module = SmallNet()
    classifier = classifier_of(module)
    query = Query(classifier, noise(), target=1)
    cam = torch.einsum("k,khw->hw", module.head.weight[1].detach(), query.activations)  # CAM, Zhou et al. 2016, eq. 2
    places = query.activations.shape[1] * query.activations.shape[2]
    raw = torch.tensor(explain(classifier, noise(), ["gradcam"], target=1)["gradcam"][0].raw)
    torch.testing.assert_close(raw * places, cam, atol=1e-5, rtol=1e-4)


LOOPS = {}


def loop(name):
    return lambda function: LOOPS.setdefault(name, function)


@loop("gradcam")
def slow_gradcam(a, g, i, j):
    return sum(g[k].mean() * a[k, i, j] for k in range(len(a)))


@loop("hirescam")
def slow_hirescam(a, g, i, j):
    return sum(g[k, i, j] * a[k, i, j] for k in range(len(a)))


@loop("layercam")
def slow_layercam(a, g, i, j):
    return sum(max(g[k, i, j], 0) * a[k, i, j] for k in range(len(a)))


@loop("gradcam++")
def slow_gradcam_plus_plus(a, g, i, j):
    total = 0.0
    for k in range(len(a)):
        weight = 0.0
        for y in range(a.shape[1]):
            for x in range(a.shape[2]):
                below = 2 * g[k, y, x] ** 2 + a[k].sum() * g[k, y, x] ** 3 + 1e-6
                weight += g[k, y, x] ** 2 / below * max(g[k, y, x], 0) if g[k, y, x] else 0
        total += weight * a[k, i, j]
    return total


@loop("xgradcam")
def slow_xgradcam(a, g, i, j):
    return sum((a[k] * g[k]).sum() / (a[k].sum() + 1e-7) * a[k, i, j] for k in range(len(a)))


@pytest.mark.parametrize("name", NAMES)
def test_each_formula_equals_its_equation_in_plain_loops(name):
    generator = torch.Generator().manual_seed(3)
    activations = torch.rand(2, 4, 3, 5, generator=generator)
    gradients = torch.randn(2, 4, 3, 5, generator=generator)
    fast = CAMS[name](activations, gradients)
    for n in range(2):
        for i in range(3):
            for j in range(5):
                slow = LOOPS[name](activations[n].double().numpy(), gradients[n].double().numpy(), i, j)
                assert float(fast[n, i, j]) == pytest.approx(slow, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_equals_its_pictures_one_by_one(name):
    classifier = classifier_of(SmallNet())
    pixels = torch.stack([classifier.transform(noise(seed=seed)) for seed in range(4)])
    together = heatmaps(classifier, pixels, [0, 1, 2, 0], name)
    for n, target in enumerate([0, 1, 2, 0]):
        alone = heatmaps(classifier, pixels[n : n + 1], [target], name)[0]
        torch.testing.assert_close(together[n], alone, atol=1e-6, rtol=1e-4)


def reshape_tokens(prefix, grid):
    return lambda tensor: tensor[:, prefix:].reshape(len(tensor), *grid, -1).permute(0, 3, 1, 2)


def peers(architecture):
    """(network, our layer's name, pytorch-grad-cam's layer, its reshape transform)."""
    from torchvision import models

    torch.manual_seed(0)
    if architecture == "resnet18":
        net = models.resnet18(weights=None, num_classes=10)
        return net, "layer4.1", net.layer4[-1], None
    if architecture == "mobilenet_v2":
        net = models.mobilenet_v2(weights=None, num_classes=10, width_mult=0.5)
        return net, "features.18", net.features[-1], None
    if architecture == "vit":
        net = models.VisionTransformer(64, 16, 4, 4, 64, 128, num_classes=10)
        torch.nn.init.normal_(net.heads.head.weight)
        name = "encoder.layers.encoder_layer_2"
        return net, name, net.get_submodule(name), reshape_tokens(1, (4, 4))
    net = models.SwinTransformer([4, 4], 24, [2, 2], [2, 4], [4, 4], num_classes=10)
    return net, "permute", net.norm, lambda tensor: tensor.permute(0, 3, 1, 2)  # permute gives NCHW of norm's NHWC


@pytest.mark.parametrize("architecture", ["resnet18", "mobilenet_v2", "vit", "swin"])
def test_maps_agree_with_pytorch_grad_cam(architecture):
    pgc = pytest.importorskip("pytorch_grad_cam")
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    net, name, their_layer, reshape = peers(architecture)
    net.eval()
    size = 64 if architecture in ("vit", "mobilenet_v2", "swin") else 96
    classifier = classifier_of(net, size=(size, size), classes=10)
    assert classifier.target_layer.name == name
    pixels = torch.stack([classifier.transform(noise(size, seed)) for seed in range(2)])
    theirs = {
        "gradcam": pgc.GradCAM, "hirescam": pgc.HiResCAM, "layercam": pgc.LayerCAM,
        "gradcam++": pgc.GradCAMPlusPlus, "xgradcam": pgc.XGradCAM,
    }  # fmt: skip
    for method, make in theirs.items():
        with make(model=net, target_layers=[their_layer], reshape_transform=reshape) as peer:
            expected = peer(input_tensor=pixels, targets=[ClassifierOutputTarget(3), ClassifierOutputTarget(7)])
        raw = heatmaps(classifier, pixels, [3, 7], method)
        if method == "hirescam" and architecture == "vit":
            continue  # exactly zero there: see the test below
        np.testing.assert_allclose(as_they_show(raw, size), expected, atol=1e-4, err_msg=method)


def test_maps_agree_with_pytorch_grad_cam_at_the_layer_that_its_users_take_on_vit():
    pgc = pytest.importorskip("pytorch_grad_cam")
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    net = peers("vit")[0].eval()
    name = "encoder.layers.encoder_layer_3.ln_1"
    classifier = classifier_of(net, size=(64, 64), classes=10, target_layer=name)
    pixels = classifier.transform(noise(64))[None]
    with pgc.HiResCAM(
        model=net, target_layers=[net.get_submodule(name)], reshape_transform=reshape_tokens(1, (4, 4))
    ) as peer:
        expected = peer(input_tensor=pixels, targets=[ClassifierOutputTarget(5)])
    np.testing.assert_allclose(as_they_show(heatmaps(classifier, pixels, [5], "hirescam"), 64), expected, atol=1e-4)


def test_a_map_that_is_only_rounding_error_is_not_shown():
    """Before a layer norm activations and gradients are orthogonal, so HiResCAM sums to nothing at each place."""
    net = peers("vit")[0].eval()
    evidence = explain(classifier_of(net, size=(64, 64), classes=10), noise(64), ["hirescam"])["hirescam"][0]
    assert np.abs(evidence.raw).max() < 1e-5
    assert not evidence.heatmap.any()
    assert "cancel" in evidence.caption


def as_they_show(raw: torch.Tensor, size: int) -> np.ndarray:
    """Our raw map under their scaling, which takes the smallest value away twice; ours leaves zero at zero."""

    def scaled(maps):
        low = maps - maps.amin((-2, -1), keepdim=True)
        return low / (low.amax((-2, -1), keepdim=True) + 1e-7)

    small = scaled(raw.relu())
    large = torch.nn.functional.interpolate(small[:, None], (size, size), mode="bilinear", align_corners=False)[:, 0]
    return scaled(large).numpy()


def test_one_forward_pass_serves_everything_and_another_target_needs_no_second():
    module = SmallNet()
    classifier = classifier_of(module)
    passes = []
    handle = module.register_forward_hook(lambda *_: passes.append(1))
    query = Query(classifier, noise())
    for name in NAMES:
        METHODS[name].run(query)
    assert query.prediction.label in classifier.labels
    other = query.about(target="blue")
    METHODS["gradcam"].run(other)
    METHODS["layercam"].run(query.about(target=1, k=5))
    handle.remove()
    assert len(passes) == 1
    assert (other.gradients - query.about(target="red").gradients).abs().max() > 0


def test_a_new_map_is_one_function_in_a_notebook():
    from xaihub import METHODS, cam

    @cam("brightest")
    def brightest(activations, gradients):
        """The largest activation of each place."""
        return activations.amax(1)

    try:
        evidence = explain(classifier_of(ColourCounter(), size=(8, 8)), picture_with_dot((255, 0, 0)), "brightest")
        assert evidence["brightest"][0].heatmap.argmax() == 2 * 8 + 5
        assert METHODS["brightest"].summary == "The largest activation of each place."
    finally:
        METHODS._entries.pop("brightest")
        CAMS.pop("brightest")


class ThreeColours(torch.nn.Module):
    """The smallest network there is: its one layer hands on the picture's own three channels."""

    def __init__(self) -> None:
        super().__init__()
        self.features = torch.nn.Identity()

    def forward(self, pixels):
        return self.features(pixels * 1.0).sum((-2, -1))


@pytest.mark.parametrize("name", NAMES)
def test_a_layer_of_three_channels_can_be_named(name):
    classifier = classifier_of(ThreeColours(), size=(8, 8), target_layer="features")
    evidence = explain(classifier, picture_with_dot((0, 0, 255)), [name])[name][0]
    assert np.unravel_index(evidence.heatmap.argmax(), (8, 8)) == (2, 5)
    assert np.count_nonzero(evidence.heatmap) == 1


def test_a_network_of_four_channels_is_traced_all_the_same():
    torch.manual_seed(0)
    layers = [torch.nn.Conv2d(3, 4, 3, 2), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()]
    classifier = classifier_of(torch.nn.Sequential(*layers, torch.nn.Linear(4, 3)))
    assert classifier.target_layer.name == "1"
    assert classifier.target_layer.grid == (15, 15)
