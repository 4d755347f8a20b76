"""Maps over the pixels: known on paper, equal to plain loops, and adding up to what their authors promise."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn.functional import interpolate
from toy_networks import SmallNet, classifier_of

from xaihub import attributions
from xaihub.attributions import (
    full_gradient,
    fullgrad,
    guided_backprop,
    guided_gradcam,
    input_x_gradient,
    integrated_gradients,
    pixel_gradient,
    smoothgrad,
)
from xaihub.explaining import explain

pytestmark = pytest.mark.agreement


def noise(height=32, width=32, seed=0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class LinearNet(nn.Module):
    """Each class weighs every pixel, and has a bias: each pixel's share is its weight times its value."""

    def __init__(self, size=(6, 9)) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.head = nn.Linear(3 * size[0] * size[1], 3)

    def forward(self, pixels):
        return self.head(pixels.flatten(1))

    def shares(self, pixels, target):
        return self.head.weight[target].detach().view_as(pixels) * pixels


def test_of_a_linear_network_input_x_gradient_and_integrated_gradients_are_weight_times_pixel():
    module, size = LinearNet(), (6, 9)
    explanation = explain(
        classifier_of(module, size), noise(6, 9), ["input-x-gradient", "integrated-gradients"], target=1
    )
    pixels = classifier_of(module, size).transform(noise(6, 9))[None]
    expected = module.shares(pixels, 1)[0].sum(0)
    assert expected.min() < -0.01 < 0.01 < expected.max()
    for method in ("input-x-gradient", "integrated-gradients"):
        np.testing.assert_allclose(explanation[method][0].raw, expected, atol=1e-6)
        assert explanation[method][0].facts["signed"]


def test_of_a_linear_network_smoothgrad_is_its_weights_whatever_the_noise():
    module = LinearNet()
    raw = explain(classifier_of(module, (6, 9)), noise(6, 9), ["smoothgrad"], target=2)["smoothgrad"][0].raw
    weights = module.head.weight[2].detach().view(3, 6, 9)
    np.testing.assert_allclose(raw, weights.abs().sum(0), atol=1e-6)


def square(pixels):
    """Scores a picture by the squares of its pixels, each with its own weight."""
    return (pixels**2 * torch.arange(12.0).view(3, 2, 2)).sum((1, 2, 3))


def test_of_squares_integrated_gradients_gives_each_pixel_its_own_and_input_x_gradient_twice_that():
    pixels = drawn(1, 3, 2, 2)
    own = pixels**2 * torch.arange(12.0).view(1, 3, 2, 2)
    torch.testing.assert_close(integrated_gradients(square, pixels), own)
    torch.testing.assert_close(input_x_gradient(square, pixels), 2 * own)


def test_two_pixels_that_count_only_together_share_what_they_make():
    def together(pixels):
        return pixels[:, 0, 0, 0] * pixels[:, 2, 1, 1]

    pixels = drawn(1, 3, 2, 2)
    shares = integrated_gradients(together, pixels)
    half = float(together(pixels)) / 2
    assert shares[0, 0, 0, 0].item() == pytest.approx(half, rel=1e-5)
    assert shares[0, 2, 1, 1].item() == pytest.approx(half, rel=1e-5)
    assert shares.count_nonzero() == 2


def test_integrated_gradients_equals_its_integral_in_plain_loops():
    classifier = classifier_of(smooth_net())
    pixels = drawn(1, 3, 32, 32)
    steps, total = 400, torch.zeros(1, 3, 32, 32)
    for step in range(steps):  # the middle of each of many short steps, from a grey picture
        place = (0.2 + (step + 0.5) / steps * (pixels - 0.2)).requires_grad_()
        total += torch.autograd.grad(classifier.score(place, [1]).sum(), place)[0] / steps
    got = integrated_gradients(lambda x: classifier.score(x, [1] * len(x)), pixels, baseline=0.2)
    torch.testing.assert_close(got, (pixels - 0.2) * total, atol=1e-5, rtol=1e-3)


def smooth_net():
    """SmallNet with a GELU for every ReLU, so that few steps suffice."""
    module = SmallNet()
    module.stem[2], module.after = nn.GELU(), nn.GELU()
    return module


