"""What cannot be explained is told the true reason; a compiled network is explained as the one inside."""

import copy
import json
import re

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_models import TINY, build, files_of, picture, processor_of
from torch import Tensor, nn
from toy_networks import SmallNet, classifier_of, to_pixels

from xaihub import Classifier, explain, load_classifier
from xaihub.datasets import open_dataset
from xaihub.doctor import examine, told
from xaihub.errors import TargetLayerError, UnsupportedModelError
from xaihub.measuring import measure
from xaihub.methods import METHODS
from xaihub.wrappers import unwrapped

PIXEL_METHODS = [name for name, method in METHODS.items() if "gradient" in method.needs]


def shown(classifier: Classifier) -> str:
    """What a person reads of it in the terminal."""
    return "\n".join(told(examine(classifier)))


# Compiled networks


class CompiledInside(SmallNet):
    @torch.compile(backend="eager")
    def features(self, pixels: Tensor) -> Tensor:
        return self.after(self.body(self.stem(pixels)))

    def forward(self, pixels: Tensor) -> Tensor:
        return self.head(self.features(pixels).mean((-2, -1)))


def compiled(way: str) -> nn.Module:
    network = (CompiledInside if way == "a method" else SmallNet)().eval()
    if way == "torch.compile(model)":
        return torch.compile(network, backend="eager")
    if way == "model.compile()":
        network.compile(backend="eager")
    elif way == "a part":
        network.stem = torch.compile(network.stem, backend="eager")
    elif way == "a part in place":
        network.body.compile(backend="eager")
    elif way == "its forward":
        network.forward = torch.compile(network.forward, backend="eager")
    elif way == "twice, on several devices":
        network.compile(backend="eager")
        return nn.DataParallel(torch.compile(network, backend="eager"))
    return network


WAYS = [
    "torch.compile(model)", "model.compile()", "a part", "a part in place", "its forward", "a method",
    "twice, on several devices",
]  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_a_compiled_network_is_explained_as_the_one_that_was_compiled(way):
    network = compiled(way)
    plain, classifier = classifier_of(SmallNet()), classifier_of(network)

    assert (classifier.target_layer.name, classifier.target_layer.proof) == ("after", "bottleneck")
    ours, theirs = (
        explain(each, picture(), ["gradcam", "input-x-gradient", "occlusion"], target=1) for each in (classifier, plain)
    )
    for method in ours:
        np.testing.assert_allclose(ours[method][0].raw, theirs[method][0].raw, rtol=1e-5, atol=1e-7)
    assert np.abs(ours["gradcam"][0].raw).max() > 0


def test_the_callers_own_object_stays_compiled_and_shares_its_weights():
    network = SmallNet().eval()
    network.compile(backend="eager")
    network.stem = torch.compile(network.stem, backend="eager")
    before = network._compiled_call_impl, network.stem, dict(network._modules)

    classifier = classifier_of(network)
    explain(classifier, picture(), ["gradcam"])

    assert (network._compiled_call_impl, network.stem, dict(network._modules)) == before
    assert not any(part._forward_hooks for part in network.modules())
    with torch.no_grad():
        network.head.bias += torch.tensor([5.0, 0, 0])
    assert classifier.predict(picture()).label == "red"


def test_a_network_that_nothing_wraps_is_left_as_it_is():
    network = SmallNet()
    tied = nn.Sequential(network, nn.ReLU(), network.head)

    assert unwrapped(network) is network
    assert unwrapped(tied) is tied
    network.compile(backend="eager")
    view = unwrapped(nn.Sequential(network, network))
    assert view[0] is view[1] is not network


# No gradient


class NoGrad(SmallNet):
    @torch.no_grad()
    def forward(self, pixels: Tensor) -> Tensor:
        return super().forward(pixels)


class NoGradInside(SmallNet):
    def forward(self, pixels: Tensor) -> Tensor:
        with torch.no_grad():
            places = self.stem(pixels)
        return self.head(self.after(self.body(places)).mean((-2, -1)))


