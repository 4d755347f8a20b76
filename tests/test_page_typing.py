"""The boxes in which one types: key by key, late answers, the keyboard alone, a telephone, the dark; their scripts."""

import shutil
import subprocess
from pathlib import Path

import pytest
from browser_fixture import BROKEN, appears, open_page, served, shot, watched
from tiny_models import TINY, build, processor_of, push

from xaihub.ui.combobox import combobox
from xaihub.ui.finding import Finder
from xaihub.ui.wiring import LONGEST, text

UI = Path(__file__).parents[1] / "xaihub" / "ui"
MODELS = ("alice/tiny-resnet", "alice/other-resnet", "alice/mobilenet-small", "alice/cats-and-dogs")


@pytest.fixture(scope="module")
def published(module_hub):
    tiny = TINY["resnet"]
    network, processor = build(tiny), processor_of(tiny)
    for name in MODELS:
        push(module_hub, name, network, processor)
        module_hub.repo(name).pipeline_tag = "image-classification"
    return module_hub


@pytest.fixture(scope="module")
def site(published):
    with served(published.endpoint) as address:
        yield address


@pytest.fixture
def page(browser, site):
    opened = open_page(browser, site)
    opened.wait_for_selector("#xh-model input")
    return opened


def type_in(page, text: str, delay: float, box: str = "#xh-model") -> None:
    """As somebody does: a press into the box, then key by key."""
    page.click(f"{box} input")
    page.keyboard.type(text, delay=delay)


def options(page, box: str = "#xh-model") -> list[str]:
    return page.locator(f"{box} [role=option]:visible").all_inner_texts()


@pytest.mark.browser
@pytest.mark.timeout(200)
@pytest.mark.parametrize(
    ("text", "delay", "model"),
    [
        ("resnet", 30, MODELS[0]), ("resnet", 200, MODELS[0]), ("mobil", 80, MODELS[2]), ("cats", 30, MODELS[3]),
        ("cats", 200, MODELS[3]), ("ALICE/o", 60, MODELS[1]),
    ],
)  # fmt: skip
def test_typing_lists_the_hubs_models_at_any_pace(page, text, delay, model):
    type_in(page, text, delay)
    assert appears(page, f"#xh-model [role=option] >> text={model}", 20_000), options(page)
    assert page.input_value("#xh-model input") == text
    page.click(f"#xh-model [role=option] >> text={model}")
    assert page.input_value("#xh-model input") == model
    assert options(page) == []
    page.wait_for_selector(f"#xh-about >> text={model}", timeout=40_000)


@pytest.mark.browser
@pytest.mark.timeout(200)
@pytest.mark.parametrize("path", ["", "/compare", "/layers", "/prototypes", "/audit", "/quiz"])
def test_every_page_with_a_model_searches_alike(browser, site, path):
    page = open_page(browser, f"{site}{path}", ready="#xh-model input")
    type_in(page, "cats", 60)
    assert appears(page, f"#xh-model [role=option] >> text={MODELS[3]}", 20_000), options(page)


@pytest.mark.browser
@pytest.mark.timeout(200)
def test_late_answers_to_an_earlier_text_never_replace_newer_ones(page, published):
    """The first question is answered two seconds after the second one was."""
    published.fault(kind="slow", path_contains="search=resnet", seconds=3, times=1)
    type_in(page, "resnet", 30)
    page.wait_for_timeout(600)  # it is asked
    page.keyboard.press("Control+A")
    page.keyboard.type("cats", delay=30)
    page.wait_for_selector(f"#xh-model [role=option] >> text={MODELS[3]}", timeout=20_000)
    page.wait_for_timeout(3500)
    assert not any("resnet" in words for words in options(page))
    assert any(MODELS[3] in words for words in options(page))


@pytest.mark.browser
@pytest.mark.timeout(200)
def test_an_answer_that_comes_after_the_box_was_left_opens_nothing(page, published):
    published.fault(kind="slow", path_contains="search=resnet", seconds=2, times=1)
    type_in(page, "resnet", 30)
    page.wait_for_timeout(500)
    page.keyboard.press("Tab")
    page.wait_for_timeout(2500)
    assert options(page) == []
    assert page.input_value("#xh-model input") == "resnet", "what was typed counts"
    assert page.get_attribute("#xh-model input", "aria-expanded") == "false"


@pytest.mark.browser
@pytest.mark.timeout(200)
def test_the_keyboard_alone_chooses_takes_back_and_types_an_id(page):
    box = page.locator("#xh-model input")
    before = box.input_value()
    type_in(page, "resnet", 40)
    page.wait_for_selector(f"#xh-model [role=option] >> text={MODELS[0]}", timeout=20_000)
    assert box.get_attribute("aria-activedescendant") is None, "nothing is chosen by itself"
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowUp")
    active = page.locator(f"#{box.get_attribute('aria-activedescendant')}")
    assert active.get_attribute("aria-selected") == "true"
    assert active.inner_text() == options(page)[0]
    page.keyboard.press("ArrowUp")
    last = page.locator(f"#{box.get_attribute('aria-activedescendant')}").inner_text()
    assert last == options(page)[-1], "from the first it goes to the last"
    page.keyboard.press("Enter")
    chosen = box.input_value()
    assert chosen == last
    assert options(page) == []
    type_in(page, "something else", 5)
    page.keyboard.press("Escape")
    assert options(page) == []
    assert box.input_value() == "something else"
    page.keyboard.press("Escape")
    assert box.input_value() == chosen, "a second Escape takes it back"
    page.keyboard.press("Control+A")
    page.keyboard.type(MODELS[3], delay=5)
    page.keyboard.press("Enter")
    assert box.input_value() == MODELS[3] != before
    page.wait_for_selector(f"#xh-about >> text={MODELS[3]}", timeout=40_000)


