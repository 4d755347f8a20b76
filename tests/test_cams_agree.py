"""Our maps are those of pytorch-grad-cam, torch-cam and captum at the same layer, or differ as their docstrings say."""

import numpy as np
import pytest
import torch
from peer_networks import (
    as_they_show,
    in_float64,
    noise,
    patterns,
    peers,
    reshape_tokens,
    resnet18,
    scaled,
    smooth,
)
from torch.nn.functional import interpolate
from toy_networks import classifier_of

from xaihub.cams import CAMS, NOISE, SMOOTHED_OVER, fuse, heatmaps, several
from xaihub.explaining import explain
from xaihub.methods import METHODS, Query
from xaihub.passes import tap
from xaihub.perturbations import scorecam

pytestmark = pytest.mark.agreement

AGREES = {"atol": 1e-4, "rtol": 0}


@pytest.fixture(scope="module")
def resnet():
    """For maps without gradients: a score moves no further than its rounding."""
    return resnet18()


@pytest.fixture(scope="module")
def resnet64():
    return in_float64(resnet18())


def raw_of(classifier, picture, method, target, **options):
    query = Query(classifier, picture, target=target, **options)
    return torch.from_numpy(METHODS[method].run(query)[0].raw)[None]


def theirs(peer, net, layer, pixels, targets, reshape=None, **options):
    """The map that a class of pytorch-grad-cam shows; with each target's class, or a target of their own."""
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    asked = [ClassifierOutputTarget(target) if isinstance(target, int) else target for target in targets]
    layers = layer if isinstance(layer, list) else [layer]
    with peer(net, layers, reshape_transform=reshape, **options) as cam:
        return cam(input_tensor=pixels, targets=asked)


@pytest.mark.parametrize("architecture", ["resnet18", "mobilenet_v2", "vit", "swin"])
def test_gradient_maps_agree_with_pytorch_grad_cam(architecture):
    pgc = pytest.importorskip("pytorch_grad_cam")
    net, name, their_layer, reshape = peers(architecture)
    size = 96 if architecture == "resnet18" else 64
    classifier = classifier_of(net, size=(size, size), classes=10)
    assert classifier.target_layer.name == name
    pixels = torch.stack([classifier.transform(noise(size, seed)) for seed in range(2)])
    classes = {
        "gradcam": pgc.GradCAM, "hirescam": pgc.HiResCAM, "layercam": pgc.LayerCAM,
        "gradcam++": pgc.GradCAMPlusPlus, "xgradcam": pgc.XGradCAM,
    }  # fmt: skip
    if architecture == "vit":
        del classes["hirescam"]  # exactly zero there: see tests/test_cam.py
    targets = [0, 6] if architecture == "vit" else [3, 7]
    ours = several(classifier, pixels, targets, list(classes))
    for method, peer in classes.items():
        expected = theirs(peer, net, their_layer, pixels, targets, reshape)
        assert expected.any(), "empty maps always agree"
        np.testing.assert_allclose(as_they_show(ours[method], size), expected, err_msg=method, **AGREES)


@pytest.mark.parametrize("architecture", ["resnet18", "vit"])
@pytest.mark.parametrize("method", ["eigencam", "eigengradcam"])
def test_eigen_maps_agree_with_pytorch_grad_cam_up_to_the_sign_that_no_decomposition_fixes(architecture, method):
    pgc = pytest.importorskip("pytorch_grad_cam")
    net, _, their_layer, reshape = peers(architecture)
    classifier = classifier_of(net, size=(64, 64), classes=10)
    pixels = torch.stack([classifier.transform(patterns(64, seed)) for seed in range(2)])
    peer = pgc.EigenCAM if method == "eigencam" else pgc.EigenGradCAM
    expected = theirs(peer, net, their_layer, pixels, [3, 7], reshape)
    raw = heatmaps(classifier, pixels, [3, 7], method)
    for n in range(2):
        apart = [np.abs(as_they_show(sign * raw[n : n + 1], 64) - expected[n]).max() for sign in (1, -1)]
        assert min(apart) < 1e-4
        assert max(apart) > 0.1, "the other sign is another map"


def test_hirescam_agrees_with_pytorch_grad_cam_at_the_layer_that_its_users_take_on_vit():
    pgc = pytest.importorskip("pytorch_grad_cam")
    net = peers("vit")[0]
    name = "encoder.layers.encoder_layer_3.ln_1"
    classifier = classifier_of(net, size=(64, 64), classes=10, target_layer=name)
    pixels = classifier.transform(noise(64))[None]
    expected = theirs(pgc.HiResCAM, net, net.get_submodule(name), pixels, [5], reshape_tokens(1, (4, 4)))
    np.testing.assert_allclose(as_they_show(heatmaps(classifier, pixels, [5], "hirescam"), 64), expected, **AGREES)