class InferenceMode(SmallNet):
    @torch.inference_mode()
    def forward(self, pixels: Tensor) -> Tensor:
        return super().forward(pixels)


class Detached(SmallNet):
    def forward(self, pixels: Tensor) -> Tensor:
        return self.head(self.after(self.body(self.stem(pixels))).mean((-2, -1)).detach())


class ThroughNumPy(SmallNet):
    def forward(self, pixels: Tensor) -> Tensor:
        pooled = self.body(self.stem(pixels)).mean((-2, -1)).detach().numpy()
        return self.head(torch.from_numpy(np.tanh(pooled)))


class Rounded(SmallNet):
    def forward(self, pixels: Tensor) -> Tensor:
        return self.head((100 * self.after(self.body(self.stem(pixels))).mean((-2, -1))).round())


class Infinite(SmallNet):
    """Its answer is finite, and the gradient of its square root at zero is not."""

    def forward(self, pixels: Tensor) -> Tensor:
        return super().forward(pixels) + (pixels * 0).sqrt().sum((1, 2, 3))[:, None]


def quantised() -> nn.Module:
    return torch.ao.quantization.quantize_dynamic(SmallNet().eval(), {nn.Linear})


NO_GRADIENT = {
    "no_grad": (NoGrad, r"switches gradients off itself \(torch.no_grad, found at 'stem.0' \(Conv2d\)\)"),
    "no_grad inside": (NoGradInside, r"switches gradients off itself \(torch.no_grad, found at 'stem.0'"),
    "inference_mode": (InferenceMode, r"switches gradients off itself \(torch.inference_mode, found at 'stem.0'"),
    "detached": (Detached, r"cut off after 'after' \(ReLU\) and before 'head' \(Linear\), as by detach"),
    "numpy": (ThroughNumPy, r"cut off after 'body' \(Conv2d\) and before 'head' \(Linear\)"),
    "quantised": (quantised, r"its layer 'head' \(DynamicQuantizedLinear\) is quantised"),
    "rounded": (Rounded, "it is zero everywhere, as where numbers are rounded"),
    "infinite": (Infinite, "at the pixels is not finite, although the answer is"),
}


@pytest.mark.filterwarnings("ignore:torch.ao.quantization", "ignore:torch.quantize_per", "ignore:quantized..linear")
@pytest.mark.parametrize("kind", NO_GRADIENT)
@pytest.mark.parametrize("frozen", [False, True], ids=["", "frozen"])
def test_why_no_gradient_arrives_is_measured_and_said_everywhere(kind, frozen):
    make, reason = NO_GRADIENT[kind]
    network = make()
    if frozen:
        network.requires_grad_(False)
    classifier = classifier_of(network)

    assert classifier.no_gradient
    for method in PIXEL_METHODS:
        with pytest.raises(TargetLayerError, match=f"{method} cannot run here. .*{reason}"):
            explain(classifier, picture(), [method])
    said = shown(classifier)
    assert re.search(reason, said)
    assert "never trained" not in said
    if kind not in ("no_grad inside", "infinite"):
        assert classifier.target_layer is None
        assert classifier.no_layer == classifier.no_gradient
    occlusion = explain(classifier, picture(), ["occlusion"])["occlusion"][0]
    assert np.abs(occlusion.raw).max() > 0


def test_above_the_cut_a_map_is_drawn_and_says_that_pixels_have_none():
    classifier = classifier_of(NoGradInside())

    assert (classifier.target_layer.name, classifier.target_layer.proof) == ("after", "partial")
    assert "last layer that shows where and that a gradient reaches" in classifier.target_layer.reason
    assert classifier.no_gradient in classifier.notices
    with pytest.raises(TargetLayerError, match=r"switches gradients off itself \(torch.no_grad"):
        classifier.with_layer("stem")


