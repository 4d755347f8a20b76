"""The Audit page in headless Chromium: verdict, findings, matrix, a mistake explained, a telephone and the dark."""

import pytest
from browser_fixture import choose, open_page, sentence, served_offline, shot

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def offline():
    """The app where nobody answers for the Hub; few of the starter's pictures are looked at."""
    with served_offline(XAIHUB_EMBED_PICTURES="40") as address:
        yield address


def audited(browser, address: str, query: str = "", **size):
    page = open_page(browser, f"{address}/audit{query}", ready="#xh-audit", **size)
    if query:  # what the address says comes after the page
        page.wait_for_function("document.querySelector('#xh-model input').value === ''")
    page.click("#xh-audit")
    page.wait_for_selector(".xh-report", timeout=200_000)
    return page


def test_the_starter_is_audited_and_a_picture_is_one_click_from_its_explanation(browser, offline):
    page = audited(browser, offline)
    assert "40 pictures of xaihub/paper-pets" in page.inner_text(".xh-audited")
    for part in ("Where it is wrong", "Accuracy by slice", "What each nuisance tells", "What turns the classifier"):
        assert part in page.inner_text("#xh-report")
    shot(page, "audit")
    link = page.locator(".xh-confused a").first
    link.focus()
    page.keyboard.press("Enter")
    cell = page.locator(".xh-cell:focus")
    assert 0 <= cell.bounding_box()["y"] < 900
    asked = cell.locator(".xh-ask").first
    asked.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("#xh-explained .xh-card", timeout=90_000)
    assert "Decided alike" in page.inner_text("#xh-explained")
    assert "Counterfactuals" in page.inner_text("#xh-explained")
    shot(page, "audit-explained")
    page.locator("#xh-explained .xh-card").first.click()
    assert page.locator("dialog[open] .xh-stack").count() == 2
    page.keyboard.press("Escape")
    page.click("#xh-explained .xh-back")
    assert page.evaluate("document.activeElement.classList.contains('xh-ask')")
    with page.expect_download() as taken:
        page.click("#xh-keep")
    assert taken.value.suggested_filename == "xaihub-audit.zip"
    assert page.broken == []


def test_the_dataset_alone_on_a_telephone_in_the_dark_and_what_is_refused(browser, offline):
    page = audited(browser, offline, "?model=", width=360, height=740, dark=True)
    page.wait_for_selector("#xh-report >> text=/What each nuisance tells/")
    assert "What turns the classifier" not in page.inner_text("#xh-report")
    assert page.locator(".xh-ask").count() == 0
    shot(page, "audit-phone-dark")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    choose(page, "#xh-data", "nobody/nothing")
    page.wait_for_selector(".xh-report", state="hidden")
    page.click("#xh-audit")
    assert "nobody/nothing" in sentence(page)
    assert page.broken == []
