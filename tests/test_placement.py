"""Which place of an image each token shows: found wherever the tokens stand, and not claimed where it cannot be."""

import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from toy_networks import classifier_of, to_pixels

from xaihub import explain
from xaihub.errors import TargetLayerError
from xaihub.passes import replay, tap
from xaihub.placement import token_places
from xaihub.stages import stages
from xaihub.tracing import to_maps

GRID, EDGE = (6, 8), 8
COUNT = math.prod(GRID)
SIZE = (GRID[0] * EDGE, GRID[1] * EDGE)
NO_PLACE = -1


def in_order(order: list[int], at: dict[int, int] | None = None) -> list[int]:
    """The place of each token: places in a scan order, and so many tokens at no place before each of some."""
    return [place for i, one in enumerate(order) for place in [*[NO_PLACE] * (at or {}).get(i, 0), one]] + [
        NO_PLACE
    ] * (at or {}).get(len(order), 0)


def by_rows(height: int = GRID[0], width: int = GRID[1]) -> np.ndarray:
    return np.arange(height * width).reshape(height, width)


def serpentine(places: np.ndarray) -> list[int]:
    turned = places.copy()
    turned[1::2] = turned[1::2, ::-1]
    return turned.flatten().tolist()


def windows() -> list[int]:
    """Windows of 3 x 4 places, one after the other."""
    return by_rows().reshape(2, 3, 2, 4).transpose(0, 2, 1, 3).flatten().tolist()