@pytest.mark.filterwarnings("ignore:`torch.jit")
@pytest.mark.parametrize("way", ["scripted", "traced", "scripted inside"])
def test_torchscript_is_said_to_run_where_no_layer_can_be_seen(way):
    network = SmallNet().eval()
    if way == "traced":
        network = torch.jit.trace(network, torch.rand(1, 3, 32, 32), check_trace=False)
    else:
        network = torch.jit.script(network)
    if way == "scripted inside":
        network = nn.Sequential(network, nn.Identity())
    classifier = classifier_of(network)

    reason = r"It is TorchScript \(scripted or traced\): its layers run outside of Python"
    with pytest.raises(TargetLayerError, match=f"gradcam cannot run here. {reason}"):
        explain(classifier, picture(), ["gradcam"])
    assert classifier.no_layer in shown(classifier)
    assert not classifier.no_gradient
    plain = explain(classifier_of(SmallNet()), picture(), ["input-x-gradient"])["input-x-gradient"][0]
    ours = explain(classifier, picture(), ["input-x-gradient"])["input-x-gradient"][0]
    np.testing.assert_allclose(ours.raw, plain.raw, rtol=1e-4, atol=1e-6)


def test_a_network_of_functions_alone_is_said_to_have_no_layers_that_can_be_seen():
    exported = torch.export.export(SmallNet().eval(), (torch.rand(1, 3, 32, 32),)).module()

    for network in (exported, ColourCounterOfFunctions()):
        classifier = Classifier.from_module(network, labels=["red", "green", "blue"], transform=to_pixels((32, 32)))
        assert "None of its layers runs as a module (nn.Module) of its own" in classifier.no_layer
        assert np.abs(explain(classifier, picture(), ["input-x-gradient"])["input-x-gradient"][0].raw).max() > 0


class ColourCounterOfFunctions(nn.Module):
    def forward(self, pixels: Tensor) -> Tensor:
        return torch.nn.functional.avg_pool2d(pixels, 4).sum((-2, -1))


def test_an_untrained_head_is_still_called_that():
    network = SmallNet()
    nn.init.zeros_(network.head.weight)
    classifier = classifier_of(network)

    assert "The answer is the same for 3 images that have nothing in common" in classifier.no_layer
    assert "never trained" in classifier.no_layer


def test_what_stays_random_in_eval_mode_is_said_and_what_does_not_is_not():
    class Dropped(SmallNet):
        def forward(self, pixels: Tensor) -> Tensor:
            return self.head(torch.nn.functional.dropout(self.body(self.stem(pixels)), 0.5).mean((-2, -1)) * 9)

    trained = nn.Sequential(SmallNet(), nn.Dropout(0.5)).train()
    assert "changes from call to call" in classifier_of(Dropped()).notices[0]
    quiet = Classifier.from_module(trained, labels=["red", "green", "blue"], transform=to_pixels((32, 32)))
    assert quiet.notices == ()
    assert trained.training


# Answers that are no numbers


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("name", ["body.weight", "head.bias"])
def test_damaged_weights_are_refused_by_name(value, name):
    network = SmallNet()
    with torch.no_grad():
        network.get_parameter(name).view(-1)[:2] = value

    count = network.get_parameter(name).numel()
    with pytest.raises(
        UnsupportedModelError, match=rf"not finite .* {name} \(2 of {count:,} values\). Its weights are dam"
    ):
        classifier_of(network)


def test_a_damaged_running_mean_is_refused_by_name():
    network = SmallNet()
    network.stem[1].running_var[3] = float("nan")

    with pytest.raises(UnsupportedModelError, match=r"stem.1.running_var \(1 of 12 values\)"):
        classifier_of(network)