def test_integrated_gradients_adds_up_to_what_the_logit_rises_and_says_so():
    module = SmallNet()
    classifier = classifier_of(module)
    explanation = explain(classifier, noise(), ["integrated-gradients"], target="green")
    pixels = classifier.transform(noise())[None]
    rise = float(classifier.logits(pixels)[0, 1] - classifier.logits(pixels * 0)[0, 1])
    assert float(explanation["integrated-gradients"][0].raw.sum()) == pytest.approx(rise, abs=0.01 * abs(rise))
    (note,) = explanation.notes["integrated-gradients"]
    assert f"the logit rises by {rise:.2f}" in note


def test_smoothgrad_equals_its_mean_in_plain_loops():
    def cube(pixels):
        return (pixels**3).sum((1, 2, 3))

    pixels = drawn(1, 3, 4, 5)
    generator = torch.Generator().manual_seed(7)
    copies = torch.cat([torch.randn(10, 3, 4, 5, generator=generator), torch.randn(3, 3, 4, 5, generator=generator)])
    spread = 0.2 * (float(pixels.max()) - float(pixels.min()))
    expected = sum(3 * (pixels + spread * copy) ** 2 for copy in copies) / 13
    torch.testing.assert_close(smoothgrad(cube, pixels, copies=13, noise=0.2, seed=7), expected)


def test_smoothgrad_is_the_same_map_every_time():
    classifier = classifier_of(SmallNet())
    first, second = (explain(classifier, noise(), ["smoothgrad"])["smoothgrad"][0].raw for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_guided_backpropagation_equals_its_rule_in_plain_loops():
    torch.manual_seed(3)
    first, second = nn.Linear(12, 7), nn.Linear(7, 5)
    first.requires_grad_(False), second.requires_grad_(False)
    last, pixels = torch.randn(5), torch.randn(1, 3, 2, 2)

    def score(x):
        return (second(first(x.flatten(1)).relu()).relu() * last).sum(1)

    one = first(pixels.flatten(1))[0].tolist()
    two = second(first(pixels.flatten(1)).relu())[0].tolist()
    arrived = [max(float(last[j]), 0) if two[j] > 0 else 0 for j in range(5)]
    below = [sum(arrived[j] * float(second.weight[j, i]) for j in range(5)) for i in range(7)]
    arrived = [max(below[i], 0) if one[i] > 0 else 0 for i in range(7)]
    expected = [sum(arrived[i] * float(first.weight[i, p]) for i in range(7)) for p in range(12)]
    np.testing.assert_allclose(guided_backprop(score, pixels).flatten(), expected, atol=1e-6)
    assert (guided_backprop(score, pixels) - pixel_gradient(score, pixels)).abs().max() > 0.01


def test_guided_backpropagation_is_the_same_when_relus_work_in_place():
    pixels = drawn(1, 3, 32, 32)
    maps = []
    for inplace in (False, True):
        module = SmallNet(inplace=inplace)
        module.stem[2].inplace = inplace
        classifier = classifier_of(module)
        maps.append(guided_backprop(lambda x, c=classifier: c.score(x, [0] * len(x)), pixels))
    torch.testing.assert_close(maps[1], maps[0])
    assert maps[0].any()


def test_a_network_without_relu_says_that_nothing_was_guided():
    explanation = explain(classifier_of(smooth_net()), noise(), ["guided-backprop", "guided-gradcam"])
    for method in ("guided-backprop", "guided-gradcam"):
        assert explanation.notes[method] == (
            "This network has no ReLU, so there is nothing to guide: this is the plain gradient.",
        )
    assert not explain(classifier_of(SmallNet()), noise(), ["guided-backprop"]).notes


def test_guided_gradcam_is_the_guided_gradient_where_gradcam_is_positive():
    guided = torch.ones(1, 3, 4, 4)
    got = guided_gradcam(guided, torch.tensor([[[-3.0, 0.0], [0.0, 2.0]]]))
    large = interpolate(torch.tensor([[[[0.0, 0.0], [0.0, 2.0]]]]), (4, 4), mode="bilinear")
    torch.testing.assert_close(got, large.expand(1, 3, 4, 4))


def convolutional(inplace=False):
    """Every kind of bias that FullGrad counts, two branches, a max pool, and running means that are not zero."""
    torch.manual_seed(5)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(inplace), nn.MaxPool2d(2))
            self.left = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8, affine=False))
            self.right = nn.Conv2d(8, 8, 1, groups=2)
            self.act = nn.ReLU(inplace)
            self.head = nn.Sequential(nn.Linear(8, 6), nn.ReLU(inplace), nn.Linear(6, 3, bias=False))

        def forward(self, pixels):
            maps = self.stem(pixels)
            return self.head(self.act(self.left(maps) + self.right(maps)).mean((-2, -1)))

    net = Net()
    for part in net.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.running_mean)
            nn.init.uniform_(part.running_var, 0.3, 2)
            if part.affine:
                nn.init.normal_(part.weight, 1, 0.3)
                nn.init.normal_(part.bias)
    return net.eval()


