"""Pointing games, IoU, sparseness and complexity: equations in plain loops, and answers on paper."""

import math

import pytest
import torch
from metric_networks import SIZE, lot_maps

from xaihub.metrics import METRICS

TARGETS = torch.tensor([0, 1, 0])


def of(name, maps, **more):
    """The metric's values for maps; it asks no network anything."""
    count = len(maps)
    return METRICS[name].run(None, torch.zeros(count, 3, *maps.shape[1:]), maps, TARGETS[:count], **more)


def box(top, left, bottom, right, size=SIZE):
    mask = torch.zeros(1, *size, dtype=torch.bool)
    mask[0, top:bottom, left:right] = True
    return mask


def dot(row, column, size=SIZE):
    heat = torch.zeros(1, *size)
    heat[0, row, column] = 1.0
    return heat


def test_the_pointing_game_grows_the_mask_by_fifteen_pixels_of_224():
    """At twice the size by thirty: 30 pixels away hits, 31 does not, and a corner is as far as it is."""
    size = (448, 500)
    mask = box(100, 100, 200, 200, size)
    for (row, column), hit in {
        (150, 150): 1, (150, 229): 1, (150, 230): 0, (70, 150): 1, (69, 150): 0,
        (199 + 21, 199 + 21): 1, (199 + 22, 199 + 22): 0,  # 29.7 and 31.1 pixels away
    }.items():  # fmt: skip
        assert of("pointing-game", dot(row, column, size), masks=mask).tolist() == [hit], (row, column)


def test_the_pointing_game_without_tolerance_is_the_argmax_in_plain_loops():
    maps = lot_maps(3)
    masks = torch.cat([box(0, 0, 12, 32), box(5, 5, 20, 20), torch.zeros(1, *SIZE, dtype=torch.bool)])
    found = of("pointing-game", maps, masks=masks, tolerance=0)
    for i in range(2):
        best = max(((y, x) for y in range(24) for x in range(32)), key=lambda place: float(maps[i][place]))
        assert float(found[i]) == float(masks[i][best])
    assert math.isnan(found[2]), "nothing was to be found"


def test_a_flat_map_points_nowhere():
    everywhere = torch.ones(1, *SIZE, dtype=torch.bool)
    assert of("pointing-game", torch.zeros(1, *SIZE), masks=everywhere).tolist() == [0.0]


def test_energy_is_the_share_of_positive_mass_in_plain_loops():
    maps, mask = lot_maps(1) - 0.3, box(3, 4, 15, 20)
    inside = sum(max(0.0, float(maps[0, y, x])) for y in range(3, 15) for x in range(4, 20))
    total = sum(max(0.0, float(v)) for v in maps.flatten())
    assert of("energy-pointing-game", maps, masks=mask).tolist() == pytest.approx([inside / total], rel=1e-5)


@pytest.mark.parametrize("name", ["pointing-game", "energy-pointing-game", "iou"])
def test_perfect_worst_and_everywhere(name):
    """The mask itself, its reverse, and, for energy, a map that is hot everywhere: it has the mask's share."""
    mask = box(2, 2, 8, 9)
    assert of(name, mask.float(), masks=mask).tolist() == [1.0]
    far = dot(23, 31) if name == "pointing-game" else (~mask).float()
    assert of(name, far, masks=mask).tolist() == [0.0]
    assert bool(of(name, mask.float(), masks=torch.zeros_like(mask)).isnan().all())
    if name == "energy-pointing-game":
        share = 42 / (24 * 32)
        assert of(name, torch.ones(1, *SIZE), masks=mask).tolist() == pytest.approx([share])
        assert of(name, -torch.ones(1, *SIZE), masks=mask).tolist() == [0.0]


def test_iou_equals_its_equation_in_plain_loops():
    maps, mask = lot_maps(1), box(3, 4, 15, 20)
    order = sorted(((y, x) for y in range(24) for x in range(32)), key=lambda place: -float(maps[0][place]))
    hottest = set(order[: int(mask.sum())])
    wanted = {(y, x) for y in range(3, 15) for x in range(4, 20)}
    expected = len(hottest & wanted) / len(hottest | wanted)
    assert of("iou", maps, masks=mask).tolist() == pytest.approx([expected])
    assert of("iou", maps * 5 - 2, masks=mask).tolist() == pytest.approx([expected]), "only the order counts"


def test_masks_that_lie_elsewhere_are_refused():
    with pytest.raises(ValueError, match="do not lie on heatmaps"):
        of("iou", lot_maps(1), masks=torch.ones(1, 5, 5, dtype=torch.bool))


def test_sparseness_and_complexity_equal_their_equations_in_plain_loops():
    maps = lot_maps(2, (6, 7)) - 0.4
    gini, entropy = of("sparseness", maps), of("complexity", maps)
    for i in range(2):
        sizes = sorted(abs(v) for v in maps[i].flatten().tolist())
        n, total = len(sizes), sum(sizes)
        expected = sum((2 * (k + 1) - n - 1) * a for k, a in enumerate(sizes)) / (n * total)
        assert float(gini[i]) == pytest.approx(expected, abs=1e-5)
        assert float(entropy[i]) == pytest.approx(-sum(a / total * math.log(a / total) for a in sizes), abs=1e-5)


def test_sparseness_and_complexity_on_paper():
    """One hot pixel of n: a Gini index of 1 - 1 / n, and no entropy. All alike: none, and log n. Half: log n/2."""
    n = 24 * 32
    half = torch.zeros(1, *SIZE)
    half[:, :12] = 3.0
    for maps, gini, entropy in (
        (dot(3, 4), 1 - 1 / n, 0.0), (torch.full((1, *SIZE), -2.0), 0.0, math.log(n)), (half, 0.5, math.log(n / 2)),
    ):  # fmt: skip
        assert of("sparseness", maps).tolist() == pytest.approx([gini], abs=1e-5)
        assert of("complexity", maps).tolist() == pytest.approx([entropy], abs=1e-5)
    for name in ("sparseness", "complexity"):
        assert bool(of(name, torch.zeros(1, *SIZE)).isnan().all()), "an empty map is neither"
