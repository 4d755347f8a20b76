"""Page 1 in headless Chromium, as a visitor meets it."""

import io
import json
import time
import zipfile
from pathlib import Path

import pytest
from browser_fixture import (
    SCREENSHOTS,
    appears,
    choose,
    open_page,
    send_picture,
    sentence,
    served,
    served_offline,
    settled,
)
from tiny_models import LABELS, TINY, TOKEN, build, picture, processor_of, push

pytestmark = [pytest.mark.browser, pytest.mark.timeout(200)]

MODEL, PRIVATE, SLOW, PICKLED, TEXT = (
    "alice/tiny-resnet", "alice/secret-resnet", "alice/slow-resnet", "alice/pickled-resnet", "alice/text-bert",
)  # fmt: skip
NO_PICTURE = {"name": "text.png", "mimeType": "image/png", "buffer": b"these are words, not a picture"}


def png(width: int, height: int, seed: int = 0) -> bytes:
    stream = io.BytesIO()
    picture(width, height, seed).save(stream, "PNG")
    return stream.getvalue()


PICTURE = {"name": "mine.png", "mimeType": "image/png", "buffer": png(120, 80)}


@pytest.fixture(scope="module")
def published(module_hub):
    tiny = TINY["resnet"]
    network, processor = build(tiny), processor_of(tiny)
    push(module_hub, MODEL, network, processor)
    push(module_hub, SLOW, network, processor)
    push(module_hub, PRIVATE, network, processor, private=True)
    config = json.dumps({"model_type": "resnet", "architectures": ["ResNetForImageClassification"]})
    module_hub.add_files(PICKLED, {"config.json": config, "pytorch_model.bin": b"x" * 64})
    text = json.dumps({"model_type": "bert", "architectures": ["BertForMaskedLM"]})
    module_hub.add_files(TEXT, {"config.json": text, "model.safetensors": b"x" * 64}, pipeline_tag="fill-mask")
    module_hub.repo(MODEL).pipeline_tag = "image-classification"
    dataset = {f"train/{'cat' if i % 2 else 'dog'}/{i}.png": png(80, 80, i + 1) for i in range(12)}
    module_hub.add_files("alice/shapes", dataset, repo_type="dataset")
    return module_hub


@pytest.fixture(scope="module")
def site(published):
    with served(published.endpoint, XAIHUB_MODEL=MODEL) as address:
        yield address


@pytest.fixture(scope="module")
def offline():
    """The app where nobody answers for the Hub."""
    with served_offline() as address:
        yield address


def explain(page, model: str = "") -> None:
    if model:
        choose(page, "#xh-model", model)
    page.click("#xh-explain")


def test_one_click_on_an_example_explains_it_without_a_hub(browser, offline):
    page = open_page(browser, offline)
    page.screenshot(path=_shot("opened"), full_page=True)
    page.click("#xh-examples button >> nth=0")
    page.wait_for_selector("#xh-beside .xh-card", timeout=60_000)
    assert page.locator(".xh-bars li").count() >= 2
    assert "Grad-CAM" in page.inner_text("#xh-view")
    for method in ("twins", "counterfactuals"):
        assert page.locator(f"[data-method={method}] .xh-card").count() == 3
    page.wait_for_timeout(500)
    page.screenshot(path=_shot("desktop"), full_page=True)

    page.click("[data-method=twins] .xh-card >> nth=0")
    dialog = page.locator(".xh-dialog[open]")
    assert dialog.locator(".xh-stack").count() == 2
    assert dialog.locator(".xh-heat:visible").count() == 2
    page.screenshot(path=_shot("side-by-side"))
    page.keyboard.press("Escape")
    assert page.locator(".xh-dialog[open]").count() == 0
    assert page.broken == []


@pytest.mark.parametrize(("name", "width", "dark"), [("phone", 360, False), ("dark", 1280, True)])
def test_the_page_fits_a_telephone_and_the_dark(browser, offline, name, width, dark):
    page = open_page(browser, offline, width=width, height=740, dark=dark)
    page.click("#xh-examples button >> nth=1")
    page.wait_for_selector("#xh-beside .xh-card", timeout=60_000)
    if width < 900:
        page.wait_for_function("window.scrollY > 0", timeout=60_000)  # to the answer, below the boxes
    settled(page)
    page.screenshot(path=_shot(name), full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.click(".xh-card >> nth=0")
    page.wait_for_timeout(200)
    page.screenshot(path=_shot(f"{name}-side-by-side"))
    assert page.locator(".xh-dialog[open]").bounding_box()["width"] <= width
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, background.strip("rgb()").split(",")[:3])) < 150) == dark


