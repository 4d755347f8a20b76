"""Counterfactuals and semi-factuals: valid before preferred, with what each is worth, and sentences where none is."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from test_references import picture, pictures
from test_regions import DeepHead
from torch import nn
from toy_networks import SmallNet, classifier_of

from xaihub.building import build_references
from xaihub.datasets import from_pairs
from xaihub.explaining import explain_query
from xaihub.found import distance, place_of
from xaihub.methods import Query
from xaihub.quality import INSIDE, NEAR, SUSPICIOUS, _in_words, plausibility
from xaihub.ui.drawing_examples import quality

SHOWN = ["twins", "counterfactuals", "semifactuals", "swap"]


class OneLogit(SmallNet):
    """A yes or a no."""

    def __init__(self) -> None:
        super().__init__(1, seed=3)


def balanced(module, classes=3):
    """The same with a bias under which no class is the answer to everything, as untrained ones have."""
    one = classifier_of(module, classes=classes)
    with torch.no_grad():
        logits = one.logits(torch.stack([one.transform(picture(i)) for i in range(30)]))
        module.head.weight.mul_(10)
        module.head.bias.mul_(10).sub_(10 * logits.mean(0)[-module.head.out_features :])
    return classifier_of(module, classes=classes)


@pytest.fixture(scope="module")
def classifier():
    return balanced(SmallNet(seed=5))


@pytest.fixture(scope="module")
def references(classifier):
    """Each labelled with what the classifier says, but for every fourth."""
    rows = []
    for i in range(60):
        said = classifier.predict(picture(i)).index
        rows.append((f"row {i}", classifier.labels[(said + (i % 4 == 0)) % 3], picture(i)))
    built = build_references(classifier, from_pairs("colours", rows), fidelity=False)
    assert len(built.slices) > 1
    return built


def asked(classifier, references, seed=500, **changes):
    return Query(classifier, picture(seed), references=references, **changes)


def weighed(query):
    """(R, K) and (K,) of length one, as the query's class sees them."""
    place = place_of(query)
    unit = torch.nn.functional.normalize
    vectors = place.vectors(range(len(place.references)))
    return unit(vectors * place.weights, dim=1), unit(place.vector * place.weights, dim=0)


def test_those_come_first_whose_label_agrees_but_all_are_predicted_the_target(classifier, references):
    preferred = 0
    for seed in range(500, 510):
        query = asked(classifier, references, seed, against="any", k=5)
        found = explain_query(query, ["counterfactuals"])["counterfactuals"]
        facts = [evidence.facts for evidence in found]
        assert all(each["predicted"] != query.prediction.label and each["valid"] for each in facts)
        wrong = [each["label agrees"] is False for each in facts]
        assert wrong == sorted(wrong)
        unsure = [(each["label agrees"] is False, each["probability"] < 0.5) for each in facts]
        assert unsure == sorted(unsure)
        for flags in set(unsure):
            alike = [each["similarity"] for each, own in zip(facts, unsure, strict=True) if own == flags]
            assert alike == sorted(alike, reverse=True)
        nearest = place_of(query).nearest(5, predicted_not=query.prediction.index)
        preferred += [each["key"] for each in facts] != [references.keys[neighbour.row] for neighbour in nearest]
    assert preferred, "else no preference was tried"


def test_where_only_a_wrongly_labelled_one_is_of_the_class_it_is_shown_and_flagged(classifier, references):
    own = asked(classifier, references).prediction.index
    other = next(index for index in references.slices if index != own)
    lied = replace(references, labels=[classifier.labels[own]] * len(references))
    query = asked(classifier, lied, against=classifier.labels[other])
    found = explain_query(query, ["counterfactuals"])["counterfactuals"]
    assert found
    assert {evidence.facts["predicted"] for evidence in found} == {classifier.labels[other]}
    assert {evidence.facts["label agrees"] for evidence in found} == {False}
    assert all("(wrong)" in evidence.caption for evidence in found)


