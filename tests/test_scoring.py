"""Every figure against scikit-learn, and on paper."""

import json
import math

import numpy as np
import pytest
from sklearn import metrics

from xaihub.measuring import scoring
from xaihub.measuring.scoring import (
    auroc,
    bootstrapped,
    calibration_error,
    confusion_matrix,
    f1_scores,
    precisions,
    recalls,
    scores,
    wilson,
)


@pytest.fixture(params=[2, 3, 7], ids=lambda classes: f"{classes} classes")
def answered(request):
    """60 true classes and probabilities that favour them somewhat, some of them tied."""
    generator = np.random.default_rng(request.param)
    truth = generator.integers(0, request.param, 60)
    logits = generator.normal(size=(60, request.param)).round(1) + 1.2 * np.eye(request.param)[truth]
    return truth, np.exp(logits) / np.exp(logits).sum(1, keepdims=True)


def test_counts_and_rates_are_scikit_learns(answered):
    truth, probabilities = answered
    answers = probabilities.argmax(1)
    matrix = confusion_matrix(truth, answers, probabilities.shape[1])

    assert np.array_equal(matrix, metrics.confusion_matrix(truth, answers))
    theirs = metrics.precision_recall_fscore_support(truth, answers, zero_division=np.nan)
    for ours, expected in zip((precisions(matrix), recalls(matrix), f1_scores(matrix)), theirs, strict=False):
        np.testing.assert_allclose(ours, expected)


def test_areas_are_scikit_learns(answered):
    truth, probabilities = answered
    given = probabilities[:, 1] if probabilities.shape[1] == 2 else probabilities

    expected = metrics.roc_auc_score(truth, given, multi_class="ovr", average="macro")

    assert auroc(truth, probabilities)[0] == pytest.approx(expected)


def test_weights_are_repeated_pictures(answered):
    truth, probabilities = answered
    times = np.random.default_rng(0).integers(0, 4, len(truth))
    again, repeated = np.repeat(truth, times), np.repeat(probabilities, times, axis=0)

    for measure in (auroc, calibration_error):
        assert measure(truth, probabilities, times[None].astype(float))[0] == pytest.approx(measure(again, repeated)[0])


def test_the_calibration_error_is_its_equation_in_plain_loops(answered):
    truth, probabilities = answered
    total = 0.0
    for m in range(15):
        inside = [i for i, row in enumerate(probabilities) if m / 15 < row.max() <= (m + 1) / 15]
        if inside:
            right = sum(probabilities[i].argmax() == truth[i] for i in inside) / len(inside)
            sure = sum(probabilities[i].max() for i in inside) / len(inside)
            total += len(inside) / len(truth) * abs(right - sure)

    assert calibration_error(truth, probabilities)[0] == pytest.approx(total)


def test_wilsons_interval_is_the_published_one():
    assert wilson(90, 100) == pytest.approx((0.8256, 0.9448), abs=1e-4)
    assert wilson(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert wilson(10, 10) == pytest.approx((0.7225, 1.0), abs=1e-4)
    assert wilson(0, 0) == (0.0, 1.0)


def test_the_bootstrap_of_a_mean_has_the_width_of_its_standard_error():
    values = np.random.default_rng(1).normal(size=400)

    low, high = bootstrapped(lambda w: (w @ values) / w.sum(1), 400, resamples=2000, seed=0)

    assert high - low == pytest.approx(2 * 1.96 * values.std() / math.sqrt(400), rel=0.06)
    assert low < values.mean() < high


def test_four_pictures_on_paper():
    """Truth a a b b, answers a b b b."""
    found = scores([0, 0, 1, 1], [[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.3, 0.7]], ["a", "b"])

    assert found["accuracy"] == 0.75
    assert found["confusion"] == {"labels": ["a", "b"], "rows_are": "true class", "matrix": [[1, 1], [0, 2]]}
    assert found["per_class"]["a"]["precision"] == 1.0
    assert found["per_class"]["a"]["recall"] == 0.5
    assert found["per_class"]["b"]["precision"] == pytest.approx(2 / 3)
    assert found["per_class"]["b"]["f1"] == pytest.approx(0.8)
    assert found["per_class"]["b"]["support"] == 2
    assert found["macro_f1"] == pytest.approx((2 / 3 + 0.8) / 2)
    assert found["auroc"] == 1.0  # 0.1 and 0.6 lie below 0.8 and 0.7
    assert found["calibration_error"] == pytest.approx((0.1 + 0.6 + 0.2 + 0.3) / 4)  # each picture in its own bin


def test_every_interval_holds_its_figure_and_the_record_is_json(answered):
    truth, probabilities = answered
    labels = [f"class {i}" for i in range(probabilities.shape[1])]

    found = scores(truth, probabilities, labels)

    for record in (found, *found["per_class"].values()):
        for name in [name for name in record if f"{name}_interval" in record]:
            low, high = record[f"{name}_interval"]
            assert 0 <= low <= record[name] <= high <= 1
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found == scores(truth, probabilities, labels)  # seeded


def test_what_is_not_defined_is_none_and_not_zero():
    """All answers are "a"; "c" does not occur at all."""
    found = scores([0, 0, 1], [[0.8, 0.1, 0.1]] * 3, ["a", "b", "c"])

    assert found["per_class"]["b"]["precision"] is None
    assert found["per_class"]["b"]["recall"] == 0.0
    assert found["per_class"]["b"]["f1"] == 0.0
    assert found["per_class"]["c"]["recall"] is None
    assert found["macro_f1"] == pytest.approx(0.4)  # of a and b
    assert found["auroc"] == 0.5


def test_classes_of_the_same_name_are_told_apart():
    found = scores([0, 1, 2], np.eye(3), ["crane", "crane", "hen"])

    assert list(found["per_class"]) == ["crane (0)", "crane (1)", "hen"]


def test_one_true_class_has_no_area_under_its_curve():
    assert scores([0, 0], [[0.8, 0.2], [0.7, 0.3]], ["a", "b"])["auroc"] is None


def test_where_resampling_would_take_a_night_no_interval_is_given(monkeypatch):
    monkeypatch.setattr(scoring, "_MOST_WORK", 99 * 50 * 20)
    generator = np.random.default_rng(0)
    probabilities = generator.dirichlet(np.ones(20), 50)

    found = scores(generator.integers(0, 20, 50), probabilities, [str(i) for i in range(20)])

    assert found["auroc_interval"] is None
    assert found["accuracy_interval"] is not None


@pytest.mark.parametrize(
    ("truth", "probabilities", "says"),
    [([], np.zeros((0, 2)), "0 true classes"), ([0], [[0.5, 0.3, 0.2]], "2 labels"), ([2], [[0.5, 0.5]], "0 to 1")],
)
def test_what_does_not_belong_together_is_refused(truth, probabilities, says):
    with pytest.raises(ValueError, match=says):
        scores(truth, probabilities, ["a", "b"])
