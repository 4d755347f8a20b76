"""What Quantus computes on the same inputs, or the difference and its reason. In one file: it takes long to import.

Its features are single values of (3, H, W), ours are pixels: a map over pixels is repeated for the colours, and three
of its features go for one of ours.
"""

import warnings

import numpy as np
import pytest
import torch
from metric_networks import SIZE, import_quantus, lot_maps, pictures, sharp

from xaihub.cams import heatmaps
from xaihub.maps import enlarged
from xaihub.metrics import METRICS, curve
from xaihub.metrics.flipping import darkest
from xaihub.metrics.imputing import imputed
from xaihub.metrics.likeness import spearman
from xaihub.metrics.randomisation import other_classes, similarities
from xaihub.metrics.road import road_curves
from xaihub.metrics.robustness import noisy_copies
from xaihub.metrics.subsets import random_subsets

pytestmark = pytest.mark.agreement

TARGETS = torch.tensor([0, 1, 2])


@pytest.fixture(scope="module")
def quantus():
    return import_quantus()


@pytest.fixture(scope="module")
def classifier():
    return sharp()


@pytest.fixture(scope="module")
def pixels():
    return pictures()


@pytest.fixture(scope="module")
def maps():
    return lot_maps()


@pytest.fixture
def asked(quantus, classifier, pixels, maps):
    """A metric of theirs on the same pictures, with the same maps."""

    def ask(metric, **more):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return metric(
                model=classifier.module, x_batch=pixels.numpy(), y_batch=TARGETS.numpy(),
                a_batch=more.pop("a_batch", maps[:, None].numpy()), device="cpu", **more,
            )  # fmt: skip

    return ask


def plain(**more):
    """Maps as they are, and no remarks."""
    return {"normalise": False, "abs": False, "disable_warnings": True, "display_progressbar": False} | more


def gradcam_of_theirs(model, inputs, targets, **_):
    """Our Grad-CAM as a function that Quantus can call: of the network that it gives, which may have lost weights."""
    from dataclasses import replace

    state = replace(sharp(), module=model)
    given = torch.as_tensor(np.asarray(inputs), dtype=torch.float32)
    return our_gradcam(state, given, torch.as_tensor(targets))[:, None].numpy()


def our_gradcam(classifier, pixels, targets):
    """Enlarged: theirs must lie on the pixels."""
    return enlarged(heatmaps(classifier, pixels, targets), SIZE)


def test_pixel_flipping_gives_the_same_curve(quantus, asked, classifier, pixels, maps):
    """Theirs has no point before the first step."""
    theirs = asked(quantus.PixelFlipping(features_in_step=3 * SIZE[1], **plain()), softmax=True)
    ours = curve(classifier, pixels, maps, TARGETS, end=darkest(pixels))
    assert np.ptp(ours.numpy(), axis=1).min() > 0.05
    np.testing.assert_allclose(ours[:, 1:], theirs, atol=1e-4)


def test_region_perturbation_gives_the_same_curve_where_the_regions_fill_the_picture(
    quantus, asked, classifier, pixels, maps
):
    theirs = asked(quantus.RegionPerturbation(patch_size=8, regions_evaluation=12, **plain()), softmax=True)
    ours = METRICS["region-perturbation"].run(classifier, pixels, maps, TARGETS, regions=12, fill=darkest(pixels))
    np.testing.assert_allclose(ours, np.asarray(theirs).sum(1) / 13, atol=1e-4)  # f(x) - f(x) = 0 is the first of 13


def test_faithfulness_correlation_is_the_same_of_the_same_sets(quantus, asked, classifier, pixels, maps, monkeypatch):
    drawn = [random_subsets(picture, 20, 30) for picture in pixels]
    features = iter(
        [
            subset.expand(3, -1, -1).flatten().nonzero()[:, 0].numpy()
            for run in zip(*drawn, strict=True)
            for subset in run
        ]
    )
    monkeypatch.setattr(np.random, "choice", lambda *_, **__: next(features))
    metric = quantus.FaithfulnessCorrelation(
        nr_runs=20, subset_size=90, perturb_baseline=0.0, return_aggregate=False, **plain()
    )
    theirs = asked(metric, softmax=True)
    ours = METRICS["faithfulness-correlation"].run(classifier, pixels, maps, TARGETS, runs=20, size=30)
    np.testing.assert_allclose(ours, theirs, atol=1e-3)


def test_sparseness_and_complexity_are_the_same(quantus, asked, classifier, pixels):
    """Also of a map with empty places, where they add 1e-7 to each size, or 1e-12 in the logarithm."""
    some = lot_maps(seed=4)
    some[some < 0.7] = 0
    for name, metric in (("sparseness", quantus.Sparseness), ("complexity", quantus.Complexity)):
        theirs = asked(metric(**plain(abs=True)), a_batch=some[:, None].numpy().copy())
        np.testing.assert_allclose(METRICS[name].run(classifier, pixels, some, TARGETS), theirs, atol=1e-4)


