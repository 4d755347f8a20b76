"""The trust card: what it says of maps whose worth is known, and that it leaves the network as it was."""

import dataclasses

import planted_pets
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn.functional import adaptive_avg_pool2d, interpolate
from toy_networks import ColourCounter, SmallNet, classifier_of

from xaihub import METHODS, Query, load_classifier, load_references, trust
from xaihub.errors import TargetLayerError, UnknownNameError
from xaihub.maps import map_method
from xaihub.metrics import baseline_maps
from xaihub.synthetic import paper_pets
from xaihub.trusting.checks import by_lot, depends_on_picture
from xaihub.trusting.faithfulness import LOTS, PARTS, STEPS, Faithfulness, faithfulness, share_as_good, veil
from xaihub.trusting.record import Check, Trust


@pytest.fixture(scope="module")
def starter():
    return load_classifier("xaihub/paper-pets")


@pytest.fixture(scope="module")
def pets():
    return [pet.image for pet in paper_pets(10, seed=61)]


@pytest.fixture
def upside_down():
    """A method that calls hot what Grad-CAM calls cold."""

    @map_method("upside-down", needs=("target layer",), signed=True)
    def upside_down(query):
        """The opposite of Grad-CAM."""
        raw = torch.from_numpy(METHODS["gradcam"].run(query)[0].raw)
        return raw.max() - raw

    yield "upside-down"
    METHODS._entries.pop("upside-down")


def outcome(card: Trust, name: str) -> str:
    return next(check.outcome for check in card.checks if check.name == name)


def spotted(where=(25, 25, 32, 32), size=(32, 32)) -> Image.Image:
    picture = Image.new("RGB", size, (0, 0, 2))
    picture.paste((255, 0, 0), where)
    return picture


def test_deletion_and_insertion_are_those_of_plain_loops(pets):
    classifier = classifier_of(SmallNet(), (40, 40))
    pixels, heat = classifier.transform(pets[0])[None], torch.rand(40, 40, generator=torch.Generator().manual_seed(3))
    found = faithfulness(classifier, pixels, heat, 1, grid=(5, 5))

    def share(altered):
        return classifier.probabilities(classifier.logits(altered))[0, 1].item()

    hidden = interpolate(adaptive_avg_pool2d(pixels, 5), (40, 40), mode="bilinear", align_corners=False)
    expected = []
    for one in [heat, *(baseline_maps("random", pixels, grid=(5, 5), seed=1 + i)[0] for i in range(LOTS))]:
        order = adaptive_avg_pool2d(one[None], PARTS)[0].flatten().argsort(descending=True).tolist()
        deleted, inserted = [], []
        for step in STEPS:
            hot = torch.zeros(PARTS * PARTS)
            hot[order[: round(step * PARTS * PARTS)]] = 1
            mask = interpolate(hot.view(1, 1, PARTS, PARTS), (40, 40), mode="nearest")
            deleted.append(share(pixels * (1 - mask) + hidden * mask))
            inserted.append(share(pixels * mask + hidden * (1 - mask)))
        expected.append((sum(deleted) / len(STEPS), sum(inserted) / len(STEPS)))
    assert (found.deletion, found.insertion) == pytest.approx(expected[0], abs=1e-5)
    assert [pair for lot in found.lots for pair in lot] == pytest.approx([p for e in expected[1:] for p in e], abs=1e-5)
    assert (found.probability, found.veiled) == pytest.approx((share(pixels), share(hidden)), abs=1e-5)
    assert found.blank == pytest.approx(share(pixels.mean((2, 3), keepdim=True).expand_as(pixels)), abs=1e-5)
    assert found.passes == 3 + 2 * len(STEPS) * (1 + LOTS)


def test_what_one_map_by_lot_deletes_its_reversal_inserts():
    found = Faithfulness(0.9, 0.1, 0.3, 0.2, 0.8, ((0.3, 0.7), (0.6, 0.4)), 27)
    assert found.by_lot == pytest.approx(0.5)
    assert found.gain == pytest.approx(0.6)
    assert found.spread == pytest.approx(((0.4**2 + 0.2**2) / 2) ** 0.5)
    assert found.lost == pytest.approx(1 - 0.3 / 0.9)
    assert share_as_good(found) == 0
    assert share_as_good(dataclasses.replace(found, insertion=0.35)) == 0.5  # 0.4 and 0.2, of 0.4, -0.4, -0.2, 0.2


