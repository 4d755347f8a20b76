"""The Compare page: what a comparison costs and says, and the page as a visitor meets it."""

import csv
import io
import zipfile

import numpy as np
import pytest
from browser_fixture import SCREENSHOTS, choose, open_page, send_picture, served_offline
from PIL import Image
from tiny_models import TINY, TOKEN, build, picture, processor_of, push

from xaihub import METHODS
from xaihub.agreement import agreement
from xaihub.errors import CancelledError, RepoNotFoundError, UnknownNameError, XaihubError
from xaihub.progress import silent
from xaihub.ui.desk import Desk
from xaihub.ui.desk_compare import DEFAULTS, Comparison, compare
from xaihub.ui.downloads import comparison_zip
from xaihub.ui.drawing_compare import compared_maps, said
from xaihub.ui.layout_compare import OPENING
from xaihub.ui.pace import Pace, total_in_words
from xaihub.ui.settings import Settings

MODEL, WIDE = "alice/tiny-resnet", "alice/wide-resnet"


def png(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
def desk(hub):
    tiny = TINY["resnet"]
    push(hub, MODEL, build(tiny), processor_of(tiny))
    push(hub, WIDE, build(tiny, seed=5), processor_of(tiny, crop_pct=0.5))
    return Desk(Settings())


def ask(desk: Desk, earlier=(), progress=silent, **changes):
    return list(compare(desk, Comparison(**{"picture": png(picture()), "model": MODEL, **changes}), progress, earlier))[
        -1
    ]


def count_passes(compared) -> list[int]:
    passes: list[int] = []
    compared.asked[0].query.classifier.module.register_forward_hook(lambda *_: passes.append(1))
    return passes


def test_five_methods_stand_side_by_side_with_the_correlation_of_their_heatmaps(desk):
    compared = ask(desk)
    assert [cell.method for cell in compared.cells] == list(DEFAULTS)
    assert [cell.title for cell in compared.cells] == [METHODS[name].title for name in DEFAULTS]
    maps = [cell.evidence.heatmap for cell in compared.cells]
    np.testing.assert_array_equal(compared.alike, agreement(maps))
    assert compared.alike.shape == (5, 5)
    assert not np.isnan(compared.alike).any()


def test_another_comparison_of_the_picture_makes_no_other_pass(desk):
    first = ask(desk)
    passes = count_passes(first)
    again = ask(desk, first.asked, methods=("gradcam", "xgradcam"))
    classes = ask(desk, first.asked, vary="classes", methods=("gradcam",))
    assert passes == []
    assert again.cells[0].evidence is first.cells[0].evidence
    assert [cell.explanation.target_label for cell in classes.cells] == [
        label for label, _ in first.cells[0].explanation.prediction.top(3)
    ]
    other = ask(desk, first.asked, picture=png(picture(seed=3)))
    assert other.asked[0] is not first.asked[0]
    assert passes


def test_classes_are_compared_by_name_and_an_unknown_one_is_refused(desk):
    compared = ask(desk, vary="classes", methods=("gradcam",), classes=("hen", "cat", "hen"))
    assert [cell.explanation.target_label for cell in compared.cells] == ["hen", "cat"]
    assert compared.cells[0].title.startswith("hen, ")
    with pytest.raises(UnknownNameError, match="no class 'cow'"):
        ask(desk, vary="classes", classes=("cow",))


def test_two_models_are_compared_on_the_part_of_the_picture_that_both_see(desk):
    compared = ask(desk, vary="models", other=WIDE, methods=("gradcam",), picture=png(picture(160, 90)))
    first, second = [cell.explanation for cell in compared.cells]
    assert first.crop != second.crop
    assert [cell.title for cell in compared.cells] == [MODEL, WIDE]
    assert -1 <= compared.alike[0, 1] <= 1
    same = ask(desk, vary="models", other=MODEL, methods=("gradcam",), picture=png(picture(160, 90)))
    assert same.alike[0, 1] == pytest.approx(1)
    assert same.asked[1] is same.asked[0]


def test_what_cannot_run_says_why_in_its_place_and_the_others_go_on(desk):
    compared = ask(desk, methods=("legrad", "gradcam", "layercam"))
    assert compared.cells[0].evidence is None
    assert compared.cells[0].shown.notes == (METHODS["legrad"].missing(compared.asked[0].query.classifier, None),)
    assert compared.maps == [1, 2]
    assert compared.alike.shape == (2, 2)
    drawn = compared_maps(compared)
    assert "tokens, each of which attends" in drawn
    assert 'data-pair="1 2"' in drawn
    assert 'data-pair="0' not in drawn


def test_what_there_is_comes_before_a_slow_map_and_stop_ends_it(desk):
    question = Comparison(png(picture()), MODEL, methods=("gradcam", "layercam", "occlusion", "rise"))

    def stop(share, stage):
        if stage.startswith("RISE:"):
            raise CancelledError("Stopped.")

    steps = []
    with pytest.raises(CancelledError):  # noqa: PT012
        for compared in compare(desk, question, stop):
            steps.append([cell.method for cell in compared.cells])
    assert steps == [["gradcam", "layercam"], ["gradcam", "layercam", "occlusion"]]


def test_a_comparison_has_a_time_limit_of_its_own(desk):
    short = Desk(Settings(compare_seconds=0))
    with pytest.raises(CancelledError, match="The comparison took longer than the limit of 0 s"):
        ask(short)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"methods": ()}, "no method to compare"),
        ({"methods": ("gradcamm",)}, "Did you mean 'gradcam'"),
        ({"methods": ("twins",)}, "Twins shows pictures of a data set"),
        ({"vary": "models"}, "no second model yet"),
        ({"vary": "colours"}, "not 'colours'"),
    ],
)
def test_a_question_that_cannot_be_answered_is_refused_before_anything_is_fetched(desk, hub, changes, words):
    hub.requests.clear()
    with pytest.raises(XaihubError, match=words):
        ask(desk, **changes)
    assert not hub.requests


