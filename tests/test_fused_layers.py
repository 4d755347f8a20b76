"""Several layers in one pass: side by side on the finest grid, each on its own, and exchanged in a replay."""

import numpy as np
import pytest
import torch
from peer_networks import noise
from torch import nn
from toy_networks import TokenNet, classifier_of

from xaihub.cams import CAMS
from xaihub.errors import TargetLayerError
from xaihub.explaining import explain
from xaihub.hooks import watching
from xaihub.passes import replay, tap


class TwoBranches(nn.Module):
    """Two parallel branches, of 8 and of 12 channels, on grids of which neither divides the other: 8 x 12 and 5 x 8."""

    def __init__(self, *, bias: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fine = nn.Conv2d(3, 8, 4, stride=4, bias=bias)
        self.coarse = nn.Conv2d(3, 12, 6, stride=6, bias=bias)
        self.head = nn.Linear(20, 3)

    def forward(self, pixels):
        return self.head(torch.cat([self.fine(pixels).mean((-2, -1)), self.coarse(pixels).mean((-2, -1))], 1))


SIZE = (32, 48)


@pytest.fixture(scope="module")
def classifier():
    return classifier_of(TwoBranches(), size=SIZE).with_layer("fine + coarse")


@pytest.fixture(scope="module")
def pixels():
    return torch.rand(2, 3, *SIZE, generator=torch.Generator().manual_seed(2))


def test_a_layer_of_two_names_is_the_two_layers(classifier):
    layer = classifier.target_layer
    assert (layer.name, layer.grid, layer.view.channels) == ("fine + coarse", (8, 12), 20)
    assert [(part.name, part.grid, part.view.channels) for part in layer.parts] == [
        ("fine", (8, 12), 8),
        ("coarse", (5, 8), 12),
    ]
    assert layer.layers == layer.parts


def test_each_layer_is_given_on_its_own_grid(classifier, pixels):
    with tap(classifier) as run:
        passed = run(pixels)
    (fine, to_fine), (coarse, to_coarse) = passed.by_layer([0, 2])
    module = classifier.module
    torch.testing.assert_close(fine, module.fine(pixels).detach())
    torch.testing.assert_close(coarse, module.coarse(pixels).detach())
    weights = module.head.weight.detach()
    for n, target in enumerate([0, 2]):
        expected = (weights[target, :8, None, None] / 96).expand(8, 8, 12)
        torch.testing.assert_close(to_fine[n], expected)
        torch.testing.assert_close(to_coarse[n], (weights[target, 8:, None, None] / 40).expand(12, 5, 8))
    torch.testing.assert_close(passed.embedding, torch.cat([fine.mean((2, 3)), coarse.mean((2, 3))], 1))


def test_side_by_side_each_fine_place_takes_the_value_of_the_coarse_place_it_lies_in(classifier, pixels):
    with tap(classifier) as run:
        activations = run(pixels).activations
    assert activations.shape == (2, 20, 8, 12)
    fine, coarse = (layer(pixels).detach() for layer in (classifier.module.fine, classifier.module.coarse))
    torch.testing.assert_close(activations[:, :8], fine)
    for i in range(8):
        for j in range(12):
            below = int((i + 0.5) / 8 * 5), int((j + 0.5) / 12 * 8)
            torch.testing.assert_close(activations[:, 8:, i, j], coarse[:, :, below[0], below[1]])


def test_activations_times_gradients_add_up_to_the_same_side_by_side_and_layer_by_layer(classifier, pixels):
    """To the logit less the biases of the head: so nothing is counted twice where coarse places are not all alike."""
    with tap(classifier) as run:
        passed = run(pixels)
    together = (passed.activations * passed.gradients([0, 2])).sum((1, 2, 3))
    torch.testing.assert_close(together, sum((a * g).sum((1, 2, 3)) for a, g in passed.by_layer([0, 2])))
    told = passed.score([0, 2]).detach() - classifier.module.head.bias[[0, 2]].detach()
    torch.testing.assert_close(together, told)


def test_hirescam_of_fused_layers_adds_what_each_of_them_says(classifier, pixels):
    with tap(classifier) as run:
        passed = run(pixels)
    fused = CAMS["hirescam"](passed.activations, passed.gradients([1, 1])).sum((1, 2))
    alone = sum(CAMS["hirescam"](*pair).sum((1, 2)) for pair in passed.by_layer([1, 1]))
    torch.testing.assert_close(fused, alone)


def test_cam_of_fused_layers_is_exact_too(classifier):
    found = explain(classifier, noise(48), "cam", target=1)["cam"][0].raw
    query_pixels = classifier.transform(noise(48))[None]
    with torch.no_grad():
        fine, coarse = classifier.module.fine(query_pixels)[0], classifier.module.coarse(query_pixels)[0]
        weights = classifier.module.head.weight[1]
        expected = torch.einsum("k,khw->hw", weights[:8], fine).numpy()
        rows, columns = np.indices((8, 12))
        second = torch.einsum("k,khw->hw", weights[8:], coarse).numpy()
    expected = expected + second[((rows + 0.5) / 8 * 5).astype(int), ((columns + 0.5) / 12 * 8).astype(int)]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_layer_above_another_is_held_in_the_same_pass():
    classifier = classifier_of(TokenNet(prefix=2), size=SIZE).with_layer("blocks.0 + blocks.1")
    pixels = torch.rand(1, 3, *SIZE)
    with tap(classifier) as run:
        pairs = run(pixels).by_layer([1])
    for name, (activations, gradients) in zip(("blocks.0", "blocks.1"), pairs, strict=True):
        with tap(classifier.with_layer(name)) as run:
            alone = run(pixels)
        torch.testing.assert_close(activations, alone.activations)
        torch.testing.assert_close(gradients, alone.gradients([1]))


def test_one_of_two_layers_that_does_not_matter_for_the_class_has_no_gradient(classifier, pixels):
    module = TwoBranches()
    with torch.no_grad():
        module.head.weight[:, 8:] = 0
    with tap(classifier_of(module, size=SIZE, target_layer="fine + coarse")) as run:
        (_, to_fine), (_, to_coarse) = run(pixels).by_layer([0, 0])
    assert to_fine.any()
    assert not to_coarse.any()


def test_a_part_that_is_not_there_is_named():
    with pytest.raises(TargetLayerError, match="no layer 'course'"):
        classifier_of(TwoBranches(), size=SIZE).with_layer("fine + course")


def test_ablation_of_fused_layers_is_that_of_each_channel_alone(classifier):
    query_pixels = classifier.transform(noise(48))[None]
    found = explain(classifier, noise(48), "ablationcam", target=1)["ablationcam"][0].raw
    with tap(classifier) as run:
        activations, score = (passed := run(query_pixels)).activations[0], float(passed.logits[0, 1].detach())
    total = np.zeros((8, 12))
    for k in range(20):
        name, channel = ("fine", k) if k < 8 else ("coarse", k - 8)

        def silence(_name, output, channel=channel):
            output = output.clone()
            output[:, channel] = 0
            return output

        with watching({name: classifier.module.get_submodule(name)}, silence):
            without = float(classifier.logits(query_pixels)[0, 1])
        total += (score - without) / abs(score) * activations[k].numpy()
    np.testing.assert_allclose(found, total, atol=1e-4)


def test_replay_of_fused_layers_at_zero_leaves_the_head_alone(classifier, pixels):
    with tap(classifier) as run:
        passed = run(pixels[:1])
    logits = replay(classifier, passed, pixels[:1], lambda _, maps: torch.zeros(5, *maps.shape[1:]))
    torch.testing.assert_close(logits, classifier.module.head.bias.detach().expand(5, 3))