def measured(**figures) -> Faithfulness:
    usual = Faithfulness(0.9, 0.1, 0.3, 0.2, 0.8, ((0.3, 0.7), (0.6, 0.4)), 27)
    return dataclasses.replace(usual, **figures)


def test_an_answer_that_stays_without_the_picture_hardly_depends_on_it_unless_its_parts_matter():
    goes = depends_on_picture(measured(), "cat")
    assert (goes.outcome, goes.sentence) == (
        "good", "Without anything to recognise (in its mean colour alone), 'cat' falls from 90% to 30%.",
    )  # fmt: skip
    stays = depends_on_picture(measured(veiled=0.83, deletion=0.85), "cat")
    assert stays.outcome == "bad"
    assert "(blurred to 5 x 5 colours) 'cat' still has 83%, where it has 90% with the picture" in stays.sentence
    usual = depends_on_picture(measured(veiled=0.83, deletion=0.11), "cat")
    assert usual.outcome == "care"
    assert "what is answered where nothing is known" in usual.sentence
    assert "with the hottest parts veiled it keeps 11%" in usual.sentence


def test_another_class_may_rise_without_the_picture_and_the_answer_may_not():
    rises = measured(probability=0.1, veiled=0.4, deletion=0.3)
    assert depends_on_picture(rises, "cat").outcome == "bad"
    other = depends_on_picture(rises, "cat", is_answer=False)
    assert other.outcome == "care"
    assert "rises from 10% to 40%: the picture speaks against it" in other.sentence


def test_a_verdict_by_less_than_random_maps_differ_is_said_to_be():
    close, clear = by_lot(measured(deletion=0.51)), by_lot(measured(deletion=0.8, insertion=0.2))
    assert (close.outcome, clear.outcome) == ("bad", "bad")
    assert "smaller than between random maps" in close.sentence
    assert "smaller than between random maps" not in clear.sentence


def test_of_a_class_that_nobody_speaks_of_it_is_not_asked_whether_its_map_is_faithful(starter, pets):
    """Of one per cent nothing can be taken away; a veil gives such a class more than the picture does."""
    query = Query(starter, pets[0])
    said = starter.probabilities(query.logits)
    assert float(said.min()) < 0.01
    card = trust(Query(starter, pets[0], target=int(said.argmin())))
    assert card.findings["positive"]
    assert card.verdict == "care"
    assert "Veiling parts has next to nothing to take away" in card.sentence
    assert "deletion" not in card.findings
    assert [check.name for check in card.checks].count("Better than chance") == 1
    likely = trust(Query(starter, pets[0], target=query.target))
    assert "deletion" in likely.findings


def test_the_starter_passes_and_its_reversed_map_does_not(starter, pets, upside_down):
    cards = [trust(Query(starter, pet)) for pet in pets[:3]]
    assert [card.verdict for card in cards].count("do not rely") == 0
    assert all(outcome(card, "Better than chance") == "good" for card in cards)
    for pet in pets[:1]:
        card = trust(Query(starter, pet), upside_down)
        assert card.verdict == "do not rely"
        assert "Do not rely on this map: deletion does no better than a random map" in card.sentence


