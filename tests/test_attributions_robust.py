"""What could hurt maps over the pixels and from attention: threads, exceptions, Stop, precision, odd networks; and
whether they cost what they say."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from toy_networks import SmallNet, TokenNet, classifier_of

from xaihub.errors import CancelledError
from xaihub.explaining import explain, explain_query
from xaihub.methods import METHODS, Query

PIXELS = ["input-x-gradient", "guided-backprop", "guided-gradcam", "integrated-gradients", "smoothgrad", "fullgrad"]
ATTENTION = ["attention-rollout", "legrad"]
ALL = PIXELS + ATTENTION


def noise(height=32, width=32, seed=0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def network_for(method, **options):
    return TokenNet(**options) if method in ATTENTION else SmallNet(**options)


def raw(classifier, method, picture=None, **options):
    return explain(classifier, picture or noise(), [method], **options)[method][0].raw


def untouched(module):
    """No hook, no mode, no gradient, and no watching of calls left behind."""
    parts = list(module.modules())
    return (
        not any(part._forward_hooks or part._forward_pre_hooks for part in parts)
        and not any(part.training for part in parts)
        and all(parameter.grad is None for parameter in module.parameters())
        and torch._C._len_torch_function_stack() == 0
        and torch.is_grad_enabled()
    )


@pytest.mark.parametrize("method", ALL)
def test_a_map_costs_what_it_says(method):
    classifier = classifier_of(network_for(method))
    query = Query(classifier, noise())
    query.gradients, classifier.no_attention  # noqa: B018  the shared pass, and what is measured once for a network
    forward, backward = [], []

    def count(_module, given):
        forward.append(len(given[0]))
        if given[0].requires_grad:
            backward.append(len(given[0]))

    handle = classifier.module.register_forward_pre_hook(count)
    METHODS[method].run(query)
    handle.remove()
    extra = 2 if method == "legrad" else 0  # a backward pass to the attention only, at most down to the first block
    assert sum(forward) + 2 * sum(backward) + extra == METHODS[method].cost(classifier)


@pytest.mark.parametrize("method", ALL)
def test_frozen_weights_change_nothing_and_nothing_is_left_behind(method):
    module = network_for(method)
    classifier = classifier_of(module)
    expected = raw(classifier, method)
    assert expected.any()
    assert untouched(module)
    module.requires_grad_(False)
    np.testing.assert_allclose(raw(classifier, method), expected, rtol=1e-4, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize("method", ALL)
def test_weights_of_sixteen_bits_give_nearly_the_same_map(method):
    expected = raw(classifier_of(network_for(method)), method, target=0)
    got = raw(classifier_of(network_for(method).bfloat16()), method, target=0)
    assert got.dtype == np.float32
    assert np.corrcoef(expected.ravel(), got.ravel())[0, 1] > 0.97


@pytest.mark.parametrize("method", ALL)
def test_two_threads_with_two_networks_get_what_one_thread_gets(method):
    first, second = (classifier_of(network_for(method)) for _ in range(2))
    for parameter in second.module.parameters():
        parameter.data *= 1.1
    jobs = [(classifier, seed) for seed in range(3) for classifier in (first, second)]
    alone = [raw(classifier, method, noise(seed=seed)) for classifier, seed in jobs]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(lambda job: raw(job[0], method, noise(seed=job[1])), jobs))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-4, atol=1e-5 * np.abs(one).max())
    assert np.abs(alone[0] - alone[1]).max() > 0
    assert untouched(first.module)


@pytest.mark.parametrize("method", ALL)
def test_an_exception_in_the_middle_of_the_network_leaves_nothing_behind(method):
    module = network_for(method)
    classifier = classifier_of(module)
    query = Query(classifier, noise())
    query.gradients, classifier.no_attention  # noqa: B018

    def fail(*_):
        raise ZeroDivisionError

    handle = module.head.register_forward_pre_hook(fail)
    with pytest.raises(ZeroDivisionError):
        METHODS[method].run(query)
    handle.remove()
    assert untouched(module)
    assert METHODS[method].run(query)[0].raw.any()


@pytest.mark.parametrize("method", ["integrated-gradients", "smoothgrad"])
def test_stop_ends_the_work_between_two_batches(method):
    module = SmallNet()
    said, pictures = [], []

    def progress(share, stage):
        said.append((share, stage))
        if len(said) == 2:
            raise CancelledError("Stopped.")

    query = Query(classifier_of(module), noise(), progress=progress)
    query.gradients  # noqa: B018
    module.register_forward_pre_hook(lambda _, given: pictures.append(len(given[0])))
    with pytest.raises(CancelledError):
        METHODS[method].run(query)
    assert pictures == [10]
    assert [share for share, _ in said] == [0, 10 / (50 if method == "integrated-gradients" else 20)]
    assert METHODS[method].title in said[1][1]


@pytest.mark.parametrize("method", PIXELS)
def test_a_map_over_the_pixels_is_as_large_as_they_are_and_the_right_way_up(method):
    picture = np.full((32, 48, 3), 0, dtype=np.uint8)
    picture[4:12, 34:46] = np.random.default_rng(0).integers(128, 256, (8, 12, 3))
    heat = raw(classifier_of(SmallNet(), (32, 48)), method, Image.fromarray(picture), target=0)
    assert heat.shape == (32, 48)
    if method in ("input-x-gradient", "integrated-gradients"):  # black pixels have no share
        assert np.abs(heat[4:12, 34:46]).sum() == pytest.approx(np.abs(heat).sum())


@pytest.mark.parametrize("method", ALL)
def test_one_logit_is_explained_for_yes_and_for_no(method):
    net = network_for(method, classes=1)
    yes, no = (raw(classifier_of_yes_or_no(net), method, target=target).astype(float) for target in ("cat", "not cat"))
    if METHODS[method].signed:
        np.testing.assert_allclose(yes, -no, rtol=1e-4, atol=1e-6)
    elif method in ("smoothgrad", "fullgrad", "attention-rollout"):  # sizes; no class
        np.testing.assert_allclose(yes, no, rtol=1e-4, atol=1e-6)
    else:
        assert np.abs(yes - no).max() > 0.01 * np.abs(yes).max()


def classifier_of_yes_or_no(net):
    from toy_networks import to_pixels

    from xaihub.classifier import Classifier

    return Classifier.from_module(net.eval(), labels=["cat"], transform=to_pixels((32, 32)))


class InPlace(nn.Module):
    """Normalises the pixels it is given where they are."""

    def __init__(self, inside) -> None:
        super().__init__()
        self.inside = inside

    def forward(self, pixels):
        return self.inside(pixels.sub_(0.5).mul_(2))


class Apart(InPlace):
    def forward(self, pixels):
        return self.inside((pixels - 0.5) * 2)


@pytest.mark.parametrize("method", ALL)
def test_a_network_that_changes_its_input_in_place_gets_the_same_map(method):
    expected = raw(classifier_of(Apart(network_for(method))), method)
    got = raw(classifier_of(InPlace(network_for(method))), method)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-6 * np.abs(expected).max())


def test_what_a_map_says_beside_itself_is_said_once():
    query = Query(classifier_of(SmallNet()), noise())
    explain_query(query, ["integrated-gradients", "guided-backprop"])
    notes = explain_query(query, ["integrated-gradients"]).notes
    assert len(notes["integrated-gradients"]) == 1
    assert "guided-backprop" not in notes


def test_guided_gradcam_runs_guided_backpropagation_no_second_time():
    module = SmallNet()
    query = Query(classifier_of(module), noise())
    query.gradients  # noqa: B018
    passes = []
    module.register_forward_pre_hook(lambda *_: passes.append(1))
    METHODS["guided-backprop"].run(query)
    METHODS["guided-gradcam"].run(query)
    assert len(passes) == 1
