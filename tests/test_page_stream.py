"""No answer is lost where the server closes the stream just as something is asked, and no text where one comes."""

import pytest
from browser_fixture import choose, open_page, served_offline

pytestmark = [pytest.mark.browser, pytest.mark.timeout(200)]

# the word that closes a stream is late, as behind a long answer on a slow line
LATE = """(() => {
  const fetched = window.fetch.bind(window), decoder = new TextDecoder();
  window.closing = 0;
  window.fetch = async (...given) => {
    const response = await fetched(...given);
    if (!new URL(given[0].url ?? given[0], document.baseURI).pathname.endsWith("/queue/data")) return response;
    const transform = async (chunk, stream) => {
      const closes = decoder.decode(chunk).includes('"close_stream"');
      window.closing += closes;
      if (closes) await new Promise((resolve) => setTimeout(resolve, 1500));
      stream.enqueue(chunk);
      window.closing -= closes;
    };
    return new Response(response.body.pipeThrough(new TransformStream({ transform })), response);
  };
})();"""


@pytest.fixture(scope="module")
def site():
    with served_offline() as address:
        yield address


def test_a_question_that_is_asked_while_the_stream_is_being_closed_is_answered(browser, site):
    page = open_page(browser, site, before=LATE)
    page.wait_for_function("window.closing")  # what the Hub says of the model was the first question
    page.click("#xh-examples button >> nth=0")
    page.wait_for_selector("#xh-trust .xh-verdict-card", timeout=60_000)
    page.wait_for_function("window.closing", timeout=60_000)
    choose(page, "#xh-method", "scorecam")
    page.wait_for_selector("#xh-view .xh-caption >> text=/Score-CAM/", timeout=30_000)
    assert page.broken == []


def test_what_is_typed_replaces_what_was_selected_though_an_answer_draws_the_box_anew(browser, site):
    page = open_page(browser, site)
    page.click("#xh-examples button >> nth=0")
    page.wait_for_selector("#xh-trust .xh-verdict-card", timeout=60_000)
    page.fill("#xh-method input", "no such method")
    page.keyboard.press("Enter")
    page.keyboard.press("Control+A")
    page.wait_for_function("document.querySelector('#xh-method input').value === 'Grad-CAM'", timeout=30_000)  # refused
    page.keyboard.type("scorecam")
    page.keyboard.press("Enter")
    page.wait_for_selector("#xh-view .xh-caption >> text=/Score-CAM/", timeout=30_000)
    assert page.broken == []
