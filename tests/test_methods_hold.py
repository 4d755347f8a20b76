"""Every method, on networks that make it hard, leaves the network as it was and gives what it gives on an easy one."""

import copy
import gc
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from peer_networks import noise
from PIL import Image
from torch import nn
from toy_networks import SmallNet, TokenNet, classifier_of

from xaihub import explaining, perturbations
from xaihub.classifier import Classifier
from xaihub.methods import FEW_PASSES, METHODS, Query

assert explaining, "importing it registers the methods"
ALONE = [name for name, method in METHODS.items() if not method.shows_pictures]
OF_MAPS = [name for name in ALONE if "attention" not in METHODS[name].needs]  # these run on convolutions
AT_LAYERS = [name for name in OF_MAPS if "target layer" in METHODS[name].needs]


CHOSEN = {}


def explained(module, name, **options):
    """The classifier of a network; its layer is chosen once for all networks that are built alike."""
    key = (name in OF_MAPS, *options.items())
    if key not in CHOSEN:
        CHOSEN[key] = classifier_of(network_for(name), **options)
    return replace(CHOSEN[key], module=module.eval(), lock=threading.RLock())


@pytest.fixture(autouse=True)
def fewer_masks(monkeypatch):
    """Three batches of them do what a thousand do."""
    monkeypatch.setattr(perturbations, "RISE_MASKS", 80)


def raws(classifier, name, picture=None, **options):
    """What the method shows, before it is shown; () where it declines in words."""
    query = Query(classifier, picture or noise(), **{"target": 1, **options})
    return [evidence.raw for evidence in METHODS[name].run(query)]


def assert_same(found, expected, tolerance=1e-5):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=tolerance * max(1e-6, np.abs(other).max()), rtol=1e-4)


def network_for(name, **options):
    """A convolutional network, or for methods that look at attention a transformer."""
    return SmallNet(**options) if name in OF_MAPS else TokenNet()


def state_of(module):
    return {
        "modes": [part.training for part in module.modules()],
        "hooks": sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in module.modules()),
        "backward hooks": sum(len(part._backward_hooks) for part in module.modules()),
        "asking": [parameter.requires_grad for parameter in module.parameters()],
        "gradients": [parameter.grad is None for parameter in module.parameters()],
        "values": {name: value.double().sum().item() for name, value in module.state_dict().items()},
        "grad mode": torch.is_grad_enabled(),
    }


@pytest.mark.parametrize("name", OF_MAPS)
def test_an_in_place_layer_after_the_target_layer_changes_nothing(name):
    plain, inplace = (explained(SmallNet(inplace=each), name, target_layer="body") for each in (False, True))
    assert_same(raws(inplace, name), raws(plain, name))


class SpoilsItsInput(SmallNet):
    """The first thing it does is done in place, to the pixels that it was given."""

    def forward(self, pixels):
        pixels -= 0.5
        return super().forward(pixels)


@pytest.mark.parametrize("name", OF_MAPS)
def test_a_network_that_changes_its_input_in_place_is_asked_about_the_same_picture_every_time(name):
    classifier = explained(SpoilsItsInput(), name)
    query = Query(classifier, noise(), target=1)
    before = query.view.pixels.clone()
    first = [evidence.raw for evidence in METHODS[name].run(query)]
    assert torch.equal(query.view.pixels, before)
    query.memory.clear()
    assert_same([evidence.raw for evidence in METHODS[name].run(query)], first)


@pytest.mark.parametrize("name", ALONE)
def test_frozen_parameters_change_nothing_and_stay_frozen(name):
    expected = raws(explained(network_for(name), name), name)
    module = network_for(name).requires_grad_(False)
    classifier = explained(module, name)
    before = state_of(module)
    assert_same(raws(classifier, name), expected)
    assert state_of(module) == before


@pytest.mark.parametrize("name", ALONE)
def test_half_precision_weights_give_nearly_the_same_map_in_full_precision(name):
    """Occlusion is a difference of two logits, each of eight bits."""
    module = network_for(name)
    expected = raws(explained(module, name), name)
    found = raws(explained(copy.deepcopy(module).to(torch.bfloat16), name), name)
    assert len(found) == len(expected)
    for half, full in zip(found, expected, strict=True):
        assert half.dtype == np.float32
        assert np.isfinite(half).all()
        assert np.corrcoef(half.ravel(), full.ravel())[0, 1] > (0.8 if name == "occlusion" else 0.95)


@pytest.mark.parametrize("name", ALONE)
def test_a_model_left_in_training_mode_is_explained_in_evaluation_mode_and_left_in_training_mode(name):
    module = network_for(name)
    classifier = explained(module, name)
    expected = raws(classifier, name)
    module.train()
    before = state_of(module)
    assert_same(raws(classifier, name), expected)
    assert state_of(module) == before


@pytest.mark.parametrize("name", ALONE)
def test_two_threads_on_one_model_get_what_one_thread_gets(name):
    classifier = explained(network_for(name), name)
    asked = [(noise(seed=seed), target) for seed in range(2) for target in (0, 2)]
    alone = [raws(classifier, name, picture, target=target) for picture, target in asked]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(lambda one: raws(classifier, name, one[0], target=one[1]), asked))
    for found, expected in zip(together, alone, strict=True):
        assert_same(found, expected)


