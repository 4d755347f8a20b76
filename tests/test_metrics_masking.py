"""Average drop, increase in confidence, ADCC: torch-cam's figures, equations in plain loops, answers on paper."""

import math

import pytest
import torch
from metric_networks import SIZE, lot_maps, pictures, red_sum, sharp

from xaihub.maps import enlarged
from xaihub.metrics import METRICS, explainer_of
from xaihub.metrics.masking import coherency, seen_through, whole_and_seen_through

pytestmark = pytest.mark.agreement

TARGETS = torch.tensor([0, 1, 2])


def test_average_drop_and_increase_equal_their_equations_in_plain_loops():
    classifier, pixels, maps = sharp(), pictures(), lot_maps()
    drops = METRICS["average-drop"].run(classifier, pixels, maps, TARGETS)
    rises = METRICS["increase-in-confidence"].run(classifier, pixels, maps, TARGETS)
    for i in range(3):
        whole = float(classifier.logits(pixels[i : i + 1]).softmax(1)[0, TARGETS[i]])
        masked = pixels[i] * (maps[i] / maps[i].max())
        through = float(classifier.logits(masked[None]).softmax(1)[0, TARGETS[i]])
        assert float(drops[i]) == pytest.approx(max(0.0, whole - through) / whole, abs=1e-5)
        assert float(rises[i]) == (1.0 if through > whole else 0.0)
    assert 0 < float(rises.mean()) < 1 or float(drops.max()) > 0.05, "something moves"


def test_average_drop_and_increase_agree_with_torch_cam():
    """They scale the coarse map to 1 and then enlarge it, so what they multiply by stays below 1; ours reaches it.

    With the mask as they make it the two are the same, and with ours the drop differs by no more than that.
    """
    metrics = pytest.importorskip("torchcam.metrics")
    methods = pytest.importorskip("torchcam.methods")
    classifier, pixels, targets = sharp(), pictures(4), torch.tensor([0, 1, 2, 0])
    with methods.LayerCAM(classifier.module, target_layer="net.after") as extractor:
        peer = metrics.ClassificationMetric(extractor, lambda logits: logits.softmax(-1))
        peer.update(pixels, targets.tolist())
        cam = extractor(targets.tolist(), classifier.module(pixels).softmax(-1))[0]
    theirs, maps = peer.summary(), enlarged(cam, SIZE)
    largest = maps.amax((1, 2), keepdim=True)
    assert 0.8 < float(largest.min()) < 1

    drops = METRICS["average-drop"].run(classifier, pixels * largest[:, None], maps, targets)
    whole, _ = whole_and_seen_through(classifier, pixels, maps, targets)
    dimmed, through = whole_and_seen_through(classifier, pixels * largest[:, None], maps, targets)
    assert float(((whole - through).relu() / whole).mean()) == pytest.approx(theirs["avg_drop"], abs=1e-4)
    torch.testing.assert_close(drops, (dimmed - through).relu() / dimmed, atol=1e-5, rtol=0)
    assert float((whole < through).float().mean()) == pytest.approx(theirs["conf_increase"])
    ours = METRICS["average-drop"].run(classifier, pixels, maps, targets)
    assert float(ours.mean()) == pytest.approx(theirs["avg_drop"], abs=0.02)


def test_the_perfect_map_loses_nothing_and_the_worst_all_that_can_be_lost():
    classifier, pixels = red_sum(0.6), torch.zeros(1, 3, *SIZE)
    pixels[0, 0, 2, 3:13] = 1.0
    whole, target = 1 / (1 + math.exp(-6)), torch.tensor([0])
    best = pixels[:, 0].clone()
    for maps, drop in ((best, 0.0), (1 - best, (whole - 0.5) / whole), (torch.ones_like(best), 0.0)):
        assert float(METRICS["average-drop"].run(classifier, pixels, maps, target)) == pytest.approx(drop, abs=1e-5)


def test_hiding_what_speaks_against_the_class_raises_it():
    classifier, pixels = red_sum(0.6), torch.zeros(1, 3, *SIZE)
    pixels[0, 0, 2, 3:13], pixels[0, 0, 20, :5] = 1.0, -1.0
    best = (pixels[:, 0] > 0).float()
    run = METRICS["increase-in-confidence"].run
    assert run(classifier, pixels, best, torch.tensor([0])).tolist() == [1.0]
    assert run(classifier, pixels, 1 - best, torch.tensor([0])).tolist() == [0.0]


def test_negative_heat_hides_and_any_scale_is_the_same():
    pixels, maps = pictures(), lot_maps() - 0.5
    through = seen_through(pixels, maps)
    assert float(through[:, :, 0][(maps[:, 0] < 0)[:, None].expand_as(through[:, :, 0])].abs().max()) == 0
    torch.testing.assert_close(seen_through(pixels, maps * 7), through)


def test_adcc_equals_its_equation_in_plain_loops():
    classifier, pixels, explainer = sharp(), pictures(), explainer_of("gradcam")
    maps = torch.nn.functional.interpolate(explainer(classifier, pixels, TARGETS)[:, None].relu(), SIZE)[:, 0]
    found = METRICS["adcc"].run(classifier, pixels, maps, TARGETS, explainer=explainer)
    drops = METRICS["average-drop"].run(classifier, pixels, maps, TARGETS)
    alike = coherency(classifier, pixels, maps, TARGETS, explainer)
    for i in range(3):
        heat = (maps[i] / maps[i].max()).flatten().tolist()
        complexity = sum(heat) / len(heat)
        terms = [float(alike[i]), 1 - complexity, 1 - float(drops[i])]
        expected = 3 / sum(1 / term for term in terms) if min(terms) > 0 else 0.0
        assert float(found[i]) == pytest.approx(expected, abs=1e-4)


def test_coherency_is_pearsons_correlation_of_the_map_with_the_map_of_what_it_shows():
    """One explainer gives the same map again, one its reverse, and one a flat map, which is like nothing."""
    classifier, pixels, maps = sharp(), pictures(), lot_maps()
    for again, expected in ((maps, 1.0), (1 - maps, 0.0), (torch.ones_like(maps), 0.0)):
        alike = coherency(classifier, pixels, maps, TARGETS, lambda *_, again=again: again)
        assert alike.tolist() == pytest.approx([expected] * 3, abs=1e-5)


def test_adcc_of_a_map_that_is_hot_everywhere_is_nothing():
    """It loses no probability, which is what the harmonic mean is for."""
    ones = torch.ones(3, *SIZE)
    found = METRICS["adcc"].run(sharp(), pictures(), ones, TARGETS, explainer=lambda *_: ones)
    assert found.tolist() == [0.0] * 3


def test_adcc_is_known_on_paper_for_the_perfect_and_the_worst_map():
    """A red square is all that is said: its own map keeps it, is as dark as can be, and comes out the same again."""
    classifier, pixels = red_sum(), torch.zeros(1, 3, *SIZE)
    pixels[:, 0, 6:12, 8:16] = 1
    perfect = pixels[:, 0]

    def red(_classifier, pixels, _targets):
        return pixels[:, 0]

    def adcc(maps):
        return float(METRICS["adcc"].run(classifier, pixels, maps, torch.tensor([0]), explainer=red))

    assert adcc(perfect) == pytest.approx(3 / (1 / 1 + 1 / (1 - 48 / 768) + 1 / 1), abs=1e-4)
    assert adcc(1 - perfect) == 0  # nothing is left to be explained
    assert 0 < adcc(lot_maps(1)) < 0.9 * adcc(perfect)
