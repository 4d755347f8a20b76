"""Maps from altered pictures: equal to plain loops, and known on paper."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from toy_networks import classifier_of

from xaihub import perturbations
from xaihub.explaining import explain
from xaihub.methods import METHODS, Query
from xaihub.perturbations import Masks, occlusion, rise, rise_masks, windows

pytestmark = pytest.mark.agreement


class RedAtOnePlace(nn.Module):
    """Class 0 is the red of the pixel in row 9, column 20; class 1 the green of all others; class 2 is nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Conv2d(3, 9, 1, bias=False)
        with torch.no_grad():
            self.features.weight.copy_(torch.eye(3).repeat(3, 1)[:, :, None, None])

    def forward(self, pixels):
        maps = self.features(pixels)
        red, green = maps[:, 0, 9, 20], maps[:, 1].sum((1, 2)) - maps[:, 1, 9, 20]
        return torch.stack([8 * red, 0.1 * green, 0 * red], 1)


SIZE = (14, 28)


@pytest.fixture(scope="module")
def classifier():
    return classifier_of(RedAtOnePlace(), size=SIZE, target_layer="features")


def white():
    return Image.new("RGB", (SIZE[1], SIZE[0]), "white")


def test_windows_cover_every_pixel_and_stay_inside():
    for size in [(14, 28), (15, 29), (7, 7), (32, 48), (224, 224), (5, 3)]:
        covered = np.zeros(size, int)
        for top, left, bottom, right in windows(size):
            assert 0 <= top < bottom <= size[0]
            assert 0 <= left < right <= size[1]
            covered[top:bottom, left:right] += 1
        assert covered.min() >= 1, size
    assert windows((14, 28))[:3] == [(0, 0, 2, 4), (0, 2, 2, 6), (0, 4, 2, 8)], "a seventh, moved by half of that"
    assert len(windows((224, 224))) == 13 * 13


def test_occlusion_equals_its_mean_over_windows_in_plain_loops():
    covered = [(0, 0, 2, 3), (0, 1, 2, 4), (1, 2, 3, 5), (1, 0, 3, 2)]
    falls = torch.tensor([1.0, -2.0, 0.5, 4.0])
    found = occlusion(covered, falls, (3, 5))
    for y in range(3):
        for x in range(5):
            over = [float(f) for (t, left, b, r), f in zip(covered, falls, strict=True) if t <= y < b and left <= x < r]
            assert float(found[y, x]) == pytest.approx(sum(over) / len(over) if over else 0)


def test_occlusion_lights_what_the_class_loses_and_darkens_what_it_gains_by(classifier):
    raw = explain(classifier, white(), "occlusion", target=0)["occlusion"][0].raw
    assert raw.shape == SIZE
    touching = np.zeros(SIZE, bool)
    for top, left, bottom, right in windows(SIZE):
        touching[top:bottom, left:right] |= top <= 9 < bottom and left <= 20 < right
    assert np.array_equal(raw > 0, touching)
    assert raw[9, 20] == pytest.approx(8), "every window on it takes the whole logit"
    blue = explain(classifier, white(), "occlusion", target=2)["occlusion"][0]
    assert not blue.raw.any()
    assert "No positive evidence for 'blue'" in blue.caption


def test_rise_equals_its_equation_in_plain_loops():
    generator = torch.Generator().manual_seed(0)
    masks, scores = torch.rand(6, 3, 4, generator=generator), torch.rand(6, generator=generator)
    found = rise(masks.split(4), scores)
    expected = np.zeros((3, 4))
    for y in range(3):
        for x in range(4):
            seen = sum(float(masks[m, y, x]) for m in range(6))
            expected[y, x] = sum(float(scores[m] * masks[m, y, x]) for m in range(6)) / seen
    np.testing.assert_allclose(found.numpy(), expected - expected.min(), atol=1e-6)


def test_rise_of_a_pixel_that_no_mask_shows_is_a_number():
    masks = torch.tensor([[[0.0, 1.0]], [[0.0, 1.0]]])
    assert rise([masks], torch.tensor([0.5, 1.0])).tolist() == [[0, 0.75]]