def linear_bias_terms(net, pixels, target):
    """Bias x gradient of the one linear layer with a bias: FullGrad's map has no place for it."""
    kept = []
    handle = net.head[0].register_forward_hook(lambda _, __, output: kept.append(output) or output.clone())
    score = net(pixels)[0, target]
    handle.remove()
    return float((torch.autograd.grad(score, kept[0])[0] * net.head[0].bias.detach()).sum())


class NormWithRelu(nn.BatchNorm2d):
    """As timm writes it: what the module gives is no longer what the norm gave."""

    def forward(self, maps):
        return super().forward(maps).relu_()


@pytest.mark.parametrize("kind", ["plain", "in place", "relu inside the norm"])
def test_the_terms_of_fullgrad_add_up_to_the_logit(kind):
    net = convolutional(inplace=kind == "in place")
    if kind == "relu inside the norm":
        net.stem[1].__class__ = NormWithRelu
    classifier = classifier_of(net, (18, 22))
    pixels = drawn(1, 3, 18, 22)
    by_input, by_bias = full_gradient(lambda x: classifier.score(x, [2]), pixels)
    total = float(by_input.sum()) + sum(float(terms.sum()) for terms in by_bias) + linear_bias_terms(net, pixels, 2)
    assert len(by_bias) == 4
    assert total == pytest.approx(float(classifier.logits(pixels)[0, 2]), abs=1e-5)


def test_fullgrad_equals_its_sum_in_plain_loops():
    by_input, by_bias = drawn(1, 3, 8, 6), [drawn(1, 5, 4, 3, seed=1), drawn(1, 2, 10, 10, seed=2)]
    expected = torch.zeros(8, 6)
    for terms in (by_input, *by_bias):
        for channel in terms[0].abs():
            scaled = (channel - channel.min()) / (channel.max() - channel.min())
            expected += interpolate(scaled[None, None], (8, 6), mode="bilinear", align_corners=False)[0, 0]
    torch.testing.assert_close(fullgrad(by_input, by_bias)[0], expected, atol=1e-5, rtol=1e-5)


def test_a_network_without_biases_on_maps_says_that_only_input_x_gradient_is_left():
    (note,) = explain(classifier_of(LinearNet(), (6, 9)), noise(6, 9), ["fullgrad"]).notes["fullgrad"]
    assert "only input x gradient is left" in note


def test_a_score_that_does_not_depend_on_the_picture_has_no_gradient():
    def constant(pixels):
        return torch.ones(len(pixels))

    pixels = drawn(1, 3, 4, 4)
    assert not pixel_gradient(constant, pixels).any()
    by_input, by_bias = full_gradient(constant, pixels)
    assert not by_input.any()
    assert by_bias == []


def test_long_attributions_go_in_batches_of_ten():
    sizes = []

    def score(pixels):
        sizes.append(len(pixels))
        return pixels.sum((1, 2, 3))

    integrated_gradients(score, drawn(1, 3, 4, 4), steps=25)
    smoothgrad(score, drawn(1, 3, 4, 4), copies=12)
    assert sizes == [10, 10, 5, 10, 2]
    assert attributions.BATCH == 10
