"""The table of held-out images, of logits whose figures are known on paper."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks import finetuning
from benchmarks.prototypes.kept import Piece, take


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XAIHUB_CACHE", str(tmp_path))


def half(logits, truth, name, seconds):
    spent = {"cpu": seconds, "wall": seconds / 2}
    made = {"truth": truth, "logits": {"as found": logits}, "temperature": 0.5, "training": spent, "trained": "all"}
    return Piece(name, [name], lambda: dict(made))


def test_a_line_tells_the_share_right_over_both_halves_and_their_mean_seconds(capsys):
    sure, wrong = [[9.0, -9.0], [-9.0, 9.0]], [[9.0, -9.0], [9.0, -9.0]]
    halves = [half(sure, [0, 1], "first", 10.0), half(wrong, [0, 1], "second", 20.0)]
    for piece in halves:
        take(piece)

    ((name, recipe, right, error, together, _loss, temperature, seconds, trainings),) = finetuning.rows(
        {("cats", "as found", "defaults"): halves}, 2
    )

    assert (name, recipe, trainings) == ("cats, as found", "defaults", "2 of 2")
    assert right.startswith("0.750 (")  # 3 of 4
    assert error == "0.250 (0.000)"  # nothing, and a half of two that were sure; such answers leave nothing to chance
    assert together == "0.250"
    assert (temperature, seconds) == ("0.50", "15 (8)")
    assert "first: " in capsys.readouterr().err


def test_few_images_have_a_calibration_error_however_right_their_probabilities_are():
    half_sure = np.full((8, 2), 0.5)
    halves = np.abs(2 * np.random.default_rng(1).binomial(8, 0.5, 4000) / 8 - 1).mean() / 2
    found = finetuning._by_chance([(np.zeros(8), half_sure)], 4000)
    assert found == pytest.approx(halves, abs=0.01)
    many = np.full((4000, 2), 0.5)
    assert finetuning._by_chance([(np.zeros(4000), many)]) < 0.02


def test_nothing_measured_is_no_line_and_pieces_are_told_apart_by_seed_part_and_recipe():
    found = finetuning.pieces(Path("nowhere"), seeds=2, parts=2)

    assert finetuning.rows(found, 2) == []
    files = [piece.file for some in found.values() for piece in some]
    assert len(set(files)) == len(files) == 5 * 5 * 2 * 2
