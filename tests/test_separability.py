"""How far groups of embeddings are apart: against plain loops, scikit-learn, and answers known on paper."""

import numpy as np
import pytest

from xaihub.separability import PENALTY, folds, linear_probe, separability, silhouette


def clouds(sizes: list[int], apart: float, channels: int = 6, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Rows of groups whose middles lie `apart` from each other along one axis each, with noise of size one."""
    generator = np.random.default_rng(seed)
    groups = np.repeat(np.arange(len(sizes)), sizes)
    middles = np.eye(len(sizes), channels) * apart
    return middles[groups] + generator.normal(size=(len(groups), channels)), groups


def test_groups_far_apart_are_found_and_equal_ones_are_guessed():
    rows, groups = clouds([20, 20, 20], apart=20)
    assert (linear_probe(rows, groups) == groups).all()
    chance = [np.mean(linear_probe(*clouds([25, 25], 0, 200, seed)) == clouds([25, 25], 0)[1]) for seed in range(60)]
    assert np.mean(chance) == pytest.approx(0.5, abs=0.04)  # leave-one-out would say less than chance here


def test_a_large_group_is_not_favoured():
    found = [separability(clouds([60, 6], 0, 40, seed)[0], ["many"] * 60 + ["few"] * 6) for seed in range(60)]
    assert np.mean([each.probe for each in found]) == pytest.approx(0.5, abs=0.05)


def test_the_probe_is_the_weighted_ridge_regression_of_scikit_learn():
    linear_model = pytest.importorskip("sklearn.linear_model")
    rows, groups = clouds([9, 14, 6], apart=1.5)
    dealt = folds(groups)
    expected = np.empty_like(groups)
    for fold in range(5):
        fitted, held = dealt != fold, dealt == fold
        weights = 1 / np.bincount(groups[fitted])[groups[fitted]]
        weights /= weights.sum()
        middle = weights @ rows[fitted]
        variance = float((weights[:, None] * (rows[fitted] - middle) ** 2).sum())
        model = linear_model.Ridge(alpha=PENALTY * variance)
        model.fit(rows[fitted], np.eye(3)[groups[fitted]], sample_weight=weights)
        expected[held] = model.predict(rows[held]).argmax(1)
    assert (linear_probe(rows, groups) == expected).all()
    assert 0 < (expected == groups).mean() < 1


def test_the_probe_sees_no_row_that_it_is_tested_on():
    """Each row has an axis of its own: whoever has seen it knows its group, nobody else can."""
    rows, groups = np.eye(40), np.arange(40) % 2
    assert np.mean(linear_probe(rows, groups) == groups) <= 0.5


def test_every_fold_has_some_of_every_group():
    groups = np.array([0] * 10 + [1] * 7 + [2] * 2)
    dealt = folds(groups)
    for group in (0, 1):
        assert set(dealt[groups == group]) == set(range(5))
    assert len(set(dealt[groups == 2])) == 2
    assert np.bincount(dealt).max() - np.bincount(dealt).min() <= 1


def test_the_silhouette_is_known_on_paper_and_that_of_scikit_learn():
    rows = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 2.0]])  # two directions: lengths do not matter
    assert silhouette(rows, np.array([0, 0, 1, 1])) == pytest.approx(1)
    assert silhouette(rows, np.array([0, 1, 0, 1])) == pytest.approx(-0.5)  # within 1; beside (0 + 1) / 2
    metrics = pytest.importorskip("sklearn.metrics")
    rows, groups = clouds([5, 8, 4], apart=1.0)
    assert silhouette(rows, groups) == pytest.approx(metrics.silhouette_score(rows, groups, metric="cosine"))


def test_the_silhouette_as_plain_loops():
    rows, groups = clouds([4, 3, 1], apart=0.5)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    values = []
    for i, row in enumerate(unit):
        mean = {}
        for group in set(groups.tolist()):
            others = [1 - row @ unit[j] for j in range(len(unit)) if groups[j] == group and j != i]
            mean[group] = np.mean(others) if others else None
        within = mean.pop(int(groups[i]))
        nearest = min(value for value in mean.values() if value is not None)
        values.append(0 if within is None else (nearest - within) / max(nearest, within))
    assert silhouette(rows, groups) == pytest.approx(np.mean(values))


def test_rows_of_no_group_or_alone_in_theirs_are_left_out():
    rows, _ = clouds([6, 6], apart=9)
    names = ["cat"] * 6 + ["dog"] * 6
    odd = np.concatenate([rows, np.full((2, 6), 99.0)])
    plain, found = separability(rows, names), separability(odd, [*names, None, "hen"])
    assert found == plain
    assert (found.rows, found.groups, found.chance) == (12, 2, 0.5)
    assert found.probe == 1
    assert 0 < found.error < 0.15  # six of six right are no certainty


@pytest.mark.parametrize("names", [["a", "b", "c", "d"], [None] * 4, ["a", "a", "a", "a"], ["a", "a", "b", None]])
def test_with_fewer_than_two_groups_of_two_nothing_is_said(names):
    assert separability(np.eye(4), names) is None