@pytest.mark.browser
@pytest.mark.timeout(200)
def test_the_box_says_what_it_is_to_a_screen_reader(page):
    box = page.get_by_role("combobox", name="Model")
    assert box.get_attribute("aria-autocomplete") == "list"
    assert page.locator(f"#{box.get_attribute('aria-describedby')}").inner_text().startswith("Type to search")
    listbox = page.locator(f"#{box.get_attribute('aria-controls')}")
    assert listbox.get_attribute("role") == "listbox"
    assert box.get_attribute("aria-expanded") == "false"
    type_in(page, "cats", 30)
    assert box.get_attribute("aria-expanded") == "true"
    page.wait_for_selector("#xh-model [role=status] >> text=/1 suggestion$/", timeout=20_000)
    page.get_by_role("combobox", name="References").click()
    assert "none: only the heatmap" in options(page, "#xh-references")
    assert options(page) == []


@pytest.mark.browser
@pytest.mark.timeout(200)
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (1280, True), (360, False), (360, True)])
def test_the_list_fits_and_can_be_read(browser, site, width, dark):
    page = open_page(browser, site, width=width, dark=dark)
    type_in(page, "resnet", 30)
    page.wait_for_selector(f"#xh-model [role=option] >> text={MODELS[0]}", timeout=20_000)
    page.keyboard.press("ArrowDown")
    shot(page, f"combobox-{width}{'-dark' * dark}")
    place = page.locator("#xh-model .xh-combo-popup").bounding_box()
    assert place["x"] >= 0
    assert place["x"] + place["width"] <= width
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    seen = "([x, y]) => document.elementFromPoint(x, y)?.closest('#xh-model [role=option]') !== null"
    assert page.evaluate(seen, [place["x"] + 20, place["y"] + 15]), "nothing lies over it"


@pytest.mark.browser
@pytest.mark.timeout(200)
def test_names_of_strangers_are_text_and_a_search_that_fails_says_so(page):
    name = "<img src=x onerror=alert(1)>"
    page.route("**/component_server/**", lambda route: route.fulfill(json=[[name, "alice/x"]]))
    type_in(page, "zzzz", 30)
    page.wait_for_selector("#xh-model [role=option]", timeout=20_000)
    assert options(page) == [name]
    assert page.locator("#xh-model [role=option] img").count() == 0
    page.unroute("**/component_server/**")
    page.route("**/component_server/**", lambda route: route.abort())
    page.allowed = "ERR_FAILED"
    page.keyboard.type("z", delay=30)
    page.wait_for_selector("#xh-model [role=status] >> text=/did not answer/", timeout=20_000)


@pytest.mark.browser
@pytest.mark.timeout(100)
def test_an_error_on_the_console_or_in_a_script_is_collected_for_every_test(browser):
    page = watched(browser.new_context().new_page())
    page.goto("data:text/html,<script>console.error('first'); setTimeout(() => { undefined[0] }, 0)</script>")
    page.wait_for_timeout(500)
    assert len(page.broken) == 2
    assert "Cannot read properties of undefined (reading '0')" in " ".join(page.broken)
    assert len(BROKEN) == 2
    BROKEN.clear()  # else this very test would fail


# --- without a browser ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("payload", [None, 3, ["a"], {"path": "/etc/passwd"}, "x" * (2 * LONGEST)])
def test_whatever_a_request_sends_as_a_value_is_a_short_string(payload):
    assert text(payload) == ("x" * LONGEST if isinstance(payload, str) else "")


@pytest.mark.parametrize("typed", [["resnet"], None, 7, {"a": 1}])
def test_a_search_for_what_is_no_text_asks_nobody(typed):
    asked = []
    box = combobox([], value="", label="Box", info="", elem_id="box", search=lambda text: asked.append(text) or [])
    assert box.suggest(typed) == []
    assert asked == []
    assert box.suggest("resnet") == []
    assert asked == ["resnet"]


def test_the_finder_asks_the_hub_for_more_than_one_letter_and_lists_no_curated_model_twice(published):
    from xaihub.curated import CURATED_MODELS

    assert Finder().suggest("c") == []
    found = [value for _, value in Finder().suggest("cats")]
    assert found == [MODELS[3]]
    assert not set(CURATED_MODELS) & {value for _, value in Finder().suggest("resnet")}


@pytest.mark.parametrize("file", sorted(UI.glob("*.js")), ids=lambda file: file.name)
def test_the_scripts_are_javascript(file, tmp_path):
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    text = file.read_text("utf-8")
    if file.name == "combobox.js":  # gradio makes it the body of a function
        text = f"(async (element, trigger, props, server, upload, watch) => {{\n{text}\n}});"
    (tmp_path / file.name).write_text(text, "utf-8")
    checked = subprocess.run([node, "--check", str(tmp_path / file.name)], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
