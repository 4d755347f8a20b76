"""`tap` reads a network without leaving a trace."""

import copy
import gc
import threading

import numpy as np
import psutil
import pytest
import torch
from torch import nn
from toy_networks import ColourCounter, SmallNet, TokenNet, Twice, classifier_of

from xaihub.classifier import Classifier
from xaihub.errors import TargetLayerError
from xaihub.explaining import explain
from xaihub.passes import tap


def hooks(module: nn.Module) -> int:
    return sum(
        len(part._forward_hooks) + len(part._forward_pre_hooks) + len(part._backward_hooks) for part in module.modules()
    )


def pixels(count: int = 2, size: int = 32) -> torch.Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("make", [SmallNet, TokenNet])
def test_the_network_is_left_as_it_was(make):
    module = make()
    classifier = classifier_of(module)
    before = copy.deepcopy(module.state_dict())
    module.train()
    module.head.weight.requires_grad_(False)
    modes = [part.training for part in module.modules()]

    with tap(classifier) as run:
        assert not module.training
        run(pixels()).gradients([0, 1])

    assert hooks(module) == 0
    assert [part.training for part in module.modules()] == modes
    assert not module.head.weight.requires_grad
    assert module.head.bias.requires_grad
    assert all(parameter.grad is None for parameter in module.parameters())
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name]), f"{name} changed"


def test_it_is_left_as_it_was_also_when_an_exception_flies_through():
    module = SmallNet().train()
    classifier = classifier_of(module)
    module.train()

    with pytest.raises(RuntimeError), tap(classifier) as run:
        run(torch.rand(1, 5, 32, 32))  # five channels

    assert hooks(module) == 0
    assert module.training
    assert torch.is_grad_enabled()


def test_logits_are_those_of_the_plain_network():
    module = SmallNet().eval()
    with tap(classifier_of(module)) as run:
        torch.testing.assert_close(run(pixels()).logits.detach(), module(pixels()).detach())


@pytest.mark.parametrize("inplace", [False, True])
def test_a_later_in_place_operation_does_not_reach_what_is_held(inplace):
    module = SmallNet(inplace=inplace).eval()
    classifier = classifier_of(module, target_layer="body")
    with tap(classifier) as run:
        passed = run(pixels())

    with torch.no_grad():
        expected = module.body(module.stem(pixels()))
    assert (expected < 0).any(), "else the in-place ReLU would have nothing to spoil"
    torch.testing.assert_close(passed.activations, expected)


def test_gradients_are_those_of_the_full_graph():
    module = SmallNet(inplace=True).eval()
    classifier = classifier_of(module, target_layer="body")
    with tap(classifier) as run:
        passed = run(pixels())

    held = module.body(module.stem(pixels())).detach().requires_grad_()
    logits = module.head(module.after(held.clone()).mean((-2, -1)))
    for target in range(3):
        (expected,) = torch.autograd.grad(logits[:, target].sum(), held, retain_graph=True)
        torch.testing.assert_close(passed.gradients([target, target]), expected)


def test_each_picture_of_a_batch_has_its_own_target():
    with tap(classifier_of(SmallNet())) as run:
        both = run(pixels()).gradients([2, 0])
        first = run(pixels()[:1]).gradients([2])
        second = run(pixels()[1:]).gradients([0])
    torch.testing.assert_close(both, torch.cat([first, second]))


def test_nothing_is_recorded_below_the_target_layer():
    recorded = []
    module = SmallNet().eval()
    module.stem.register_forward_hook(lambda _m, _i, output: recorded.append(output.requires_grad))
    with tap(classifier_of(module)) as run:
        recorded.clear()
        run(pixels())
    assert recorded == [False]


def test_tokens_become_maps_the_right_way_up_also_on_a_picture_that_is_not_square():
    module = TokenNet(prefix=2).eval()
    classifier = classifier_of(module, size=(32, 48))
    layer = classifier.target_layer
    assert (layer.layout, layer.grid, layer.prefix_tokens) == ("NLC", (4, 6), 2)
    dark, bright = torch.zeros(1, 3, 32, 48), torch.zeros(1, 3, 32, 48)
    bright[..., :16, 24:] = 1  # the upper right quadrant
    classifier = classifier.with_layer("blocks.0")
    with tap(classifier) as run:
        change = (run(bright).activations - run(dark).activations).abs().sum(1)[0]
    upper_right = change[:2, 3:].mean()
    assert upper_right > 1.5 * change[2:].mean()  # attention carries some of it everywhere
    assert upper_right > 1.5 * change[:2, :3].mean()


