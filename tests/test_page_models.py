"""Any classifier, through the loopback Hub and a real browser: paste its id, send a picture, see why."""

from pathlib import Path

import pytest
from browser_fixture import SCREENSHOTS, choose, chromium, open_page, send_picture, served
from tiny_models import TINY, build, processor_of, push
from toy_networks import lion

SHARED = Path(__file__).parents[2] / "shared" / "models"
LION = "lion, king of beasts, Panthera leo"
FAMILIES = ["resnet", "convnext", "vit", "dinov2 with registers", "swin", "levit", "segformer"]
REAL = {
    "alice/real-mobilenet-v2": "mobilenet_v2_1.0_224",
    "alice/real-mobilenet-v1": "mobilenet_v1_0.25_128",
    "alice/real-squeezenet": "squeezenet1_0_deepcompression",
}

pytestmark = [pytest.mark.browser, pytest.mark.timeout(200)]


def name_of(family: str) -> str:
    return f"alice/any-{family.replace(' ', '-')}"


@pytest.fixture(scope="module")
def page(module_hub):
    import timm

    module_hub.add_user("alice", token="hf_alice")
    for family in FAMILIES:
        push(module_hub, name_of(family), build(TINY[family]), processor_of(TINY[family]))
    network = timm.create_model("test_resnet", num_classes=3)
    timm.models.push_to_hf_hub(
        network, "alice/any-timm", token="hf_alice", model_config={"label_names": ["cat", "dog", "hen"]}
    )
    for repo_id, folder in REAL.items():
        if (SHARED / folder).is_dir():
            module_hub.add_folder(repo_id, SHARED / folder)
    with served(module_hub.endpoint) as address, chromium() as browser:
        opened = open_page(browser, address)
        send_picture(opened, lion())
        yield opened


def answer(page, repo_id: str) -> str:
    """What the page says first, once it has answered for this model."""
    choose(page, "#xh-model", repo_id)
    page.click("#xh-explain")
    page.wait_for_function(
        "id => document.querySelector('#xh-alert [role=alert]')?.innerText"
        " || document.querySelector('#xh-results')?.innerText.includes(id)",
        arg=f"{repo_id} says",
        timeout=90_000,
    )
    assert page.locator("#xh-alert [role=alert]").count() == 0, page.inner_text("#xh-alert")
    return page.inner_text("#xh-results")


@pytest.mark.parametrize("repo_id", [*map(name_of, FAMILIES), "alice/any-timm"])
def test_a_model_of_each_family_is_pulled_by_its_id_and_explained(page, repo_id):
    said = answer(page, repo_id)
    assert f"{repo_id} says" in said
    assert "Grad-CAM for" in said
    assert page.locator("#xh-view img").count() >= 2
    assert page.broken == []


@pytest.mark.parametrize("repo_id", REAL)
def test_a_pretrained_model_calls_gradios_lion_a_lion(page, repo_id):
    if not (SHARED / REAL[repo_id]).is_dir():
        pytest.skip("the pretrained weights in ../shared are not here")
    said = answer(page, repo_id)
    assert f"{repo_id} says {LION}" in said.replace("\n", " ")
    SCREENSHOTS.mkdir(exist_ok=True)
    page.wait_for_timeout(300)
    page.screenshot(path=SCREENSHOTS / f"{repo_id.split('/')[1]}.png", full_page=True)


def test_a_pretrained_model_is_compared_with_another_under_five_methods_and_in_three_classes(page):
    mobile, other = "alice/real-mobilenet-v2", "alice/real-mobilenet-v1"
    if not all((SHARED / REAL[name]).is_dir() for name in (mobile, other)):
        pytest.skip("the pretrained weights in ../shared are not here")
    page.goto(page.url.split("?")[0].rstrip("/") + "/compare")
    page.wait_for_selector("#xh-total >> text=/map/", timeout=60_000)
    send_picture(page, lion())
    choose(page, "#xh-model", mobile)
    for vary, maps in (("Methods", 5), ("Classes", 3), ("Two models", 2)):
        page.click(f"#xh-vary >> text={vary}")
        if maps == 2:
            page.wait_for_selector("#xh-other", state="visible")
            choose(page, "#xh-other", other)
        page.click("#xh-compare")
        page.wait_for_function(
            "n => document.querySelector('#xh-alert [role=alert]') ||"
            " document.querySelectorAll('.xh-tile .xh-card').length === n",
            arg=maps,
            timeout=90_000,
        )
        assert page.locator("#xh-alert [role=alert]").count() == 0, page.inner_text("#xh-alert")
        assert page.locator(".xh-alike tbody tr").count() == maps
        page.wait_for_timeout(300)
        page.screenshot(path=SCREENSHOTS / f"compare-{vary.split()[-1].lower()}.png", full_page=True)
    assert f"{mobile} says {LION}" in page.inner_text("#xh-said").replace("\n", " ")
    assert page.broken == []
