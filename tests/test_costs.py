"""What a pass costs is told before it runs: right on paper, right beside real passes, and refused beyond the limits."""

import json
import threading

import pytest
import torch
from PIL import Image
from tiny_models import LABELS, TINY, build, picture, processor_of, push
from torch import nn
from toy_networks import classifier_of

from xaihub import classifier as classifier_module
from xaihub.classifier import Classifier
from xaihub.costs import PassCost, PassLimits, pass_cost
from xaihub.errors import PictureError, TooLargeError, UnsupportedModelError
from xaihub.explaining import explain
from xaihub.families.resizing import resize_check, steps_check
from xaihub.loading import load_classifier

MB = 10**6


def answer(module, pixels):
    return module(pixels)


class Wide(nn.Module):
    """Two linear maps over tokens, so that sizes are known on paper."""

    def __init__(self, inside: int, blocks: int = 1):
        super().__init__()
        self.blocks = nn.ModuleList(nn.Linear(inside, inside, bias=False) for _ in range(blocks))
        for weight in self.parameters():
            weight.requires_grad_(False)

    def forward(self, pixels):
        tokens = pixels.flatten(1)
        for block in self.blocks:
            tokens = block(tokens).sigmoid()
        return tokens[:, :3]


def test_the_arithmetic_and_the_memory_of_linear_layers_are_those_on_paper():
    network = Wide(3 * 8 * 8, blocks=5)
    cost = pass_cost(network, answer, torch.empty(1, 3, 8, 8))
    assert cost.operations == 5 * 2 * 192 * 192
    token = 192 * 4
    assert cost.largest == token
    # the pixels; of each block what its sigmoid gives, and while that is made what the linear map gave; two more of the
    # largest for the way back
    assert cost.memory == (1 + 5 + 1) * token + 2 * token
    assert cost.whole


def test_convolutions_count_as_in_the_papers():
    torchvision = pytest.importorskip("torchvision")
    network = torchvision.models.resnet18(weights=None)
    cost = pass_cost(network, answer, torch.empty(1, 3, 224, 224))
    assert cost.operations / 2 == pytest.approx(1.82e9, rel=0.01)  # He et al., 2016: 1.8 billion
    network = torchvision.models.mobilenet_v3_small(weights=None)
    assert pass_cost(network, answer, torch.empty(1, 3, 224, 224)).operations / 2 == pytest.approx(56.5e6, rel=0.02)


def saved_bytes(network, pixels):
    """What autograd really keeps of a pass, each storage once, without parameters: measured by its own hooks."""
    own = {t.untyped_storage().data_ptr() for t in [*network.parameters(), *network.buffers()]}
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = network(pixels.clone().requires_grad_())
    assert output.requires_grad
    return sum(kept.values())


@pytest.mark.parametrize("name", ["resnet", "convnext", "vit", "swin", "levit", "segformer", "beit", "clip"])
def test_memory_of_real_architectures_is_what_autograd_keeps_and_some_tensors_more(name):
    network = build(TINY[name]).requires_grad_(False)
    size = TINY[name].size if hasattr(TINY[name], "size") else 64
    pixels = torch.rand(1, 3, size, size)
    cost = pass_cost(network, lambda module, given: module(given).logits, pixels)
    kept = saved_bytes_of(network, pixels)
    assert kept <= cost.memory <= 1.5 * kept + 6 * cost.largest
    assert cost.opening > cost.memory


