"""The signed view: what speaks for a class and what against it, on the crop and on the original."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from peer_networks import noise, patterns
from PIL import Image
from toy_networks import ColourCounter, SmallNet, classifier_of

from xaihub import explaining
from xaihub.explaining import explain
from xaihub.maps import shown
from xaihub.methods import METHODS
from xaihub.records import Evidence, Explanation, Prediction

assert explaining, "importing it registers the methods"
RAW = np.array([[2.0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, -4]], np.float32)


def evidence(raw=RAW, size=(16, 12), **facts):
    heatmap = shown(torch.tensor(raw)[None], size[::-1])[0].numpy()
    return Evidence(Image.new("RGB", size), "", heatmap=heatmap, raw=raw, facts={"signed": True, **facts})


def test_what_speaks_for_is_positive_and_what_speaks_against_negative_on_one_scale():
    signed = evidence().signed
    assert signed.shape == (12, 16)
    assert signed.dtype == np.float32
    assert signed[0, 0] == pytest.approx(0.5)
    assert signed[-1, -1] == pytest.approx(-1)
    assert signed[0, -1] == signed[-1, 0] == 0


def test_it_is_the_raw_map_enlarged_as_the_heatmap_is():
    raw = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    large = torch.nn.functional.interpolate(torch.tensor(raw)[None, None], (21, 40), mode="bilinear")[0, 0].numpy()
    np.testing.assert_allclose(evidence(raw, (40, 21)).signed, large / np.abs(large).max(), atol=1e-6)


def test_its_positive_part_is_the_heatmap_wherever_no_place_against_is_near():
    found = evidence()
    np.testing.assert_allclose(found.signed.clip(0), found.heatmap, atol=1e-6)
    assert found.heatmap[0, 0] == 0.5


@pytest.mark.parametrize("name", ["gradcam", "hirescam", "occlusion", "input-x-gradient"])
def test_the_positive_part_of_a_methods_signed_map_is_shaped_as_its_heatmap(name):
    """Not the very same: where places for and against meet, the signed map mixes them."""
    classifier = classifier_of(SmallNet(seed=2), size=(32, 48), target_layer="stem")
    found = explain(classifier, patterns(48), name, target=2)[name][0]
    assert found.signed.shape == found.heatmap.shape == (32, 48)
    assert np.abs(found.signed).max() == pytest.approx(1)
    assert (found.signed < 0).any()
    assert (found.signed[found.heatmap == 0] <= 0).all()
    assert (found.heatmap[found.signed > 0] > 0).all()
    assert np.corrcoef(found.signed.clip(0).ravel(), found.heatmap.ravel())[0, 1] > 0.9
    against = shown(torch.tensor(-found.raw)[None], (32, 48))[0].numpy()
    both = np.stack([found.heatmap.ravel(), -against.ravel()], 1)
    cut = (found.signed.ravel() == -1) | (np.abs(both) == 1).any(1)  # the hottest are cut off
    mixed = both[~cut] @ np.linalg.lstsq(both[~cut], found.signed.ravel()[~cut], rcond=None)[0]
    np.testing.assert_allclose(found.signed.ravel()[~cut], mixed, atol=1e-4)


def test_a_share_of_the_hottest_is_cut_off_where_the_heatmap_cuts_it_off():
    raw = np.ones((40, 50), np.float32)
    raw[3, 4], raw[5, 6] = 1000, -1000
    signed = evidence(raw, (50, 40), clip=0.005).signed
    assert signed[3, 4] == 1
    assert signed[5, 6] == -1
    assert signed[20, 20] == pytest.approx(1), "not a thousandth"
    assert evidence(raw, (50, 40)).signed[20, 20] == pytest.approx(0.001)


@pytest.mark.parametrize("raw", [np.zeros((2, 3), np.float32), np.full((2, 3), np.nan, np.float32)])
def test_a_map_of_nothing_has_no_sign_anywhere(raw):
    assert not evidence(raw).signed.any()


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if not method.shows_pictures])
def test_only_methods_whose_sign_means_something_have_a_signed_map(name):
    if "attention" in METHODS[name].needs:
        assert not METHODS[name].signed
        return
    found = explain(classifier_of(ColourCounter(), size=(8, 8)), noise(8), name, target="green")[name][0]
    assert (found.signed is not None) == METHODS[name].signed


def placed(found):
    image = found.image
    crop = (8.0, 6.0, 8.0 + image.width, 6.0 + image.height)
    said = Prediction(("a",), np.ones(1, np.float32))
    return Explanation(image, Image.new("RGB", (32, 24)), crop, said, 0, {"one": (found,)})


def test_on_the_original_it_lies_where_the_crop_was_with_its_sign():
    found = evidence()
    on_original = placed(found).on_original(found, signed=True)
    expected = np.zeros((24, 32), np.float32)
    expected[6:18, 8:24] = found.signed
    np.testing.assert_allclose(on_original, expected, atol=1e-6)
    assert on_original.min() == pytest.approx(-1)
    assert placed(found).on_original(found).min() == 0


def test_what_has_no_sign_cannot_be_laid_on_the_original_with_one():
    found = evidence(signed=False)
    assert found.signed is None
    with pytest.raises(ValueError, match=r"This evidence has no signed map\."):
        placed(found).on_original(found, signed=True)
    assert Evidence(found.image, "", facts={"signed": True}).signed is None, "no map at all"


def test_records_know_nothing_of_torch():
    code = "import sys, xaihub.records; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
