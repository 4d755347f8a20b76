"""Parts taken away: region perturbation, faithfulness correlation, infidelity; equations, captum, answers on paper."""

import numpy as np
import pytest
import torch
from metric_networks import SIZE, lot_maps, pictures, red_sum, sharp

from xaihub.metrics import METRICS
from xaihub.metrics.flipping import lots, region_places
from xaihub.metrics.subsets import random_squares, random_subsets

pytestmark = pytest.mark.agreement

TARGETS = torch.tensor([0, 1, 2])


def probability(classifier, picture, target):
    return float(classifier.logits(picture[None]).softmax(1)[0, target])


def test_region_perturbation_equals_its_equation_in_plain_loops():
    """Of regions that do not fill the picture: 24 x 32 in squares of 10 has smaller ones at the right and below."""
    classifier, pixels, maps, fill = sharp(), pictures(2), lot_maps(2), lots(pictures(2))
    found = METRICS["region-perturbation"].run(classifier, pixels, maps, TARGETS[:2], side=10, regions=7)
    for i in range(2):
        boxes = [(y, x) for y in range(0, 24, 10) for x in range(0, 32, 10)]
        boxes.sort(key=lambda box: -float(maps[i, box[0] : box[0] + 10, box[1] : box[1] + 10].sum()))
        picture, whole = pixels[i].clone(), probability(classifier, pixels[i], i)
        total = 0.0
        for y, x in boxes[:7]:
            picture[:, y : y + 10, x : x + 10] = fill[i, :, y : y + 10, x : x + 10]
            total += whole - probability(classifier, picture, i)
        assert float(found[i]) == pytest.approx(total / 8, abs=1e-5)
    assert float(found.abs().max()) > 0.05


def test_a_lot_is_the_pictures_own_and_stays_within_its_values():
    pixels = pictures(3)
    drawn = lots(pixels)
    assert torch.equal(drawn[1:], lots(pixels[1:]))
    assert bool((drawn.amax((1, 2, 3)) <= pixels.amax((1, 2, 3))).all())
    assert bool((drawn.amin((1, 2, 3)) >= pixels.amin((1, 2, 3))).all())
    spread = (drawn.amax((1, 2, 3)) - drawn.amin((1, 2, 3))) / (pixels.amax((1, 2, 3)) - pixels.amin((1, 2, 3)))
    assert float(spread.min()) > 0.99


def test_regions_are_ordered_by_their_heat():
    heat = torch.zeros(1, 4, 6)
    heat[0, 3, 5], heat[0, 0, 2] = 5.0, 3.0
    assert region_places(heat, 2)[0, ::2, ::2].tolist() == [[2, 1, 3], [4, 5, 0]]


def test_region_perturbation_on_paper():
    """All that counts lies in one region of 8 x 8: the perfect map scrambles it first, the worst last or never."""
    classifier, pixels = red_sum(0.5), torch.zeros(1, 3, *SIZE)
    pixels[0, 0, 8:16, 8:16] = 0.2
    run, target = METRICS["region-perturbation"].run, torch.tensor([0])
    whole = 1 / (1 + np.exp(-0.5 * 64 * 0.2))
    zeros = torch.zeros(1)
    best = float(run(classifier, pixels, pixels[:, 0], target, regions=9, fill=zeros))
    worst = float(run(classifier, pixels, -pixels[:, 0], target, regions=9, fill=zeros))
    assert best == pytest.approx((whole - 0.5) * 9 / 10, abs=1e-5)
    assert worst == pytest.approx(0, abs=1e-6)
    assert worst < float(run(classifier, pixels, lot_maps(1), target, regions=9, fill=zeros)) < best


def test_faithfulness_correlation_equals_its_equation_in_plain_loops():
    classifier, pixels, maps = sharp(), pictures(2), lot_maps(2)
    found = METRICS["faithfulness-correlation"].run(classifier, pixels, maps, TARGETS[:2], runs=12, size=40)
    for i in range(2):
        told, fell = [], []
        for chosen in random_subsets(pixels[i], 12, 40):
            assert int(chosen.sum()) == 40
            told.append(sum(maps[i][chosen].tolist()))
            without = pixels[i] * ~chosen
            fell.append(probability(classifier, pixels[i], i) - probability(classifier, without, i))
        assert float(found[i]) == pytest.approx(float(np.corrcoef(told, fell)[0, 1]), abs=1e-3)


def test_faithfulness_correlation_is_one_for_the_perfect_map_of_a_linear_network():
    """Each pixel's share of the logit is its red, so what the map says of a set is exactly what the logit loses."""
    classifier, pixels, target = red_sum(0.1), pictures(1), torch.tensor([0])
    best = pixels[:, 0]
    run = METRICS["faithfulness-correlation"].run
    values = [float(run(classifier, pixels, maps, target, logits=True)) for maps in (best, -best, lot_maps(1))]
    assert values[:2] == pytest.approx([1, -1], abs=1e-4)
    assert abs(values[2]) < 0.35
    assert bool(run(classifier, pixels, torch.ones_like(best), target, logits=True).isnan()), "a flat map says nothing"


def test_infidelity_is_nothing_for_the_perfect_map_of_a_linear_network_on_any_scale():
    classifier, pixels, target = red_sum(0.1), pictures(1), torch.tensor([0])
    run = METRICS["infidelity"].run
    best, worst = pixels[:, 0], torch.zeros_like(pixels[:, 0])
    found = [
        float(run(classifier, pixels, maps, target, logits=True)) for maps in (best, 30 * best, lot_maps(1), worst)
    ]
    assert found[0] == pytest.approx(0, abs=1e-6)
    assert found[1] == pytest.approx(0, abs=1e-6)
    assert found[2] > 0.01
    fell = [float(0.1 * (best[0] * square).sum()) for square in random_squares(pixels[0], 32)]
    assert found[3] == pytest.approx(np.mean(np.square(fell)), rel=1e-3), "a map that says nothing explains none of it"


def test_infidelity_agrees_with_captum():
    """The same squares: what theirs multiplies the map with is each pixel's share that is taken away, 1 or 0."""
    metrics = pytest.importorskip("captum.metrics")
    classifier, pixels, maps = sharp(), pictures(), lot_maps()
    squares = torch.stack([random_squares(picture, 10) for picture in pixels])  # (N, 10, H, W)

    def without(inputs):
        gone = squares.flatten(0, 1)[:, None].float()
        return gone.expand_as(inputs) / 3, inputs * (1 - gone)  # a third for each colour

    theirs = metrics.infidelity(
        lambda given: classifier.module(given).softmax(1), without, pixels, maps[:, None].expand_as(pixels),
        target=TARGETS, n_perturb_samples=10, normalize=True,
    )  # fmt: skip
    ours = METRICS["infidelity"].run(classifier, pixels, maps, TARGETS, squares=10)
    assert float(theirs.max()) > 0.005
    torch.testing.assert_close(ours, theirs.detach().float(), atol=1e-4, rtol=1e-3)


def test_squares_lie_on_the_picture_and_reach_all_of_it():
    drawn = random_squares(pictures(1)[0], 4000)
    assert drawn.sum((1, 2)).unique().tolist() == [36], "a quarter of 24 pixels, squared"
    assert bool(drawn.any(0).all()), "every pixel is in some of them"
