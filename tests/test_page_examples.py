"""Examples on page 1: both kinds of twins, their regions, the smallest change, and references that lack something."""

import io
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace

import pytest
from browser_fixture import SCREENSHOTS, appears, choose, open_page, send_picture, served
from PIL import Image
from tiny_embedders import clip_files
from tiny_models import TINY, TOKEN, build, picture, processor_of, push

from xaihub import build_references
from xaihub.curated import STARTER
from xaihub.errors import CancelledError
from xaihub.progress import silent
from xaihub.records import Evidence
from xaihub.ui import drawing_examples, results, results_examples
from xaihub.ui.api import overlay, record
from xaihub.ui.desk import Desk, Question
from xaihub.ui.desk_references import embed_again
from xaihub.ui.desk_words import reader_of, seen_by
from xaihub.ui.drawing_trust import trust_shown
from xaihub.ui.settings import Settings, starter_examples

MODEL, DATASET, HIDDEN, EYE = "alice/tiny-resnet", "alice/shapes", "alice/hidden", "alice/tiny-clip"
pytestmark = pytest.mark.timeout(200)


def png(seed: int = 0) -> bytes:
    stream = io.BytesIO()
    picture(80, 80, seed).save(stream, "PNG")
    return stream.getvalue()


def publish(hub, *, eye=None) -> None:
    push(hub, MODEL, build(TINY["resnet"]), processor_of(TINY["resnet"]))
    files = {f"train/{'cat' if i % 2 else 'dog'}/{i}.png": png(i + 1) for i in range(12)}
    hub.add_files(DATASET, files, repo_type="dataset")
    hub.add_files(HIDDEN, files, repo_type="dataset", private=True)
    if eye is not None:
        hub.add_files(EYE, clip_files(eye))


@pytest.fixture
def published(hub):
    publish(hub)
    return hub


def ask(desk, **changes):
    return list(desk.answer(Question(**{"picture": png(), "model": MODEL, "limit": 12, **changes}), silent))[-1]


@pytest.fixture(scope="module")
def starter():
    """The desk, and the starter's cat among the starter's references."""
    desk = Desk(Settings())
    return desk, ask(desk, picture=str(starter_examples()[0]), model=STARTER, references=STARTER)


def passes_of(asked) -> list[int]:
    passes: list[int] = []
    asked.query.classifier.module.register_forward_hook(lambda *_: passes.append(1))
    return passes


def drawn_anew(desk, asked) -> set[str]:
    """The parts of the page that the arrival of the smallest change touches."""
    parts = ("asked", "smallest", "change", "view", "trust", "check")
    return set(results.change_drawn(SimpleNamespace(desk=desk, **{name: name for name in parts}), asked))


def test_the_smallest_change_comes_after_the_rows_and_belongs_to_its_class(starter):
    desk, asked = starter
    assert desk.lacks_change(asked)
    found = desk.smallest_change(asked)
    assert desk.lacks_change(asked), "a search that is stopped must leave what was asked as it was"
    assert not desk.lacks_change(found)
    change = found.explanation["swap"][0]
    assert change.facts["verified"]
    assert change.facts["target after"] > change.facts["target before"]
    assert drawn_anew(desk, found) == {"asked", "smallest", "change"}

    labels = {found.explanation.prediction.label, change.facts["target"]}
    other = next(label for label in found.explanation.prediction.labels if label not in labels)
    elsewhere = desk.again(found, against=other)
    assert "swap" not in elsewhere.explanation
    assert set(elsewhere.contrasts) >= {
        evidence.facts["predicted"] for evidence in elsewhere.explanation["counterfactuals"]
    }
    passes = passes_of(found)
    back = desk.again(elsewhere, against="")
    assert back.explanation["swap"][0] is change
    assert passes == []


def test_a_change_that_takes_long_waits_to_be_asked_for_and_can_be_stopped(starter):
    desk, asked = starter
    asked = replace(asked, seen={}, explanation=replace(asked.explanation))
    desk._without_change(asked)
    assert desk.is_soon(asked)
    assert results_examples.LOOKING in results_examples.change_row(asked, desk)
    assert results_examples.WAITS in results_examples.change_row(asked, desk, waits=True)

    def stop(share, stage):
        raise CancelledError("Stopped.")

    with pytest.raises(CancelledError):
        desk.smallest_change(asked, stop)
    assert desk.lacks_change(asked)
    assert asked.explanation["twins"]