@pytest.mark.parametrize("how", ["default", "kaiming"])
def test_a_network_with_weights_by_lot_is_not_to_be_relied_on(starter, pets, how):
    torch.manual_seed(5)
    network = load_classifier("xaihub/paper-pets")
    for part in network.module.modules():
        if hasattr(part, "reset_parameters"):
            part.reset_parameters()
        if how == "kaiming" and isinstance(part, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(part.weight, mode="fan_out")
    cards = [trust(Query(network, pet)) for pet in pets[:4]]
    assert [card.verdict for card in cards] == ["do not rely"] * 4
    assert any("hardly depends on the picture" in card.sentence for card in cards)


def test_a_map_that_knows_no_class_stays_when_the_last_layer_is_replaced(starter, pets):
    card = trust(Query(starter, pets[1]), "eigencam")
    assert card.findings["alike with the last layer replaced"] == pytest.approx(1, abs=1e-6)
    assert outcome(card, "Changes with the weights") == "care"
    assert card.verdict != "passed"
    assert outcome(trust(Query(starter, pets[1])), "Changes with the weights") == "good"


def test_heat_in_a_corner_is_said_and_what_the_answer_is_without_it():
    classifier = classifier_of(ColourCounter(0.03))
    card = trust(Query(classifier, spotted()))
    assert card.findings["heat at"] == "lower right corner"
    assert card.findings["without that place"] < card.findings["probability"] - 0.2
    assert outcome(card, "Not in a corner or at an edge") == "care"
    assert "may decide rather than the object" in " ".join(check.sentence for check in card.checks)
    middle = trust(Query(classifier, spotted((12, 12, 20, 20))))
    assert "heat at" not in middle.findings
    edge = trust(Query(classifier, spotted((0, 12, 4, 20))))
    assert edge.findings["heat at"] == "left edge"


def test_no_heat_is_no_map_to_rely_on():
    card = trust(Query(classifier_of(ColourCounter(0.1)), Image.new("RGB", (32, 32), (0, 0, 0))))
    assert card.verdict == "do not rely"
    assert card.sentence == "Do not rely on this map: nothing on the map speaks for 'red': there is no heat to judge."


def test_twins_are_told_where_the_references_were_measured(starter, pets):
    references = load_references("xaihub/paper-pets")
    card = trust(Query(starter, pets[0], references=references))
    assert card.findings["twins agree"] == references.fidelity["contribution"]["agreement@3"][0]
    assert not [check for check in trust(Query(starter, pets[0])).checks if check.name == "Twins"]


def test_the_network_is_left_as_it_was_and_the_card_is_always_the_same(starter, pets):
    module, before = starter.module, starter.module.state_dict()
    before = {name: value.clone() for name, value in before.items()}
    module.train()
    try:
        first, again = (trust(Query(starter, pets[2])) for _ in range(2))
        assert all(part.training for part in module.modules())
    finally:
        module.eval()
    assert first.findings == again.findings
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert all(parameter.grad is None for parameter in module.parameters())
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())


def test_progress_ends_it_and_unknown_methods_are_refused(starter, pets):
    told = []
    trust(Query(starter, pets[0]), progress=lambda share, stage: told.append(share))
    assert told == sorted(told)
    assert told[-1] == 1
    with pytest.raises(UnknownNameError, match="no method called 'gradcams'"):
        trust(Query(starter, pets[0]), "gradcams")
    with pytest.raises(TargetLayerError, match="shows no map here"):
        trust(Query(starter, pets[0]), "attention-rollout")


def test_a_notebook_shows_the_verdict_in_words_and_nothing_unescaped():
    bad = Check("A <b>", "bad", "It failed & how.")
    card = Trust("gradcam", "<script>", "do not rely", (Check("Twins", "good", "Fine."), bad), {"gain": 0.1})
    assert card.sentence == "Do not rely on this map: it failed & how."
    html = card._repr_html_()
    assert "Do not rely on this map" in html
    assert "<script>" not in html
    assert "&lt;b&gt;" in html
    with pytest.raises(dataclasses.FrozenInstanceError):
        card.verdict = "passed"


def test_a_veil_keeps_the_colours_and_hides_the_rest():
    stripes = (torch.arange(40) % 2).float().expand(1, 3, 40, 40)
    assert torch.allclose(veil(stripes), torch.full((1, 3, 40, 40), 0.5), atol=1e-6)


def test_a_classifier_taught_a_corner_mark_is_found_out_and_the_starter_is_not(starter):
    for pet in planted_pets.pets(6, marked=True, seed=51)[::2]:
        card = trust(Query(planted_pets.taught(), pet.image))
        assert card.verdict == "care"
        assert "lies in the lower right corner" in card.sentence
        assert card.findings["without that place"] < 0.1
        assert "corner" not in str(trust(Query(starter, pet.image)).findings.get("heat at"))
