"""A class without evidence has a dark map; a corner is warned of only where it decides; neighbours judge themselves."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from toy_networks import ColourCounter, classifier_of

from xaihub import Query, build_references, explain, load_classifier, trust
from xaihub.cams import CAMS
from xaihub.datasets import from_pairs
from xaihub.fidelity import measure
from xaihub.maps import shown
from xaihub.stages import stages, strip
from xaihub.synthetic import paper_pets
from xaihub.ui.asking import Asked
from xaihub.ui.results_examples import beside


class For(nn.Module):
    """Class 0 is the sum of red; class 1 is a share of blue, less all of red; class 2 is the sum of green."""

    def __init__(self, share: float, scale: float = 1.0) -> None:
        super().__init__()
        self.features = ColourCounter().features
        self.register_buffer("weights", torch.tensor([[1.0, 0, 0], [-1, 0, share], [0, 1, 0]]).repeat(1, 3) * scale)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.features(pixels).sum((-2, -1)) @ self.weights.T


def corner(mark=(0, 0, 255), ground=(255, 0, 0), box=(24, 24, 32, 32)) -> Image.Image:
    image = Image.new("RGB", (32, 32), ground)
    image.paste(mark, box)
    return image


# --- a class without evidence -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["gradcam", "hirescam", "cam", "input-x-gradient", "occlusion"])
def test_what_speaks_for_a_class_is_as_bright_as_it_is_beside_what_speaks_against_it(method):
    """Red speaks against class 1 with 1 a pixel, blue in one corner for it with 0.02."""
    found = explain(classifier_of(For(0.02)), corner(), method, target=1)[method][0]
    assert found.heatmap.max() == pytest.approx(0.02, rel=0.5 if method == "occlusion" else 1e-3)
    assert found.signed.min() == -1
    assert found.caption.startswith("No positive evidence for ")
    assert ("at this layer" in found.caption) == (method in ("gradcam", "hirescam", "cam"))
    assert "has 2% of the size of the strongest against it" in found.caption or method == "occlusion"
    assert found.facts["positive"] is False


@pytest.mark.parametrize(("share", "words"), [(0.3, "has 30% of the size"), (0.5, ""), (1.0, ""), (3.0, "")])
def test_the_caption_says_how_strong_the_evidence_against_is_only_where_it_is_stronger(share, words):
    found = explain(classifier_of(For(share)), corner(), "gradcam", target=1)["gradcam"][0]
    assert found.heatmap.max() == pytest.approx(min(share, 1), rel=1e-3)
    assert found.facts["positive"] is True
    assert found.caption.startswith("Where ")
    assert ("of the size of the strongest against it" in found.caption) == bool(words)
    assert words in found.caption


def test_a_class_with_nothing_but_evidence_against_it_shows_no_spot_and_a_map_that_knows_no_against_stays():
    raw = torch.tensor([[[-2.0, -1.0], [-0.5, 1e-4]]])
    assert float(shown(raw, (2, 2)).max()) == pytest.approx(5e-5)
    torch.testing.assert_close(shown(raw, (2, 2), signed=False), torch.tensor([[[0.0, 0], [0, 1]]]))
    image = corner()
    for method in ("layercam", "gradcam++", "rise"):
        found = explain(classifier_of(ColourCounter(0.01), size=(32, 32)), image, method, target="blue")[method][0]
        assert found.heatmap.max() == pytest.approx(1)
        assert "against it" not in found.caption


def test_one_wild_pixel_against_the_class_does_not_darken_the_map():
    raw = torch.ones(1, 40, 50)
    raw[0, 3, 4] = -1000
    assert float(shown(raw, (40, 50), 0.005).median()) == 1
    assert float(shown(raw, (40, 50)).median()) == pytest.approx(0.001)


def test_layers_fused_show_no_spot_where_none_of_them_has_evidence():
    classifier = classifier_of(For(0.02))
    query = Query(classifier, corner(), target=1)
    found = strip(query, stages(classifier))
    assert found.fused.heatmap.max() == pytest.approx(0.02, rel=1e-3)
    assert found.fused.caption.startswith("No positive evidence for ")


def test_there_is_no_heat_to_judge_in_a_map_that_is_dark():
    card = trust(Query(classifier_of(For(0.02, 0.01)), corner(), target=1))
    assert card.verdict == "do not rely"
    assert card.findings == {"positive": False}
    assert "there is no heat to judge" in card.sentence


# --- marks in the corner ----------------------------------------------------------------------------------------------

ELSEWHERE = ((4, 4), (26, 4), (4, 26))


class Least(nn.Module):
    """The red of the darkest quadrant, so that each quadrant that is covered takes the class away."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Identity()

    def forward(self, pixels: Tensor) -> Tensor:
        quarters = nn.functional.adaptive_avg_pool2d(self.features(pixels * 1.0)[:, :1], 2).flatten(1)
        least = quarters.amin(1)
        return torch.stack([400 * least, 0 * least + 2, 0 * least], 1)


