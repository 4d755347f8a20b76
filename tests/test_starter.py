"""The built-in starter: works with no network, and its right explanations are known."""

import numpy as np
import pytest

from xaihub.explaining import explain
from xaihub.loading import STARTER_FOLDER, load_classifier
from xaihub.references import load_references
from xaihub.synthetic import PETS, Nuisance, deciding_parts, draw_pet, paper_pets

HELD_OUT = 7_000  # a seed that neither training nor the references use


@pytest.fixture(scope="module")
def starter():
    return load_classifier("xaihub/paper-pets")


@pytest.fixture(scope="module")
def references():
    return load_references("xaihub/paper-pets")


def test_it_is_small_and_complete():
    weights = STARTER_FOLDER / "classifier" / "model.safetensors"
    assert weights.stat().st_size <= 3 * 2**20
    assert sum(path.stat().st_size for path in STARTER_FOLDER.rglob("*") if path.is_file()) <= 8 * 2**20
    suffixes = {path.suffix for path in STARTER_FOLDER.rglob("*") if path.is_file()}
    assert suffixes <= {".safetensors", ".json", ".parquet", ".png", ".md"}, "nothing pickled, nothing unknown"


def test_it_knows_the_pets_and_its_layer_is_proved(starter):
    assert sorted(starter.labels) == sorted(PETS)
    assert starter.target_layer.proof == "bottleneck"
    assert not starter.notices
    pets = list(paper_pets(100, seed=HELD_OUT))
    right = [starter.predict(pet.image).label == pet.label for pet in pets]
    assert np.mean(right) >= 0.95


def test_grad_cam_falls_on_the_deciding_parts_and_its_peak_on_the_pet(starter):
    """Energy pointing (Wang et al., 2020) as a lift over area, and the pointing game, over 200 held-out pictures."""
    lifts, peaks = [], []
    for pet in paper_pets(200, seed=HELD_OUT + 1):
        explanation = explain(starter, pet.image, ["gradcam"])
        heat = explanation.on_original(explanation["gradcam"][0])
        deciding = np.logical_or.reduce([pet.masks[part] for part in deciding_parts(pet.label)])
        assert heat.shape == deciding.shape
        lifts.append(heat[deciding].sum() / max(heat.sum(), 1e-9) / deciding.mean())
        peaks.append(pet.masks["pet"][np.unravel_index(heat.argmax(), heat.shape)])
    assert np.mean(lifts) >= 2, f"the deciding parts hold {np.mean(lifts):.2f} times the energy of their area"
    assert np.mean(peaks) >= 0.95, f"the peak hits the pet in {np.mean(peaks):.1%}"


def test_its_references_belong_to_it_and_give_three_of_each(starter, references):
    references.check(starter)
    assert set(references.labels) == set(PETS)
    for label in PETS:
        pet = draw_pet(label, HELD_OUT + 2)
        explanation = explain(starter, pet.image, ["twins", "counterfactuals"], references=references)
        assert len(explanation["twins"]) == 3
        assert len(explanation["counterfactuals"]) == 3
        assert not explanation.notes


def test_every_example_picture_is_told_right_and_is_not_among_the_references(starter, references):
    examples = sorted((STARTER_FOLDER / "examples").glob("*.png"))
    assert len(examples) >= len(PETS)
    for path in examples:
        explanation = explain(starter, path, ["twins"], references=references)
        assert explanation.prediction.label == path.stem.split("-")[0].split("_")[0]
        assert explanation.prediction.probability > 0.8
        assert not explanation.notes


def test_a_planted_mark_does_not_change_the_answer(starter):
    """The starter was trained without marks, so one in the corner should not decide."""
    same = [
        starter.predict(draw_pet(label, seed).image).label
        == starter.predict(draw_pet(label, seed, nuisance=Nuisance(corner_mark="dot")).image).label
        for label in PETS
        for seed in range(5)
    ]
    assert np.mean(same) >= 0.9