def saved_bytes_of(network, pixels):
    class Logits(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = network

        def forward(self, given):
            return self.network(given).logits

    return saved_bytes(Logits(), pixels)


def test_the_count_leaves_the_network_as_it_was():
    network = build(TINY["beit"])
    pixels = torch.rand(1, 3, 64, 64)
    before = network(pixels).logits
    network.train()
    pass_cost(network, lambda module, given: module(given).logits, torch.empty(1, 3, 64, 64))
    assert network.training
    network.eval()
    torch.testing.assert_close(network(pixels).logits, before, rtol=0, atol=0)
    assert not any(part._forward_hooks for part in network.modules())
    assert all(parameter.device.type == "cpu" for parameter in network.parameters())


# Refusals


class Deep(nn.Module):
    """So many convolutions of 8 channels at full size."""

    def __init__(self, blocks: int, ran: list[int] | None = None, looks: bool = False):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 1)
        self.blocks = nn.Sequential(
            *(nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.Sigmoid()) for _ in range(blocks))
        )
        self.head = nn.Linear(8, 3)
        self.ran, self.looks = ran if ran is not None else [], looks

    def forward(self, pixels):
        if pixels.device.type != "meta":
            self.ran.append(1)
        maps = self.stem(pixels)
        if self.looks:
            assert float(maps.sum()) < 1e30  # asks for a number, which shapes have not
        return self.head(self.blocks(maps).mean((2, 3)))


def made(network, edge, limits=None):
    def preprocess(image):
        return torch.full((3, edge, edge), sum(image.resize((1, 1)).getpixel((0, 0))) / 765)

    return Classifier.from_module(network, labels=["a", "b", "c"], transform=preprocess, limits=limits)


LARGE = PassLimits(pixels=2**24)


@pytest.mark.parametrize(
    ("blocks", "edge", "limits", "words"),
    [
        (1, 1025, PassLimits(), r"reads images of 1,050,625 pixels; at most 1,048,576 .* \(XAIHUB_MAX_PASS_PIXELS\)"),
        (150, 2048, LARGE, r"needs at least 2,\d\d\d MB of memory .*; at most 2,000 MB are given here"),
        (30, 2048, LARGE, r"needs at least 2,\d\d\d MB"),
        (12, 256, PassLimits(memory=10 * MB), r"needs at least [12]\d MB .*at most 10 MB .*XAIHUB_MAX_PASS_MEGABYTES"),
        (12, 256, PassLimits(operations=10**8), r"needs at least 0 billion operations .*XAIHUB_MAX_PASS_GFLOPS"),
    ],
)
def test_a_network_beyond_a_visitors_limits_is_refused_before_it_runs(blocks, edge, limits, words):
    ran = []
    with pytest.raises(TooLargeError, match=words):
        made(Deep(blocks, ran), edge, limits)
    assert ran == []


def test_a_network_that_looks_at_numbers_is_counted_while_it_runs_and_ends_at_the_limit():
    ran = []
    network = Deep(12, ran, looks=True)
    assert pass_cost(network, answer, torch.empty(1, 3, 256, 256)) is None
    with pytest.raises(TooLargeError, match=r"needs at least [12]\d MB of memory"):
        made(network, 256, PassLimits(memory=10 * MB))
    assert ran == [1]
    assert made(network, 256, PassLimits()).target_layer is not None


def test_on_ones_own_machine_the_cost_is_told_and_the_network_runs(monkeypatch):
    monkeypatch.setenv("XAIHUB_MAX_PASS_MEGABYTES", "10")
    classifier = made(Deep(12), 256)
    assert [notice for notice in classifier.notices if "of memory for one pass of an image." in notice]
    monkeypatch.setenv("XAIHUB_MAX_PASS_MEGABYTES", "1000")
    assert made(Deep(12), 256).notices == ()


class Attention(nn.Module):
    """One attention among all tokens of one pixel each, as scaled_dot_product_attention."""

    def __init__(self):
        super().__init__()
        self.mix = nn.Linear(3, 8)
        self.head = nn.Linear(8, 3)

    def forward(self, pixels):
        tokens = self.mix(pixels.flatten(2).transpose(1, 2))[:, None]
        mixed = nn.functional.scaled_dot_product_attention(tokens, tokens, tokens)
        return self.head(mixed.mean((1, 2)))