def warned(card) -> bool:
    return any("corner" in check.sentence or "edge" in check.sentence for check in card.checks)


def test_heat_in_a_corner_is_no_warning_where_the_class_does_without_it():
    """Two thirds of the red lie in the corner; the third that is left is enough for 99 %."""
    image = corner((255, 0, 0), (0, 0, 3))
    image.paste((255, 0, 0), (13, 13, 19, 19))
    card = trust(Query(classifier_of(ColourCounter(0.1)), image))
    assert card.findings["heat at"] == "lower right corner"
    assert card.findings["without that place"] > 0.95
    assert not warned(card)


def test_heat_at_an_edge_is_no_warning_for_a_class_that_has_no_probability_to_lose():
    image = Image.new("RGB", (32, 32), (200, 0, 0))
    image.paste((0, 90, 0), (0, 12, 4, 20))
    card = trust(Query(classifier_of(For(0.5, 0.02)), image, target=2))
    assert card.findings["heat at"] == "left edge"
    assert not warned(card)


def test_heat_in_a_corner_is_no_warning_where_every_other_corner_takes_as_much():
    image = Image.new("RGB", (32, 32), (0, 0, 0))
    for left, top in ELSEWHERE:
        image.paste((255, 0, 0), (left, top, left + 3, top + 3))
    image.paste((240, 0, 0), (27, 27, 30, 30))  # the least: the heat lies here alone
    card = trust(Query(classifier_of(Least(), target_layer="features"), image), "input-x-gradient")
    assert card.findings["heat at"] == "lower right corner"
    assert card.findings["without that place"] < card.findings["probability"] - 0.2
    assert card.findings["without another place"] < card.findings["probability"] - 0.2
    assert not warned(card)


@pytest.mark.parametrize(("box", "where"), [((25, 0, 32, 7), "in the upper right corner"), ((12, 27, 20, 32), "along")])
def test_a_mark_that_alone_decides_is_warned_of_with_what_covering_another_place_does(box, where):
    card = trust(Query(classifier_of(ColourCounter(0.03)), corner((255, 0, 0), (0, 0, 2), box)))
    told = next(
        check.sentence for check in card.checks if check.outcome == "care" and "mark or a frame" in check.sentence
    )
    assert where in told
    assert "goes from 100% to" in told or "goes from 9" in told
    assert card.findings["without another place"] > card.findings["probability"] - 0.01


# --- neighbours -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def starter():
    return load_classifier("xaihub/paper-pets")


@pytest.fixture(scope="module")
def pets():
    return [pet.image for pet in paper_pets(40, seed=5)]


@pytest.fixture(scope="module")
def one_of_each(starter, pets):
    """As many references as classes: no neighbour of an image can be of its class."""
    by_class = {Query(starter, pet).target: pet for pet in pets}
    return build_references(starter, from_pairs("one", [(str(k), "none", pet) for k, pet in by_class.items()]))


@pytest.fixture(scope="module")
def many(starter, pets):
    return build_references(starter, from_pairs("many", [(str(i), "none", pet) for i, pet in enumerate(pets)]))