def test_the_card_says_how_near_how_typical_and_how_different(classifier, references):
    query = asked(classifier, references, against="any")
    found = explain_query(query, ["counterfactuals"])["counterfactuals"]
    vectors, own = weighed(query)
    apart = (2 - 2 * vectors @ own).clamp_min(0).sqrt().numpy()
    like = references.predicted == query.prediction.index
    rows = [references.keys.index(evidence.facts["key"]) for evidence in found]
    between = [float((vectors[a] - vectors[b]).norm()) for i, a in enumerate(rows) for b in rows[i + 1 :]]
    for row, evidence in zip(rows, found, strict=True):
        facts = evidence.facts
        assert facts["distance"] == pytest.approx(apart[row], abs=1e-3)
        assert facts["nearest like"] == pytest.approx(apart[like].min(), abs=1e-3)
        assert facts["nearest unlike"] == pytest.approx(apart[~like].min(), abs=1e-3)
        assert facts["like to unlike"] == pytest.approx(apart[like].min() / apart[~like].min(), abs=1e-3)
        assert facts["diversity"] == pytest.approx(np.mean(between), abs=1e-3)
        members = np.flatnonzero(references.predicted == references.predicted[row])
        spread = {m: np.sort([float((vectors[m] - vectors[o]).norm()) for o in members if o != m])[:5].mean()
                  for m in members}  # fmt: skip
        if len(members) <= 32:  # else the median is of a sample
            expected = spread[row] / np.median(list(spread.values()))
            assert facts["plausibility"] == pytest.approx(expected, abs=2e-2)


def test_the_ratio_of_the_distances_is_put_into_words(classifier, references):
    assert [_in_words(ratio) for ratio in (None, 0.3, 0.96, 1.2)] == [None, INSIDE, NEAR, SUSPICIOUS]
    query = asked(classifier, references)
    lonely = references.slices[query.prediction.index]
    other = next(row for row in range(len(references)) if not lonely.start <= row < lonely.stop)
    place = place_of(query)
    nearest = place.nearest(1, predicted=query.prediction.index)[0].row
    vectors = references.space().vectors.clone()
    vectors[other] = vectors[nearest] * 0.9 + torch.nn.functional.normalize(place.vector, dim=0).half() * 0.1
    space = replace(references.space(), vectors=vectors)
    moved = replace(references, spaces={space.name: space}, indexes={})
    explanation = explain_query(asked(classifier, moved), ["counterfactuals"])
    assert explanation["counterfactuals"][0].facts["where"] == SUSPICIOUS
    assert "lies nearer than any of its own class" in " ".join(explanation.notes["counterfactuals"])


def test_a_stored_picture_that_is_called_otherwise_gives_way_to_the_next(classifier, references):
    usual = explain_query(asked(classifier, references, against="any", k=3), ["counterfactuals"])["counterfactuals"]
    own = asked(classifier, references, against="any").prediction.index
    like = next(r for r in range(len(references)) if references.predicted[r] == own)
    stored = list(references.pictures)
    stored[references.keys.index(usual[0].facts["key"])] = stored[like]
    found = explain_query(
        asked(classifier, replace(references, pictures=stored), against="any", k=3), ["counterfactuals"]
    )["counterfactuals"]
    keys = [evidence.facts["key"] for evidence in found]
    assert keys[:2] == [evidence.facts["key"] for evidence in usual[1:]]
    assert usual[0].facts["key"] not in keys
    assert [evidence.facts["valid"] for evidence in found] == [True] * 3
    assert found[0].heatmap is not None