def test_a_counterfactual_opens_beside_what_speaks_against_it_in_ones_own_picture(starter):
    _, asked = starter
    shown = asked.explanation["counterfactuals"][0]
    contrast = asked.contrasts[shown.facts["predicted"]]
    assert contrast.facts["other"] == shown.facts["predicted"]
    drawn = results_examples.beside(asked)
    own = asked.explanation.prediction.label
    assert f"what speaks for &#x27;{own}&#x27; rather than &#x27;{shown.facts['predicted']}&#x27;" in drawn
    assert "How good is it?" in drawn


def test_a_program_may_ask_for_the_smallest_change(starter):
    desk, _ = starter
    asked = ask(desk, picture=str(starter_examples()[0]), model=STARTER, references=STARTER, method="swap")
    found = desk.smallest_change(asked) if desk.lacks_change(asked) else None
    assert overlay(found) is found.explanation["swap"][0].image
    assert record(found)["evidence"]["swap"][0]["facts"]["verified"]
    assert drawn_anew(desk, found) >= {"view", "trust"}, "a link may ask for it as the large picture"


def test_the_map_is_checked_later_and_the_card_is_kept_for_choices_that_come_back(starter):
    desk, asked = starter
    assert "is being checked" in trust_shown(asked, desk)
    assert "the button below does it" in trust_shown(asked, desk, waits=True)

    def stop(share, stage):
        raise CancelledError("Stopped.")

    with pytest.raises(CancelledError):
        desk.trusted(asked, stop)
    assert desk.lacks_trust(asked)
    checked = desk.trusted(asked)
    assert not desk.lacks_trust(checked)
    assert desk.lacks_trust(asked), "a check that is stopped must leave what was asked as it was"
    card = trust_shown(checked, desk)
    assert "This map passed the checks" in card
    assert "nearest references" not in card, "that is said beside them"
    assert "nearest agree with the classifier on" in results_examples.beside(asked)
    other = desk.again(checked, target="dog")
    assert desk.lacks_trust(other)
    other = desk.trusted(other)
    passes = passes_of(other)
    assert desk.trust_of(desk.again(other, target="")) is desk.trust_of(checked)
    assert desk.trusted(desk.again(other, target="dog")) is not None
    assert passes == []
    page = SimpleNamespace(asked="asked", trust="trust", check="check", desk=desk)
    assert set(results.trust_drawn(page, checked)) == {"asked", "trust", "check"}
    assert not desk.lacks_trust(desk.again(other, method="swap")), "pictures have no card"


def test_regions_are_numbered_alike_on_both_pictures_and_said_in_words():
    image = Image.new("RGB", (90, 90))
    boxes, matches = ((0, 0, 20, 20), (40, 40, 50, 50)), ((60, 60, 90, 90), (0, 40, 20, 50))
    facts = {"pair 1 share": 0.25, "pair 1 twin share": 0.5, "pair 2 share": 0.1, "pair 2 twin share": 0.2}
    twin = Evidence(image, "A twin.", boxes=boxes, matches=matches, facts=facts)
    words = drawing_examples.regions_in_words(twin)
    assert "Region 1 carries 25% of the evidence in your picture and 50% in this one." in words
    assert "not all that the cell can see" in words
    html = drawing_examples.tile(twin, "Twin", here=drawing_examples.here_of((90, 90), boxes=matches, numbered=True))
    assert "Region 1 is in the upper left, region 2 in the centre." in html
    assert "Region 1 is in the lower right, region 2 in the middle left." in html
    assert html.count("xh-region-2") == 2
    assert drawing_examples.regions_in_words(Evidence(image, "")) == ""


def test_a_badge_says_how_far_twins_agree_and_is_absent_where_that_is_no_merit():
    figures = {f"agreement@{k}": [0.95, 0.9, 0.98] for k in (1, 3, 5)} | {
        "probability_error@3": [0.05, 0.04, 0.06], "margin_correlation": [None, None, None], "n": 100,
        "leak_free": True, "held_out": True,
    }  # fmt: skip
    badge = drawing_examples.badge(figures)
    assert "<strong>95%</strong> (90 to 98) of 100 pictures that were left out." in badge
    assert "Rank correlation" not in badge
    assert drawing_examples.badge(figures | {"leak_free": False}) == ""
    odd = [None, "x", ["n"], *(figures | changes for changes in (
        {"n": "many"}, {"n": 10**400}, {"leak_free": "yes"}, {"agreement@3": ["a", "b", "c"]}, {"agreement@3": 3},
        {"agreement@3": [float("nan")] * 3}, {"agreement@3": [10**400] * 3}, {"agreement@3": [None] * 3},
    ))]  # fmt: skip
    assert {drawing_examples.badge(figures) for figures in odd} == {""}
    assert "Rank" not in drawing_examples.badge(figures | {"margin_correlation": ["0.5", 0, 1]})


