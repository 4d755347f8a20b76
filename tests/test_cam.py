"""Class activation maps: known on paper, empty where nothing is shown, and a function each."""

import numpy as np
import pytest
import torch
from peer_networks import noise, vit
from PIL import Image
from toy_networks import ColourCounter, SmallNet, TokenNet, classifier_of

from xaihub.cams import CAMS, heatmaps
from xaihub.explaining import explain
from xaihub.maps import shown
from xaihub.methods import METHODS, Query

NAMES = ["gradcam", "hirescam", "layercam", "gradcam++", "xgradcam"]


def picture_with_dot(colour, row=2, column=5, size=8) -> Image.Image:
    pixels = np.zeros((size, size, 3), dtype=np.uint8)
    pixels[row, column] = colour
    return Image.fromarray(pixels)


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


def test_the_raw_map_keeps_its_sign_and_the_shown_one_is_its_positive_part_over_the_largest_size():
    raw = torch.tensor([[[-2.0, 1.0], [0.5, -4.0]]])
    np.testing.assert_allclose(shown(raw, (2, 2))[0], [[0, 0.25], [0.125, 0]])
    np.testing.assert_allclose(shown(raw, (2, 2), signed=False)[0], [[0, 1], [0.5, 0]])
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


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_equals_its_pictures_one_by_one(name):
    classifier = classifier_of(SmallNet())
    pixels = torch.stack([classifier.transform(noise(seed=seed)) for seed in range(4)])
    together = heatmaps(classifier, pixels, [0, 1, 2, 0], name)
    for n, target in enumerate([0, 1, 2, 0]):
        alone = heatmaps(classifier, pixels[n : n + 1], [target], name)[0]
        torch.testing.assert_close(together[n], alone, atol=1e-6, rtol=1e-4)


def test_a_map_that_is_only_rounding_error_is_not_shown():
    """Before a layer norm activations and gradients are orthogonal, so HiResCAM sums to nothing at each place."""
    evidence = explain(classifier_of(vit(), size=(64, 64), classes=10), noise(64), ["hirescam"])["hirescam"][0]
    assert np.abs(evidence.raw).max() < 1e-5
    assert not evidence.heatmap.any()
    assert "cancel" in evidence.caption


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


class WithClassToken(TokenNet):
    """A linear head over the class token beside the mean of the patches, as DINOv2 has it."""

    def __init__(self) -> None:
        super().__init__(prefix=2)
        self.head = torch.nn.Linear(32, 3)

    def forward(self, pixels):
        patches = self.embed(pixels).flatten(2).transpose(1, 2)
        tokens = self.blocks[0](torch.cat([self.tokens.expand(len(pixels), -1, -1), patches], 1))
        return self.head(torch.cat([tokens[:, 0], tokens[:, 2:].mean(1)], 1))


class ConvolutionalHead(torch.nn.Module):
    """Ends as SqueezeNet does: a convolution of 1 x 1 to the classes, a ReLU, a mean."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.features = torch.nn.Sequential(torch.nn.Conv2d(3, 12, 3, stride=2), torch.nn.ReLU())
        self.classes = torch.nn.Conv2d(12, 3, 1)
        torch.nn.init.zeros_(self.classes.bias)

    def forward(self, pixels):
        return self.classes(self.features(pixels)).relu().mean((-2, -1))


class PooledNet(SmallNet):
    """A mean and a linear layer right after the layer; the picture is wider than high."""

    def forward(self, pixels):
        return self.head(self.body(self.stem(pixels)).mean((-2, -1)))


@pytest.mark.parametrize("target", [0, 1, 2])
@pytest.mark.parametrize("make", [PooledNet, ConvolutionalHead])
def test_cam_is_grad_cam_up_to_scale_below_a_mean_and_a_linear_layer(make, target):
    found = explain(classifier_of(make(), size=(32, 48)), noise(48), ["cam", "gradcam"], target=target)
    exact, gradient = found["cam"][0].raw, found["gradcam"][0].raw
    scale = (exact * gradient).sum() / (gradient * gradient).sum()
    assert scale > 0
    np.testing.assert_allclose(exact, scale * gradient, atol=1e-4 * np.abs(exact).max())
    np.testing.assert_allclose(found["cam"][0].heatmap, found["gradcam"][0].heatmap, atol=1e-4)
    said = " ".join(found.notes.get("cam", ()))
    assert ("count for nothing, not against the class" in said) == (make is ConvolutionalHead)


@pytest.mark.parametrize("target", [0, 1, 2])
def test_the_mean_of_cam_and_the_head_without_maps_make_the_logit(target):
    module = PooledNet()
    classifier = classifier_of(module, size=(32, 48))
    query = Query(classifier, noise(48), target=target)
    raw = METHODS["cam"].run(query)[0].raw
    assert raw.mean() + float(module.head.bias[target].detach()) == pytest.approx(float(query.logits[target]), abs=1e-5)
    weighed = torch.einsum("k,khw->hw", module.head.weight[target].detach(), query.activations)  # eq. 2 itself
    np.testing.assert_allclose(raw, weighed, atol=1e-5)


def test_cam_says_what_a_class_token_gives_beside_the_map():
    module = WithClassToken()
    classifier = classifier_of(module, size=(32, 48), target_layer="blocks.0")
    query = Query(classifier, noise(48), target=2)
    raw = METHODS["cam"].run(query)[0].raw
    seen = []
    handle = module.blocks[0].register_forward_hook(lambda *given: seen.append(given[2]))
    logit = classifier.logits(query.view.pixels)[0, 2]
    handle.remove()
    token = float((module.head.weight[2, :16] @ seen[0][0, 0]).detach())
    assert raw.mean() + token + float(module.head.bias[2].detach()) == pytest.approx(float(logit), abs=1e-5)
    assert query.notes["cam"] == [
        f"The head also reads tokens that lie at no place (a class token): {token:.2f} of the logit {logit:.2f} comes"
        " from them and is not in the map."
    ]


def test_cam_of_tokens_that_are_only_averaged_has_nothing_to_add():
    query = Query(classifier_of(TokenNet(read="mean"), size=(32, 48)), noise(48))
    assert METHODS["cam"].run(query)[0].raw.shape == (4, 6)
    assert not query.notes


@pytest.mark.parametrize(("make", "layer"), [(SmallNet, "stem"), (TokenNet, "blocks.1"), (SmallNet, "body")])
def test_cam_is_refused_in_words_where_the_head_is_more_than_linear(make, layer):
    found = explain(classifier_of(make(), target_layer=layer), noise(), ["cam", "gradcam"])
    assert found["cam"] == ()
    assert len(found["gradcam"]) == 1
    assert "CAM is exact only where the head is a mean over places and a linear layer" in found.notes["cam"][0]


def test_cam_of_a_class_that_nothing_speaks_for_is_empty():
    module = ConvolutionalHead()
    with torch.no_grad():
        module.classes.weight[1] = -module.classes.weight[1].abs()
    evidence = explain(classifier_of(module), noise(), "cam", target="green")["cam"][0]
    assert not evidence.heatmap.any()
    assert "No positive evidence for 'green'" in evidence.caption