class BrokenError(Exception):
    """Raised by no library, so no method can take it for something else."""


def broken_above(module, after):
    """The head runs `after` times more and then raises."""
    runs = [0]

    def count(*_):
        runs[0] += 1
        if runs[0] > after:
            raise BrokenError

    return runs, module.head.register_forward_pre_hook(count)


@pytest.mark.parametrize("layer", ["", "stem + body"])
@pytest.mark.parametrize("name", ALONE)
def test_an_exception_in_the_middle_of_a_pass_leaves_everything_as_it_was(name, layer):
    if layer and name not in AT_LAYERS:
        return
    module = network_for(name)
    classifier = explained(module, name, **({"target_layer": layer} if layer else {}))
    module.train()
    before = state_of(module)
    expected = raws(classifier, name)
    runs, counting = broken_above(module, 10**9)
    raws(classifier, name)
    counting.remove()
    for after in {0, runs[0] // 2, runs[0] - 1}:
        _, bomb = broken_above(module, after)
        with pytest.raises(BrokenError):
            raws(classifier, name)
        bomb.remove()
        assert state_of(module) == before, f"after {after} passes"
    assert_same(raws(classifier, name), expected)


def test_fifty_calls_of_every_method_leave_no_tensor_behind():
    classifiers = {name: explained(network_for(name), name) for name in ALONE}

    def call(names):
        for name in names:
            raws(classifiers[name], name)

    call(ALONE)
    before = alive()
    for _ in range(50):
        call([name for name in ALONE if METHODS[name].cost(classifiers[name]) <= FEW_PASSES])
    for _ in range(5):
        call(ALONE)
    assert alive() <= before + 3
    assert all(state_of(classifier.module)["hooks"] == 0 for classifier in classifiers.values())


def alive():
    gc.collect()
    return sum(1 for thing in gc.get_objects() if issubclass(type(thing), torch.Tensor))


class SeesGreen(nn.Module):
    """Class 1 is how much greener than nine tenths the pixels are, so nothing but a green pixel is a reason for it."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 9, 1), nn.ReLU())
        with torch.no_grad():
            self.features[0].weight.copy_(torch.eye(3).repeat(3, 1)[:, :, None, None])
            self.features[0].bias.fill_(-0.9)

    def forward(self, pixels):
        return self.features(pixels)[:, :3].sum((-2, -1))


@pytest.mark.parametrize("name", OF_MAPS)
def test_every_map_finds_the_one_reason_on_a_picture_that_is_not_square(name):
    pixels = np.zeros((32, 48, 3), np.uint8)
    pixels[5, 40] = (0, 255, 0)
    classifier = classifier_of(SeesGreen(), size=(32, 48), target_layer="features")
    (evidence,) = METHODS[name].run(Query(classifier, Image.fromarray(pixels), target="green"))
    assert evidence.heatmap.shape == (32, 48)
    row, column = np.unravel_index(evidence.heatmap.argmax(), (32, 48))
    assert abs(row - 5) <= 4, "a window or a cell of RISE is five high and seven wide"
    assert abs(column - 40) <= 6
    assert evidence.heatmap.max() == pytest.approx(1)


class Twice(nn.Module):
    """One block that runs twice, or two blocks with its weights that run once each."""

    def __init__(self, *, shared: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Conv2d(3, 16, 4, stride=4)
        self.block = nn.Conv2d(16, 16, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.head = nn.Linear(16, 3)
        self.first = self.block if shared else copy.deepcopy(self.block)

    def forward(self, pixels):
        return self.head(self.block(self.relu(self.first(self.embed(pixels)))).relu().mean((-2, -1)))


@pytest.mark.parametrize("name", OF_MAPS)
def test_of_a_layer_that_runs_twice_the_last_call_is_explained(name):
    once, twice = (classifier_of(Twice(shared=shared), target_layer="block") for shared in (False, True))
    assert_same(raws(twice, name), raws(once, name))


@pytest.mark.parametrize("name", ALONE)
def test_a_network_with_one_logit_has_a_yes_and_a_no(name):
    module = network_for(name)
    module.head = nn.Linear(16, 1)
    transform = explained(module, name).transform
    classifier = Classifier.from_module(module.eval(), labels=["cat"], transform=transform)
    assert classifier.labels == ("not cat", "cat")
    no, yes = (raws(classifier, name, target=target) for target in ("not cat", "cat"))
    assert all(np.isfinite(raw).all() for raw in (*no, *yes))
    if METHODS[name].signed:
        assert_same(no, [-raw for raw in yes], 1e-4)


@pytest.mark.parametrize("name", AT_LAYERS)
def test_a_fused_layer_is_explained_at_its_finest_grid(name):
    module = SmallNet()
    classifier = explained(module, name, size=(32, 48), target_layer="stem + body")
    before = state_of(module)
    for raw in raws(classifier, name):
        assert raw.shape == ((32, 48) if name == "guided-gradcam" else (16, 24))
        assert np.isfinite(raw).all()
        assert raw.any()
    assert state_of(module) == before