def test_max_sensitivity_is_the_same_with_the_same_noise(quantus, asked, classifier, pixels, monkeypatch):
    copies = torch.stack([noisy_copies(picture, 0.05, 4) for picture in pixels])  # (N, 4, 3, H, W)
    taken = iter((copies - pixels[:, None]).transpose(0, 1).flatten(2).double().numpy())
    monkeypatch.setattr(np.random, "uniform", lambda **_: next(taken))
    first = our_gradcam(classifier, pixels, TARGETS)
    theirs = asked(
        quantus.MaxSensitivity(nr_samples=4, lower_bound=0.05, **plain()), explain_func=gradcam_of_theirs,
        a_batch=first[:, None].numpy(),
    )  # fmt: skip
    ours = METRICS["max-sensitivity"].run(
        classifier, pixels, first, TARGETS, explainer=our_gradcam, radius=0.05, copies=4
    )
    assert float(ours.min()) > 0.01
    np.testing.assert_allclose(ours, theirs, atol=1e-3)


def structural_on_pixels(first, second, **_):
    """Their structural similarity, asked of maps as one row: given back their shape, and scaled as the paper says."""
    from quantus.functions.similarity_func import ssim

    shaped = [np.reshape(one, (-1, *SIZE)) for one in (first, second)]
    found = [
        ssim(one / np.abs(one).max(), two / np.abs(two).max(), win_size=7) for one, two in zip(*shaped, strict=True)
    ]
    return np.array(found) if np.ndim(first) > 1 else found[0]


@pytest.mark.parametrize("likeness", ["spearman", "ssim"])
@pytest.mark.parametrize(("ours", "theirs"), [("cascading", "top_down"), ("independent", "independent")])
def test_model_randomisation_gives_the_same_likeness_after_each_layer(
    quantus, asked, classifier, pixels, ours, theirs, likeness
):
    """Their average over layers counts the untouched network's likeness, 1, as one of them; ours does not."""
    by = {} if likeness == "spearman" else {"similarity_func": structural_on_pixels}
    metric = quantus.MPRT(layer_order=theirs, seed=0, **plain(), **by)
    first = our_gradcam(classifier, pixels, TARGETS)
    found = asked(metric, explain_func=gradcam_of_theirs, a_batch=first[:, None].numpy())
    found.pop("original")
    expected = np.array([found[name] for name in found]).T
    mine = similarities(classifier, pixels, TARGETS, our_gradcam, ours, None, likeness).numpy()
    if ours == "independent":
        mine = mine[:, ::-1]  # they go from the bottom up there
    assert expected.shape[1] == 4, "two convolutions, a batch norm and the head"
    np.testing.assert_allclose(mine, expected, atol=1e-3)


@pytest.mark.parametrize("likeness", ["spearman", "ssim"])
def test_random_logit_is_the_same_for_the_same_class(quantus, asked, classifier, pixels, monkeypatch, likeness):
    """Their default is a structural similarity over the map as one row of numbers, which has no places."""
    others = other_classes(pixels, TARGETS, 3)
    among = [[c for c in range(3) if c != int(t)].index(int(o)) for t, o in zip(TARGETS, others, strict=True)]
    monkeypatch.setattr(np.random, "randint", lambda *_: np.array(among))
    first = our_gradcam(classifier, pixels, TARGETS)
    by = quantus.similarity_func.correlation_spearman if likeness == "spearman" else structural_on_pixels
    metric = quantus.RandomLogit(similarity_func=by, num_classes=3, **plain())
    theirs = asked(metric, explain_func=gradcam_of_theirs, a_batch=first[:, None].numpy())
    ours = METRICS["random-logit"].run(classifier, pixels, first, TARGETS, explainer=our_gradcam, likeness=likeness)
    np.testing.assert_allclose(ours, theirs, atol=1e-3)
    if likeness == "spearman":
        np.testing.assert_allclose(ours, spearman(first, our_gradcam(classifier, pixels, others)), atol=1e-6)


def test_road_fills_in_as_quantus_does(quantus, maps, pixels):
    """Its imputation of a picture of three colours, without noise."""
    from quantus.functions.perturb_func import noisy_linear_imputation

    for share in (0.2, 0.8):
        missing = maps < share
        ours = imputed(pixels, missing)
        for picture, hole, filled in zip(pixels, missing, ours, strict=True):
            indices = hole.flatten().nonzero()[:, 0].numpy()
            theirs = noisy_linear_imputation(picture.numpy(), indices, noise=0.0)
            np.testing.assert_allclose(filled, theirs.reshape(3, *SIZE), atol=2e-3)


def test_road_itself_fails_on_colours_there(quantus, asked):
    """It takes indices of values (3 H W) for those of pixels (H W): so it is the imputation that is compared."""
    with pytest.raises(IndexError):
        asked(quantus.ROAD(noise=0.0, percentages=[50], **plain()))


def test_road_of_one_colour_gives_the_same_accuracy(quantus, pixels, maps):
    """Theirs is the share of pictures that are still answered with the target; ours the target's probability."""
    from metric_networks import grey_sharp

    classifier, grey = grey_sharp(), pixels[:, :1]
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        targets = classifier.module(grey).argmax(1)
        theirs = quantus.ROAD(noise=0.0, percentages=[20, 50, 80], **plain())(
            model=classifier.module, x_batch=grey.numpy(), y_batch=targets.numpy(), a_batch=maps[:, None].numpy(),
            device="cpu",
        )  # fmt: skip
    ours = road_curves(classifier, grey, maps, targets, shares=(0.2, 0.5, 0.8), hottest=(True,), noise=0.0)[:, 0]
    for share, kept in zip((20, 50, 80), (ours > 0.5).float().mean(0).tolist(), strict=True):
        assert theirs[share] == pytest.approx(kept)
