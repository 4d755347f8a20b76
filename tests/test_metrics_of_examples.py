"""Metrics of twins, counterfactuals and prototypes: what is known elsewhere, picture by picture, computed once."""

import math
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from test_counterfactuals import balanced
from test_prototype_sheet import FEW, SIZE, Patches, pictures
from test_references import picture
from toy_networks import SmallNet, classifier_of

from xaihub import Query, build_references
from xaihub.datasets import from_pairs
from xaihub.evaluating import evaluate
from xaihub.fidelity import measure
from xaihub.methods import METHODS
from xaihub.metrics import METRICS
from xaihub.prototype_fitting import fit_prototypes
from xaihub.prototype_health import health
from xaihub.prototype_maps import look

ASKED = range(300, 330)


@pytest.fixture(scope="module")
def classifier():
    return balanced(SmallNet(seed=5))


@pytest.fixture(scope="module")
def references(classifier):
    rows = from_pairs("noise", [(f"row {i}", "none", picture(i)) for i in range(60)])
    return build_references(classifier, rows, fidelity=False)


def value(metric: str, query: Query, *method: str) -> float:
    return METRICS[metric].run(query, *method)


def test_their_means_are_the_fidelity_that_is_measured_of_references(classifier, references):
    held_out = build_references(
        classifier, from_pairs("asked", [(str(i), "none", picture(i)) for i in ASKED]), fidelity=False
    )
    (figures,) = measure(references, classifier, queries=held_out, count=len(ASKED)).values()

    # what references keep is a JPEG: asked about the same, the two must be the same
    pictures = [held_out.picture(row) for row in range(len(held_out))]
    names = ["agreement@1", "agreement@3", "agreement@5", "probability-error"]
    scores = {s.metric: s for s in evaluate(classifier, pictures, ["twins"], names, references=references)}

    counts = {name: score.count for name, score in scores.items()}
    agreements = dict.fromkeys(names[:3], figures["n_of_enough"])  # the others have fewer than 5 references of theirs
    assert counts == agreements | {"probability-error": len(ASKED)}
    for k in (1, 3, 5):
        assert scores[f"agreement@{k}"].value == pytest.approx(figures[f"agreement@{k}"][0], abs=0.05)
    assert scores["probability-error"].value == pytest.approx(figures["probability_error@3"][0], abs=0.02)
    assert scores["agreement@1"].low < scores["agreement@1"].value < scores["agreement@1"].high
    assert not scores["agreement@1"].gains, "no map that knows nothing is a twin"


def test_a_reference_itself_is_not_its_own_twin(classifier, references):
    query = Query(classifier, references.picture(7), references=references)
    alone = replace(query.references, **_rows(references, [7]))

    assert value("agreement@1", query) in (0, 1)
    assert math.isnan(value("agreement@1", Query(classifier, references.picture(7), references=alone)))


def _rows(references, rows):
    """Fields of the references that hold these rows alone."""
    space = references.space()
    vectors = replace(space, vectors=space.vectors[rows])
    picked = {
        name: [getattr(references, name)[row] for row in rows] for name in ("labels", "keys", "digests", "pictures")
    }
    arrays = {name: getattr(references, name)[rows] for name in ("predicted", "probability", "hashes", "logits")}
    return {"spaces": {space.name: vectors}, "sources": (), **picked, **arrays}


def test_counterfactuals_are_judged_by_what_they_say_of_themselves(classifier, references):
    queries = [Query(classifier, picture(seed), references=references) for seed in range(500, 512)]
    first = [(query, METHODS["counterfactuals"].run(query)[0]) for query in queries]
    query, nearest = next(pair for pair in first if pair[1].facts["plausibility"] is not None)
    asked_again = classifier.logits(classifier.transform.pixels_of(nearest.image)[None]).argmax()

    assert value("validity", query) == float(int(asked_again) != query.prediction.index)
    assert value("proximity", query) == pytest.approx(nearest.facts["distance"])
    assert value("plausibility", query) == pytest.approx(nearest.facts["plausibility"])
    assert math.isnan(value("sparsity", query, "counterfactuals")), "it stands for itself: no cell was exchanged"


def test_a_swap_counts_its_cells_and_one_that_found_nothing_is_not_valid(classifier, references):
    found = {seed: Query(classifier, picture(seed), references=references, k=3) for seed in range(500, 506)}
    shown = {seed: METHODS["swap"].run(query) for seed, query in found.items()}
    assert any(shown.values()), "else nothing here is a test"

    for seed, query in found.items():
        assert value("validity", query, "swap") == float(bool(shown[seed]))
        if shown[seed]:
            facts = shown[seed][0].facts
            assert value("sparsity", query, "swap") == facts["cells"] / facts["of"]
            now = classifier.logits(classifier.transform.pixels_of(shown[seed][0].image)[None]).argmax()
            assert classifier.labels[int(now)] == facts["target"]
        else:
            assert math.isnan(value("sparsity", query, "swap"))


def test_a_method_runs_once_for_all_metrics_of_a_picture(classifier, references, monkeypatch):
    ran = []
    entry = METHODS["counterfactuals"]
    counted = replace(entry, run=lambda query: ran.append(1) or entry.run(query))
    monkeypatch.setitem(METHODS._entries, "counterfactuals", counted)
    query = Query(classifier, picture(500), references=references)

    for name in ("validity", "proximity", "plausibility"):
        value(name, query)
    assert len(ran) == 1


@pytest.fixture(scope="module")
def patchwork():
    """A classifier by prototypes that are known to be of one class each, and references of its black box."""
    black_box = classifier_of(Patches(), size=SIZE)
    made = fit_prototypes(black_box, look(black_box, pictures(24, spots=1)), settings=FEW)
    return made, build_references(made, pictures(24, spots=1), fidelity=False)


def test_prototypes_are_judged_by_the_patches_that_speak_here(patchwork):
    made, references = patchwork
    told = health(made, look(made, references))
    for row in pictures(3, spots=1):
        query = Query(made, row.picture, references=references)
        shown = METHODS["prototypes"].run(query)
        own = [each for each in shown if each.facts["class"] == row.label and each.facts["points"] > 0]
        points = np.array([each.facts["points"] for each in own])
        pure = np.array([told.prototypes[each.facts["prototype"]].purity for each in own])

        assert query.prediction.label == row.label
        assert value("coverage", query) == 1
        assert value("purity", query) == pytest.approx((points * pure).sum() / points.sum())
        assert 0.5 < value("stability", query) <= 1, "a shift of a pixel moves no spot to another cell"
        assert math.isnan(value("purity", Query(made, row.picture))), "nobody knows the patches nearest to them"


def test_where_no_prototype_speaks_nothing_is_covered_and_nothing_can_be_stable(patchwork, monkeypatch):
    made, references = patchwork
    red = next(row.picture for row in pictures(3, spots=1) if row.label == "red")
    asked = Query(made, red, references=references, target="blue")
    monkeypatch.setattr(made.prototypes.network.head.weights, "data", made.prototypes.network.head.weights.data.clone())
    made.prototypes.network.head.weights.data[2] = 0

    assert value("coverage", asked) == 0
    assert math.isnan(value("stability", asked))
    assert math.isnan(value("purity", asked))
    with pytest.raises(ValueError, match="does not answer by prototypes"):
        value("coverage", Query(classifier_of(Patches(), size=SIZE), Image.new("RGB", (64, 64))))