def test_a_picture_of_ones_own_is_explained_and_asked_about_another_class(browser, site):
    page = open_page(browser, site)
    send_picture(page, PICTURE)
    explain(page)
    page.wait_for_selector(".xh-view", timeout=60_000)
    target = page.inner_text(".xh-target .xh-class").split("\n")[0].split(" explained")[0].strip()
    assert target in LABELS.values()
    alt = page.get_attribute("#xh-view .xh-main img", "alt")
    assert target in alt
    assert "% of the heat" in alt or "no heat" in alt
    assert "resnet.encoder.stages.1.layers.1" in page.text_content("#xh-about")

    other = next(label for label in LABELS.values() if label != target)
    choose(page, "#xh-class", other, until=f".xh-target .xh-class >> text=/^{other}/")
    page.wait_for_selector(".xh-verdict-card")
    assert f"what speaks for '{other}'" in page.inner_text("#xh-trust")
    words = page.inner_text(".xh-verdict-card")
    assert any(verdict in words for verdict in ("Do not rely on this map", "with care", "passed the checks"))

    page.locator("#xh-view .xh-opacity").focus()
    page.keyboard.press("Home")
    assert page.evaluate("getComputedStyle(document.querySelector('#xh-view .xh-heat')).opacity") == "0"
    assert page.inner_text("#xh-view output") == "0%"
    with page.expect_download() as download:
        page.click("#xh-keep")
    names = zipfile.ZipFile(download.value.path()).namelist()
    assert {"explanation/explanation.json", "explanation/gradcam-heatmap.npy"} <= set(names)
    assert page.broken == []


def test_a_dataset_of_the_hub_gives_examples(browser, site):
    page = open_page(browser, site)
    send_picture(page, PICTURE)
    choose(page, "#xh-references", "alice/shapes")
    explain(page)
    page.wait_for_selector("#xh-beside .xh-card", timeout=60_000)
    for method in ("twins", "lookalikes", "counterfactuals"):
        assert page.locator(f"[data-method={method}].xh-row").count() == 1


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("alice/nothing-here", "There is no model 'alice/nothing-here'"),
        (TEXT, "bert"),
        (PICKLED, "pickle"),
        ("/etc/passwd", "is not the id of a repository"),
    ],
)
def test_a_model_that_cannot_be_explained_is_refused_in_words_with_one_that_can(browser, site, model, words):
    page = open_page(browser, site)
    choose(page, "#xh-model", model)
    told = sentence(page)
    assert words in told
    assert "Traceback" not in told
    assert MODEL in told


def test_a_file_that_is_no_picture_is_refused_in_words(browser, site):
    page = open_page(browser, site)
    explain(page)
    assert "There is no picture yet" in sentence(page)
    send_picture(page, NO_PICTURE)
    explain(page)
    page.wait_for_function("document.querySelector('#xh-alert')?.textContent.includes('is not a picture')")


def test_a_private_model_opens_to_the_right_token_only(browser, site):
    page = open_page(browser, site)
    send_picture(page, PICTURE)
    page.click("text=Private or gated models")
    page.fill("#xh-token input", TOKEN)
    explain(page, PRIVATE)
    page.wait_for_selector(".xh-view", timeout=60_000)
    for token, words in (("", "There is no model"), ("hf_wrong", "does not know this token")):
        page.fill("#xh-token input", token)
        page.click("#xh-explain")
        page.wait_for_function(f"document.querySelector('#xh-alert [role=alert]')?.textContent.includes('{words}')")


def test_stop_ends_a_slow_download_and_the_next_question_is_answered(browser, site, hub):
    page = open_page(browser, site)
    send_picture(page, PICTURE)
    choose(page, "#xh-model", SLOW)
    page.wait_for_selector(f"#xh-about >> text={SLOW}", timeout=60_000)
    hub.fault(kind="slow", path_contains=f"{SLOW}/resolve", seconds=15, times=2)
    explain(page)
    page.wait_for_function("document.querySelector('#xh-progress').innerText.trim()", timeout=20_000)
    start = time.monotonic()
    page.click("#xh-stop")
    page.wait_for_selector("#xh-alert >> text=/Stopped/", timeout=20_000)
    assert time.monotonic() - start < 10, "the download that is waited for takes longer"
    explain(page, MODEL)
    page.wait_for_selector(".xh-view", timeout=40_000)


