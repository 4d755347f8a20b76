"""The areas, intervals and permutations of an audit, against plain loops and answers known on paper."""

from dataclasses import replace

import numpy as np
import pytest

from xaihub.auditing.scoring import SURE, Asking, adjusted, dealt_together, design, least_found, needed, told


def alone(count: int) -> list[list[int]]:
    return [[i] for i in range(count)]


def asking(truth, seed=0, permutations=200, strata=None, together=None):
    truth = np.asarray(truth)
    columns = truth[:, None] == 1 if truth.max() == 1 else np.eye(int(truth.max()) + 1, dtype=bool)[truth]
    strata = np.zeros(len(truth), dtype=np.int64) if strata is None else np.asarray(strata)
    dealt = dealt_together(truth, together or alone(len(truth)), seed)
    return Asking(columns, strata, dealt, permutations, seed)


def area_by_loops(scores, positive):
    """P(a positive is above a negative) + half P(they tie), pair by pair."""
    pairs = [(a > b) + (a == b) / 2 for a in scores[positive] for b in scores[~positive]]
    return np.mean(pairs)


def ridge_by_loops(rows, wanted, held, penalty=0.01):
    middle = rows.mean(0)
    gram = sum(np.outer(row - middle, row - middle) for row in rows)
    right = sum((row - middle) * (each - wanted.mean()) for row, each in zip(rows, wanted, strict=True))
    weights = np.linalg.inv(gram + penalty * np.trace(gram) * np.eye(len(gram))) @ right
    return np.array([row @ weights for row in held])


def test_the_area_is_the_mean_over_the_folds_of_a_ridge_regression_to_the_others():
    generator = np.random.default_rng(3)
    truth = np.repeat([0, 1], [37, 23])
    columns = design(generator.integers(0, 4, (60, 3)) + truth[:, None], None)  # few values: there are ties
    question = asking(truth, permutations=3)
    found = told(columns, question)

    areas, weights = [], []
    for fold in range(5):
        held = question.dealt == fold
        scores = ridge_by_loops(columns[~held], (truth[~held] == 1) * 1.0, columns[held])
        positive = truth[held] == 1
        areas.append(area_by_loops(np.round(scores, 9), positive))
        weights.append(positive.sum() * (~positive).sum() / (len(positive) + 1))
    assert found.auc == pytest.approx(np.average(areas, weights=weights), abs=1e-12)
    assert found.low < found.auc < found.high


def test_of_more_than_two_labels_it_is_the_mean_of_each_against_the_rest():
    truth = np.repeat([0, 1, 2], 40)
    value = np.where(truth == 1, 1.0, 0.0)[:, None]  # tells the second label always, the others from it only
    found = told(design(value, None), asking(truth))
    assert found.by_target == pytest.approx([0.75, 1.0, 0.75])
    assert found.auc == pytest.approx(0.8333, abs=1e-3)


def test_a_class_in_the_middle_and_one_exact_number_are_told():
    generator = np.random.default_rng(0)
    truth = np.repeat([0, 1], 60)
    middle = np.where(truth == 1, generator.normal(0, 0.2, 120), generator.choice([-3.0, 3.0], 120))
    assert told(design(middle[:, None], None), asking(truth)).auc > 0.99
    words = ["256 x 256" if label else f"{i} x 300" for i, label in enumerate(truth)]
    assert told(design(np.zeros((120, 0)), words), asking(truth)).auc == 1.0


def test_what_is_the_same_for_all_tells_nothing_and_a_missing_number_may_tell_all():
    truth = np.repeat([0, 1], 30)
    same = told(design(np.full((60, 2), 7.0), ["JPEG"] * 60), asking(truth))
    assert same.auc == 0.5
    assert (same.low, same.high) == pytest.approx((0.36, 0.64), abs=0.01)
    lacks = np.where(truth == 1, np.nan, 92.0)[:, None]
    assert told(design(lacks, None), asking(truth)).auc == 1.0


def test_an_area_of_one_has_an_interval_that_narrows_with_the_pictures():
    """Newcombe's: of 10 and 10 pictures even a perfect area may be well below one."""
    lows = [told(np.repeat([0.0, 1.0], n)[:, None], asking(np.repeat([0, 1], n))).low for n in (10, 40, 160)]
    assert lows == sorted(lows)
    assert 0.6 < lows[0] < 0.9
    assert lows[2] > 0.97


