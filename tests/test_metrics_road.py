"""ROAD: the filled pixels solve its equations, the scores are pytorch-grad-cam's, and answers are known on paper."""

import numpy as np
import pytest
import torch
from metric_networks import SIZE, lot_maps, pictures, red_sum, sharp
from torch.nn.functional import interpolate

from xaihub.metrics import METRICS
from xaihub.metrics.imputing import imputed
from xaihub.metrics.road import road_curves

pytestmark = pytest.mark.agreement

TARGETS = torch.tensor([0, 1, 2])
WEIGHTS = {0: 1 / 6, 1: 1 / 12}  # of a neighbour at an edge, at a corner


def residual(filled, missing):
    """How far each missing pixel is from the weighted mean of those of its neighbours that are on the picture."""
    height, width, values, worst = *missing.shape, filled.tolist(), 0.0
    for row in range(height):
        for column in range(width):
            if not missing[row][column]:
                continue
            for colour in values:
                total = weight = 0.0
                for y in range(max(0, row - 1), min(height, row + 2)):
                    for x in range(max(0, column - 1), min(width, column + 2)):
                        if (y, x) != (row, column):
                            share = WEIGHTS[abs(y - row) * abs(x - column)]
                            total, weight = total + share * colour[y][x], weight + share
                worst = max(worst, abs(colour[row][column] - total / weight))
    return worst


@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
@pytest.mark.parametrize("size", [(24, 32), (17, 31), (9, 70)])
def test_each_filled_pixel_is_the_weighted_mean_of_its_neighbours(size, share):
    """Also where sizes halve into no whole numbers, and where nearly nothing is left."""
    pixels = pictures(1, size)
    for grain in ((3, 4), size):
        heat = interpolate(torch.rand(1, 1, *grain, generator=torch.Generator().manual_seed(1)), size, mode="bilinear")
        missing = heat[:, 0] <= heat.quantile(share)
        filled = imputed(pixels, missing)
        assert torch.equal(filled[:, :, ~missing[0]], pixels[:, :, ~missing[0]]), "what is there stays"
        assert residual(filled[0], missing[0]) < 1e-3


def test_a_ramp_with_a_hole_is_filled_as_the_ramp():
    """A plane is the mean of what lies around each of its points, so the answer is known on paper."""
    ramp = (torch.arange(24.0)[:, None] / 10 - torch.arange(32.0) / 20).expand(1, 3, -1, -1)
    missing = torch.zeros(1, *SIZE, dtype=torch.bool)
    missing[:, 4:20, 3:30] = True
    torch.testing.assert_close(imputed(ramp, missing), ramp, atol=2e-3, rtol=0)


def test_masks_do_not_depend_on_each_other_and_nothing_missing_changes_nothing():
    pixels, missing = pictures(4), lot_maps(4) < 0.6
    missing[2] = False
    together = imputed(pixels, missing)
    for i in range(4):
        torch.testing.assert_close(together[i], imputed(pixels[i : i + 1], missing[i : i + 1])[0], atol=2e-3, rtol=0)
    assert torch.equal(together[2], pixels[2])


def test_a_picture_of_which_nothing_is_left_is_grey_not_an_error():
    assert torch.equal(imputed(pictures(1), torch.ones(1, *SIZE, dtype=torch.bool)), torch.zeros(1, 3, *SIZE))


def test_noise_comes_on_filled_pixels_only_and_is_the_pictures_own():
    pixels, missing = pictures(2), lot_maps(2) < 0.5
    noise = torch.ones_like(pixels)
    both = imputed(pixels, missing, noise) - imputed(pixels, missing)
    torch.testing.assert_close(both, missing[:, None].float().expand_as(both), atol=1e-5, rtol=0)


@pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")  # theirs
def test_road_gives_pytorch_grad_cams_scores():
    """Combined, and each order once the whole picture's score, which they take away, is put back.

    Their noise is drawn anew for every mask; both are without it here, and the two noises are compared below.
    """
    road = pytest.importorskip("pytorch_grad_cam.metrics.road")
    targets_of = pytest.importorskip("pytorch_grad_cam.utils.model_targets")
    classifier, pixels, maps = sharp(), pictures(), lot_maps()
    shares = (0.2, 0.4, 0.6, 0.8)
    percentiles = [round(100 - 100 * share) for share in shares]  # what they keep
    ours = road_curves(classifier, pixels, maps, TARGETS, shares=shares, noise=0.0).mean(2)
    asked = [targets_of.ClassifierOutputSoftmaxTarget(int(t)) for t in TARGETS]
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(road.NoisyLinearImputer.__init__, "__defaults__", (0.0, road.neighbors_weights))
        given = {"input_tensor": pixels, "cams": maps.numpy(), "targets": asked, "model": classifier.module}
        whole = classifier.module(pixels).softmax(1).gather(1, TARGETS[:, None])[:, 0].numpy()
        morf = road.ROADMostRelevantFirstAverage(percentiles)(**given) + whole
        lerf = road.ROADLeastRelevantFirstAverage(percentiles)(**given) + whole
        both = road.ROADCombined(percentiles)(**given)
    assert np.abs(both).max() > 0.01
    np.testing.assert_allclose(ours[:, 0], morf, atol=1e-3)
    np.testing.assert_allclose(ours[:, 1], lerf, atol=1e-3)
    np.testing.assert_allclose((ours[:, 1] - ours[:, 0]) / 2, both, atol=1e-3)


def test_the_noise_moves_the_score_by_less_than_a_percent():
    classifier, pixels, maps = sharp(), pictures(), lot_maps()
    without = road_curves(classifier, pixels, maps, TARGETS, noise=0.0)
    assert 0 < float((road_curves(classifier, pixels, maps, TARGETS) - without).abs().max()) < 0.01


def test_road_tells_the_perfect_map_from_the_worst_on_paper():
    """A red disc of which the class is made, on black: filled in from its surroundings it is gone, and so is the class.

    A map that tells nothing loses as much from either end.
    """
    classifier = red_sum(0.05)
    rows, columns = torch.arange(24)[:, None] - 12, torch.arange(32)[None] - 16
    disc = (rows**2 + columns**2 < 30).float()
    pixels = torch.zeros(1, 3, *SIZE)
    pixels[0, 0] = disc
    target = torch.tensor([0])
    best = disc[None] + 1e-3 * lot_maps(1)
    value = {sign: float(METRICS["road"].run(classifier, pixels, sign * best, target)) for sign in (1, -1)}
    assert value[1] == pytest.approx(-value[-1], abs=1e-3)
    whole = 1 / (1 + np.exp(-0.05 * float(disc.sum())))
    assert float(METRICS["road-morf"].run(classifier, pixels, best, target)) == pytest.approx(0.5, abs=0.02)
    assert float(METRICS["road-lerf"].run(classifier, pixels, best, target)) == pytest.approx(whole, abs=0.02)
    assert value[1] == pytest.approx((whole - 0.5) / 2, abs=0.02)
    assert abs(float(METRICS["road"].run(classifier, pixels, lot_maps(1), target))) < value[1] / 4


def test_the_parts_of_road_add_up_to_it():
    classifier, pixels, maps = sharp(), pictures(), lot_maps()
    found = {name: METRICS[name].run(classifier, pixels, maps, TARGETS) for name in ("road", "road-morf", "road-lerf")}
    torch.testing.assert_close(found["road"], METRICS["road"].combine(found["road-lerf"], found["road-morf"]))