def test_a_stored_picture_that_is_called_otherwise_is_flagged_and_comes_last(classifier, references):
    """Where there is no other in its place."""
    index = asked(classifier, references).prediction.index
    all_others = int((references.predicted != index).sum())
    own = asked(classifier, references, against="any", k=all_others)
    first = explain_query(own, ["counterfactuals"])["counterfactuals"][0]
    row = references.keys.index(first.facts["key"])
    like = next(r for r in range(len(references)) if references.predicted[r] == own.prediction.index)
    gone = references.keys.index(explain_query(own, ["counterfactuals"])["counterfactuals"][1].facts["key"])
    stored = list(references.pictures)
    stored[row], stored[gone] = stored[like], None
    changed = replace(references, pictures=stored)
    again = asked(classifier, changed, against="any", k=all_others)
    found = explain_query(again, ["counterfactuals"])["counterfactuals"]
    assert len(found) == all_others
    valid = [evidence.facts["valid"] is False for evidence in found]
    assert valid == sorted(valid)
    assert [evidence.facts["valid"] for evidence in found].count(None) == 1
    flagged = next(evidence for evidence in found if evidence.facts["key"] == first.facts["key"])
    assert flagged.facts["valid"] is False
    assert flagged.facts["asked again"] == own.prediction.label
    assert f"The stored picture is called {own.prediction.label!r} when asked again." in flagged.caption
    cards = [quality(evidence) for evidence in found]
    told = f"no: the stored picture is called &#x27;{own.prediction.label}&#x27; when asked again"
    assert told in cards[found.index(flagged)]
    assert sum("not asked: its picture is not here" in card for card in cards) == 1
    assert "when asked again" not in found[0].caption


def test_distances_are_between_vectors_of_length_one():
    assert distance(1.0000002) == 0
    assert distance(0.0) == pytest.approx(math.sqrt(2))
    assert distance(-1.0) == 2


def test_a_counterfactual_shows_what_speaks_for_its_class_rather_than_the_querys(classifier, references):
    query = asked(classifier, references, against="any")
    for evidence in explain_query(query, ["counterfactuals"])["counterfactuals"]:
        facts = evidence.facts
        assert (facts["against"], facts["map"]) == (query.prediction.label, "discriminant")
        own = Query(classifier, evidence.image, target=facts["predicted"], against=facts["against"])
        expected = explain_query(own, ["discriminant"])["discriminant"][0]
        np.testing.assert_allclose(evidence.raw, expected.raw, atol=1e-3)
        assert facts["exact"]
        assert (evidence.signed < 0).any()
        assert f"speaks for {facts['predicted']!r} rather than {query.prediction.label!r}" in evidence.caption


def test_with_a_head_that_is_more_than_linear_the_neighbours_map_is_scouts():
    deep = balanced(DeepHead())
    known = build_references(deep, pictures(30), fidelity=False)
    explanation = explain_query(Query(deep, picture(500), references=known, against="any"), ["counterfactuals"])
    assert explanation["counterfactuals"]
    for evidence in explanation["counterfactuals"]:
        assert not evidence.facts["exact"]
        assert evidence.signed is None
        assert evidence.raw.min() >= 0


def test_a_semifactual_is_of_the_same_class_and_as_near_as_can_be_to_the_counterfactual(classifier, references):
    seen = 0
    for seed in range(500, 515):
        query = asked(classifier, references, seed, against="any", k=2)
        explanation = explain_query(query, ["semifactuals"])
        vectors, own = weighed(query)
        like = references.predicted == query.prediction.index
        apart = (vectors - own).norm(dim=1).numpy()
        unlike = int(np.where(like, np.inf, apart).argmin())
        towards = (vectors - vectors[unlike]).norm(dim=1).numpy()
        allowed = np.flatnonzero(like & (apart < apart[unlike] - 1e-4))
        expected = allowed[towards[allowed].argsort(kind="stable")][:2]
        found = [references.keys.index(evidence.facts["key"]) for evidence in explanation["semifactuals"]]
        np.testing.assert_allclose(towards[found], towards[expected], atol=1e-3)
        assert len(found) == min(2, len(allowed))
        if not len(allowed):
            assert "There is no semi-factual to show" in explanation.notes["semifactuals"][0]
        for evidence in explanation["semifactuals"]:
            seen += 1
            assert "Even if it looked like this, the classifier would still say" in evidence.caption
            assert evidence.facts["predicted"] == query.prediction.label
            assert evidence.facts["on the way"] == (evidence.facts["to counterfactual"] < apart[unlike])
    assert seen


