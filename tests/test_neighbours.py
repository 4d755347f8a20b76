"""Twins and counterfactuals: the right classes and regions, and a sentence where there is nothing to show."""

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from peer_networks import noise
from PIL import Image
from test_references import picture, pictures
from toy_networks import ColourCounter, SmallNet, classifier_of

from xaihub.building import build_references
from xaihub.classifier import Classifier
from xaihub.datasets import from_pairs
from xaihub.errors import ReferencesError, ReferencesMismatchError, UnknownNameError
from xaihub.explaining import explain, explain_query
from xaihub.methods import Query
from xaihub.regions import cell_evidence, centred_score


@pytest.fixture(scope="module")
def classifier():
    return classifier_of(ColourCounter(0.01))


@pytest.fixture(scope="module")
def references(classifier):
    return build_references(classifier, pictures(90))


def test_twins_share_the_predicted_class_and_counterfactuals_never_do(classifier, references):
    seen = set()
    for seed in range(0, 90, 3):  # leave-one-out: each picture is among the references
        explanation = explain(classifier, picture(seed), ["twins", "counterfactuals"], references=references)
        predicted = explanation.prediction.label
        seen.add(predicted)
        assert all(evidence.facts["predicted"] == predicted for evidence in explanation["twins"])
        assert explanation["counterfactuals"], "there is always another class here"
        assert all(evidence.facts["predicted"] != predicted for evidence in explanation["counterfactuals"])
        shown = {evidence.facts["key"] for name in explanation for evidence in explanation[name]}
        assert f"row {seed}" not in shown
        assert any("left out" in note for note in explanation.notes["twins"])
    assert len(seen) > 1


def test_neighbours_come_nearest_first_and_say_what_the_model_and_the_dataset_say(classifier, references):
    explanation = explain(classifier, picture(500), ["twins"], references=references, k=5)
    scores = [evidence.score for evidence in explanation["twins"]]
    assert scores == sorted(scores, reverse=True)
    for evidence in explanation["twins"]:
        row = references.keys.index(evidence.facts["key"])
        assert evidence.facts["probability"] == pytest.approx(float(references.probability[row]))
        assert f"truly {references.labels[row]!r}" in evidence.caption
        assert f"Predicted {evidence.facts['predicted']!r} at" in evidence.caption
        agrees = references.labels[row] == evidence.facts["predicted"]
        assert ("(right)" in evidence.caption, "(wrong)" in evidence.caption) == (agrees, not agrees)
        assert f"similarity {evidence.score:.3f}" in evidence.caption


def test_each_twin_carries_its_own_heatmap_for_its_own_class(classifier, references):
    explanation = explain(classifier, picture(501), ["twins"], references=references)
    for evidence in explanation["twins"]:
        own = explain(classifier, evidence.image, "gradcam", target=evidence.facts["predicted"])["gradcam"][0]
        np.testing.assert_allclose(evidence.heatmap, own.heatmap, atol=0.02)
        assert evidence.heatmap.shape == (evidence.image.height, evidence.image.width)