@pytest.mark.parametrize("architecture", ["resnet18", "vit"])
def test_score_cam_agrees_with_pytorch_grad_cam(architecture, resnet):
    pgc = pytest.importorskip("pytorch_grad_cam")
    net, name, their_layer, reshape = peers(architecture)
    if architecture == "resnet18":
        name, their_layer = "layer1.1", net.layer1[-1]  # 64 channels are 64 passes
    classifier = classifier_of(net, size=(64, 64), classes=10, target_layer=name)
    picture = patterns()
    expected = theirs(pgc.ScoreCAM, net, their_layer, classifier.transform(picture)[None], [3], reshape)
    np.testing.assert_allclose(as_they_show(raw_of(classifier, picture, "scorecam", 3), 64), expected, **AGREES)


@pytest.mark.parametrize(("name", "positive"), [("layer4.1", True), ("layer1.1", True), ("layer1.1", False)])
def test_ablation_cam_agrees_with_pytorch_grad_cams_which_a_negative_score_turns_over(resnet, name, positive):
    """They divide by the score itself, we by its size."""
    pgc = pytest.importorskip("pytorch_grad_cam")
    classifier = classifier_of(resnet, size=(64, 64), classes=10, target_layer=name)
    picture = patterns()
    pixels = classifier.transform(picture)[None]
    logits = classifier.logits(pixels)[0]
    target = int(logits.argmax() if positive else logits.argmin())
    assert (logits[target] > 0) == positive
    expected = theirs(pgc.AblationCAM, resnet, resnet.get_submodule(name), pixels, [target])
    ours = raw_of(classifier, picture, "ablationcam", target)
    np.testing.assert_allclose(as_they_show(ours if positive else -ours, 64), expected, **AGREES)


def test_ablation_cam_switches_off_where_pytorch_grad_cam_writes_minus_ten_million():
    """Of maps with negative values they ablate by 1e7 less than the smallest; the paper, and ours, by zero."""
    pgc = pytest.importorskip("pytorch_grad_cam")
    from pytorch_grad_cam.ablation_layer import AblationLayerVit

    net, _, their_layer, reshape = peers("vit")
    classifier = classifier_of(net, size=(64, 64), classes=10)
    picture = patterns()
    pixels = classifier.transform(picture)[None]
    target = int(classifier.logits(pixels).argmax())
    expected = theirs(pgc.AblationCAM, net, their_layer, pixels, [target], reshape, ablation_layer=AblationLayerVit())
    ours = raw_of(classifier, picture, "ablationcam", target)
    assert np.abs(as_they_show(ours, 64) - expected).max() > 0.1

    def without(channel):
        def ablate(_module, _inputs, output):
            output = output.clone()
            output[:, 1:, channel] = 0  # the class token is no place and stays
            return output

        handle = their_layer.register_forward_hook(ablate)
        try:
            return classifier.logits(pixels)[0, target]
        finally:
            handle.remove()

    score = classifier.logits(pixels)[0, target]
    query = Query(classifier, picture, target=target)
    one_by_one = sum((score - without(k)) / abs(score) * query.activations[k] for k in range(len(query.activations)))
    torch.testing.assert_close(ours[0], one_by_one, atol=1e-4, rtol=1e-3)


def test_finer_cam_agrees_with_pytorch_grad_cam_for_one_other_class(resnet64):
    pgc = pytest.importorskip("pytorch_grad_cam")
    from pytorch_grad_cam.utils.model_targets import FinerWeightedTarget

    classifier = classifier_of(resnet64, size=(64, 64), classes=10)
    picture = patterns()
    pixels = classifier.transform(picture)[None]
    expected = theirs(pgc.FinerCAM, resnet64, resnet64.layer4[-1], pixels, [FinerWeightedTarget(3, [7], 1.0)])
    ours = raw_of(classifier, picture, "finercam", 3, against=7)
    np.testing.assert_allclose(as_they_show(ours, 64), expected, **AGREES)
    assert np.abs(as_they_show(raw_of(classifier, picture, "finercam", 7, against=3), 64) - expected).max() > 0.1


def test_fused_layers_agree_with_pytorch_grad_cam_apart_from_their_scaling(resnet64):
    pgc = pytest.importorskip("pytorch_grad_cam")
    classifier = classifier_of(resnet64, size=(96, 96), classes=10).with_layer("layer3.1 + layer4.1")
    pixels = classifier.transform(patterns(96))[None]
    expected = theirs(pgc.HiResCAM, resnet64, [resnet64.layer3[-1], resnet64.layer4[-1]], pixels, [8])
    with tap(classifier) as run:
        maps = [CAMS["hirescam"](*pair) for pair in run(pixels).by_layer([8])]
    assert [tuple(each.shape) for each in maps] == [(1, 6, 6), (1, 3, 3)]
    assert all(each.min() < 0 for each in maps), "else their smallest positive value would be taken away"
    np.testing.assert_allclose(scaled(fuse(maps, (96, 96), signed=False)).numpy(), expected, **AGREES)