def test_a_label_that_disagrees_is_flagged_and_what_the_hub_says_is_escaped():
    facts = {"predicted": "cat", "label": "<b>dog</b>", "label agrees": False, "probability": 0.9, "plausibility": 1.1}
    card = drawing_examples.quality(Evidence(Image.new("RGB", (9, 9)), "", facts=facts))
    assert "The dataset calls it &#x27;&lt;b&gt;dog" in card
    assert "<b>dog" not in card
    assert "href" not in drawing_examples.link_to("javascript:alert(1)")
    assert 'href="https://hub/x?a=&quot;"' in drawing_examples.link_to('https://hub/x?a="')


def test_a_dataset_is_embedded_by_the_eye_that_is_chosen(published, tmp_path):
    published.add_files(EYE, clip_files(tmp_path))
    desk = Desk(Settings())
    asked = ask(desk, references=DATASET, looks=EYE)
    assert [space.name for space in asked.references.spaces.values()] == ["contribution", EYE]
    assert asked.explanation["lookalikes"]
    assert asked.reader == EYE
    assert ask(desk, references=DATASET).references is not asked.references
    eye = asked.query.memory["embedder", EYE, asked.references.spaces[EYE].revision]
    desk._unsee(eye)  # no room: a result must not hold it in memory
    assert asked.query is None


def test_references_that_name_a_folder_of_the_host_as_their_eye_open_no_file(starter, tmp_path):
    desk, asked = starter
    clip_files(tmp_path)  # a network that would load
    space = replace(asked.references.space(), name=str(tmp_path), kind="looks", weighted=False)
    decided = {name: space for name, space in asked.references.spaces.items() if space.kind == "decided"}
    references = replace(asked.references, spaces={**decided, space.name: space})
    safe, told = desk._seen_by(asked.query, references, "", silent)
    assert list(safe.spaces) == list(decided)
    assert "is not shown" in told
    assert not any(space.name in key for key in asked.query.memory if isinstance(key, tuple))


class Told:
    """A desk that loads nothing, and tells what it was asked to."""

    settings = Settings()

    def __init__(self):
        self.names: list[str] = []

    def embedder(self, name, token, progress, *, words=False):
        self.names.append(name)
        return SimpleNamespace(name=name)


def test_of_many_eyes_two_are_loaded_and_our_own_ignore_a_strangers_revision(starter, hub):
    _, asked = starter
    own = {name: replace(space, revision="zzz") for name, space in asked.references.spaces.items()}
    space = replace(asked.references.space(), kind="looks", weighted=False, revision="abc")
    theirs = {name: replace(space, name=name) for name in (f"owner/eye-{i}" for i in range(20))}
    decided = {name: space for name, space in own.items() if space.kind == "decided"}
    desk, query = Told(), SimpleNamespace(memory={})
    many = replace(asked.references, spaces=decided | theirs)
    seen, told = seen_by(desk, query, many, "", silent)
    assert desk.names == ["owner/eye-0@abc"]
    assert list(query.memory) == [("embedder", "owner/eye-0", "abc")]
    assert list(seen.spaces) == [*decided, "owner/eye-0"]
    assert "also embedded by owner/eye-1, owner/eye-2, owner/eye-3 and 16 more" in told

    seen, told = seen_by(Told(), SimpleNamespace(memory={}), replace(asked.references, spaces=own), "", silent)
    assert (list(seen.spaces), told) == (list(own), "")
    assert reader_of(desk, many, "") == ""
    assert {re.search(r"eye-\d+", seen.path)[0] for seen in hub.requests} == {"eye-0", "eye-1"}


def test_an_eye_that_many_want_at_once_is_loaded_once(published, tmp_path):
    published.add_files(EYE, clip_files(tmp_path))
    desk = Desk(Settings())
    with ThreadPoolExecutor(4) as visitors:
        eyes = list(visitors.map(lambda _: desk.embedder(EYE, "", silent), range(4)))
    assert len(set(map(id, eyes))) == 1
    assert desk.embedder(EYE, "", silent, words=True).reads_words


def test_who_waits_for_anothers_network_can_stop():
    desk = Desk(Settings())

    def stop(share, stage):
        raise CancelledError(stage)

    with desk._turn(silent), pytest.raises(CancelledError, match="Waiting for another network"), desk._turn(stop):
        pass
    with desk._turn(stop):  # nobody is in it
        pass


