"""Maps over the pixels agree with captum's and pytorch-grad-cam's on a ResNet-18, or differ by what is said here."""

from functools import partial

import numpy as np
import pytest
import torch
from peer_networks import in_float64, smooth
from PIL import Image
from torch import nn
from toy_networks import classifier_of

from xaihub.attributions import (
    full_gradient,
    fullgrad,
    guided_backprop,
    guided_gradcam,
    input_x_gradient,
    integrated_gradients,
    smoothgrad,
)
from xaihub.cams import heatmaps

pytestmark = pytest.mark.agreement

SIZE, TARGET = (64, 96), 3


@pytest.fixture(scope="module")
def network():
    """A ResNet-18 with random weights, in whose batch norms nothing is zero or one."""
    from torchvision import models

    torch.manual_seed(0)
    net = models.resnet18(weights=None, num_classes=10)
    for part in net.modules():
        if isinstance(part, nn.BatchNorm2d):
            for tensor in (part.running_mean, part.bias):
                nn.init.normal_(tensor, 0, 0.2)
            for tensor in (part.running_var, part.weight):
                nn.init.uniform_(tensor, 0.5, 1.5)
    return in_float64(net.eval())


@pytest.fixture(scope="module")
def classifier(network):
    return classifier_of(network, SIZE, classes=10, target_layer="layer4.1")


@pytest.fixture(scope="module")
def pixels(classifier):
    picture = Image.fromarray(np.random.default_rng(1).integers(0, 256, (*SIZE, 3), dtype=np.uint8))
    return classifier.transform(picture)[None].double() * 4 - 2


@pytest.fixture
def score(classifier):
    return lambda given: classifier.score(given, [TARGET] * len(given))


@pytest.fixture(scope="module")
def captum():
    pytest.importorskip("captum")
    import captum.attr

    return captum.attr


def assert_within(ours, theirs, tolerance=1e-4):
    """Over the largest value, so that the tolerance means the same for every map."""
    ours, theirs = (torch.as_tensor(each).detach().squeeze() for each in (ours, theirs))
    largest = float(theirs.abs().max())
    assert largest > 0
    assert float((ours - theirs).abs().max()) <= tolerance * largest


def separate_relus(network):
    """A copy in which each ReLU runs once and not in place: captum hooks modules, and ResNet-18 runs one twice."""
    import copy

    from torchvision.models.resnet import BasicBlock

    class Block(BasicBlock):
        def forward(self, x):
            out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
            return self.last(out + (x if self.downsample is None else self.downsample(x)))

    copied = copy.deepcopy(network)
    for part in copied.modules():
        if isinstance(part, BasicBlock):
            part.__class__, part.relu, part.last = Block, nn.ReLU(), nn.ReLU()
    copied.relu = nn.ReLU()
    return copied


def test_input_x_gradient_agrees_with_captum(network, captum, pixels, score):
    theirs = captum.InputXGradient(network).attribute(pixels.clone().requires_grad_(), target=TARGET)
    assert_within(input_x_gradient(score, pixels), theirs)


def test_integrated_gradients_agrees_with_captum(network, captum, pixels, score):
    theirs = captum.IntegratedGradients(network).attribute(
        pixels, baselines=0, target=TARGET, n_steps=20, method="gausslegendre", internal_batch_size=10
    )
    assert_within(integrated_gradients(score, pixels, steps=20), theirs)


def test_smoothgrad_agrees_with_captum_when_the_noise_is_the_same(network, captum, pixels):
    """Both draw from torch's generator in batches of ten; theirs is the global one."""
    pixels = pixels.float()  # of float64 other noise is drawn
    network = smooth(network)
    score = partial(classifier_of(network, SIZE, classes=10).score, targets=[TARGET] * 10)
    spread = 0.15 * float(pixels.max() - pixels.min())
    with torch.random.fork_rng():
        torch.manual_seed(5)
        theirs = captum.NoiseTunnel(captum.Saliency(network)).attribute(
            pixels, target=TARGET, abs=False, nt_samples=20, nt_samples_batch_size=10, stdevs=spread
        )
    assert_within(smoothgrad(score, pixels, copies=20, seed=5), theirs)


@pytest.mark.filterwarnings("ignore:Setting .*hooks on ReLU")
def test_guided_backpropagation_agrees_with_captum(network, captum, pixels, score):
    theirs = captum.GuidedBackprop(separate_relus(network)).attribute(pixels.clone().requires_grad_(), target=TARGET)
    assert_within(guided_backprop(score, pixels), theirs)


@pytest.mark.filterwarnings("ignore:Setting .*hooks on ReLU")
def test_guided_gradcam_agrees_with_captum_when_it_enlarges_smoothly(network, captum, classifier, pixels, score):
    """By default theirs enlarges to the nearest place, which leaves the edges of places in the map."""
    copied = separate_relus(network)
    peer = captum.GuidedGradCam(copied, copied.layer4[1])
    theirs = peer.attribute(pixels.clone().requires_grad_(), target=TARGET, interpolate_mode="bilinear")
    ours = guided_gradcam(guided_backprop(score, pixels), heatmaps(classifier, pixels, [TARGET]))
    assert_within(ours, theirs)


def test_guided_backpropagation_agrees_with_pytorch_grad_cam(network, pixels, score):
    peers = pytest.importorskip("pytorch_grad_cam")
    theirs = peers.GuidedBackpropReLUModel(separate_relus(network), device="cpu")(pixels.clone(), TARGET)
    assert_within(guided_backprop(score, pixels), theirs.transpose(2, 0, 1))


def test_fullgrad_agrees_with_pytorch_grad_cam(network, pixels, score):
    """They scale the sum to [0, 1] at the end, so ours is scaled likewise here."""
    peers = pytest.importorskip("pytorch_grad_cam")
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    with peers.FullGrad(model=network, target_layers=[]) as peer:
        theirs = peer(input_tensor=pixels.clone(), targets=[ClassifierOutputTarget(TARGET)])
    ours = fullgrad(*full_gradient(score, pixels))[0]
    low = ours - ours.min()
    assert_within(low / low.max(), theirs)