def test_the_keyboard_reaches_everything_in_reading_order(browser, site):
    page = open_page(browser, site)
    send_picture(page, PICTURE)
    explain(page)
    page.wait_for_selector(".xh-view", timeout=60_000)
    page.evaluate("document.body.tabIndex = -1; document.body.focus()")
    wanted = ["xh-model", "xh-picture", "xh-explain", "xh-references", "xh-class", "xh-method", "xh-view"]
    reached: list[str] = []
    for _ in range(45):
        page.keyboard.press("Tab")
        box = page.evaluate("document.activeElement?.closest('[id^=xh-]:not(#xh-results)')?.id ?? ''")
        if box in wanted and box not in reached:
            reached.append(box)
    assert reached == wanted


def test_a_link_fills_the_boxes_and_runs_nothing(browser, site):
    page = open_page(browser, f"{site}/?model={SLOW}&class=dog&method=hirescam&references=alice/shapes")
    page.wait_for_function(f"document.querySelector('#xh-model input').value === '{SLOW}'")
    assert page.input_value("#xh-references input") == "alice/shapes"
    page.wait_for_selector("text=/This link asks about the class 'dog' with HiResCAM/")
    assert page.locator(".xh-view").count() == 0
    send_picture(page, PICTURE)
    explain(page)
    page.wait_for_selector(".xh-view", timeout=60_000)
    assert "HiResCAM" in page.inner_text("#xh-view")
    assert page.inner_text(".xh-target").startswith("dog")
    page.click("text=Copy link")
    page.wait_for_selector("#xh-linked >> text=/class=dog/")


def test_a_link_brings_an_example_along_but_no_picture_of_ones_own(browser, offline):
    page = open_page(browser, offline)
    page.click("#xh-examples button >> nth=1")
    page.wait_for_selector("#xh-view", timeout=60_000)
    page.click("text=Copy link")
    page.wait_for_selector("#xh-linked >> text=/example=dog.png/")
    link = page.inner_text("#xh-linked").removeprefix("Link: ").strip()
    again = open_page(browser, link)
    again.wait_for_selector("#xh-picture img", timeout=30_000)
    explain(again)
    again.wait_for_selector(".xh-target .xh-class >> text=/^dog/", timeout=60_000)
    again.click("#xh-picture button[aria-label='Remove Image']")
    send_picture(again, PICTURE)
    again.click("text=Copy link")
    again.wait_for_selector("#xh-linked >> text=/Link: (?!.*example)/")


def test_typing_finds_models_of_the_hub(browser, site):
    page = open_page(browser, site)
    page.click("#xh-model input")
    page.keyboard.press("Control+A")
    page.keyboard.type("tiny-res", delay=30)
    page.wait_for_selector(f"[role=option] >> text={MODEL}", timeout=30_000)
    page.wait_for_timeout(3000)  # each key asks; a list that is drawn anew under the pointer takes no click
    assert page.input_value("#xh-model input") == "tiny-res"
    page.click(f"[role=option] >> text={MODEL}")
    page.wait_for_function("id => document.querySelector('#xh-model input').value === id", arg=MODEL, timeout=10_000)


def test_suggestions_that_come_late_cover_nothing(browser, site):
    page = open_page(browser, site)
    page.click("#xh-model input")
    page.keyboard.press("Control+A")
    page.keyboard.type(SLOW, delay=20)
    page.keyboard.press("Tab")
    page.wait_for_timeout(1500)
    assert page.locator("[role=option]:visible").count() == 0
    assert page.input_value("#xh-model input") == SLOW


def test_programs_ask_by_the_named_endpoint(site, tmp_path):
    client_library = pytest.importorskip("gradio_client")
    file = tmp_path / "mine.png"
    file.write_bytes(PICTURE["buffer"])
    client = client_library.Client(site, verbose=False, download_files=str(tmp_path))
    assert list(client.view_api(return_format="dict")["named_endpoints"]) == ["/explain"]
    record, overlay, evidence = client.predict(
        client_library.handle_file(str(file)), MODEL, "dog", "gradcam", "", api_name="/explain"
    )
    assert record["target"] == "dog"
    assert sum(row["probability"] for row in record["prediction"]) == pytest.approx(1, abs=1e-3)
    assert record["evidence"]["gradcam"][0]["caption"]
    assert Path(overlay if isinstance(overlay, str) else overlay["path"]).read_bytes().startswith(b"\x89PNG")
    assert "explanation/explanation.json" in zipfile.ZipFile(evidence).namelist()
    question = client_library.handle_file(str(file)), MODEL, "dog"
    record, *_ = client.predict(*question, "finercam", "", "hen", "", api_name="/explain")
    assert record["evidence"]["finercam"][0]["facts"]["other"] == "hen"
    record, *_ = client.predict(*question, "occlusion", "", api_name="/explain")
    assert record["evidence"]["occlusion"][0]["facts"]["signed"]
    with pytest.raises(client_library.exceptions.AppError, match="Did you mean 'gradcam'"):
        client.predict(*question, "grad-cam", "", api_name="/explain")
    with pytest.raises(client_library.exceptions.AppError, match="no class 'cow'"):
        client.predict(client_library.handle_file(str(file)), MODEL, "cow", "gradcam", "", api_name="/explain")