def test_embedding_again_keeps_a_secret_and_never_gives_one_visitor_anothers_pictures(starter):
    desk, asked = starter
    ours = replace(asked.references, made=replace(asked.references.made, public=False))
    theirs = replace(ours, pictures=ours.pictures[::-1])  # with our names and digests, as anybody can write
    query = SimpleNamespace(classifier=asked.query.classifier)
    mine, again, others = (
        embed_again(desk, SimpleNamespace(foreign=foreign, query=query), 4, "", "", silent)
        for foreign in (ours, ours, theirs)
    )
    assert mine is again
    assert not mine.made.public
    assert not set(mine.digests) & set(others.digests)


def test_pictures_that_are_not_published_are_filled_in_for_whoever_may_read_them(published, monkeypatch):
    desk = Desk(Settings())
    classifier = ask(desk).query.classifier
    references = build_references(classifier, HIDDEN, embedder=["contribution", "pixels"], token=TOKEN)
    references.push_to_hub("alice/references", token=TOKEN, private=False)
    allowed = ask(desk, references="alice/references", token=TOKEN)
    assert f"they were read from {HIDDEN} for you" in allowed.told
    assert allowed.explanation["twins"][0].facts["picture"]

    refused = ask(desk, references="alice/references")
    assert f"The pictures of {HIDDEN} are not published" in refused.told
    twin = refused.explanation["twins"][0]
    assert twin.facts["picture"] is False
    assert "See its row" in results_examples.beside(refused)


# In the browser

# a click in the moment in which the rows are drawn: the smallest change may follow within tenths of a second
OPEN_AT_ONCE = """() => new MutationObserver((_, watching) => {
  const twin = document.querySelector("[data-method=twins] .xh-card:has(.xh-region)");
  if (!twin) return;
  watching.disconnect();
  twin.click();
}).observe(document.body, { childList: true, subtree: true })"""


@pytest.fixture(scope="module")
def site(module_hub, tmp_path_factory):
    publish(module_hub, eye=tmp_path_factory.mktemp("eye"))
    with served(module_hub.endpoint) as address:
        yield address


@pytest.mark.browser
def test_an_example_shows_twins_regions_a_pair_of_maps_and_a_verified_change(browser, site):
    page = open_page(browser, site)
    page.evaluate(OPEN_AT_ONCE)
    page.click("#xh-examples button >> nth=0")
    page.wait_for_selector("[data-method=swap] >> text=/verified by running the classifier/", timeout=60_000)
    assert page.locator("[data-method=swap] .xh-stack").count() == 3
    assert page.locator(".xh-beside > section").count() == 2

    # the change came meanwhile, and left the dialog open
    mine, theirs = (page.locator(f".xh-dialog[open] .xh-{side} .xh-region") for side in ("mine", "theirs"))
    assert mine.count() == theirs.count() > 0
    assert "not all that the cell can see" in page.inner_text(".xh-dialog[open] .xh-words")
    page.keyboard.press("Escape")
    page.click("[data-method=counterfactuals] .xh-card >> nth=0")
    assert page.inner_text(".xh-dialog[open] .xh-mine").startswith("Your picture: what speaks for 'cat' rather than")
    page.screenshot(path=SCREENSHOTS / "counterfactual.png")
    page.keyboard.press("Escape")
    page.click("[data-method=swap] .xh-card >> nth=0")
    assert page.locator(".xh-dialog[open] .xh-mine .xh-heat").count() == 0
    page.keyboard.press("Escape")
    page.screenshot(path=SCREENSHOTS / "examples.png", full_page=True)
    assert page.broken == []


@pytest.mark.browser
def test_a_dataset_is_seen_by_another_eye_and_searched_with_words(browser, site):
    page = open_page(browser, site, width=360, height=740)
    choose(page, "#xh-model", MODEL)
    send_picture(page, {"name": "mine.png", "mimeType": "image/png", "buffer": png()})
    choose(page, "#xh-references", DATASET)
    choose(page, "#xh-looks", EYE)
    page.click("#xh-explain")
    page.wait_for_selector("[data-method=lookalikes] .xh-card", timeout=60_000)
    assert f"alike to CLIP ({EYE})" in page.inner_text("[data-method=lookalikes]")
    page.fill("#xh-words input, #xh-words textarea", "a black cat")
    page.keyboard.press("Enter")
    if not appears(page, "#xh-found .xh-card", 30_000):  # gradio loses the answer now and then to an event that follows
        page.keyboard.press("Enter")  # upon another at once, and a visitor asks again
        page.wait_for_selector("#xh-found .xh-card", timeout=60_000)
    assert "References for “a black cat”" in page.inner_text("#xh-found")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.screenshot(path=SCREENSHOTS / "examples-phone.png", full_page=True)
    assert page.broken == []