def test_a_private_model_that_was_compared_by_its_owner_is_not_compared_by_others(desk, hub):
    tiny = TINY["resnet"]
    push(hub, "alice/secret", build(tiny), processor_of(tiny), private=True)
    own = ask(desk, model="alice/secret", token=TOKEN)
    with pytest.raises(RepoNotFoundError):
        ask(desk, own.asked, model="alice/secret")
    with pytest.raises(RepoNotFoundError):
        ask(desk, vary="models", other="/etc/passwd")


def test_the_cost_of_a_comparison_is_said_before_it_runs(desk):
    unknown = total_in_words(["gradcam", "rise", "scorecam"], 1, None, Pace(), 180, "methods")
    assert "3 maps from one shared pass, and more passes for RISE (1,000 passes)" in unknown
    assert "Score-CAM (as many passes as the model makes it need)" in unknown
    classifier = ask(desk).asked[0].query.classifier
    pace = Pace()
    pace.passed(classifier, 1, 0.5)
    slow = total_in_words(["gradcam", "rise", "legrad"], 1, classifier, pace, 180, "methods")
    assert "2 maps from one shared pass" in slow  # LeGrad cannot run in this one
    assert "Together about 8 min here. That may be beyond this host's limit of 180 s." in slow
    assert total_in_words(["gradcam"], 3, classifier, pace, 180, "classes").count("Together") == 0
    both = total_in_words(["occlusion"], 2, classifier, pace, 1e9, "models")
    assert "2 maps from one pass of each model" in both


def test_what_is_drawn_is_escaped_and_says_everything_in_words(desk, hub):
    evil = "<script>alert(1)</script>"
    tiny = TINY["resnet"]
    push(hub, "alice/evil", build(tiny, labels={0: evil, 1: evil + "2", 2: evil + "3"}), processor_of(tiny))
    compared = ask(desk, model="alice/evil", vary="classes", methods=("gradcam",))
    drawn = said(compared) + compared_maps(compared)
    assert "<script" not in drawn
    assert "&lt;script" in drawn
    methods = compared_maps(ask(desk))
    assert methods.count('<td class="xh-same">') == 5
    assert "Most alike: " in methods
    assert 'aria-label="Grad-CAM and HiResCAM: ' in methods
    assert "no further pass" in methods


def test_the_maps_can_be_taken_along(desk, tmp_path):
    compared = ask(desk, vary="classes", methods=("gradcam",), classes=("cat", "hen"))
    archive = zipfile.ZipFile(comparison_zip(compared, str(tmp_path)))
    names = archive.namelist()
    for index in (0, 2):
        assert f"comparison/model-1-class-{index}/gradcam-heatmap.npy" in names
    table = list(csv.reader(io.StringIO(archive.read("comparison/rank-correlation.csv").decode())))
    assert float(table[1][2]) == pytest.approx(compared.alike[0, 1])


def test_the_menu_on_opening_has_the_methods_own_titles():
    assert [(METHODS[name].title, name) for name in DEFAULTS] == OPENING


# In the browser


@pytest.fixture(scope="module")
def site():
    """The app where nobody answers for the Hub."""
    with served_offline() as address:
        yield address


def opened(browser, site: str, query: str = "", **settings):
    page = open_page(browser, f"{site}/compare{query}", ready="#xh-compare", **settings)
    page.wait_for_selector("#xh-total >> text=/map/", timeout=60_000)  # the menus have been filled
    return page


def compare_example(page, number: int = 0) -> None:
    page.click(f"#xh-examples button >> nth={number}")
    page.wait_for_selector("#xh-view .xh-alike table", timeout=90_000)


