"""Programs that ask all at once: what is refused is refused in words, and a newcomer need not wait for the greedy."""

import json
import urllib.request
from types import SimpleNamespace

import pytest
from browser_fixture import served_offline

from xaihub.curated import STARTER
from xaihub.ui.settings import Settings, starter_examples
from xaihub.ui.turns import Visitor
from xaihub.ui.wiring import visitor

pytestmark = pytest.mark.timeout(280)


@pytest.fixture(scope="module")
def busy():
    """The app with two places to wait at."""
    with served_offline(XAIHUB_QUEUE="2") as address:
        yield address


def program(address):
    client_library = pytest.importorskip("gradio_client")
    client = client_library.Client(address, verbose=False, download_files=False)
    picture = client_library.handle_file(str(starter_examples()[0]))
    return lambda method: client.submit(picture, STARTER, "", method, "", api_name="/explain")


def test_a_greedy_program_is_refused_in_words_and_a_newcomer_is_answered_before_its_second_question(busy):
    greedy, newcomer = program(busy), program(busy)
    newcomer("gradcam").result(240)  # what is slow the first time
    jobs = [greedy("rise") for _ in range(5)]
    record, *_ = newcomer("gradcam").result(240)
    assert record["target"] == "cat"
    assert any(not job.done() for job in jobs)
    ends = [job.exception(240) for job in jobs]
    refusals = [str(error) for error in ends if error is not None]
    assert 1 <= ends.count(None) <= 4
    assert refusals
    for words in refusals:
        assert "question" in words
        assert "waiting already" in words or "queue is full" in words


def test_a_call_without_a_session_is_answered_too_and_known_by_its_address(busy):
    data = json.dumps({"data": [None, STARTER, "", "gradcam", "", "", ""]}).encode()
    asked = urllib.request.Request(
        f"{busy}/gradio_api/call/explain", data, {"Content-Type": "application/json"}, method="POST"
    )
    with urllib.request.urlopen(asked, timeout=60) as answer:
        event = json.load(answer)["event_id"]
    with urllib.request.urlopen(f"{busy}/gradio_api/call/explain/{event}", timeout=120) as answer:
        told = answer.read().decode()
    assert "event: error" in told  # there is no image: the words are of the question, not of a queue
    assert "picture" in told.lower()


def request(session, host="10.1.1.1", **headers):
    return SimpleNamespace(session_hash=session, client=SimpleNamespace(host=host), headers=headers)


def test_a_visitor_is_a_session_and_a_program_without_one_its_address():
    assert visitor(request("k3j4h5g6f7d")) == Visitor("k3j4h5g6f7d", "10.1.1.1")
    nameless = [visitor(request(f"{i:032x}")) for i in (1, 2)]
    assert nameless[0] == nameless[1]
    assert nameless[0] != visitor(request(f"{3:032x}", host="10.1.1.2"))


@pytest.mark.parametrize(
    ("proxies", "forwarded", "address"),
    [
        (0, "9.9.9.9", "10.1.1.1"),
        (1, "9.9.9.9", "9.9.9.9"),
        (1, "1.2.3.4, 9.9.9.9", "9.9.9.9"),  # what stands further left was written by the visitor
        (2, "1.2.3.4, 9.9.9.9, 8.8.8.8", "9.9.9.9"),
        (2, "9.9.9.9", "10.1.1.1"),
        (1, "", "10.1.1.1"),
    ],
)
def test_no_visitor_can_write_its_own_address(proxies, forwarded, address):
    asked = request("s", **{"x-forwarded-for": forwarded})
    assert visitor(asked, proxies).address == address


def test_a_space_has_one_proxy_in_front(monkeypatch):
    assert Settings().proxies_in_front == 0
    monkeypatch.setenv("SYSTEM", "spaces")
    assert Settings().proxies_in_front == 1
    assert Settings(proxies=2).proxies_in_front == 2