def test_twins_come_with_the_regions_that_both_owe_the_class_to():
    classifier = classifier_of(SmallNet(seed=4), size=(32, 48))
    known = build_references(classifier, from_pairs("noise", [(str(i), None, noise(seed=i)) for i in range(12)]))
    query = Query(classifier, noise(seed=50), references=known)
    twins = explain_query(query, ["twins"])["twins"]
    assert any(twin.boxes for twin in twins)
    score = centred_score(query.passed, [query.prediction.index], "softmax")
    evidence = cell_evidence(query.activations, query.passed.gradients_of(score)[0])
    for twin in twins:
        assert len(twin.boxes) == len(twin.matches) == twin.facts["pairs"] <= 3
        for i, (left, upper, right, lower) in enumerate(twin.matches, 1):
            assert 0 <= left < right <= 48
            assert 0 <= upper < lower <= 32
            row, column = int((upper + lower) / 2 // 4), int((left + right) / 2 // 4)  # cells of 4 x 4 pixels
            share = twin.facts[f"pair {i} share"]
            at_an_edge = 0 in (left, upper) or right == 48 or lower == 32
            assert at_an_edge or share == pytest.approx(float(evidence[row, column] / evidence.relu().sum()), rel=1e-4)
            assert f"{share:.0%}" in twin.caption
        assert ("of your picture's evidence for this class" in twin.caption) == bool(twin.boxes)


def test_where_no_cells_can_be_paired_it_is_said(classifier, references):
    """The whole picture of one colour: every cell is every other's nearest, and none stands out."""
    flat = classifier_of(ColourCounter(0.01))
    known = build_references(flat, from_pairs("dark", [("one", "red", Image.new("RGB", (40, 40)))]))
    explanation = explain(flat, Image.new("RGB", (40, 40), (9, 0, 0)), ["twins"], references=known)
    assert [twin.boxes for twin in explanation["twins"]] == [()]
    assert "so no regions are marked there" in explanation.notes["twins"][-1]


def test_references_without_pictures_are_named_without_heat_and_regions(classifier, references):
    private = replace(references, pictures=[None, *references.pictures[1:-1], None])
    for name, row in (("twins", 0), ("counterfactuals", 89)):
        own = int(references.predicted[0])
        like = next(i for i in range(100, 200) if classifier.predict(picture(i)).index == own)
        against = references.class_names[references.predicted[row]] if name == "counterfactuals" else None
        query = Query(classifier, picture(like), references=private, k=90, against=against)
        explanation = explain_query(query, [name])
        bare = [evidence for evidence in explanation[name] if not evidence.facts["picture"]]
        assert [evidence.facts["key"] for evidence in bare] == [references.keys[row]]
        assert bare[0].heatmap is None
        assert bare[0].boxes == ()
        assert bare[0].image.size == explanation.image.size
        assert "not kept with these references" in " ".join(explanation.notes[name])
    none = replace(references, pictures=[None] * len(references))
    explanation = explain(classifier, picture(501), ["twins", "counterfactuals"], references=none)
    assert {e.heatmap is None for name in explanation for e in explanation[name]} == {True}


@pytest.mark.parametrize(
    ("stored", "said"),
    [((64, 50), "is 64 x 50 pixels, which is no crop"), ((1, 4000), "cannot be used. This"), (b"no", "not a pic")],
)
def test_a_stored_picture_that_is_broken_or_no_crop_is_missing(classifier, references, stored, said):
    whole = explain(classifier, picture(501), ["twins"], references=references)["twins"]
    row = references.keys.index(whole[0].facts["key"])
    pictures = list(references.pictures)
    pictures[row] = stored if isinstance(stored, bytes) else _png(Image.new("RGB", stored))
    changed = replace(references, pictures=pictures)
    explanation = explain(classifier, picture(501), ["twins"], references=changed)
    assert [evidence.facts["picture"] for evidence in explanation["twins"]] == [False, True, True]
    assert said in " ".join(explanation.notes["twins"])


def _png(image):
    data = io.BytesIO()
    image.save(data, "PNG")
    return data.getvalue()


def test_where_proportions_are_kept_the_references_may_have_others_than_the_query():
    def kept(picture):
        return torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1) / 255

    loose = Classifier.from_module(SmallNet(seed=4).eval(), labels=["red", "green", "blue"], transform=kept)
    known = build_references(loose, pictures(12), fidelity=False)
    explanation = explain(loose, picture(500).resize((48, 32)), ["twins"], references=known)
    assert [evidence.image.size for evidence in explanation["twins"]] == [(40, 40)] * len(explanation["twins"])
    assert all(evidence.facts["picture"] for evidence in explanation["twins"])


def test_our_own_embedders_are_taken_whatever_revision_references_claim(classifier, references, monkeypatch):
    monkeypatch.setattr("xaihub.found.load_embedder", lambda *_, **__: pytest.fail("asked for an embedder elsewhere"))
    name = references.space().name
    claimed = replace(references, spaces={name: replace(references.space(), revision="zzz/../..")})
    assert explain(classifier, picture(501), ["twins"], references=claimed)["twins"]


def test_vectors_of_another_width_are_a_sentence(classifier, references):
    space = references.space()
    narrow = replace(references, spaces={space.name: replace(space, vectors=space.vectors[:, :5].contiguous())})
    with pytest.raises(ReferencesMismatchError, match="have 5 numbers, but that of your picture has 9"):
        explain(classifier, picture(501), ["twins"], references=narrow)