@pytest.mark.browser
@pytest.mark.timeout(200)
@pytest.mark.parametrize(("name", "width", "dark"), [("compare", 1280, False), ("compare-phone-dark", 360, True)])
def test_one_click_compares_five_maps_and_a_figure_opens_its_two(browser, site, name, width, dark):
    page = opened(browser, site, width=width, dark=dark)
    compare_example(page)
    assert page.locator(".xh-tile .xh-card").count() == 5
    assert page.locator(".xh-alike tbody tr").count() == 5
    sizes = {tuple(box.values()) for box in page.eval_on_selector_all(
        ".xh-tile .xh-stack", "e => e.map(x => ({w: Math.round(x.clientWidth / 4), h: Math.round(x.clientHeight / 4)}))"
    )}  # fmt: skip
    assert len(sizes) == 1, "maps of one picture are shown in one size"
    page.wait_for_timeout(300)
    SCREENSHOTS.mkdir(exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.locator("[data-pair='0 4']").focus()
    page.keyboard.press("Enter")
    dialog = page.locator(".xh-dialog[open]")
    assert dialog.locator(".xh-heat:visible").count() == 2
    assert "Grad-CAM, for cat" in dialog.inner_text()
    assert "Eigen-CAM, for cat" in dialog.inner_text()
    assert dialog.bounding_box()["width"] <= width
    page.keyboard.press("Escape")
    page.check("#xh-view .xh-sign[value=both]")
    assert page.locator(".xh-tile .xh-both:visible").count() == 2  # Grad-CAM and HiResCAM have a sign
    assert page.locator(".xh-tile .xh-for:visible").count() == 3
    assert page.locator("#xh-view >> text=/Blue: speaks against the class/").first.is_visible()
    assert page.broken == []


@pytest.mark.browser
@pytest.mark.timeout(200)
def test_what_varies_chooses_the_boxes_and_the_link_brings_them_back(browser, site):
    page = opened(browser, site)
    assert page.locator("#xh-other").count() == 0 or not page.locator("#xh-other").is_visible()
    page.click("#xh-vary >> text=Classes")
    page.wait_for_selector("#xh-classes", state="visible")
    page.wait_for_selector("#xh-methods", state="hidden")
    compare_example(page, 2)
    assert page.locator(".xh-tile .xh-card").count() == 3
    page.click("text=Copy link")
    page.wait_for_selector("#xh-linked >> text=/vary=classes/")
    link = page.inner_text("#xh-linked").removeprefix("Link: ").strip()

    again = open_page(browser, link, ready="#xh-compare")
    again.wait_for_selector("text=/The boxes are as the link says/", timeout=60_000)
    assert again.locator("#xh-classes").is_visible()
    assert again.locator(".xh-alike").count() == 0
    with again.expect_navigation():
        again.click("nav >> text=Explain")
    again.wait_for_selector("#xh-explain")


@pytest.mark.browser
@pytest.mark.timeout(200)
def test_a_link_with_an_unknown_method_is_refused_in_words(browser, site):
    page = opened(browser, site, "?methods=gradcam|granadcam")
    page.wait_for_selector("[role=alert] >> text=/'granadcam'/")


@pytest.mark.browser
@pytest.mark.timeout(200)
def test_a_slow_comparison_shows_its_cost_its_progress_and_stops(browser, site):
    page = opened(browser, site, "?methods=gradcam|layercam|rise")
    page.wait_for_selector("#xh-total >> text=/RISE .1,000 passes/")
    page.click("#xh-examples button >> nth=1")
    page.wait_for_selector("#xh-progress >> text=/RISE: .* of 1000 pictures/", timeout=60_000)
    page.click("#xh-stop")
    page.wait_for_selector("#xh-alert >> text=/Stopped/", timeout=5_000)
    assert page.locator(".xh-tile .xh-card").count() == 2  # those that were there stay
    page.wait_for_selector("#xh-total >> text=/about .* here/")
    choose(page, "#xh-class", "fox")
    page.click("#xh-compare")
    page.wait_for_selector(".xh-tile >> text=/RISE/", timeout=90_000)
    assert "for fox" in page.get_attribute(".xh-tile .xh-card >> nth=2", "data-title")
    assert page.broken == []


@pytest.mark.browser
@pytest.mark.timeout(200)
def test_without_a_picture_or_a_second_model_the_page_says_what_is_missing(browser, site):
    page = opened(browser, site)
    page.click("#xh-compare")
    page.wait_for_selector("[role=alert] >> text=/There is no picture yet/")
    send_picture(page, {"name": "mine.png", "mimeType": "image/png", "buffer": png(picture())})
    page.click("#xh-vary >> text=Two models")
    page.wait_for_selector("#xh-other", state="visible")
    page.click("#xh-compare")
    page.wait_for_selector("[role=alert] >> text=/There is no second model yet/")
