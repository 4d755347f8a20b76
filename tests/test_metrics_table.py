"""The table of metrics, the suite, baselines, and what holds for every metric of maps."""

import re

import pytest
import torch
from metric_networks import SIZE, lot_maps, pictures, sharp

import xaihub
from xaihub.errors import UnknownNameError
from xaihub.metrics import (
    BASELINES,
    DEFAULT_SUITE,
    METRICS,
    SUITE_SETTINGS,
    baseline_explainer,
    baseline_maps,
    explainer_of,
    measure,
    metric,
)

TARGETS = torch.tensor([0, 1, 2])
OF_MAPS = [name for name, entry in METRICS.items() if entry.of == "maps"]
QUICK = {name: {"steps": 6} for name in ("deletion", "insertion", "insertion-deletion", "pixel-flipping")} | {
    "region-perturbation": {"regions": 6},
    "faithfulness-correlation": {"runs": 6},
    "infidelity": {"squares": 6},
    "max-sensitivity": {"copies": 3},
    "cascading-randomisation": {"stages": 2},
    "independent-randomisation": {"stages": 2},
    "road": {"shares": (0.3, 0.7)},
    "road-morf": {"shares": (0.3, 0.7)},
    "road-lerf": {"shares": (0.3, 0.7)},
}


def masks(count=3):
    found = torch.zeros(count, *SIZE, dtype=torch.bool)
    found[:, 3:12, 4:20] = True
    return found


def everything(classifier, pixels, maps, targets, names=OF_MAPS, **more):
    given = {"masks": masks(len(pixels)), "explainer": explainer_of("gradcam"), "settings": QUICK} | more
    return measure(classifier, pixels, maps, targets, names, **given)


def test_every_metric_that_was_promised_is_there():
    assert set(OF_MAPS) == {
        "deletion", "insertion", "insertion-deletion", "road-morf", "road-lerf", "road", "average-drop",
        "increase-in-confidence", "adcc", "pixel-flipping", "region-perturbation", "faithfulness-correlation",
        "infidelity", "max-sensitivity", "cascading-randomisation", "independent-randomisation", "random-logit",
        "sparseness", "complexity", "pointing-game", "energy-pointing-game", "iou",
    }  # fmt: skip
    assert set(DEFAULT_SUITE) <= set(METRICS)
    assert set(SUITE_SETTINGS) <= set(DEFAULT_SUITE)


@pytest.mark.parametrize("name", list(METRICS))
def test_every_metric_says_what_it_is(name):
    entry = METRICS[name]
    assert entry.summary.endswith(".")
    assert len(entry.summary) > 20
    assert entry.title
    assert set(entry.parts) <= set(METRICS)


@pytest.mark.parametrize("name", [name for name in OF_MAPS if not METRICS[name].parts])
def test_every_metric_of_maps_names_its_source(name):
    assert re.search(r"\b(19|20)\d\d\b", METRICS[name].run.__doc__), "the paper's year"


def test_no_value_depends_on_the_batch_that_a_picture_is_in():
    """Lots are drawn from each picture's own pixels; what is left is rounding, and the imputation's exactness."""
    classifier, pixels, maps = sharp(), pictures(), lot_maps()
    together = everything(classifier, pixels, maps, TARGETS)
    turned = everything(classifier, pixels.flip(0), maps.flip(0), TARGETS.flip(0))
    alone = everything(classifier, pixels[1:2], maps[1:2], TARGETS[1:2])
    for name in OF_MAPS:
        assert together[name].shape == (3,), name
        assert together[name].device.type == "cpu"
        assert not together[name].isnan().any(), name
        torch.testing.assert_close(turned[name].flip(0), together[name], atol=1e-3, rtol=1e-3, msg=name)
        torch.testing.assert_close(alone[name], together[name][1:2], atol=1e-3, rtol=1e-3, msg=name)


def test_metrics_leave_the_classifier_as_it_was():
    classifier = sharp()
    classifier.module.train()
    before = {name: tensor.clone() for name, tensor in classifier.module.state_dict().items()}
    everything(classifier, pictures(), lot_maps(), TARGETS)
    assert all(part.training for part in (classifier.module, classifier.module.net.head))
    for part in classifier.module.modules():
        assert not part._forward_hooks
        assert not part._forward_pre_hooks
    for name, tensor in classifier.module.state_dict().items():
        assert torch.equal(tensor, before[name])
    assert all(parameter.grad is None for parameter in classifier.module.parameters())


def test_a_caller_without_gradients_gets_the_same():
    classifier, pixels, maps = sharp(), pictures(), lot_maps()
    names = ["adcc", "max-sensitivity", "random-logit", "deletion"]
    expected = everything(classifier, pixels, maps, TARGETS, names)
    for quietly in (torch.no_grad, torch.inference_mode):
        with quietly():
            found = everything(classifier, pixels, maps, TARGETS, names)
        for name in names:
            torch.testing.assert_close(found[name].clone(), expected[name], atol=1e-5, rtol=1e-4)
    for name in ("adcc", "random-logit"):
        with torch.no_grad():
            measure(classifier, pixels, maps, TARGETS, [name], explainer=explainer_of("input-x-gradient"))