def test_rise_masks_are_cells_enlarged_and_shifted_by_less_than_a_cell():
    masks = rise_masks((14, 28), 300)
    rows, columns = 2, 4
    assert masks.grids.shape == (300, 8, 8)
    assert set(masks.grids.unique().tolist()) == {0, 1}
    assert 0.45 < float(masks.grids.mean()) < 0.55
    assert sorted(set(masks.shifts[:, 0].tolist())) == list(range(rows))
    assert sorted(set(masks.shifts[:, 1].tolist())) == list(range(columns))
    large = masks.enlarged(slice(10, 13))
    assert large.shape == (3, 14, 28)
    assert torch.equal(large, rise_masks((14, 28), 300).enlarged(slice(10, 13))), "seeded: one map for one picture"
    for mask, grid, (down, right) in zip(large, masks.grids[10:13], masks.shifts[10:13].tolist(), strict=True):
        for y, x in [(0, 0), (13, 27), (6, 11), (3, 20)]:
            place = (y + down + 0.5) / rows - 0.5, (x + right + 0.5) / columns - 0.5
            assert float(mask[y, x]) == pytest.approx(between(grid, *place), abs=1e-6)


def between(grid, y, x):
    """Bilinear, the border repeated."""
    y, x = min(max(y, 0), len(grid) - 1), min(max(x, 0), len(grid[0]) - 1)
    top, left = int(y), int(x)
    below, right = min(top + 1, len(grid) - 1), min(left + 1, len(grid[0]) - 1)
    above = float(grid[top, left]) * (1 - x + left) + float(grid[top, right]) * (x - left)
    under = float(grid[below, left]) * (1 - x + left) + float(grid[below, right]) * (x - left)
    return above * (1 - y + top) + under * (y - top)


def test_rise_weighs_each_mask_by_the_targets_probability(classifier):
    query = Query(classifier, white(), target=0)
    raw = METHODS["rise"].run(query)[0].raw
    masks = rise_masks(SIZE)
    shown = masks.enlarged(slice(0, len(masks.grids)))
    probabilities = classifier.probabilities(classifier.logits(query.view.pixels * shown[:, None]))[:, 0]
    expected = torch.einsum("m,mhw->hw", probabilities, shown) / shown.sum(0)
    np.testing.assert_allclose(raw, (expected - expected.min()).numpy(), atol=1e-5)
    row, column = np.unravel_index(raw.argmax(), SIZE)
    assert abs(row - 9) <= 1
    assert abs(column - 20) <= 2


def test_masks_do_not_depend_on_how_they_are_cut_into_batches():
    masks = Masks(*rise_masks((9, 13), 7))
    together = masks.enlarged(slice(0, 7))
    apart = torch.cat([masks.enlarged(slice(start, min(start + 3, 7))) for start in (0, 3, 6)])
    assert torch.equal(together, apart)


def test_score_cam_sees_the_picture_through_each_channel_alone(classifier, monkeypatch):
    """All red is in channels 0, 3 and 6; they score most for red, so the map is theirs."""
    picture = np.zeros((*SIZE, 3), np.uint8)
    picture[9, 20] = (255, 0, 0)
    picture[:, 4] = (0, 255, 0)
    query = Query(classifier, Image.fromarray(picture), target=0)
    monkeypatch.setattr(perturbations, "BATCH", 4)  # nine channels do not fill their batches
    raw = METHODS["scorecam"].run(query)[0].raw

    pixels, maps = query.view.pixels, query.activations
    scores = []
    for k in range(9):
        low, high = float(maps[k].min()), float(maps[k].max())
        mask = (maps[k] - low) / (high - low + 1e-8)  # as large as the picture already
        scores.append(float(classifier.logits(pixels * mask)[0, 0]))
    shares = np.exp(scores) / np.exp(scores).sum()
    np.testing.assert_allclose(raw, sum(shares[k] * maps[k].numpy() for k in range(9)), atol=1e-6)
    assert np.unravel_index(raw.argmax(), SIZE) == (9, 20)


def test_ablation_cam_is_known_where_each_class_has_its_channel(classifier, monkeypatch):
    """Without channel 0 all of the red logit is gone, without any other nothing: the map is channel 0."""
    monkeypatch.setattr(perturbations, "ELEMENTS", 9 * SIZE[0] * SIZE[1] * 2)  # two channels at once
    query = Query(classifier, white(), target=0)
    raw = METHODS["ablationcam"].run(query)[0].raw
    np.testing.assert_allclose(raw, query.activations[0].numpy(), atol=1e-6)