def test_a_damaged_model_of_the_hub_is_refused_by_name(hub, tmp_path):
    network = build(TINY["vit"])
    with torch.no_grad():
        network.classifier.weight[1, 0] = float("nan")
    hub.add_files("alice/tiny", files_of(network, processor_of(TINY["vit"]), folder=tmp_path))

    with pytest.raises(UnsupportedModelError, match=r"alice/tiny answers .*: classifier.weight \(1 of 96 values\)"):
        load_classifier("alice/tiny", token=False)


class Overflowing(SmallNet):
    def forward(self, pixels: Tensor) -> Tensor:
        return self.head((self.after(self.body(self.stem(pixels))).mean((-2, -1)) + 90).exp().exp())


def test_numbers_that_overflow_are_refused_with_the_place():
    with pytest.raises(UnsupportedModelError, match=r"although all of its weights are finite: .* the output of 'head'"):
        classifier_of(Overflowing())
    with pytest.raises(UnsupportedModelError, match="It runs in half precision: in float32"):
        classifier_of(Overflowing().bfloat16())


class NanWhereBlack(SmallNet):
    """Divides by the brightness: a black picture has no answer."""

    def forward(self, pixels: Tensor) -> Tensor:
        return super().forward(pixels) * (pixels.mean((1, 2, 3)) / pixels.mean((1, 2, 3)))[:, None]


def test_a_picture_without_an_answer_is_refused_and_others_in_its_batch_are_not():
    classifier = classifier_of(NanWhereBlack())
    black = Image.new("RGB", (32, 32))

    for ask in (lambda: classifier.predict(black), lambda: explain(classifier, black, ["gradcam"], target="green")):
        with pytest.raises(UnsupportedModelError, match=r"not finite .* for this image, so there is no prediction"):
            ask()
    batch = torch.stack([classifier.transform(image) for image in (black, picture())])
    answers = classifier.logits(batch)
    assert answers[0].isnan().all()
    torch.testing.assert_close(answers[1], classifier_of(SmallNet()).logits(batch)[1])


def test_a_dataset_with_such_a_picture_is_not_measured_as_if_it_had_an_answer(tmp_path):
    classifier = classifier_of(NanWhereBlack())
    for name, image in (("red", Image.new("RGB", (32, 32))), ("green", picture())):
        (tmp_path / name).mkdir()
        image.save(tmp_path / name / "a.png")

    with pytest.raises(UnsupportedModelError, match=r"not finite .* for 1 of 2 images, such as 'red/a.png'"):
        measure(classifier, open_dataset(tmp_path))


def test_a_class_that_a_network_excludes_wholly_has_probability_zero():
    class Masked(SmallNet):
        def forward(self, pixels: Tensor) -> Tensor:
            return super().forward(pixels) + torch.tensor([0, -torch.inf, 0])

    probabilities = classifier_of(Masked()).predict(picture()).probabilities
    assert probabilities[1] == 0
    assert probabilities.sum() == pytest.approx(1)


def test_damage_that_no_test_image_shows_is_noticed():
    network = SmallNet()
    network.unused = nn.Parameter(torch.tensor([1.0, float("nan")]))

    assert (
        "1 of its weights' tensors hold values that are not finite, such as unused (1 of 2 values)"
        in (classifier_of(network).notices[0])
    )


def test_a_network_without_weights_is_refused_before_it_runs():
    with pytest.raises(
        UnsupportedModelError, match=r"has no weights: 11 of its tensors .* 'meta', such as stem.0.weight"
    ):
        classifier_of(SmallNet().to("meta"))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_answer_as_float32(dtype):
    network = SmallNet()
    plain = classifier_of(copy.deepcopy(network)).predict(picture()).probabilities
    other = classifier_of(network.to(dtype))

    assert other.predict(picture()).probabilities == pytest.approx(plain, abs=5e-3)
    assert other.target_layer.name == "after"


def test_programs_read_the_reasons_too():
    report = json.loads(json.dumps(examine(classifier_of(NoGrad()))))

    assert report["no gradient because"] == report["no layer because"]
    assert "torch.no_grad" in report["methods that cannot run"]["smoothgrad"]
