"""An answer to something else than the boxes say now is marked at once, on every page, until the new one is there."""

import io
from typing import Any

import pytest
from browser_fixture import appears, choose, open_page, send_picture, served_offline, shot
from tiny_models import picture

from xaihub.ui.freshness import Freshness, _plain

MARK = "#xh-stale .xh-stale"
LONG = 90_000  # ms that an answer may take here


def file(seed: int) -> dict:
    stream = io.BytesIO()
    picture(120, 90, seed).save(stream, "PNG")
    return {"name": f"{seed}.png", "mimeType": "image/png", "buffer": stream.getvalue()}


@pytest.fixture(scope="module")
def offline():
    with served_offline(XAIHUB_EMBED_PICTURES="40") as address:
        yield address


def mark_of(page, *, within: float = 5_000) -> str:
    """What the mark says; it must be there at once, so nothing slow may be waited for."""
    page.wait_for_selector(MARK, timeout=within)
    return page.inner_text(MARK)


def unmarked(page, timeout: float = LONG) -> None:
    page.wait_for_selector(MARK, state="detached", timeout=timeout)


@pytest.mark.browser
@pytest.mark.timeout(300)
def test_another_image_marks_the_answer_until_the_new_one_is_there(browser, offline):
    page = open_page(browser, offline)
    page.click("#xh-examples button >> nth=0")
    page.wait_for_selector("#xh-view .xh-main", timeout=LONG)
    page.wait_for_timeout(500)
    assert page.locator(MARK).count() == 0
    page.route("**/queue/join**", lambda route: route.abort())  # whatever marks it needs no server
    page.allowed = "ERR_FAILED|Could not"
    send_picture(page, file(3))
    assert mark_of(page).startswith("This answer is for the previous image. Press Explain")
    assert float(page.evaluate("getComputedStyle(document.querySelector('#xh-results')).opacity")) < 0.6
    shot(page, "stale")
    page.unroute("**/queue/join**")
    page.click("#xh-explain")
    unmarked(page)
    assert page.evaluate("getComputedStyle(document.querySelector('#xh-results')).opacity") == "1"


@pytest.mark.browser
@pytest.mark.timeout(300)
def test_another_model_references_or_class_mark_it_too_and_what_is_taken_back_unmarks_it(browser, offline):
    page = open_page(browser, offline, width=360, height=800, dark=True)
    page.click("#xh-examples button >> nth=1")
    page.wait_for_selector("#xh-beside .xh-card", timeout=LONG)
    page.wait_for_selector(".xh-verdict-card", timeout=LONG)
    choose(page, "#xh-references", "none: only the heatmap")
    assert "previous references" in mark_of(page)
    shot(page, "stale-phone-dark")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    choose(page, "#xh-references", "xaihub/paper-pets")
    unmarked(page, 5_000)
    send_picture(page, file(5))
    choose(page, "#xh-references", "none: only the heatmap")
    page.wait_for_selector(f"{MARK} >> text=/previous image and references/", timeout=5_000)
    page.click("#xh-explain")
    unmarked(page)
    choose(page, "#xh-class", "fox", until=".xh-target .xh-class >> text=/^fox/")
    unmarked(page)
    choose(page, "#xh-model", "nobody/nothing")
    page.wait_for_selector("#xh-results", state="hidden", timeout=10_000)
    unmarked(page, 5_000)  # the answer is gone


@pytest.mark.browser
@pytest.mark.timeout(300)
def test_a_menu_that_answers_by_itself_marks_the_answer_meanwhile_and_one_that_fails_does_not_for_ever(
    browser, offline
):
    page = open_page(browser, offline)
    page.click("#xh-examples button >> nth=2")
    page.wait_for_selector(".xh-verdict-card", timeout=LONG)
    held: list[Any] = []  # the question waits, so that its answer does not come before we look
    page.route("**/queue/join*", lambda route: held.append(route), times=1)  # playwright marks the function
    choose(page, "#xh-method", "occlusion")
    assert mark_of(page) == "This answer is for the previous method."
    for route in held:
        route.continue_()
    page.wait_for_selector("#xh-view .xh-main figcaption >> text=/Occlusion/", timeout=LONG)
    unmarked(page)
    choose(page, "#xh-class", "unicorn")
    page.wait_for_selector("#xh-alert >> text=/unicorn/", timeout=LONG)
    unmarked(page)


@pytest.mark.browser
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("path", "shown"), [("compare", ".xh-card"), ("layers", "#xh-strip .xh-stage"), ("prototypes", ".xh-sheet")]
)
def test_the_other_pages_of_one_image_mark_it_alike(browser, offline, path, shown):
    page = open_page(browser, f"{offline}/{path}", ready="#xh-examples button")
    page.click("#xh-examples button >> nth=0")
    page.wait_for_selector(shown, timeout=LONG)
    page.wait_for_timeout(500)
    assert page.locator(MARK).count() == 0
    send_picture(page, file(4))
    assert mark_of(page).startswith("This answer is for the previous image. Press ")
    page.locator("#xh-examples button").first.click()
    unmarked(page)
    if path == "compare":
        page.locator("#xh-vary label").nth(1).click()
        assert "previous kind of comparison" in mark_of(page)


@pytest.mark.browser
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("path", "verb", "shown"), [("audit", "audit", ".xh-report"), ("quiz", "start", "#xh-question p")]
)
def test_the_pages_of_a_dataset_mark_another_number_of_images(browser, offline, path, verb, shown):
    page = open_page(browser, f"{offline}/{path}", ready=f"#xh-{verb}")
    page.click(f"#xh-{verb}")
    page.wait_for_selector(shown, timeout=200_000)
    page.wait_for_timeout(500)
    assert page.locator(MARK).count() == 0
    slider = page.locator("input[type=range]").first
    slider.focus()
    page.keyboard.press("ArrowRight")
    assert ("previous dataset" if path == "audit" else "This round is for the previous references") in mark_of(page)
    page.keyboard.press("ArrowLeft")
    assert not appears(page, f"{MARK} >> text=/never/", 500)
    unmarked(page, 5_000)


# --- without a browser ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (None, ""), (" dog ", "dog"), (200, "200"), (200.0, "200"), (0.5, "0.5"), (["a", "b"], "a|b"), ([], ""),
        ("/tmp/gradio/0a1b/pet.png", "0a1b/pet.png"), ("alice/cats", "alice/cats"),
    ],
)  # fmt: skip
def test_a_value_is_written_as_the_browser_writes_it(value, written):
    assert _plain(value) == written


def test_what_matters_only_with_another_box_says_nothing_without_it():
    import gradio as gr

    with gr.Blocks():
        fresh = Freshness()
        references, limit, target = gr.Textbox(), gr.Slider(0, 9), gr.Textbox()
        fresh.watch("Explain", {"references": (references, limit), "class": target}, ["class"])
    (alone,) = fresh.answer_to({references: "", limit: 200, target: "dog"}).values()
    assert '"about": {"references": "", "class": "dog"}' in alone
    (both,) = fresh.answer_to({references: "a/b", limit: 200}).values()
    assert '"about": {"references": "a/b 200"}' in both
    (changed,) = fresh.changed_to(
        {target: gr.update(value="cat", choices=[]), limit: gr.update(visible=False)}
    ).values()
    assert '"about": {"class": "cat"}' in changed
    assert fresh.gone() == {fresh.answered: ""}