def test_a_class_nearer_than_all_of_ones_own_leaves_no_semifactual(classifier, references):
    kept = [
        i for i in range(60) if classifier.predict(picture(i)).index != asked(classifier, references).prediction.index
    ]
    rows = from_pairs("others", [(f"row {i}", None, picture(i)) for i in kept])
    without = build_references(classifier, rows, fidelity=False)
    explanation = explain_query(asked(classifier, without), ["twins", "semifactuals"])
    assert explanation["semifactuals"] == explanation["twins"] == ()
    said = explanation.notes["semifactuals"][-1]
    assert said.startswith("There is no semi-factual to show: None of the")


@pytest.mark.parametrize("count", [1, 2])
def test_with_one_or_two_references_there_are_sentences_instead_of_traces(classifier, count):
    few = build_references(classifier, pictures(count), fidelity=False)
    for seed in range(500, 506):
        explanation = explain_query(asked(classifier, few, seed), SHOWN)
        for name in SHOWN:
            assert explanation[name] or explanation.notes[name], name
        for evidence in explanation["counterfactuals"]:
            if count == 1:
                assert evidence.facts["plausibility"] is None
                assert evidence.facts["diversity"] is None


def test_where_all_references_are_the_query_itself_it_says_so(classifier):
    rows = from_pairs("copies", [(f"row {i}", None, picture(500)) for i in range(3)])
    copies = build_references(classifier, rows, fidelity=False)
    explanation = explain_query(asked(classifier, copies), SHOWN)
    for name in SHOWN:
        assert explanation[name] == ()
        assert "was left out" in explanation.notes[name][0]
        assert len(explanation.notes[name]) > 1
    assert "are all this picture itself or near copies, so there is no twin" in explanation.notes["twins"][-1]


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_a_classifier_of_one_class_has_nothing_to_compare_with(activation):
    module = nn.Sequential(SmallNet(2))
    lonely = classifier_of(module, classes=2, activation=activation)
    with torch.no_grad():
        module[0].head.bias.copy_(torch.tensor([100.0, 0]))
    known = build_references(lonely, pictures(8), fidelity=False)
    explanation = explain_query(Query(lonely, picture(500), references=known), [*SHOWN, "discriminant"])
    for name in SHOWN[1:]:
        assert explanation[name] == ()
        assert "there is no other class to compare with" in " ".join(explanation.notes[name])
    assert explanation["twins"]


def test_a_yes_or_no_with_one_logit_is_flipped_too():
    yes_or_no = balanced(OneLogit(), classes=1)
    assert yes_or_no.activation == "sigmoid"
    known = build_references(yes_or_no, pictures(30), fidelity=False)
    assert len(known.slices) == 2
    explanation = explain_query(Query(yes_or_no, picture(500), references=known), SHOWN)
    for evidence in explanation["counterfactuals"]:
        assert evidence.facts["predicted"] != explanation.prediction.label
    assert explanation["counterfactuals"]
    for evidence in explanation["swap"]:
        assert yes_or_no.prediction(
            yes_or_no.logits(yes_or_no.transform.pixels_of(evidence.image)[None])[0]
        ).label == evidence.facts["target"]  # fmt: skip


def test_plausibility_leaves_rows_out_of_their_own_class(classifier, references):
    query = asked(classifier, references)
    place, (index, rows) = place_of(query), next(iter(references.slices.items()))
    row = rows.start
    vector = place.vectors([row])
    itself, with_itself_left_out = (plausibility(query, place, vector, index, rows)[0] for rows in ([], [row]))
    assert with_itself_left_out > itself, "it is its own nearest, at distance 0"
    assert with_itself_left_out == pytest.approx(plausibility(query, place, vector, index, out=[row])[0])
