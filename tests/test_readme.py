"""The README's promises that can be run."""

import re
from pathlib import Path

import numpy as np
import yaml

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")


def test_the_network_of_ones_own_is_explained_as_written():
    code = re.search(r"<!-- tested -->\n```python\n(.*?)```", README, re.S)[1]
    names: dict = {}
    exec(compile(code, "README.md", "exec"), names)
    explanation = names["explanation"]
    assert explanation["gradcam"][0].heatmap.shape == (64, 64)
    assert names["classifier"].target_layer.name == "3"
    assert explanation.prediction.label in ("cat", "dog")
    assert np.isfinite(explanation["gradcam"][0].raw).all()


def test_the_front_matter_is_what_a_space_reads():
    card = yaml.safe_load(README.split("---")[1])
    assert card["sdk"] == "gradio"
    assert (ROOT / card["app_file"]).is_file()
    assert card["hf_oauth"] is True
    assert card["hf_oauth_scopes"] == ["read-repos"]
    assert card["license"] == "apache-2.0"
    assert card["suggested_hardware"] == "cpu-basic"
    assert len(card["short_description"]) <= 60
    import gradio

    assert card["sdk_version"].split(".")[0] == gradio.__version__.split(".")[0]
    assert isinstance(card["python_version"], str)


def test_every_picture_and_page_it_links_to_is_there():
    for target in re.findall(r"\]\(((?!http)[^)]+)\)", README):
        assert (ROOT / target).is_file(), target


def test_what_a_space_installs_holds_what_the_page_imports():
    wanted = {re.split(r"[\[<>=]", line)[0] for line in (ROOT / "requirements.txt").read_text().splitlines()}
    assert {"torch", "torchvision", "transformers", "timm", "datasets", "gradio", "huggingface_hub", "pillow"} <= wanted


def test_every_map_is_listed_with_its_cost_and_its_sign():
    from xaihub import METHODS

    listed = dict(listed_maps())
    maps = {name: method for name, method in METHODS.items() if not method.shows_pictures}
    assert set(listed) == {name for name in maps if name != "my-cam"}
    for name, (signed, passes) in listed.items():
        assert signed == maps[name].signed, name
        if not callable(maps[name].passes):
            assert passes == f"{maps[name].passes:,}", name


def listed_maps():
    """(name, (signed, passes)) of each map in the README's table."""
    table = re.search(r"<!-- every registered map, tested -->\n(.*?)\n\n", README, re.S)[1]
    for row in table.splitlines()[2:]:
        names, _, passes = (cell.strip() for cell in row.strip("|").split("|"))
        found = re.findall(r"`([^`]+)`( ±)?", names)
        costs = re.split(r", (?=\d)", passes)
        for i, (name, signed) in enumerate(found):
            yield name, (bool(signed), costs[i] if len(costs) == len(found) else costs[0])