def test_a_quarter_of_a_million_tokens_are_refused_for_their_operations():
    network = Attention()
    cost = pass_cost(network, answer, torch.empty(1, 3, 64, 64))
    scores = 2 * 4096 * 4096 * 8
    assert cost.operations == pytest.approx(2 * scores, rel=0.01)  # QK and AV; the maps beside them are small
    with pytest.raises(TooLargeError, match=r"needs at least 2,199 billion operations"):
        made(network, 512, PassLimits())


def test_batches_shrink_to_the_memory_of_a_pass(monkeypatch):
    network = Deep(12)
    limits = PassLimits(memory=12 * MB)
    classifier = made(network, 64, limits)
    cost = classifier.cost((64, 64))
    map_bytes = 8 * 64 * 64 * 4
    assert cost.largest == map_bytes
    assert cost.memory == pytest.approx((12 * 1 + 3) * map_bytes, rel=0.15)
    assert classifier.at_once(100) == 12 * MB // (3 * map_bytes) == 30
    assert classifier.at_once(10, graph=True) == 12 * MB // cost.memory == 5
    assert made(network, 64, PassLimits()).at_once(10, graph=True) == 10
    sizes = []
    inside = classifier_module.run_network

    def counting(module, pixels):
        sizes.append((len(pixels), pixels.requires_grad))
        return inside(module, pixels)

    monkeypatch.setattr(classifier_module, "run_network", counting)
    explain(classifier, picture(64, 64), ["smoothgrad", "occlusion", "rise"])
    assert max(count for count, graph in sizes if graph) == 5
    assert max(count for count, graph in sizes if not graph) == 30


def test_attention_maps_that_would_not_fit_say_so():
    tiny = TINY["vit"]
    model = build(tiny)

    def preprocess(image):
        return torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(image.getpixel((0, 0))[0]))

    def of(limits):
        return Classifier.from_module(model, labels=list(LABELS.values()), transform=preprocess, limits=limits)

    roomy = of(PassLimits())
    assert roomy.no_attention == ""
    (shape, *_), count = roomy._attention_shapes(), len(roomy._attention_shapes())
    needed = 3 * 4 * count * shape[1] * shape[2] * shape[3]
    assert shape[2:] == (17, 17)
    tight = of(PassLimits(memory=2 * MB))
    object.__setattr__(tight, "limits", PassLimits(memory=needed - 1))
    assert "The attention among its 17 tokens takes" in tight.no_attention


# Images before they are resized


@pytest.mark.parametrize(
    ("size", "crop", "image", "becomes"),
    [
        ({"shortest_edge": 2048}, None, (1000, 5), "409,600 x 2,048"),
        ({"shortest_edge": 2048}, 0.1, (300, 300), "20,480 x 20,480"),
        ({"shortest_edge": 518}, None, (3, 400), "518 x 69,067"),
        ({"height": 2048, "width": 2048}, 0.4, (64, 64), "5,120 x 5,120"),
    ],
)
def test_an_image_that_would_become_too_large_is_refused_with_both_sizes(size, crop, image, becomes):
    error = TooLargeError if image[0] == image[1] else PictureError
    with pytest.raises(error, match=f"{image[0]:,} x {image[1]:,} pixels would become {becomes} for this model"):
        resize_check(size, crop)(image)


@pytest.mark.parametrize(
    ("size", "crop", "image"),
    [
        ({"shortest_edge": 256}, 0.875, (4000, 3000)),
        ({"height": 2048, "width": 2048}, None, (1000, 5)),
        ({"shortest_edge": 800, "longest_edge": 1333}, None, (1000, 5)),
        ({"max_height": 512, "max_width": 512}, None, (1000, 5)),
        ({"shortest_edge": 224}, None, (4000, 20)),
    ],
)
def test_what_stays_small_is_let_through(size, crop, image):
    resize_check(size, crop)(image)


