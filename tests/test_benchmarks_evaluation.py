"""docs/BENCHMARK.md is written from scores alone: its marks follow from their intervals."""

import sys
from pathlib import Path

import pytest
from test_evaluation_report import scored
from toy_networks import ColourCounter, classifier_of

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.evaluation.page import cell, matrix, page
from benchmarks.evaluation.settings import Setting
from xaihub.datasets import from_pairs

SCORES = [
    scored("gradcam", 0.8, "insertion-deletion", random=0.2, centre=0.1, edges=0.1),
    scored("layercam", 0.5, "insertion-deletion", random=0.1, centre=-0.1, edges=0.1),
    scored("eigencam", 0.3, "insertion-deletion", random=-0.2, centre=0.1, edges=0.1),
    scored("random", 0.2, "insertion-deletion"),
    scored("gradcam", 0.6, "sparseness", random=-0.1),
]


@pytest.mark.parametrize(
    ("place", "words"),
    [
        (0, "0.800 (0.700–0.900) ★"),
        (1, "0.500 (0.400–0.600)"),
        (2, "0.300 (0.200–0.400) ✗"),
        (4, "0.600 (0.500–0.700)"),
    ],
)
def test_a_star_is_better_than_all_three_and_a_cross_no_better_than_random(place, words):
    assert cell(SCORES[place]) == words


def test_the_page_has_every_model_and_says_what_fails():
    setting = Setting("A model", "nine pictures", classifier_of(ColourCounter()), from_pairs("none", []))
    text = page([(setting, SCORES)], (setting, SCORES[:1]))

    assert "| Grad-CAM | 0.800 (0.700–0.900) ★ | 0.600 (0.500–0.700) |" in matrix(SCORES)
    assert "### A model\n\nNine pictures; layer features, n = 20." in text
    assert "- Eigen-CAM is no better than random by Insertion minus deletion, although better than a blob in" in text
    assert "| *random map* | 0.200 (0.100–0.300) |" in text
    assert "- **Sparseness** ↑ Gini index" in text
    assert "{" not in text, "nothing was left to fill in"
