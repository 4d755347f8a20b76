"""The Quiz page in headless Chromium: a round by keyboard, what the browser is told before a guess, a telephone."""

import re

import pytest
from browser_fixture import open_page, served_offline, shot

from xaihub.quiz import read_answers

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("quiz")


@pytest.fixture(scope="module")
def offline(folder):
    """The app where nobody answers for the Hub, and answers are stored in a folder of this test."""
    with served_offline(XAIHUB_QUIZ_FOLDER=str(folder)) as address:
        yield address


# what the server sends is kept beside what the page makes of it
LISTEN = """
window.told = "";
const ask = window.fetch;
window.fetch = async (...asked) => {
  const answer = await ask(...asked);
  if (!answer.body || !String(asked[0]?.url ?? asked[0]).includes("queue/data")) return answer;
  const [one, other] = answer.body.tee();
  (async () => {
    const words = new TextDecoder();
    for await (const part of other) window.told += words.decode(part, { stream: true });
  })().catch(() => {});  // it ends when the page has heard enough
  return new Response(one, { status: answer.status, headers: answer.headers });
};
"""


def opened(browser, address: str, **size):
    page = open_page(browser, f"{address}/quiz?seed=3", ready="#xh-start", **size)
    page.add_init_script(LISTEN)
    page.reload()
    page.wait_for_function("document.querySelector('#xh-seed input, #xh-seed textarea')?.value === '3'")
    page.locator("#xh-count input").first.check()
    return page


def begun(page):
    page.click("#xh-start")
    page.wait_for_selector("#xh-said >> text=/Question 1 of 8/", timeout=120_000)
    return page


def guess(page, place: int) -> None:
    """By keyboard alone."""
    for box, steps in (("#xh-guess", place), ("#xh-sure", 3)):
        page.locator(f"{box} input").first.focus()
        for _ in range(steps):
            page.keyboard.press("Tab")
        page.keyboard.press("Space")
    page.locator("#xh-tell").focus()
    page.keyboard.press("Enter")
    page.wait_for_selector(".xh-told")


def test_a_round_by_keyboard_and_what_the_browser_knows_before_a_guess(browser, offline, folder):
    page = begun(opened(browser, offline))
    page.click("#xh-tell")
    page.wait_for_selector("#xh-alert >> text=/Choose what you think that the model answers/")
    shot(page, "quiz-question")
    received = re.sub(r"base64,[\w+/=]*", "", page.evaluate("window.told"))
    assert "This time without" in received
    assert "The model says" not in received
    assert not re.search(r"(cat|dog|fox|mouse|rabbit) \d{4,}", received)  # no key of a picture
    assert "probabilit" not in received
    page.locator("#xh-agree input").check()
    for place in range(8):
        assert page.inner_text("#xh-said h2") == f"Question {place + 1} of 8"
        guess(page, place % 3)
        assert "The model says" in page.inner_text(".xh-told")
        if place < 7:
            page.wait_for_function("document.activeElement.id === 'xh-next'")
            page.keyboard.press("Enter")
            page.wait_for_selector(f"#xh-said >> text=/Question {place + 2} of 8/")
            page.wait_for_function("document.activeElement.tagName === 'H2'")
    page.wait_for_selector(".xh-sentences")
    shot(page, "quiz-end")
    words = page.inner_text("#xh-figures")
    assert re.search(r"With twins you guessed \d of 2, without an explanation \d of 4", words)
    assert "Over-trust" in words
    assert [each.place for each in read_answers(folder)] == list(range(1, 9))
    assert {each.confidence for each in read_answers(folder)} == {0.7}
    assert page.broken == []


@pytest.mark.parametrize(("name", "width", "dark"), [("quiz-phone", 360, False), ("quiz-dark", 1280, True)])
def test_the_page_fits_a_telephone_and_the_dark(browser, offline, name, width, dark):
    page = begun(opened(browser, offline, width=width, height=740, dark=dark))
    shot(page, f"{name}-question")
    page.locator("#xh-guess input").first.check()
    page.locator("#xh-sure input").last.check()
    page.click("#xh-tell")
    page.wait_for_selector(".xh-told")
    shot(page, name)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("nav a").last.bounding_box()["y"] < 100  # the way to the other pages takes two rows at most
    assert page.broken == []