def query_with(starter, image, references, agreement=None):
    if agreement is not None:
        name = references.space().name
        figures = {**references.fidelity[name], "agreement@3": [agreement, agreement, agreement]}
        references = replace(references, fidelity={name: figures})
    return Query(starter, image, references=references)


def test_a_map_is_judged_alike_with_and_without_references_of_one_image_a_class(starter, one_of_each):
    images = [pet.image for pet in paper_pets(3, seed=61)]
    cards = [(trust(Query(starter, image)), trust(query_with(starter, image, one_of_each))) for image in images]
    assert "passed" in {alone.verdict for alone, _ in cards}, "else nothing here is a test"
    assert [beside.verdict for _, beside in cards] == [alone.verdict for alone, _ in cards]
    told = cards[0][1].neighbours
    assert told.outcome == "unasked"
    assert "too few references of this class (1; at least 5 needed)" in told.sentence


@pytest.mark.parametrize("agreement", [0.0, 0.3, 1.0])
def test_whatever_neighbours_of_enough_images_agree_on_is_said_of_them_alone(starter, many, agreement):
    image = next(pet.image for pet in paper_pets(8, seed=61) if trust(Query(starter, pet.image)).verdict == "passed")
    card = trust(query_with(starter, image, many, agreement))
    assert card.verdict == "passed"
    assert card.neighbours.outcome == ("good" if agreement == 1 else "care")
    assert f"{agreement:.0%} are answered as their three nearest" in card.neighbours.sentence
    assert card.findings["twins agree"] == agreement
    assert card.neighbours.sentence in card._repr_html_().replace("&#x27;", "'")


def test_only_images_with_enough_references_of_their_class_are_asked_whether_neighbours_agree(
    starter, many, one_of_each
):
    assert set(many.fidelity) == {many.space().name}
    assert many.fidelity[many.space().name]["n_of_enough"] == len(many)
    assert one_of_each.fidelity[one_of_each.space().name]["agreement@3"] == [None, None, None]
    assert one_of_each.fidelity[one_of_each.space().name]["n_of_enough"] == 0
    rows = many.slices[next(iter(many.slices))]
    keys = [many.keys[row] for row in range(rows.start, rows.stop)]
    lonely = next(i for i in range(len(many)) if many.keys[i] not in keys)
    pictures = [(key, "none", many.picture(many.keys.index(key))) for key in [*keys, many.keys[lonely]]]
    figures = measure(build_references(starter, from_pairs("most", pictures), fidelity=False), starter)
    (found,) = figures.values()
    assert (found["n"], found["n_of_enough"]) == (len(keys) + 1, len(keys))
    assert found["agreement@1"][0] == 1


@pytest.mark.parametrize("few", [True, False])
def test_the_row_of_twins_says_that_too_few_references_are_of_the_class(starter, one_of_each, many, few):
    references = one_of_each if few else many
    image = next(paper_pets(1, seed=61)).image
    explanation = explain(starter, image, ["gradcam", "twins"], references=references)
    choices = {"target": "", "against": "", "method": "gradcam", "layer": ""}
    drawn = beside(Asked(None, explanation, None, choices, references=references))
    assert ("too few references of this class (1; at least 5 needed)" in drawn) == few
    assert ("nearest agree with the classifier on" in drawn) == (not few)


def test_the_agreement_stored_with_no_count_of_enough_images_is_still_read(starter, many):
    name = many.space().name
    older = {key: value for key, value in many.fidelity[name].items() if key != "n_of_enough"}
    card = trust(Query(starter, next(paper_pets(1, seed=61)).image, references=replace(many, fidelity={name: older})))
    assert f"Of {older['n']} other images" in card.neighbours.sentence


def test_every_gradient_map_of_a_signed_method_stays_below_its_own_largest_size():
    generator = torch.Generator().manual_seed(2)
    activations, gradients = (torch.randn(1, 4, 5, 5, generator=generator) for _ in range(2))
    for name in ("gradcam", "hirescam", "xgradcam"):
        raw = CAMS[name](activations, gradients)
        expected = raw[0].clamp_min(0) / raw.abs().max()
        np.testing.assert_allclose(shown(raw, (5, 5))[0], expected, atol=1e-6)
