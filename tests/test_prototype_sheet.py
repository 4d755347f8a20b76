"""The scoring sheet, and the classifiers it is of: points that add up, places that are shown, and what is refused."""

from concurrent.futures import CancelledError
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from toy_networks import TokenNet, classifier_of

from xaihub import prototype_maps
from xaihub.building import build_references
from xaihub.datasets import from_pairs
from xaihub.errors import DatasetError, ReferencesError, TargetLayerError, UnknownNameError, XaihubError
from xaihub.explaining import explain
from xaihub.loading import STARTER_FOLDER, load_classifier
from xaihub.methods import METHODS, Query
from xaihub.prototype_firing import FIRINGS, deletion_score, fires, prototypes_of
from xaihub.prototype_fitting import SETTINGS, fit_prototypes
from xaihub.prototype_maps import black_box_of, look
from xaihub.prototype_sheet import reading_of, sheet
from xaihub.synthetic import paper_pets

FEW = replace(SETTINGS, per_class=3, candidates=8, pooled=1)
SIZE = (32, 48)  # (H, W): 4 x 6 cells


class Patches(nn.Module):
    """The mean colour of each 8 x 8 patch, less the mean of all, then a linear head: a colour speaks for its class."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Conv2d(3, 9, 8, stride=8)
        self.head = nn.Linear(9, 3)
        with torch.no_grad():
            colours = torch.eye(3).repeat(3, 1)[:, :, None, None]  # channel k sees colour k % 3
            self.features.weight.copy_(colours.expand(9, 3, 8, 8) / 64)
            self.features.bias.zero_()
            self.head.weight.copy_(torch.eye(3).repeat(1, 3) * 20)
            self.head.bias.zero_()

    def forward(self, pixels):
        return self.head(self.features(pixels).mean((-2, -1)))


def spotted(colour, seed, spots=3):
    """Grey noise with some cells of one colour, 0 to 2."""
    random = np.random.default_rng(seed)
    pixels = np.repeat(random.integers(90, 130, (*SIZE, 1)), 3, axis=2).astype(np.uint8)
    for place in random.permutation(24)[:spots]:
        row, column = divmod(int(place), 6)
        pixels[row * 8 : row * 8 + 8, column * 8 : column * 8 + 8] = np.eye(3)[colour] * random.integers(200, 256)
    return Image.fromarray(pixels)


def pictures(count=18, classes=3, spots=3):
    names = ("red", "green", "blue")
    rows = [(f"row {i}", names[i % classes], spotted(i % classes, i, spots)) for i in range(count)]
    return from_pairs("spots", rows)


@pytest.fixture(scope="module")
def black_box():
    return classifier_of(Patches(), size=SIZE)


@pytest.fixture(scope="module")
def made(black_box):
    return fit_prototypes(black_box, pictures(), settings=FEW)


def test_the_answer_is_that_of_the_network_and_the_prototypes_are_spots(black_box, made):
    assert made.labels == ("red", "green", "blue")
    assert made.prototypes.made["agreement on these"] == 1
    assert made.prototypes.made["directions"] == "head"
    for seed in range(100, 106):
        asked = spotted(seed % 3, seed)
        assert made.predict(asked).label == black_box.predict(asked).label
    used = made.prototypes.network.head.weights.amax(0) > 0
    for prototype in (each for each, counts in zip(made.prototypes.gallery, used, strict=True) if counts):
        row, column = prototype.cell
        cell = np.asarray(prototype.picture)[row * 8 + 2 : row * 8 + 6, column * 8 + 2 : column * 8 + 6].mean((0, 1))
        assert cell.argmax() == prototype.owner
        assert cell.max() > 180


def test_a_prototype_is_the_vector_of_its_cell(black_box, made):
    looked = look(black_box, pictures())
    head = made.prototypes.network.head
    cells = head.embed(looked.maps)
    for vector, prototype in zip(head.vectors, made.prototypes.gallery, strict=True):
        row = looked.keys.index(prototype.key)
        assert looked.digests[row] == prototype.digest
        assert float((vector - cells[row][:, *prototype.cell]).detach().abs().max()) <= 1e-6


def test_points_and_bias_add_up_to_the_logit_and_places_are_marked(made):
    asked = spotted(2, 200)
    explanation = explain(made, asked, ["prototypes", "gradcam"])
    logit = float(made.logits(made.transform(asked)[None])[0, 2])
    shown = explanation["prototypes"]
    assert shown
    assert [each.facts["points"] for each in shown] == sorted((e.facts["points"] for e in shown), reverse=True)
    for each in shown:
        facts = each.facts
        assert facts["points of all"] + facts["bias"] == pytest.approx(facts["logit"], abs=1e-4)
        assert facts["logit"] == pytest.approx(logit, abs=1e-4)
        assert facts["points"] == pytest.approx(facts["similarity"] * facts["weight"], rel=1e-5)
        assert facts["class"] == "blue"
        assert facts["key"] in each.caption
        assert f"adds {facts['points']:.2f} points" in each.caption
        assert each.heatmap.shape == SIZE
        assert each.raw.shape == (4, 6)
        (there,), (here,) = each.boxes, each.matches
        for picture, (left, upper, right, lower) in ((each.image, there), (explanation.image, here)):
            middle = picture.getpixel((int(left + right) // 2, int(upper + lower) // 2))
            assert middle[2] > 180 > middle[0], "both boxes lie on a blue spot"
    assert sum(each.facts["points"] for each in shown) == pytest.approx(shown[0].facts["points of all"])


def test_every_class_has_its_sheet_and_without_its_prototypes_only_the_bias_is_left(made):
    query = Query(made, spotted(0, 201))
    reading = reading_of(query)
    sheets = [sheet(made, reading, index) for index in range(3)]
    assert sum(each.probability for each in sheets) == pytest.approx(1)
    assert [each.logit for each in sheets] == pytest.approx(query.logits.tolist(), abs=1e-4)
    assert sheets[0].points + sheets[0].bias == pytest.approx(sheets[0].logit, abs=1e-4)
    assert {line.owner for line in sheets[0].lines} == {0}
    less = sheet(made, reading, 0, without=[sheets[0].lines[0].prototype])
    assert less.logit == pytest.approx(sheets[0].logit - sheets[0].lines[0].points, abs=1e-4)
    assert less.probability < sheets[0].probability
    none = sheet(made, reading, 0, without=made.prototypes.of_class(0))
    assert none.lines == ()
    assert none.logit == none.bias == pytest.approx(made.prototypes.network.head.bias.tolist()[0])


def test_where_nothing_is_recognised_that_is_said(made):
    strict = fit_prototypes(black_box_of(made), pictures(), settings=replace(FEW, least=0.999999))
    explanation = explain(strict, Image.new("RGB", (48, 32), (120, 120, 118)), "prototypes")
    assert explanation["prototypes"] == ()
    assert "Nothing here is recognised" in explanation.notes["prototypes"][0]
    other = explain(made, spotted(0, 202), "prototypes", target="blue")
    assert all(each.facts["class"] == "blue" for each in other["prototypes"])


def test_a_picture_that_is_not_kept_leaves_its_prototype_in_words(made):
    gallery = tuple(replace(each, data=None) for each in made.prototypes.gallery)
    bare = replace(made, prototypes=replace(made.prototypes, gallery=gallery))
    shown = explain(bare, spotted(1, 203), "prototypes")["prototypes"]
    assert shown[0].facts["picture"] is False
    assert "not kept with this model" in shown[0].caption


def test_a_classifier_without_prototypes_says_how_to_get_them(black_box):
    with pytest.raises(TargetLayerError, match=r"fit_prototypes\(classifier, references\)"):
        explain(black_box, spotted(0, 1), "prototypes")
    assert "Prototypes page" in explain(black_box, spotted(0, 1)).notes["prototypes"][0]
    assert METHODS["prototypes"].shows_pictures
    with pytest.raises(XaihubError, match="does not answer by prototypes"):
        prototypes_of(black_box)
    with pytest.raises(XaihubError, match="does not answer by prototypes"):
        fires(black_box, torch.zeros(1, 3, *SIZE), [0])


def test_references_serve_as_well_and_their_crops_are_kept(black_box, made):
    references = build_references(black_box, pictures(), fidelity=False)
    from_references = fit_prototypes(black_box, references, settings=FEW)
    assert from_references.labels == made.labels
    for each in from_references.prototypes.gallery:
        assert each.data == references.pictures[references.keys.index(each.key)]
    with pytest.raises(ReferencesError, match="not kept"):
        look(black_box, replace(references, pictures=(None,) * len(references)))


def test_maps_beyond_the_memory_are_those_of_an_even_sample(black_box, monkeypatch):
    monkeypatch.setattr(prototype_maps, "MOST_BYTES", 9 * 9 * 24 * 4)
    looked = look(black_box, pictures())
    assert len(looked) == 9
    assert sorted(looked.labels) == ["blue"] * 3 + ["green"] * 3 + ["red"] * 3
    assert looked.facts["chosen"] == "9 of 18 pictures, drawn evenly from the classes"
    assert look(black_box, pictures()).keys == looked.keys


def test_copies_of_a_picture_are_one_source(black_box):
    one = spotted(0, 0)
    pairs = [(f"copy {i}", "red", one) for i in range(3)] + [(f"row {i}", "blue", spotted(2, i)) for i in range(5, 8)]
    looked = look(black_box, from_pairs("copies", pairs))
    assert len(set(looked.copies)) == 4
    made = fit_prototypes(black_box, looked, settings=FEW)
    assert [each.owner for each in made.prototypes.gallery].count(0) == 1


def test_only_classes_that_occur_are_told_apart_by_predictions_or_labels(black_box):
    two = fit_prototypes(black_box, pictures(classes=2), settings=FEW)
    assert two.labels == ("red", "green")
    assert two.prototypes.black_box_labels == ("red", "green", "blue")
    assert two.predict(spotted(1, 300)).label == "green"
    with pytest.raises(DatasetError, match=r"All 6 pictures of spots are predicted 'red'.*two classes or more"):
        fit_prototypes(black_box, pictures(6, classes=1), settings=FEW)
    rows = pictures()
    renamed = [(key, {"red": "warm"}.get(label, "cold"), get) for key, label, get in rows.sources]
    renamed[0] = (renamed[0][0], None, renamed[0][2])
    own = fit_prototypes(black_box, replace(rows, sources=renamed), fitted_to="labels", settings=FEW)
    assert own.labels == ("cold", "warm")
    assert own.prototypes.made["directions"] == "discriminant"
    assert own.prototypes.made["agreement on these"] is None
    assert "the pictures' labels" in own.notices[-1]
    assert own.predict(spotted(0, 301)).label == "warm"


def test_the_network_is_shared_untouched_and_can_be_explained_by_maps(black_box, made):
    assert made.prototypes.network.black_box is black_box.module
    assert made.target_layer.name == "black_box." + black_box.target_layer.name
    assert explain(made, spotted(0, 1), "layercam")["layercam"][0].raw.shape == (4, 6)
    below = black_box_of(made)
    assert below.target_layer == black_box.target_layer or below.target_layer.name == black_box.target_layer.name
    assert torch.equal(below.logits(torch.zeros(1, 3, *SIZE)), black_box.logits(torch.zeros(1, 3, *SIZE)))
    looked = look(made, pictures())
    assert looked.predicted == look(black_box, pictures()).predicted
    with pytest.raises(XaihubError, match="answers by prototypes already"):
        fit_prototypes(made, pictures())


def test_tokens_are_places_too_and_a_head_that_reads_no_mean_gives_no_directions():
    classifier = classifier_of(TokenNet())
    looked = look(classifier, pictures())
    assert looked.directions is None
    made = fit_prototypes(classifier, looked, settings=FEW, fitted_to="labels")
    assert made.prototypes.gallery[0].grid == (4, 4)
    shown = explain(made, spotted(0, 1), "prototypes")
    assert shown.target in range(3)


def test_progress_is_told_and_stops_the_work(black_box):
    told = []
    fit_prototypes(black_box, pictures(), settings=FEW, progress=lambda share, stage: told.append((share, stage)))
    assert [share for share, _ in told] == sorted(share for share, _ in told)
    assert told[0] == (0, "Reading the maps of picture 1 of 18")
    assert told[-1][0] == 1

    def stop(share, stage):
        if "typical" in stage:
            raise CancelledError

    with pytest.raises(CancelledError):
        fit_prototypes(black_box, pictures(), settings=FEW, progress=stop)


@pytest.mark.parametrize("how", FIRINGS)
def test_a_prototype_fires_on_its_spot(made, how):
    asked = spotted(2, 204, spots=1)
    view = made.transform.view(asked)
    (line, *_) = sheet(made, reading_of(Query(made, asked)), 2).lines
    fired = fires(made, view.pixels, [line.prototype, 0], how)
    assert fired.heatmaps.shape == (2, *SIZE)
    assert 0 <= float(fired.heatmaps.min()) <= float(fired.heatmaps.max()) <= 1
    hottest = divmod(int(fired.heatmaps[0].argmax()), SIZE[1])
    assert (hottest[0] // 8, hottest[1] // 8) == line.cell
    faithful = deletion_score(made, view.pixels, fired.heatmaps[0], line.prototype)
    assert faithful < deletion_score(made, view.pixels, -fired.heatmaps[0], line.prototype)


def test_an_unknown_map_is_named_and_stop_is_heard(made):
    pixels = made.transform(spotted(2, 204))[None]
    with pytest.raises(UnknownNameError, match=r"upsamppled.*upsampled"):
        fires(made, pixels, [0], "upsamppled")

    def stop(_share, _stage):
        raise CancelledError

    with pytest.raises(CancelledError):
        fires(made, pixels, [0], "smoothgrad", progress=stop)


def test_prototypes_of_the_pets_lie_on_deciding_parts():
    classifier = load_classifier(STARTER_FOLDER / "classifier")
    pets = {f"pet {i}": pet for i, pet in enumerate(paper_pets(40, seed=11))}
    rows = from_pairs("pets", [(key, pet.label, pet.image) for key, pet in pets.items()])
    made = fit_prototypes(classifier, rows, settings=replace(SETTINGS, candidates=10, per_class=5))
    lifts = torch.tensor([lift(pets[each.key].deciding_mask, each) for each in made.prototypes.gallery])
    assert float(lifts.mean()) > 3


def lift(mask, prototype):
    """How much more of a prototype's cell than of its picture lies on the parts that tell its class."""
    rows, columns = (edges_of(length, cells) for length, cells in zip(mask.shape, prototype.grid, strict=True))
    (row, column) = prototype.cell
    return float(mask[rows(row), columns(column)].mean() / mask.mean())


def edges_of(length, cells):
    return partial(lambda place: slice(place * length // cells, (place + 1) * length // cells))