@pytest.mark.timeout(120)
def test_shuffled_labels_give_half_within_the_interval_and_seldom_a_finding():
    """Five nuisances of noise, sixty datasets: 95 % of intervals hold 0.5, and 5 % of the datasets have a finding."""
    inside, any_found, means = 0, 0, []
    for seed in range(60):
        generator = np.random.default_rng(seed)
        truth = generator.permutation(np.repeat([0, 1], [70, 50]))
        question = asking(truth, seed=seed, permutations=99)
        found = [told(design(generator.normal(size=(120, width)), None), question) for width in (1, 2, 6, 12, 24)]
        inside += sum(one.low <= 0.5 <= one.high for one in found)
        means += [one.auc for one in found]
        any_found += min(adjusted(found)) <= 0.05
    assert inside / 300 > 0.9
    assert abs(np.mean(means) - 0.5) < 0.01  # not below it either, as pooled scores would be
    assert any_found <= 8  # of 60; with 5 % each, nine or more have a probability below 0.01


def test_of_twenty_nuisances_of_noise_the_best_looks_sure_until_all_are_counted():
    plain, counted = 0, 0
    for seed in range(1000, 1012):
        generator = np.random.default_rng(seed)
        question = asking(generator.permutation(np.repeat([0, 1], 40)), permutations=99)
        found = [told(design(generator.normal(size=(80, 1)), None), question) for _ in range(20)]
        best = max(found, key=lambda one: one.beyond_chance)
        plain += (1 + (best.null >= best.auc).sum()) / (1 + len(best.null)) <= 0.05
        counted += adjusted(found)[found.index(best)] <= 0.05
    assert plain >= 6
    assert counted <= 2


def test_the_least_area_that_can_be_found_is_where_findings_begin():
    """Among equally wide questions: whatever lies above it is a finding, and whatever lies a little below is none."""
    generator = np.random.default_rng(2)
    truth = np.repeat([0, 1], 25)
    question = asking(truth)
    found = [told(design(generator.normal(size=(50, 2)), None), question) for _ in range(24)]
    least = least_found(found)
    widest = max(found, key=lambda one: np.nanstd(one.null))
    others = [one for one in found if one is not widest]
    above, below = (replace(widest, auc=least + step) for step in (1e-6, -1e-6))
    assert adjusted([above, *others])[0] <= SURE < adjusted([below, *others])[0]


def test_few_pictures_cannot_tell_anything_and_the_number_needed_can():
    def asked(count: int):
        generator = np.random.default_rng(5)
        question = asking(np.repeat([0, 1], count))
        return [told(design(generator.normal(size=(2 * count, 2)), None), question) for _ in range(11)]

    assert least_found(asked(4)) == 1.0  # of sixteen ways to permute four pairs one is right by chance
    for few in (4, 6, 8):
        enough = needed(asked(few), few, 0.95)
        assert few < enough <= 20
        assert least_found(asked(enough)) < 0.95
    shares = [least_found(asked(count)) for count in (12, 25, 60)]
    assert shares == sorted(shares, reverse=True)
    assert needed(asked(25), 25, 0.95) == 26  # more than there are, in any case


def test_given_the_label_only_pictures_of_one_label_are_compared():
    """The answer is the label, mostly; the nuisance is the label too: within a label it tells nothing."""
    generator = np.random.default_rng(1)
    label = np.repeat([0, 1], 100)
    answer = np.where(generator.random(200) < 0.8, label, 1 - label)
    nuisance = design((label + generator.normal(0, 0.3, 200))[:, None], None)
    dealt = dealt_together(label, alone(200), 0)
    plain = told(nuisance, Asking(answer[:, None] == 1, np.zeros(200, dtype=np.int64), dealt, 50, 0))
    given = told(nuisance, Asking(answer[:, None] == 1, label, dealt, 50, 0))
    assert plain.auc > 0.7
    assert given.low <= 0.5 <= given.high
    follows = design((answer + generator.normal(0, 0.3, 200))[:, None], None)
    assert told(follows, Asking(answer[:, None] == 1, label, dealt, 50, 0)).auc > 0.95


def test_near_copies_share_a_fold_and_labels_are_dealt_evenly():
    truth = np.repeat([0, 1], [50, 25])
    together = [[0, 1, 2], [60, 61], *[[i] for i in range(75) if i not in (0, 1, 2, 60, 61)]]
    dealt = dealt_together(truth, together, seed=4)
    assert len(set(dealt[[0, 1, 2]])) == 1
    assert len(set(dealt[[60, 61]])) == 1
    counts = np.bincount(dealt[truth == 1], minlength=5)
    assert counts.max() - counts.min() <= 2
    assert (dealt != dealt_together(truth, together, seed=5)).any()


def test_a_target_that_all_pictures_of_a_stratum_share_cannot_be_told():
    label = np.repeat([0, 1], 20)
    question = Asking(label[:, None] == 1, label, dealt_together(label, alone(40), 0), 10, 0)
    assert not question.possible
