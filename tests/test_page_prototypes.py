"""The Prototypes page in headless Chromium: the sheet, its switches, the windows, a telephone and the dark."""

import pytest
from browser_fixture import choose, open_page, send_picture, sentence, served_offline, shot
from toy_networks import lion

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def offline():
    """The app where nobody answers for the Hub, and few of the starter's references are looked at."""
    with served_offline(XAIHUB_EMBED_PICTURES="60") as address:
        yield address


def opened(browser, address: str, query: str = "", **size):
    return open_page(browser, f"{address}/prototypes{query}", ready="#xh-recognise", **size)


def recognised(browser, address: str, **size):
    page = opened(browser, address, **size)
    page.click("#xh-examples button >> nth=0")
    page.wait_for_selector(".xh-gallery >> text=/Stable:/", timeout=120_000)
    return page


def test_a_switch_changes_the_total_at_once_and_all_off_leave_the_bias(browser, offline):
    page = recognised(browser, offline)
    assert "The prototype head says cat" in page.inner_text("#xh-said")
    assert "xaihub/paper-pets itself says cat" in page.inner_text("#xh-said")
    assert "fitted to what the model predicts of 60 pictures" in page.inner_text("#xh-what")
    lines = page.locator(".xh-line").count()
    shot(page, "prototypes")
    page.locator(".xh-switch").first.focus()
    page.keyboard.press("Space")
    page.wait_for_selector(".xh-verdict >> text=/^Without cat/")
    assert f"points of {lines - 1} prototypes" in page.inner_text("#xh-account")
    assert page.evaluate("document.activeElement.classList.contains('xh-switch')")
    assert page.locator("#xh-account").bounding_box()["y"] < 900  # beside the switch, though it stands far below it
    page.click(".xh-all >> text=Switch all of these off")
    page.wait_for_selector("#xh-account >> text=/points of no prototypes/")
    choose(page, "#xh-class", "dog", until=".xh-sheet h3 >> text=/Why dog/")
    assert "Without " in page.inner_text("#xh-account")
    page.click("#xh-recognise")
    page.wait_for_selector("#xh-account:not(:has(.xh-verdict))", timeout=60_000)
    assert page.locator(".xh-switch:not(:checked)").count() == 0
    assert page.broken == []


def test_windows_show_where_one_fires_and_its_nearest_patches(browser, offline):
    page = recognised(browser, offline)
    page.click(".xh-fire >> nth=0")
    window = page.locator("#xh-fired dialog[open]")
    window.wait_for(timeout=60_000)
    assert window.locator(".xh-heat").count() == 2
    assert window.inner_text().count("Deletion score") == 2
    assert page.locator(".xh-fire[aria-busy]").count() == 0
    shot(page, "prototypes-fires")
    page.keyboard.press("Escape")
    page.locator(".xh-proto:visible").first.focus()
    page.keyboard.press("Enter")
    near = page.locator("#xh-near dialog[open]")
    near.wait_for(timeout=30_000)
    assert near.locator("figure").count() >= 6
    near.locator(".xh-close").click()
    assert page.locator("dialog[open]").count() == 0
    assert page.broken == []


@pytest.mark.parametrize(("name", "width", "dark"), [("prototypes-phone", 360, False), ("prototypes-dark", 1280, True)])
def test_the_page_fits_a_telephone_and_the_dark(browser, offline, name, width, dark):
    page = recognised(browser, offline, width=width, height=740, dark=dark)
    page.locator(".xh-switch").first.uncheck()
    page.wait_for_selector(".xh-verdict")
    shot(page, name)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.click(".xh-proto:visible >> nth=0")
    page.wait_for_selector("#xh-near dialog[open]")
    assert page.locator("#xh-near dialog").bounding_box()["width"] <= width


def test_a_link_is_followed_and_without_references_the_page_says_what_to_do(browser, offline):
    page = opened(browser, offline, "?model=xaihub/paper-pets&class=fox&references=")
    page.wait_for_function("document.querySelector('#xh-references input').value.startsWith('none')")
    page.click("#xh-recognise")
    assert "There is no picture yet" in sentence(page)
    send_picture(page, lion())
    page.click("#xh-recognise")
    page.wait_for_selector("#xh-alert >> text=/has no prototypes of its own/", timeout=60_000)
    assert page.locator(".xh-sheet").count() == 0
    choose(page, "#xh-references", "xaihub/paper-pets")
    page.click("#xh-recognise")
    page.wait_for_selector(".xh-sheet h3 >> text=/Why fox/", timeout=60_000)
    assert page.broken == []