def test_cam_agrees_with_torch_cam(resnet):
    methods = pytest.importorskip("torchcam.methods")
    classifier = classifier_of(resnet, size=(96, 96), classes=10)
    picture = patterns(96)
    with methods.CAM(resnet, "layer4", fc_layer="fc") as peer:
        resnet(classifier.transform(picture)[None])
        expected = peer(class_idx=3, normalized=False)[0]
    torch.testing.assert_close(raw_of(classifier, picture, "cam", 3), expected, **AGREES)


def test_score_cam_differs_from_torch_cams_by_its_masks_only(resnet):
    """The paper enlarges a channel and then scales it to [0, 1], as we do; torch-cam scales it first."""
    methods = pytest.importorskip("torchcam.methods")
    classifier = classifier_of(resnet, size=(64, 64), classes=10, target_layer="layer1.1")
    picture = patterns()
    pixels = classifier.transform(picture)[None]
    with methods.ScoreCAM(resnet, "layer1.1") as peer, torch.no_grad():
        resnet(pixels)
        expected = peer(class_idx=3, normalized=False)[0]
    activations = Query(classifier, picture).activations
    low, high = activations.amin((1, 2), keepdim=True), activations.amax((1, 2), keepdim=True)
    masks = interpolate(((activations - low) / (high - low + 1e-8))[:, None], (64, 64), mode="bilinear")
    with_their_masks = scorecam(activations, classifier.logits(pixels * masks)[:, 3])
    torch.testing.assert_close(with_their_masks[None], expected, **AGREES)
    ours = raw_of(classifier, picture, "scorecam", 3)
    assert np.corrcoef(ours.numpy().ravel(), expected.numpy().ravel())[0, 1] > 0.99


def test_smooth_grad_cam_plus_plus_differs_from_torch_cams_by_its_equation_only():
    """With equal noise theirs is our gradients in another equation: D1 and A of the last copy, A times D3 by place."""
    methods = pytest.importorskip("torchcam.methods")
    net = in_float64(smooth(resnet18()))
    classifier = classifier_of(net, size=(64, 64), classes=10, target_layer="layer3.1")
    picture = patterns()
    query = Query(classifier, picture, target=3)
    ours = METHODS["smooth-gradcam++"].run(query)[0].raw
    pixels = query.view.pixels
    draws = torch.randn((SMOOTHED_OVER, 3, 64, 64), generator=torch.Generator().manual_seed(0))
    copies = iter(draws * NOISE * (pixels.max() - pixels.min()))
    with methods.SmoothGradCAMpp(net, "layer3", num_samples=SMOOTHED_OVER) as peer:
        peer._distrib.sample = lambda size: next(copies)[None]
        net(pixels)
        expected = peer(class_idx=3, normalized=False)[0]

    noisy = query.memory["smooth-gradcam++"]
    d = noisy.gradients([3] * SMOOTHED_OVER)
    second, third = d.square().mean(0), (d**3).mean(0)
    alpha = second / (2 * second + (query.activations * third).sum((1, 2), keepdim=True) + 1e-8)
    their_equation = ((alpha * d[-1].relu()).sum((1, 2), keepdim=True) * noisy.activations[-1]).sum(0)
    torch.testing.assert_close(their_equation[None].double(), expected, atol=0, rtol=1e-4)
    assert np.abs(ours - expected[0].numpy()).max() > 1e-3


def test_grad_cam_is_captums_also_where_it_is_negative(resnet64):
    attr = pytest.importorskip("captum.attr")
    classifier = classifier_of(resnet64, size=(96, 96), classes=10)
    pixels = torch.stack([classifier.transform(patterns(96, seed)) for seed in range(2)])
    expected = attr.LayerGradCam(resnet64, resnet64.layer4).attribute(pixels, target=torch.tensor([3, 7]))
    expected = expected.detach()[:, 0].float()
    assert (expected < 0).any()
    torch.testing.assert_close(heatmaps(classifier, pixels, [3, 7]), expected, **AGREES)


def test_occlusion_agrees_with_captum_on_a_wide_picture_that_the_windows_do_not_divide(resnet):
    size = (48, 70)
    attr = pytest.importorskip("captum.attr")
    classifier = classifier_of(resnet, size=size, classes=10)
    picture = patterns()
    rows, columns = (-(-edge // 7) for edge in size)
    expected = attr.Occlusion(classifier.logits).attribute(
        classifier.transform(picture)[None],
        sliding_window_shapes=(3, rows, columns),
        strides=(3, rows // 2, columns // 2),
        target=3,
        perturbations_per_eval=32,
    )
    ours = explain(classifier, picture, "occlusion", target=3)["occlusion"][0].raw
    np.testing.assert_allclose(ours, expected[0, 0].numpy(), **AGREES)