def test_a_slow_method_shows_its_progress_and_a_stopped_one_leaves_the_earlier_answer(browser, offline):
    page = open_page(browser, offline)
    page.click("#xh-examples button >> nth=0")
    page.wait_for_selector("#xh-beside .xh-card", timeout=60_000)
    choose(page, "#xh-method", "rise")
    page.wait_for_selector("#xh-progress >> text=/RISE: .* of 1000 pictures/", timeout=30_000)
    page.click("#xh-stop")
    page.wait_for_selector("#xh-alert >> text=/Stopped. The earlier answer stands/", timeout=5_000)
    page.wait_for_function("document.querySelector('#xh-method input').value === 'Grad-CAM'")
    assert page.locator("#xh-view .xh-main figcaption").inner_text().startswith("Grad-CAM for cat")

    choose(page, "#xh-method", "rise")
    page.wait_for_selector("#xh-progress >> text=/RISE: .* of 1000 pictures/", timeout=30_000)
    choose(page, "#xh-method", "layercam")  # asked meanwhile: the slow one gives way
    page.wait_for_selector("#xh-view figcaption >> text=/LayerCAM for cat/", timeout=60_000)
    choose(page, "#xh-method", "rise")
    page.wait_for_selector("#xh-view figcaption >> text=/RISE for cat/", timeout=90_000)
    assert "The heatmaps of the twins are Grad-CAM's" in page.inner_text("#xh-beside")
    assert page.broken == []


def test_a_short_question_of_somebody_else_does_not_wait_for_the_end_of_a_slow_one(browser):
    with served_offline(
        XAIHUB_SHORT_SECONDS="0", OMP_NUM_THREADS="1"
    ) as address:  # the slow one is long from the start
        page, other = open_page(browser, address), open_page(browser, address)
        page.click("#xh-examples button >> nth=0")
        page.wait_for_selector("#xh-beside .xh-card", timeout=60_000)
        settled(page)
        choose(page, "#xh-method", "rise")
        page.wait_for_selector("#xh-progress >> text=/RISE: .* of 1000 pictures/", timeout=30_000)
        other.click("#xh-examples button >> nth=0")
        other.wait_for_selector("#xh-view figcaption >> text=/Grad-CAM for/", timeout=60_000)
        assert page.locator("#xh-view figcaption >> text=/RISE for cat/").count() == 0, "the slow one goes on"
        page.wait_for_selector("#xh-view figcaption >> text=/RISE for cat/", timeout=90_000)
        page.close()
        other.close()  # before the app ends, or their scripts miss it


def test_a_choice_that_is_taken_back_is_the_one_that_stays(browser, offline):
    page = open_page(browser, offline)
    page.click("#xh-examples button >> nth=0")
    page.wait_for_selector("#xh-beside .xh-card", timeout=60_000)
    settled(page)
    choose(page, "#xh-method", "rise")
    page.wait_for_selector("#xh-progress >> text=/RISE: .* of 1000 pictures/", timeout=30_000)
    choose(page, "#xh-method", "gradcam")
    assert not appears(page, "#xh-view figcaption >> text=/RISE for cat/", 8_000)
    assert page.locator("#xh-view .xh-main figcaption").inner_text().startswith("Grad-CAM for cat")
    assert page.input_value("#xh-method input") == "Grad-CAM"