ROWS = by_rows().flatten().tolist()
ARRANGEMENTS = {
    "usual": in_order(ROWS),
    "class token in front": in_order(ROWS, {0: 1}),
    "class token in the middle (Vision Mamba)": in_order(ROWS, {COUNT // 2: 1}),
    "class token at the end": in_order(ROWS, {COUNT: 1}),
    "registers spread evenly (Mamba-R)": in_order(ROWS, dict.fromkeys(range(0, COUNT, 8), 1)),
    "twelve registers, three together": in_order(ROWS, {6: 3, 18: 3, 30: 3, 42: 3}),
    "one in front, two at the end": in_order(ROWS, {0: 1, COUNT: 2}),
    "column by column": in_order(by_rows().T.flatten().tolist(), {0: 1}),
    "back and forth": in_order(serpentine(by_rows()), {COUNT // 2: 1}),
    "back and forth by columns": in_order(serpentine(by_rows().T)),
    "from the last to the first": in_order(ROWS[::-1], {COUNT // 2: 1}),
    "windows": in_order(windows(), {0: 1}),
    "by chance": in_order(np.random.default_rng(3).permutation(COUNT).tolist(), {5: 1, 30: 1}),
}


class Scanned(nn.Module):
    """Counts red, green and blue patches; its tokens stand in any order, with learned ones among them.

    Each block mixes all tokens a little, as attention does, so every token changes with every place.
    """

    def __init__(self, places: list[int], mixing: float = 0.1, blocks: int = 2) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.order = torch.tensor([place for place in places if place >= 0])
        self.spatial = torch.tensor([i for i, place in enumerate(places) if place >= 0])
        self.embed = nn.Conv2d(3, 16, EDGE, stride=EDGE, bias=False)
        with torch.no_grad():
            self.embed.weight[:3] = torch.eye(3)[:, :, None, None] / EDGE**2
        self.others = nn.Parameter(0.1 * torch.randn(len(places), 16))
        self.blocks = nn.ModuleList(Mix(len(places), mixing) for _ in range(blocks))
        self.head = nn.Linear(16, 3, bias=False)
        with torch.no_grad():
            self.head.weight.mul_(0.01).add_(torch.eye(3, 16))

    def forward(self, pixels: Tensor) -> Tensor:
        patches = self.embed(pixels).flatten(2).transpose(1, 2)[:, self.order]
        tokens = self.others.expand(len(pixels), -1, -1).index_copy(1, self.spatial, patches)
        for block in self.blocks:
            tokens = block(tokens)
        return self.head(tokens).pow(3).sum(1)  # each token counts by itself, the brightest most


class Mix(nn.Module):
    def __init__(self, count: int, share: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.eye(count) + share * torch.randn(count, count) / math.sqrt(count))

    def forward(self, tokens: Tensor) -> Tensor:
        return self.weight @ tokens


def cue(row: int, column: int) -> Image.Image:
    """Dim noise, and one red patch."""
    pixels = np.random.default_rng(0).integers(0, 40, (*SIZE, 3), dtype=np.uint8)
    pixels[row * EDGE : (row + 1) * EDGE, column * EDGE : (column + 1) * EDGE] = 255, 0, 0
    return Image.fromarray(pixels)


CUES = [(0, 0), (0, 7), (2, 1), (3, 6), (5, 0), (5, 7)]


@pytest.mark.parametrize("name", ARRANGEMENTS)
def test_a_cue_lights_its_own_cell_in_whatever_order_the_tokens_stand(name):
    classifier = classifier_of(Scanned(ARRANGEMENTS[name]), size=SIZE)
    layer = classifier.target_layer

    assert (layer.name, layer.layout, layer.grid, layer.proof) == ("blocks.1", "NLC", GRID, "bottleneck")
    places = list(layer.view.places) or [*[NO_PLACE] * layer.prefix_tokens, *ROWS]
    assert places == ARRANGEMENTS[name]
    for row, column in CUES:
        raw = explain(classifier, cue(row, column), ["hirescam"], target="red")["hirescam"][0].raw
        assert np.unravel_index(raw.argmax(), raw.shape) == (row, column)


@pytest.mark.parametrize("name", ["class token in the middle (Vision Mamba)", "windows", "back and forth"])
def test_every_layer_of_the_same_tokens_is_read_alike(name):
    classifier = classifier_of(Scanned(ARRANGEMENTS[name]), size=SIZE)
    for other in (
        *stages(classifier),
        *classifier.target_layer.alternatives,
        classifier.with_layer("blocks.0").target_layer,
    ):
        if other.layout == "NLC":
            assert list(other.view.places) == ARRANGEMENTS[name], other.name


def test_what_the_answer_owes_to_tokens_at_no_place_is_told_apart_wherever_they_stand():
    """Contributions of places and of the others add up to the network's own sum of both."""
    module = Scanned(ARRANGEMENTS["one in front, two at the end"])
    classifier = classifier_of(module, size=SIZE)
    pixels = classifier.transform(cue(2, 1))[None]
    with tap(classifier) as run:
        passed = run(pixels)
        shown = (passed.activations * passed.gradients([0])).sum()
        beside = passed.beside([0])
        tokens = module.blocks[1](module.blocks[0](_embedded(module, pixels)))
    terms = 3 * module.head(tokens)[0, :, 0].pow(3)  # of a cube, gradient times value is three times the cube
    torch.testing.assert_close(shown, terms[1:-2].sum().detach())
    torch.testing.assert_close(beside[0], (terms.sum() - terms[1:-2].sum()).detach())


def _embedded(module: Scanned, pixels: Tensor) -> Tensor:
    patches = module.embed(pixels).flatten(2).transpose(1, 2)[:, module.order]
    return module.others.expand(len(pixels), -1, -1).index_copy(1, module.spatial, patches)


@pytest.mark.parametrize("name", ["class token in the middle (Vision Mamba)", "windows"])
def test_maps_that_are_exchanged_go_back_to_their_own_tokens(name):
    classifier = classifier_of(Scanned(ARRANGEMENTS[name]), size=SIZE)
    pixels = classifier.transform(cue(3, 6))[None]
    with tap(classifier) as run:
        passed = run(pixels)
    same = replay(classifier, passed, pixels, lambda _, maps: maps.repeat(2, 1, 1, 1))
    torch.testing.assert_close(same, passed.logits.detach().expand(2, -1))
    mask = torch.ones(GRID)
    mask[3, 6] = 0
    without = replay(classifier, passed, pixels, lambda _, maps: maps * mask)
    cube = classifier.module.head(passed.activations[0].permute(1, 2, 0))[3, 6].pow(3)
    torch.testing.assert_close(without[0], (passed.logits[0] - cube).detach(), rtol=1e-4, atol=1e-4)


def test_an_order_that_was_measured_is_not_claimed_for_pixels_of_another_size():
    layer = classifier_of(Scanned(ARRANGEMENTS["class token in the middle (Vision Mamba)"]), size=SIZE).target_layer
    with pytest.raises(TargetLayerError, match="measured on 6 x 8 of them, and it gave 6 x 10"):
        to_maps(torch.zeros(1, 61, 16), layer.view, (48, 80))


@pytest.mark.parametrize("seed", range(3))
def test_tokens_that_each_look_everywhere_are_not_called_verified(seed):
    class Everywhere(nn.Module):
        """Its only tokens are random sums over all patches: as many as the grid has places, and none lies anywhere."""

        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(seed)
            self.weight = nn.Parameter(torch.randn(COUNT, COUNT) / math.sqrt(COUNT))
            self.last, self.head = nn.Identity(), nn.Linear(192, 3)
            self.scale = nn.Conv2d(3, 3, 8, stride=8)

        def forward(self, pixels: Tensor) -> Tensor:
            scale = self.scale(pixels).mean((1, 2, 3))[:, None, None]
            patches = nn.functional.unfold(pixels, EDGE, stride=EDGE).transpose(1, 2) + 0 * scale
            return self.head(self.last(self.weight @ patches).relu().mean(1))

    layer = classifier_of(Everywhere(), size=SIZE).target_layer
    assert (layer.name, layer.proof) == ("last", "unconfirmed")
    assert "The arrangement of its places could not be confirmed" in layer.reason


class Turned(nn.Module):
    """A convolution whose map is turned before it goes on: only what the layer gives counts."""

    def __init__(self, turn, last=()) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Conv2d(3, 16, EDGE, stride=EDGE, bias=False)
        with torch.no_grad():
            self.embed.weight[:3] = torch.eye(3)[:, :, None, None] / EDGE**2
        self.turn, self.last, self.axis = turn, nn.Identity(), last

    def forward(self, pixels: Tensor) -> Tensor:
        maps = self.last(self.turn(self.embed(pixels).relu()))
        maps = maps.permute(0, 3, 1, 2) if self.axis else maps
        return maps[:, :3].pow(3).sum((-2, -1)) + 1e-3 * maps[:, 3:].sum((1, 2, 3))[:, None]


TURNS = {
    "as it is": lambda maps: maps,
    "transposed": lambda maps: maps.transpose(2, 3),
    "upside down": lambda maps: maps.flip(2),
    "mirrored": lambda maps: maps.flip(3),
    "by 90 degrees": lambda maps: maps.rot90(1, (2, 3)),
    "by 180 degrees": lambda maps: maps.flip(2, 3),
    "by 270 degrees": lambda maps: maps.rot90(3, (2, 3)),
}


@pytest.mark.parametrize("channels", ["first", "last"])
@pytest.mark.parametrize("name", TURNS)
def test_a_cue_lights_its_own_cell_also_where_the_map_is_turned(name, channels):
    """On a square image, where no shape tells."""

    def turn(maps: Tensor) -> Tensor:
        turned = TURNS[name](maps)
        return turned if channels == "first" else turned.permute(0, 2, 3, 1)

    classifier = classifier_of(Turned(turn, last=channels == "last"), size=(48, 48))
    assert (classifier.target_layer.name, classifier.target_layer.proof) == ("last", "bottleneck")
    assert classifier.target_layer.layout == ("NCHW" if channels == "first" else "NHWC")
    for row, column in [(0, 5), (1, 3), (4, 0)]:
        image = cue(row, column).crop((0, 0, 48, 48))
        raw = explain(classifier, image, ["hirescam"], target="red")["hirescam"][0].raw
        assert np.unravel_index(raw.argmax(), raw.shape) == (row, column)


def test_channels_that_are_as_many_as_a_coarser_grid_has_places_are_no_places():
    """(N, K, L) with K = 3 x 4 channels of L = 6 x 8 places: by its shape alone it is 12 tokens of 48 channels."""

    class Channels(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.embed, self.last = nn.Conv2d(3, 12, EDGE, stride=EDGE), nn.Identity()
            self.head = nn.Linear(12, 3)

        def forward(self, pixels: Tensor) -> Tensor:
            return self.head(self.last(self.embed(pixels).flatten(2)).relu().mean(-1))

    layer = classifier_of(Channels(), size=SIZE).target_layer
    assert (layer.name, layer.layout, layer.grid) == ("last", "NCL", GRID)
    assert (layer.view.channels, layer.proof) == (12, "bottleneck")


def test_few_passes_place_many_tokens():
    """16 x 16 places: a pass as it is, and one for each of 4 values of 2 digits of the rows and of the columns."""
    passes = []

    def tokens_of(pixels: Tensor) -> Tensor:
        passes.append(1)
        return nn.functional.avg_pool2d(pixels, 2).flatten(2)[0].T

    pixels = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert token_places(tokens_of, pixels, (16, 16), 0) == tuple(range(256))
    assert len(passes) == 1 + 2 * 2 * 4


@pytest.mark.parametrize(("rows", "columns"), [(2, 2), (3, 5), (5, 4), (7, 7), (2, 9), (17, 3), (33, 33)])
def test_grids_of_every_size_are_placed(rows, columns):
    pixels = torch.randn(1, 3, rows * 3 + 1, columns * 3 + 2, generator=torch.Generator().manual_seed(0))

    def tokens_of(given: Tensor) -> Tensor:
        places = nn.functional.adaptive_avg_pool2d(given, (rows, columns)).flatten(2)[0].T
        return torch.cat([places.mean(0, keepdim=True), places])

    assert token_places(tokens_of, pixels, (rows, columns), 1) == (-1, *range(rows * columns))


def test_transform_of_the_toy_networks_is_what_the_cues_assume():
    assert to_pixels(SIZE)(cue(5, 7))[0, -EDGE:, -EDGE:].eq(1).all()