def test_the_grid_follows_the_pixels():
    classifier = classifier_of(TokenNet(), size=(32, 32))
    with tap(classifier) as run:
        assert run(torch.rand(1, 3, 64, 32)).activations.shape == (1, 16, 8, 4)


def test_half_precision_weights_give_maps_in_full_precision():
    module = SmallNet().eval()
    exact = classifier_of(module)
    half = classifier_of(copy.deepcopy(module).to(torch.bfloat16))
    with tap(exact) as run:
        expected = run(pixels()).activations
    with tap(half) as run:
        passed = run(pixels())
        assert passed.gradients([0, 1]).dtype == torch.float32
    torch.testing.assert_close(passed.activations, expected, atol=0.05, rtol=0.05)


def test_a_layer_that_runs_twice_counts_with_its_last_call():
    module = Twice().eval()
    classifier = classifier_of(module)
    assert classifier.target_layer.name == "block"
    with tap(classifier) as run, torch.no_grad():
        passed = run(pixels())
        torch.testing.assert_close(passed.activations, module.block(module.block(module.embed(pixels())).relu()))


def test_two_hundred_calls_leave_no_hook_and_no_growth():
    module = SmallNet(classes=10).eval()
    classifier = classifier_of(module, size=(64, 64), classes=10)

    def call() -> None:
        with tap(classifier) as run:
            run(pixels(8, 64)).gradients([0] * 8)

    for _ in range(20):
        call()
    gc.collect()
    before, tensors = psutil.Process().memory_info().rss, alive()
    for _ in range(200):
        call()
    gc.collect()
    assert hooks(module) == 0
    assert alive() <= tensors
    assert psutil.Process().memory_info().rss - before < 30 * 2**20  # one call holds about 5 MB


def alive() -> int:
    return sum(
        1 for thing in gc.get_objects() if issubclass(type(thing), torch.Tensor)
    )  # isinstance would ask odd objects


def test_another_thread_is_neither_watched_nor_disturbed():
    module = SmallNet().eval()
    classifier = classifier_of(module)
    expected = module(pixels(3)).detach()
    answers = []
    with tap(classifier) as run:
        passed = run(pixels(2))
        thread = threading.Thread(target=lambda: answers.append(module(pixels(3))))
        thread.start()
        thread.join()
    torch.testing.assert_close(answers[0].detach(), expected)
    assert len(passed.activations) == 2
    assert answers[0].requires_grad, "the other thread's own graph is whole"


def test_a_classifier_without_a_layer_says_why():
    class Flat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(3 * 32 * 32, 3)

        def forward(self, x):
            return self.head(x.flatten(1))

    classifier = classifier_of(Flat())
    assert classifier.target_layer is None
    with pytest.raises(TargetLayerError, match="No layer of this network keeps a map"), tap(classifier):
        pass


def test_an_answer_that_ignores_the_layer_is_an_error_not_a_flat_map():
    module = SmallNet().eval()
    classifier = classifier_of(module)
    module.forward = lambda x: (module.after(module.body(module.stem(x))), torch.ones(len(x), 3))[1]
    with tap(classifier) as run, pytest.raises(TargetLayerError, match="does not depend on layer"):
        run(pixels()).gradients([0, 0])


def test_the_number_of_labels_must_be_that_of_the_classes():
    with pytest.raises(ValueError, match="answers with 3 classes, but 2 labels"):
        Classifier.from_module(SmallNet(), labels=["a", "b"], transform=classifier_of(SmallNet()).transform)


@pytest.mark.parametrize("switched_off", [torch.no_grad, torch.inference_mode])
def test_a_caller_that_switched_gradients_off_gets_the_same_maps(switched_off):
    """Around an evaluation loop people write `with torch.no_grad():`; a map without gradients would be empty."""
    picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    expected = explain(classifier_of(ColourCounter(0.01)), picture, "gradcam")["gradcam"][0].raw
    module = ColourCounter(0.01)
    with switched_off():
        classifier = classifier_of(module)
        found = explain(classifier, picture, "gradcam")["gradcam"][0].raw
        assert not torch.is_grad_enabled()
    assert classifier.target_layer.name == "features"
    assert np.abs(expected).max() > 0
    np.testing.assert_array_equal(found, expected)
