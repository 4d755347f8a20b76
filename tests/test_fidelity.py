"""Fidelity: the figures are those of their definitions, the picture itself never answers, and a leak is named."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from test_references import picture
from toy_networks import SmallNet, classifier_of

from xaihub.building import build_references
from xaihub.datasets import from_pairs
from xaihub.embedders import DEFAULT
from xaihub.fidelity import Found, measure, sides, summary


@pytest.fixture(scope="module")
def classifier():
    network = SmallNet()
    with torch.no_grad():
        network.head.weight.mul_(20)  # else an untrained head calls everything the same
    return classifier_of(network)


def rows_of(seeds):
    return from_pairs("noise", [(f"row {seed}", "none", picture(seed)) for seed in seeds])


@pytest.fixture(scope="module")
def references(classifier):
    made = build_references(classifier, rows_of(range(60)), embedder=(DEFAULT, "c-hp", "pixels"), fidelity=False)
    assert len(made.slices) > 1, "else nothing here is a test"
    return made


def test_the_figures_are_those_of_their_definitions(classifier):
    logits = torch.tensor([[2.0, 0, -1], [0, 1, 0], [0, 0, 3], [0.5, 0, 0]])
    predicted = logits.argmax(1).numpy()
    said = sides(classifier, logits, predicted)
    found = Found(
        np.array([[3, 1, 2, -1, -1], [0, 2, 3, -1, -1], [0, 3, 1, -1, -1], [0, 1, 2, -1, -1]]),
        np.array([3, -1, -1, 0]),
        np.array([0.9, 0, 0, 0.8], dtype=np.float32),
    )
    figures = summary(found, said, said)
    assert figures["agreement@1"][0] == 0.5  # the first and the last find each other
    assert figures["agreement@3"][0] == 0.5  # three neighbours of three classes: the nearest decides
    means = said.probabilities[[[3, 1, 2], [0, 2, 3], [0, 3, 1], [0, 1, 2]]].mean(1)
    error = np.abs(said.probabilities - means).sum(1).mean() / 2
    assert figures["probability_error@3"][0] == pytest.approx(error)
    assert figures["margin_correlation"][0] == pytest.approx(-1)  # 2 beside 0.5, and 0.5 beside 2
    assert figures["like_distance"] == pytest.approx(0.15)
    value, low, high = figures["agreement@1"]
    assert 0 < low < value < high < 1


def test_the_error_of_classes_that_do_not_exclude_each_other_is_their_mean():
    many = classifier_of(SmallNet(20), classes=20, activation="sigmoid")
    yes, no = (sides(many, torch.full((2, 20), sign * 99.0), np.zeros(2, np.int64)) for sign in (1, -1))
    alone = Found(np.array([[0, -1, -1, -1, -1]] * 2), np.array([0, 0]), np.ones(2, np.float32))
    assert summary(alone, yes, no)["probability_error@3"][0] == pytest.approx(1), "nor may it be 10"
    assert summary(alone, yes, yes)["probability_error@3"][0] == 0


def test_a_picture_and_its_copies_never_answer_for_themselves(classifier):
    twice = from_pairs("copies", [(f"{seed} {copy}", "none", picture(seed)) for seed in range(12) for copy in "ab"])
    once = build_references(classifier, rows_of(range(12)), fidelity=False)
    doubled = build_references(classifier, twice, fidelity=False)
    of_once, of_doubled = measure(once, classifier)[DEFAULT], measure(doubled, classifier)[DEFAULT]
    assert of_doubled["copies_left_out"] == 24  # one for each that asks
    assert of_once["copies_left_out"] == 0
    assert of_doubled["like_distance"] == pytest.approx(of_once["like_distance"], abs=1e-3)


def test_what_leaks_is_said_to_and_everything_is_ready_for_json(classifier, references):
    figures = measure(references, classifier)
    assert list(figures) == [DEFAULT, "c-hp", "pixels"]
    assert [figures[name]["leak_free"] for name in figures] == [True, False, True]
    assert {values["n"] for values in figures.values()} == {60}
    assert not any(values["held_out"] for values in figures.values())
    assert json.loads(json.dumps(figures)) == figures


def test_held_out_pictures_ask_and_the_references_answer(classifier, references):
    held_out = build_references(
        classifier, rows_of(range(100, 130)), embedder=(DEFAULT, "c-hp", "pixels"), fidelity=False
    )
    figures = measure(references, classifier, queries=held_out, count=20)
    assert figures[DEFAULT]["n"] == 20
    assert figures[DEFAULT]["held_out"]
    assert figures[DEFAULT]["copies_left_out"] == 0
    built = build_references(classifier, rows_of(range(20)), held_out=rows_of(range(100, 110)))
    assert (built.fidelity[DEFAULT]["n"], built.fidelity[DEFAULT]["held_out"], len(built)) == (10, True, 20)
    same = measure(references, classifier, queries=references)  # the same pictures are copies, and say so
    assert same[DEFAULT]["copies_left_out"] == 60
    assert same[DEFAULT]["agreement@1"] == measure(references, classifier)[DEFAULT]["agreement@1"]


def test_too_few_references_have_no_fidelity_and_one_class_no_correlation(classifier, references):
    alone = build_references(classifier, rows_of([0]), fidelity=False)
    assert measure(alone, classifier) == {}
    copies = from_pairs("one", [(f"{i}", "none", picture(0)) for i in range(5)])
    assert build_references(classifier, copies).fidelity == {}
    label, rows = max(references.slices.items(), key=lambda item: item[1].stop - item[1].start)
    kept = [references.keys[row] for row in range(rows.start, rows.stop)]
    one = build_references(classifier, rows_of([int(key.split()[1]) for key in kept]), fidelity=False)
    figures = measure(one, classifier)[DEFAULT]
    assert set(one.predicted) == {label}
    assert figures["agreement@1"][0] == 1.0
    assert (
        measure(replace(one, logits=torch.zeros_like(one.logits)), classifier)[DEFAULT]["margin_correlation"]
        == [None] * 3
    )