def test_the_steps_of_torchvision_and_timm_are_read_too():
    from timm.data import create_transform
    from torchvision.transforms import v2

    steps = v2.Compose([v2.Resize(1024), v2.CenterCrop(1024)])
    steps_check(steps.transforms)((1000, 500))
    with pytest.raises(PictureError, match="204,800 x 1,024"):
        steps_check(steps.transforms)((1000, 5))
    steps_check([v2.Resize(1024, max_size=1100)])((1000, 5))
    for mode in ("center", "border"):
        made_by_timm = create_transform((3, 1024, 1024), crop_pct=0.9, crop_mode=mode)
        with pytest.raises(PictureError, match="1,000 x 5 pixels would become"):
            steps_check(made_by_timm.transforms)((1000, 5))
    squash = create_transform((3, 1024, 1024), crop_pct=0.9, crop_mode="squash")
    steps_check(squash.transforms)((1000, 5))


def test_a_repository_that_resizes_to_far_more_than_it_keeps_is_refused_before_its_weights_come(hub):
    tiny = TINY["convnext"]
    push(hub, "alice/crops", build(tiny), processor_of(tiny))
    settings = {"size": {"shortest_edge": 2048}, "crop_pct": 0.2, "image_processor_type": "ConvNextImageProcessor"}
    hub.add_files("alice/crops", {"preprocessor_config.json": json.dumps(settings)})
    hub.requests.clear()
    with pytest.raises(UnsupportedModelError, match="resizes its pictures to 10,240 pixels a side"):
        load_classifier("alice/crops", local=False)
    assert not [seen for seen in hub.requests if "safetensors" in seen.path]


def test_a_visitors_long_image_is_refused_and_the_next_one_is_explained(hub):
    tiny = TINY["resnet"]
    push(hub, "alice/long", build(tiny), processor_of(tiny))
    settings = {
        "size": {"shortest_edge": 512}, "crop_size": {"height": 64, "width": 64}, "do_center_crop": True,
        "image_processor_type": "BitImageProcessor",
    }  # fmt: skip
    hub.add_files("alice/long", {"preprocessor_config.json": json.dumps(settings)})
    classifier = load_classifier("alice/long", local=False)
    with pytest.raises(PictureError, match=r"5 x 900 pixels would become 512 x 92,160 .* Crop it"):
        explain(classifier, Image.new("RGB", (5, 900)), "gradcam")
    assert explain(classifier, picture(90, 60), "gradcam")["gradcam"]


def test_an_image_that_is_not_cropped_is_counted_at_its_own_size():
    network = Deep(4)

    def preprocess(image):
        return torch.rand(3, image.height, image.width, generator=torch.Generator().manual_seed(1))

    limits = PassLimits(memory=80 * MB)
    classifier = Classifier.from_module(network, labels=["a", "b", "c"], transform=preprocess, limits=limits)
    small = explain(classifier, picture(200, 100), "gradcam")
    assert small["gradcam"][0].raw.shape == (100, 200)
    with pytest.raises(TooLargeError, match=r"of memory for one pass of an image; at most 80 MB"):
        explain(classifier, picture(900, 700), "gradcam")


def test_limits_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("XAIHUB_MAX_PASS_MEGABYTES", "123")
    monkeypatch.setenv("XAIHUB_MAX_PASS_GFLOPS", "0.5")
    assert PassLimits.from_environment() == PassLimits(123 * MB, 500 * MB)
    cost = PassCost(100 * MB, 124 * MB, MB, 10)
    assert cost.beyond(PassLimits(123 * MB, 10)) is not None
    assert cost.beyond(PassLimits(124 * MB, 10)) is None
    assert cost.beyond(PassLimits(124 * MB, 9)) is not None


def test_two_threads_count_two_networks_without_disturbing_each_other():
    expected = [pass_cost(Deep(n), answer, torch.empty(1, 3, 64, 64)) for n in (3, 9)]
    found, threads = {}, []

    def count(n):
        found[n] = pass_cost(Deep(n), answer, torch.empty(1, 3, 64, 64))

    for n in (3, 9) * 4:
        threads.append(threading.Thread(target=count, args=(n,)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert [found[3], found[9]] == expected
    assert classifier_of(Deep(2)).target_layer is not None
