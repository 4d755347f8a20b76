"""The six commands of docs/PIPELINE.md, one after the other, against the tests' Hub; then all is pulled back by id.

Real cats of ../shared where they are, else drawn ones; pictures of a tiny diffusion pipeline that is itself pulled by
id; a small backbone pulled by id. Nothing is mocked and nothing but the first folder is local.
"""

import importlib.util
import json
import os
import re
from pathlib import Path

import pytest
from browser_fixture import SCREENSHOTS, chromium, open_page, send_picture, served
from tiny_pipelines import push_pipeline

from xaihub.loading import STARTER_FOLDER
from xaihub.synthetic import paper_pets

ROOT = Path(__file__).parents[1]
CATS = ROOT.parent / "shared" / "data" / "cats_real_fake" / "train" / "real"
TOKEN = "hf_pipeline"
COUNT = 20  # of each class: enough for three splits

pytestmark = [pytest.mark.browser, pytest.mark.timeout(400)]


def script(name: str):
    """The module of scripts/NAME.py."""
    spec = importlib.util.spec_from_file_location(f"script_{name}", ROOT / "scripts" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(name: str, *arguments: str) -> None:
    """The script, as from a terminal: it must end well."""
    assert script(name).main([str(argument) for argument in arguments]) == 0, f"{name} {arguments}"


@pytest.fixture(scope="module")
def real(tmp_path_factory) -> Path:
    """A folder of pictures that no pipeline made."""
    folder = tmp_path_factory.mktemp("real")
    if CATS.is_dir():
        for file in sorted(CATS.iterdir())[:COUNT]:
            (folder / file.name).symlink_to(file)
    else:
        for number, pet in enumerate(paper_pets(COUNT, seed=0, size=200)):
            pet.image.save(folder / f"{number}.jpg", quality=90)
    return folder


@pytest.fixture(scope="module")
def published(module_hub, real, tmp_path_factory):
    """The Hub after the commands of docs/PIPELINE.md."""
    module_hub.add_user("carol", token=TOKEN)
    push_pipeline(module_hub, "carol/tiny-ddpm", token=TOKEN)
    module_hub.add_folder("carol/backbone", STARTER_FOLDER / "classifier")
    before = {name: os.environ.get(name) for name in ("HF_TOKEN", "XAIHUB_CACHE")}
    os.environ.update(HF_TOKEN=TOKEN, XAIHUB_CACHE=str(tmp_path_factory.mktemp("cache")))
    try:
        run("build_dataset", "--real", real, "--generated", "carol/tiny-ddpm", "--count", COUNT, "--steps", 2,
            "--size", 161, "--split", "train=0.6", "validation=0.2", "test=0.2", "--to", "carol/cats")  # fmt: skip
        run("train_classifier", "--data", "carol/cats", "--backbone", "carol/backbone", "--epochs", 1,
            "--to", "carol/cats-classifier")  # fmt: skip
        run("evaluate_classifier", "--model", "carol/cats-classifier", "--data", "carol/cats", "--split", "test",
            "--to", "carol/cats-classifier")  # fmt: skip
        run("build_references", "--model", "carol/cats-classifier", "--data", "carol/cats", "--to",
            "carol/cats-references")  # fmt: skip
        run("publish_space", "--model", "carol/cats-classifier", "--references", "carol/cats-references", "--secret",
            "HF_TOKEN", "--to", "carol/cats-why")  # fmt: skip
        yield module_hub
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def test_everything_is_private_and_has_a_card(published):
    for kind, name in (
        ("dataset", "cats"), ("model", "cats-classifier"), ("dataset", "cats-references"), ("space", "cats-why"),
    ):  # fmt: skip
        repo = published.repo(f"carol/{name}", kind)
        assert repo.private
        card = bytes(repo.head.files["README.md"].content).decode()
        assert card.startswith("---\n")
        assert TOKEN not in card


def test_the_dataset_comes_back_with_its_splits_and_names(published):
    import datasets

    found = datasets.load_dataset("carol/cats", token=TOKEN)
    assert set(found) == {"train", "validation", "test"}
    assert sum(map(len, found.values())) == 2 * COUNT
    assert found["train"].features["label"].names == ["real", "generated"]
    assert {row["image"].size for row in found["train"]} == {(161, 161)}
    generated = [row for row in found["train"] if row["label"] == 1]
    assert {row["generator"] for row in generated} == {"carol/tiny-ddpm"}
    assert {row["generator_revision"] for row in generated} == {published.repo("carol/tiny-ddpm").head.sha}


def test_plain_transformers_loads_the_classifier_and_its_card_has_the_measured_figures(published):
    from huggingface_hub import ModelCard
    from transformers import AutoModelForImageClassification

    model = AutoModelForImageClassification.from_pretrained(
        "carol/cats-classifier", token=TOKEN, trust_remote_code=False, use_safetensors=True
    )
    assert model.config.id2label == {0: "real", 1: "generated"}
    files = published.repo("carol/cats-classifier").head.files
    metrics = json.loads(bytes(files["metrics.json"].content))
    card = ModelCard(bytes(files["README.md"].content).decode())
    accuracy = [result.metric_value for result in card.data.eval_results if result.metric_type == "accuracy"]
    assert accuracy == [pytest.approx(metrics["accuracy"])]
    assert metrics["split"] == "test"
    assert metrics["n"] == 8
    assert card.data.base_model == "carol/backbone"
    assert "images/confusion.png" in files


def test_the_page_of_the_space_explains_a_picture_with_twins_from_the_published_references(published, real):
    """The app as the Space runs it: its configured model, private, read with the host's token."""
    settings = {
        "XAIHUB_MODEL": "carol/cats-classifier", "XAIHUB_REFERENCES": "carol/cats-references", "HF_TOKEN": TOKEN,
    }  # fmt: skip
    with served(published.endpoint, **settings) as address, chromium() as browser:
        page = open_page(browser, address)
        send_picture(page, sorted(real.iterdir())[0].resolve())
        page.click("#xh-explain")
        page.wait_for_selector("[data-method=twins] .xh-card", timeout=90_000)
        SCREENSHOTS.mkdir(exist_ok=True)
        page.screenshot(path=SCREENSHOTS / "pipeline.png", full_page=True)
        said = page.inner_text("#xh-results")
        assert re.search(r"carol/cats-classifier says\s+(real|generated)", said)
        assert page.locator("[data-method=counterfactuals]").count() == 1
        assert page.broken == []
