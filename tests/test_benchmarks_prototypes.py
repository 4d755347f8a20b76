"""docs/PROTOTYPES.md is written of what was measured, and says what was not."""

import json

import pytest

from benchmarks.prototypes.__main__ import _pieces
from benchmarks.prototypes.figures import compared, goals, paired
from benchmarks.prototypes.folds import FOLDS
from benchmarks.prototypes.kept import Piece, read, take
from benchmarks.prototypes.page import page
from benchmarks.prototypes.tasks import tasks


@pytest.fixture
def cats(tmp_path):
    return next(task for task in tasks(tmp_path) if task.key == "cats")  # the folder is empty: only names are asked for


def fold(right=True, sources=10):
    """Four pictures, of which the black box is right on all."""
    truth = ["real", "real", "fake", "fake"]
    return {
        "truth": truth, "black box": truth, "answers": truth if right else ["real"] * 4,
        "prototypes": {"real": 10, "fake": 10}, "distinct": {"real": 10, "fake": sources}, "used": 15,
        "making": {"cpu": 2.0, "wall": 3.0}, "alarms": ["collapsed"] * (sources < 8), "machine": "a machine",
    }  # fmt: skip


def test_a_document_of_nothing_says_that_all_is_missing(tmp_path):
    every = tasks(tmp_path)
    text = page(every, {piece.name: None for piece in _pieces(tmp_path, every)})
    assert text.count("Not measured yet") == len(every) + 2
    assert " nan" not in text
    assert "{" not in text


def test_folds_are_pooled_and_goals_judged_only_of_all_of_them(cats, tmp_path):
    some = {"cats head 1": fold(), "cats head 2": fold(right=False, sources=3)}
    line = compared(cats, "head", some)
    assert (line.folds, line.pictures, line.right, line.agree, line.distinct, line.used) == (2, 8, 6, 6, 3, 0.75)
    assert line.behind == 25
    judged = {words: reached for words, _, reached in goals([cats], {**some, "pets": None})}
    assert set(judged.values()) == {None}
    whole = {f"cats head {number + 1}": fold() for number in range(FOLDS)} | {"pets": None}
    assert [reached for _, _, reached in goals([cats], whole)] == [True] * 4 + [None, None]
    empty = {piece.name: None for piece in _pieces(tmp_path, tasks(tmp_path))}
    text = page(tasks(tmp_path), empty | some)
    assert "PrototypeHead (2 of 5 folds)" in text
    assert "alarm fires for PrototypeHead in 1 of 2 folds" in text


def test_a_result_is_kept_until_its_settings_change(monkeypatch, tmp_path):
    monkeypatch.setenv("XAIHUB_CACHE", str(tmp_path))
    piece = Piece("cats head 1", {"per_class": 10}, lambda: {"used": 7})
    assert read(piece) is None
    take(piece)
    assert read(piece)["used"] == 7
    assert json.loads(piece.file.read_text())["machine"]
    assert read(Piece("cats head 1", {"per_class": 5}, piece.make)) is None


def test_paired_differences_have_an_interval():
    mean, low, high = paired([1.0, 2.0, 3.0, 4.0], [0.0, 2.0, 2.0, 3.0])
    assert mean == 0.75
    assert low <= mean <= high