def test_the_counterfactual_class_is_the_runner_up_or_the_one_that_is_asked_for(classifier, references):
    query = Query(classifier, picture(502), references=references)
    runner_up = classifier.labels[query.prediction.runner_up]
    default = explain_query(query, ["counterfactuals"])
    if query.prediction.runner_up in references.slices:
        assert {evidence.facts["predicted"] for evidence in default["counterfactuals"]} == {runner_up}
    for wanted in set(references.slices) - {query.prediction.index}:
        asked = explain_query(query.about(against=classifier.labels[wanted]), ["counterfactuals"])
        assert {evidence.facts["predicted"] for evidence in asked["counterfactuals"]} == {classifier.labels[wanted]}
    other = explain_query(query.about(against="any"), ["counterfactuals"])["counterfactuals"]
    best = max(
        explain_query(query.about(against=classifier.labels[wanted]), ["counterfactuals"])["counterfactuals"][0].score
        for wanted in set(references.slices) - {query.prediction.index}
    )
    assert other[0].score == pytest.approx(best)


def test_a_class_without_members_is_a_sentence_not_a_wrong_picture(classifier, references):
    kept = [i for i in range(90) if classifier.predict(picture(i)).index == int(references.predicted[0])]
    rows = pictures(90)
    rows.sources = [rows.sources[i] for i in kept]
    one_class = build_references(classifier, rows)
    inside, outside = kept[0], next(i for i in range(90) if i not in kept)

    explanation = explain(classifier, picture(inside), ["counterfactuals"], references=one_class)
    assert explanation["counterfactuals"] == ()
    assert "there is no other class to compare with" in " ".join(explanation.notes["counterfactuals"])

    label = classifier.predict(picture(outside)).label
    explanation = explain(classifier, picture(outside), ["twins"], references=one_class)
    assert explanation["twins"] == ()
    assert explanation.notes["twins"] == (
        f"None of the {len(kept)} references is predicted {label!r}, so there is no twin to show.",
    )

    query = Query(classifier, picture(inside), references=one_class, against=label)
    explanation = explain_query(query, ["counterfactuals"])
    assert explanation["counterfactuals"] == ()
    assert "Ask for another class, or for any other" in explanation.notes["counterfactuals"][-1]


def test_asking_for_the_class_the_picture_has_shows_any_other_and_says_so(classifier, references):
    query = Query(classifier, picture(3), references=references)
    same = query.about(against=query.prediction.label)
    explanation = explain_query(same, ["counterfactuals"])
    assert any("itself is called" in note for note in explanation.notes["counterfactuals"])
    assert all(evidence.facts["predicted"] != query.prediction.label for evidence in explanation["counterfactuals"])


def test_references_of_another_classifier_are_an_error(references):
    with pytest.raises(ReferencesMismatchError, match="Distances between the two mean nothing"):
        explain(classifier_of(SmallNet(seed=7), target_layer="stem"), picture(0), ["twins"], references=references)


def test_asking_for_twins_without_references_says_what_is_missing(classifier):
    with pytest.raises(ReferencesError, match=r"twins cannot run here\. It needs references"):
        explain(classifier, picture(0), ["twins"])
    explanation = explain(classifier, picture(0))
    assert "twins" not in explanation
    with pytest.raises(UnknownNameError, match="It needs references"):
        explanation["twins"]


def test_a_mistyped_method_or_class_offers_the_nearest(classifier):
    with pytest.raises(UnknownNameError, match="Did you mean 'gradcam'"):
        explain(classifier, picture(0), ["gradcan"])
    with pytest.raises(UnknownNameError, match=r"no class 'grene'. Did you mean 'green'\? It has 3 classes: "):
        explain(classifier, picture(0), target="grene")
    with pytest.raises(UnknownNameError, match="classes 0 to 2, so not 3"):
        explain(classifier, picture(0), target=3)


def test_another_map_or_class_needs_no_other_pass_over_the_neighbours(classifier, references):
    passes = []
    handle = classifier.module.register_forward_hook(lambda *_: passes.append(1))
    query = Query(classifier, picture(600), references=references)
    shown = ["gradcam", "twins", "counterfactuals"]
    explain_query(query, shown)
    assert len(passes) == 4, "the picture, its twins, its counterfactuals, and one for the bias of a head not known"
    before = explain_query(query, ["twins"])["twins"][0]
    after = explain_query(query.about(map="layercam", target="blue"), shown)["twins"][0]
    handle.remove()
    assert len(passes) == 4
    assert not np.array_equal(before.raw, after.raw)
