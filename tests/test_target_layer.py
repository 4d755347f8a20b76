"""The choice of the target layer on networks whose answer is known: the traps of TARGET_LAYER.md, each one seen."""

import gc

import pytest
import torch
from torch import Tensor, nn
from toy_networks import classifier_of

from xaihub.errors import TargetLayerError
from xaihub.passes import tap
from xaihub.target_layer import TargetLayer, choose_target_layer, layer_named
from xaihub.tracing import trace


def pixels(height: int = 32, width: int = 48) -> Tensor:
    return torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(0))


def chosen(module: nn.Module, size: tuple[int, int] = (32, 48)) -> TargetLayer:
    return choose_target_layer(module.eval(), module, pixels(*size))


def conv(given: int, made: int, stride: int = 2) -> nn.Conv2d:
    return nn.Conv2d(given, made, 3, stride=stride, padding=1)


class Branches(nn.Module):
    """A stem, then two branches at different sizes, whose poolings are read together."""

    def __init__(self, shortcut: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = conv(3, 12)
        self.fine = nn.Sequential(conv(12, 16, 1), nn.ReLU(), conv(16, 16, 1), nn.ReLU(), conv(16, 16, 1))
        self.coarse = nn.Sequential(conv(12, 20), nn.ReLU(), conv(20, 20, 1), nn.ReLU(), conv(20, 20, 1))
        self.head = nn.Linear(36, 3)
        self.shortcut = shortcut

    def forward(self, given: Tensor) -> Tensor:
        stem = self.stem(given).relu()
        both = [self.fine(stem).relu().mean((-2, -1)), self.coarse(stem).relu().mean((-2, -1))]
        answer = self.head(torch.cat(both, 1))
        return answer + given.mean((-2, -1)) if self.shortcut else answer


def test_where_the_only_bottleneck_lies_early_the_last_layers_of_the_branches_are_fused_and_it_is_offered_beside():
    layer = chosen(Branches())

    assert layer.proof == "fused"
    assert [part.name for part in layer.parts] == ["fine.4", "coarse.4"]
    assert [part.grid for part in layer.parts] == [(16, 24), (8, 12)]
    assert layer.grid == (16, 24)
    assert "No single layer carries everything that the answer rests on but stem" in layer.reason
    assert "any one of them left in, there is some" in layer.reason
    assert (layer.alternatives[0].name, layer.alternatives[0].proof) == ("stem", "bottleneck")


def test_what_no_few_layers_carry_is_said_to_be_partial():
    layer = chosen(Branches(shortcut=True))

    assert (layer.name, layer.proof) == ("coarse.4", "partial")
    assert "its map is a part of the reason, not the whole" in layer.reason


class Pair(nn.Module):
    """Blocks that hand on two tensors; only the second of them knows the picture's right half."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = conv(3, 12)
        self.block = Two()
        self.head = nn.Linear(24, 3)

    def forward(self, given: Tensor) -> Tensor:
        first, second = self.block(self.embed(given))
        return self.head(torch.cat([first.amax((-2, -1)) + first.mean((-2, -1)), second.mean((-2, -1))], 1))


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mix = conv(12, 12, 1)

    def forward(self, given: Tensor) -> tuple[Tensor, Tensor]:
        return given.tanh() + 1, (self.mix(given) * 2).relu() + 0.1 * given


def test_a_tensor_that_is_not_the_first_of_a_layers_output_can_be_a_part():
    module = Pair()
    first = trace(module, module, pixels()).seen

    assert {"block", "block[1]"} <= {name for seen in first for name in seen.names}
    named = layer_named(module, module, pixels(), "block + block[1]")
    assert [part.name for part in named.parts] == ["block", "block[1]"]
    classifier = classifier_of(module, size=(32, 48)).with_layer("block[1]")
    given = classifier.transform(_grey())[None]
    with tap(classifier) as run, torch.no_grad():
        torch.testing.assert_close(run(given).activations, module.block(module.embed(given))[1])


def _grey():
    from PIL import Image

    return Image.effect_noise((48, 32), 90).convert("RGB")


class Gated(nn.Module):
    """A side branch squeezes the map to a gate: live, but no bottleneck."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = conv(3, 16)
        self.side = conv(16, 16)
        self.head = nn.Linear(16, 3)

    def forward(self, given: Tensor) -> Tensor:
        body = self.body(given).relu()
        return self.head((body * self.side(body).mean((-2, -1), keepdim=True).sigmoid()).mean((-2, -1)))


def test_a_side_branch_that_has_a_gradient_is_not_chosen():
    assert (chosen(Gated()).name, chosen(Gated()).proof) == ("body", "bottleneck")


class Wide(nn.Module):
    """Tokens of as many channels as a grid has places: 48 = 6 x 8, and 6 x 8 tokens before them."""

    def __init__(self, channels: int, prefix: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Conv2d(3, channels, 4, stride=4)
        self.tokens = nn.Parameter(torch.randn(1, prefix, channels))
        self.block = nn.Linear(channels, channels)
        self.head = nn.Linear(channels, 3)

    def forward(self, given: Tensor) -> Tensor:
        patches = self.embed(given).flatten(2).transpose(1, 2)
        return self.head(self.block(torch.cat([self.tokens.expand(len(given), -1, -1), patches], 1)).mean(1))


@pytest.mark.parametrize("channels", [96, 24, 49, 100])
@pytest.mark.parametrize("prefix", [0, 1, 5])
def test_the_channels_of_tokens_are_not_read_as_places(channels, prefix):
    layer = chosen(Wide(channels, prefix))
    assert (layer.layout, layer.grid, layer.prefix_tokens) == ("NLC", (8, 12), prefix)
    assert layer.view.channels == channels


class Scaled(nn.Module):
    """Residual branches behind a layer scale of 1e-6, as ConvNeXt has them at initialisation."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = conv(3, 16)
        self.branch = conv(16, 16, 1)
        self.last = nn.Identity()
        self.head = nn.Linear(16, 3)
        nn.init.normal_(self.head.weight, std=1e-8)

    def forward(self, given: Tensor) -> Tensor:
        stem = self.stem(given)
        return self.head(self.last(stem + 1e-6 * self.branch(stem)).mean((-2, -1)))


def test_a_gradient_however_small_counts_relative_to_the_largest():
    assert (chosen(Scaled()).name, chosen(Scaled()).proof) == ("last", "bottleneck")


class Auxiliary(nn.Module):
    """A second head in the middle, whose answer is returned beside the one that counts."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body, self.late = conv(3, 16), conv(16, 16)
        self.auxiliary = nn.Sequential(conv(16, 24), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 3))
        self.head = nn.Linear(16, 3)

    def forward(self, given: Tensor) -> tuple[Tensor, Tensor]:
        body = self.body(given).relu()
        answer = self.head(self.late(body).mean((-2, -1)))
        return answer, self.auxiliary(body)


def test_an_auxiliary_head_is_not_where_the_answer_comes_from():
    module = Auxiliary().eval()
    layer = choose_target_layer(module, lambda given: module(given)[0], pixels())
    assert (layer.name, layer.proof) == ("late", "bottleneck")


def test_an_untrained_head_is_said_to_pass_no_gradient():
    module = Gated()
    nn.init.zeros_(module.head.weight)
    with pytest.raises(TargetLayerError, match="The gradient of the answer is zero in every layer"):
        chosen(module)


class Windowed(nn.Module):
    """Windows lie on the batch axis inside its block, and each has places of its own."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Conv2d(3, 16, 4, stride=4)
        self.inside = nn.Linear(16, 16)
        self.block = nn.Identity()
        self.head = nn.Linear(16, 3)

    def forward(self, given: Tensor) -> Tensor:
        maps = self.embed(given)  # (N, 16, 8, 12)
        windows = maps.unflatten(3, (3, 4)).unflatten(2, (2, 4)).permute(0, 2, 4, 3, 5, 1).reshape(-1, 16, 16)
        mixed = self.inside(windows).reshape(-1, 2, 3, 4, 4, 16).permute(0, 5, 1, 3, 2, 4).reshape(maps.shape)
        return self.head(self.block(maps + mixed).mean((-2, -1)))


def test_windows_on_the_batch_axis_are_no_maps():
    module = Windowed()
    assert chosen(module).name == "block"
    inside = next(seen for seen in trace(module, module, pixels()).seen if seen.name == "inside")
    assert (inside.shape, inside.view) == ((6, 16, 16), None)


class States(nn.Module):
    """Parallel heads as in EfficientViM: the first reads 24 = 4 x 6 states, weighted sums over all places."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.gate = conv(3, 16), nn.Conv2d(16, 24, 1)
        self.states = nn.Identity()
        self.late = nn.Sequential(conv(16, 16), nn.ReLU(), conv(16, 16), nn.ReLU(), conv(16, 16, 1))
        self.heads = nn.ModuleList(nn.Linear(16, 3) for _ in range(2))

    def forward(self, given: Tensor) -> Tensor:
        stem = self.stem(given)
        weights = (3 * self.gate(stem)).flatten(2).softmax(-1)  # (N, 24, h * w)
        states = self.states(weights @ stem.flatten(2).transpose(1, 2))
        return self.heads[0](states.relu().mean(1)) + self.heads[1](self.late(stem.relu()).mean((-2, -1)))


def test_states_that_are_as_many_as_a_grid_has_places_are_no_part_of_a_fused_layer():
    layer = chosen(States())
    assert "states" not in [part.name for part in layer.layers]
    assert layer.proof in ("bottleneck", "fused")


class Latents(nn.Module):
    """A Perceiver in miniature: 6 + 24 latents, which ask all pixels, could be prefix tokens and a map of 4 x 6."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.latents = nn.Parameter(torch.randn(1, 30, 16))
        self.embed, self.mix, self.head = nn.Linear(3, 16), nn.Linear(16, 16), nn.Linear(16, 3)

    def forward(self, given: Tensor) -> Tensor:
        pixels = self.embed(given.flatten(2).transpose(1, 2))
        asked = (2 * self.latents @ pixels.transpose(1, 2)).softmax(-1) @ pixels
        return self.head(self.mix(asked).relu().mean(1))


def test_latents_that_are_as_many_as_a_map_and_its_prefix_have_are_no_map():
    module = Latents()
    assert next(seen for seen in trace(module, module, pixels()).seen if seen.name == "mix").live
    with pytest.raises(TargetLayerError, match="No layer of this network keeps a map of the picture"):
        chosen(module)


class Patches(nn.Module):
    """Linear patches of 8 x 8 pixels: no convolution says that there are 4 x 6."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.mix, self.head = nn.Linear(192, 16), nn.Linear(16, 16), nn.Linear(16, 3)

    def forward(self, given: Tensor) -> Tensor:
        patches = nn.functional.unfold(given, 8, stride=8).transpose(1, 2)
        return self.head(self.mix(self.embed(patches).relu()).mean(1))


def test_patches_that_no_convolution_made_are_a_map():
    layer = chosen(Patches())
    assert (layer.name, layer.layout, layer.grid, layer.proof) == ("mix", "NLC", (4, 6), "bottleneck")


def test_a_proof_takes_two_passes_and_a_quadrant_test_five_and_nothing_is_remembered():
    module, passes = Gated().eval(), []

    def forward(given: Tensor) -> Tensor:
        passes.append(1)
        return module(given)

    gc.collect()
    before = _tensors()
    layer = choose_target_layer(module, forward, pixels())

    assert len(passes) == 2 + 5, "one traced, one with the layer cut off, one as it is and one for each quadrant"
    assert layer.name == "body"
    gc.collect()
    assert _tensors() <= before
    assert not any(part._forward_hooks for part in module.modules())
    assert all(parameter.grad is None for parameter in module.parameters())


def _tensors() -> int:
    return sum(1 for thing in gc.get_objects() if issubclass(type(thing), torch.Tensor))