def test_metrics_leave_pixels_and_maps_as_they_were():
    pixels, maps = pictures(), lot_maps()
    kept = pixels.clone(), maps.clone()
    everything(sharp(), pixels, maps, TARGETS)
    assert torch.equal(pixels, kept[0])
    assert torch.equal(maps, kept[1])


def test_what_adds_up_from_parts_is_not_measured_twice():
    classifier, pixels, maps = sharp(), pictures(), lot_maps()
    seen = []
    handle = classifier.module.register_forward_hook(lambda module, given, out: seen.append(len(given[0])))
    names = ["insertion", "insertion-deletion", "deletion"]
    found = measure(classifier, pixels, maps, TARGETS, names, settings={name: {"steps": 4} for name in names})
    assert sum(seen) == 3 * 2 * 5
    assert list(found) == names
    torch.testing.assert_close(found["insertion-deletion"], found["insertion"] - found["deletion"])
    seen.clear()
    apart = measure(classifier, pixels, maps, TARGETS, names, settings={"insertion-deletion": {"steps": 5}} | {
        name: {"steps": 4} for name in ("insertion", "deletion")
    })  # fmt: skip
    handle.remove()
    assert sum(seen) == 3 * (2 * 5 + 11), "at other steps it is another number"
    assert not torch.equal(apart["insertion-deletion"], found["insertion-deletion"])


def test_what_lacks_masks_or_an_explainer_says_nothing():
    found = measure(sharp(), pictures(), lot_maps(), TARGETS, ["iou", "adcc", "sparseness"])
    assert bool(found["iou"].isnan().all())
    assert bool(found["adcc"].isnan().all())
    assert not found["sparseness"].isnan().any()


def test_an_unknown_metric_is_refused_with_the_nearest_name():
    with pytest.raises(UnknownNameError, match=r"no metric called 'delition'\. Did you mean 'deletion'"):
        measure(sharp(), pictures(), lot_maps(), TARGETS, ["delition"])


def test_a_metric_of_ones_own_is_one_decorator():
    @metric("heat-of-the-first-pixel", higher_is_better=True, category="complexity")
    def first(classifier, pixels, heatmaps, targets):
        """The first pixel's heat."""
        return heatmaps[:, 0, 0]

    try:
        found = measure(sharp(), pictures(), lot_maps(), TARGETS, ["heat-of-the-first-pixel"])
        assert torch.equal(found["heat-of-the-first-pixel"], lot_maps()[:, 0, 0])
        assert METRICS["heat-of-the-first-pixel"].title == "Heat of the first pixel"
        assert METRICS["heat-of-the-first-pixel"].summary == "The first pixel's heat."
        assert xaihub.METRICS is METRICS
    finally:
        METRICS._entries.pop("heat-of-the-first-pixel")


@pytest.mark.parametrize("name", list(BASELINES))
def test_baselines_are_maps_of_each_pictures_own(name):
    pixels = pictures(4)
    maps = baseline_maps(name, pixels, grid=(6, 8))
    assert maps.shape == (4, *SIZE)
    assert float(maps.min()) >= 0
    assert maps.flatten(1).amax(1).tolist() == pytest.approx([1.0] * 4)
    assert torch.equal(baseline_maps(name, pixels[2:3], grid=(6, 8))[0], maps[2])
    assert torch.equal(baseline_explainer(name, (6, 8))(sharp(), pixels, TARGETS), maps)


def test_the_random_map_has_a_grain_and_another_seed_another_lot():
    """Single random pixels would ask another question, so values are drawn on the layer's grid and enlarged."""
    pixels = pictures(2, (48, 64))
    coarse, fine = (baseline_maps("random", pixels, grid=grid) for grid in ((3, 4), (24, 32)))
    step = [float((maps[:, 1:] - maps[:, :-1]).abs().mean()) for maps in (coarse, fine)]
    assert step[0] < step[1] / 4
    assert not torch.equal(coarse[0], coarse[1])
    assert not torch.equal(coarse, baseline_maps("random", pixels, grid=(3, 4), seed=1))


def test_the_centre_is_a_gaussian_and_edges_are_where_the_picture_is_steep():
    """A step from black to white in the right third: no edge elsewhere, and none at the picture's own border."""
    pixels = torch.zeros(1, 3, 24, 36)
    pixels[..., 24:] = 1.0
    edges = baseline_maps("edges", pixels, grid=(4, 6))[0]
    assert int(edges.mean(0).argmax()) in range(20, 28)
    assert float(edges[:, :15].max()) == 0
    assert float(edges[:, -1].max()) < 0.3
    centre = baseline_maps("centre", torch.zeros(1, 3, 25, 25))[0]
    assert float(centre[12, 12]) == 1
    expected = torch.exp(torch.tensor(-0.5 * (0.24 / 0.25) ** 2))
    assert float(centre[12, 18]) == pytest.approx(float(expected), abs=1e-4)
    torch.testing.assert_close(centre, centre.T)


def test_an_unknown_baseline_is_refused():
    with pytest.raises(ValueError, match="There is no baseline 'noise'"):
        baseline_maps("noise", pictures(1))