def test_one_menu_of_the_other_class_serves_finer_cam_and_the_counterfactuals(browser, site):
    page = open_page(browser, site)
    send_picture(page, PICTURE)
    explain(page)
    page.wait_for_selector(".xh-view", timeout=60_000)
    assert not page.locator("#xh-against").is_visible()
    choose(page, "#xh-method", "finercam")
    page.wait_for_selector("#xh-against", state="visible", timeout=60_000)
    page.wait_for_selector("#xh-against >> text=/Rather than .Finer-CAM./")
    target = page.inner_text(".xh-target .xh-class").split("\n")[0].split(" explained")[0].strip()
    for other in sorted(set(LABELS.values()) - {target}):
        choose(page, "#xh-against", other, until=f"#xh-view .xh-caption >> text=/rather than '{other}'/")
    for other in sorted(set(LABELS.values()) - {target}) * 4:  # while the answer to the last choice is on its way
        choose(page, "#xh-against", other)
        page.wait_for_timeout(60)
    assert appears(page, f"#xh-view .xh-caption >> text=/rather than '{other}'/", 10_000)
    page.wait_for_timeout(500)
    assert page.input_value("#xh-against input") == other
    assert page.inner_text("#xh-stale").strip() == ""
    page.click("text=Copy link")
    page.wait_for_selector(f"#xh-linked >> text=/against={other}.*method=finercam/")


def test_a_signed_map_is_shown_for_and_against_and_other_colours_need_no_server(browser, offline):
    page = open_page(browser, offline)
    page.click("#xh-examples button >> nth=0")
    page.wait_for_selector("#xh-beside .xh-card", timeout=60_000)
    page.route("**/gradio_api/**", lambda route: route.abort())  # from here on nobody answers
    heat = "#xh-view .xh-main .xh-heat:visible"
    page.check("#xh-view .xh-sign[value=both]")
    assert "xh-both" in page.get_attribute(heat, "class")
    assert page.locator("#xh-view >> text=/Blue: speaks against the class/").is_visible()
    assert "speaks against it" in page.get_attribute("#xh-view .xh-main img", "alt")
    page.check("#xh-view .xh-sign[value=for]")
    page.select_option("#xh-view .xh-colours", "grey")
    assert "xh-grey" in page.evaluate(f"getComputedStyle(document.querySelector('{heat[:-8]}')).filter")
    assert page.locator("#xh-view >> text=/Black: nothing. White: the most/").is_visible()
    page.click(".xh-card >> nth=0")
    assert page.input_value(".xh-dialog[open] .xh-colours") == "grey"


def test_a_link_brings_back_the_layer_and_one_with_an_unknown_method_is_refused(browser, site):
    layer = "resnet.encoder.stages.0.layers.0"
    page = open_page(browser, f"{site}/?layer={layer}&against=hen")
    page.wait_for_selector(f"text=/at layer {layer}/", timeout=30_000)
    send_picture(page, PICTURE)
    explain(page)
    page.wait_for_selector(f"#xh-view .xh-caption >> text=/at {layer}/", timeout=60_000)
    choose(page, "#xh-layer", f"{layer} + resnet.encoder.stages.9")
    assert "no layer 'resnet.encoder.stages.9'" in sentence(page)
    assert page.locator("#xh-view .xh-caption").is_visible()
    page.wait_for_function(f"document.querySelector('#xh-layer input').value.startsWith('{layer}')")
    fused = f"{layer} + resnet.encoder.stages.1.layers.1"
    choose(page, "#xh-layer", fused)
    page.wait_for_function(f"document.querySelector('#xh-view .xh-caption')?.textContent.includes('{fused}')")

    page = open_page(browser, f"{site}/?method=grad-cam")
    page.wait_for_selector("[role=alert] >> text=/Did you mean 'gradcam'/", timeout=40_000)


def _shot(name: str) -> str:
    SCREENSHOTS.mkdir(exist_ok=True)
    return str(SCREENSHOTS / f"{name}.png")


def test_a_request_cannot_name_a_file_of_the_host(site, tmp_path):
    """Without `meta` gradio does not check the path; the picture box does."""
    import urllib.request

    secret = tmp_path / "secret.png"
    secret.write_bytes(png(40, 40))
    for path in (str(secret), "xaihub/starter/examples/cat.png", "/etc/hostname", "/etc/nothing"):
        body = json.dumps({"data": [{"path": path}, MODEL, "", "gradcam", "", "", ""]}).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{site}/gradio_api/call/explain", body, headers)
        with urllib.request.urlopen(request) as answer:
            event = json.loads(answer.read())["event_id"]
        with urllib.request.urlopen(f"{site}/gradio_api/call/explain/{event}", timeout=60) as answer:
            said = answer.read().decode()
        assert "event: error" in said
        assert "empty" in said
        assert path not in said
