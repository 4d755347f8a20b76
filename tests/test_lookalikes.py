"""What looks alike: searched by other eyes than the classifier's, within its predicted class, without a heatmap."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_references import picture, pictures
from tiny_embedders import backbone_files
from toy_networks import SmallNet, classifier_of

from xaihub.building import build_references
from xaihub.embedders import DEFAULT, EMBEDDERS, PIXELS
from xaihub.errors import UnknownNameError
from xaihub.explaining import explain
from xaihub.found import place_of
from xaihub.hub_embedders import load_embedder
from xaihub.methods import Query


@pytest.fixture(scope="module")
def classifier():
    network = SmallNet()
    with torch.no_grad():
        network.head.weight.mul_(20)
    return classifier_of(network)


def test_the_nearest_by_colours_are_shown_as_they_are(classifier):
    references = build_references(classifier, pictures(60), embedder=(DEFAULT, PIXELS), fidelity=False)
    explanation = explain(classifier, picture(500), "lookalikes", references=references)
    assert len(explanation["lookalikes"]) == 3
    colours = np.array([np.asarray(picture(500).resize((16, 16), 4), float).ravel() / 255 - 0.5])
    for evidence in explanation["lookalikes"]:
        assert evidence.facts["predicted"] == explanation.prediction.label
        assert evidence.heatmap is None
        row = references.keys.index(evidence.facts["key"])
        np.testing.assert_array_equal(np.asarray(evidence.image), np.asarray(references.picture(row)))
        theirs = np.asarray(references.picture(row).resize((16, 16), 4), float).ravel() / 255 - 0.5
        cosine = float(colours[0] @ theirs / np.linalg.norm(colours[0]) / np.linalg.norm(theirs))
        assert evidence.score == pytest.approx(cosine, abs=0.05)  # the classifier saw a smaller picture
    assert explanation["lookalikes"][0].score >= explanation["lookalikes"][1].score


def test_references_by_the_classifier_alone_say_how_to_have_them(classifier):
    references = build_references(classifier, pictures(30), fidelity=False)
    explanation = explain(classifier, picture(500), "lookalikes", references=references)
    assert explanation["lookalikes"] == ()
    assert "build them with a second embedder" in explanation.notes["lookalikes"][0]


def test_a_folders_network_is_handed_over_and_is_the_one_at_the_same_revision(classifier, tmp_path):
    folder = tmp_path / "eye"
    folder.mkdir()
    backbone_files("resnet", folder)
    eye = load_embedder(str(folder))
    references = build_references(classifier, pictures(12), embedder=[eye, DEFAULT], fidelity=False)
    with pytest.raises(UnknownNameError, match=r"no embedder called 'eye' here.*embedders=\[load_embedder\(folder\)\]"):
        explain(classifier, picture(500), "twins", references=references)
    shown = explain(classifier, picture(500), ["twins", "lookalikes"], references=references, embedders=[eye])
    assert {evidence.facts["embedder"] for name in shown for evidence in shown[name]} == {"eye"}
    assert shown["twins"]
    with pytest.raises(UnknownNameError, match="You gave 'eye' at another"):
        explain(classifier, picture(500), "twins", references=references, embedders=[replace(eye, revision="another")])


def test_another_revision_is_another_embedder(classifier):
    built = build_references(classifier, pictures(30), embedder=(DEFAULT, PIXELS), fidelity=False)
    pixels = built.spaces[PIXELS]

    def at(revision):
        space = replace(pixels, name="owner/eye", revision=revision)
        return replace(built, spaces={DEFAULT: built.spaces[DEFAULT], space.name: space})

    query = Query(classifier, picture(500), references=at("aaa"))
    query.memory["embedder", "owner/eye", "aaa"] = EMBEDDERS[PIXELS]  # as the page fills it
    assert place_of(query, "owner/eye").embedder is EMBEDDERS[PIXELS]
    other = Query(
        classifier, picture(500), references=at("bbb"), embedders=[replace(EMBEDDERS[PIXELS], name="owner/eye")]
    )
    other.memory.update(query.memory)
    other.memory["embedder", "owner/eye", "bbb"] = second = replace(EMBEDDERS[PIXELS], name="second")
    assert place_of(other, "owner/eye").embedder is second


def test_a_network_that_is_gone_is_a_sentence_and_the_twins_stay(classifier):
    references = build_references(classifier, pictures(30), embedder=(DEFAULT, PIXELS), fidelity=False)
    gone = replace(references.spaces[PIXELS], name="somewhere-else")
    references = replace(references, spaces={DEFAULT: references.spaces[DEFAULT], "somewhere-else": gone})
    explanation = explain(classifier, picture(500), ["twins", "lookalikes"], references=references)
    assert explanation["twins"]
    assert "There is no embedder called 'somewhere-else'" in explanation.notes["lookalikes"][0]
