"""The notebook in docs/: what it shows was really shown, it runs from its first cell to its last, also on the Hub."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from scripts.build_notebook import NOTEBOOK, run_cells
from xaihub import Classifier, build_references, load_classifier
from xaihub.loading import STARTER_FOLDER
from xaihub.synthetic import paper_pets, write_folder

STORED = json.loads(NOTEBOOK.read_text("utf-8"))
CODE = [cell for cell in STORED["cells"] if cell["cell_type"] == "code"]
SOURCES = ["".join(cell["source"]) for cell in CODE]


def stored_text() -> str:
    """Everything it shows in words."""
    shown = [output for cell in CODE for output in cell["outputs"]]
    return "".join("".join(output.get("text") or output["data"]["text/plain"]) for output in shown)


def test_every_cell_was_run_in_order_and_none_failed():
    assert [cell["execution_count"] for cell in CODE] == list(range(1, len(CODE) + 1))
    assert {output["output_type"] for cell in CODE for output in cell["outputs"]} == {"stream", "execute_result"}
    assert sum("text/html" in output.get("data", {}) for cell in CODE for output in cell["outputs"]) >= 6
    assert (STORED["nbformat"], STORED["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in STORED["cells"]}) == len(STORED["cells"])


def test_it_is_small_and_tells_nothing_of_the_machine_that_ran_it():
    text = NOTEBOOK.read_text("utf-8")

    assert len(text) < 1_500_000
    assert not re.search(r"/(home|root|work|tmp|Users)/", text)


def test_what_it_shows_needs_nothing_from_outside():
    class Addresses(HTMLParser):
        def handle_starttag(self, tag, attributes):
            assert tag not in ("script", "style", "link", "iframe")
            assert all(value.startswith("data:image/") for name, value in attributes if name in ("src", "href"))

    for cell in CODE:
        for output in cell["outputs"]:
            Addresses().feed("".join(output.get("data", {}).get("text/html", "")))


def test_every_model_it_links_to_or_file_it_names_is_there():
    words = "".join("".join(cell["source"]) for cell in STORED["cells"] if cell["cell_type"] == "markdown")
    root = Path(__file__).parents[1]
    assert all((root / name).is_file() for name in re.findall(r"`python (\S+\.py)`", words))


@pytest.fixture
def published(hub, tmp_path):
    """The starter as anybody may have published it, and references that were made with it."""
    hub.add_folder("alice/pets", STARTER_FOLDER / "classifier", pipeline_tag="image-classification")
    pictures = write_folder(paper_pets(30, seed=77), tmp_path / "pictures")
    references = build_references(load_classifier("alice/pets", token=False), pictures)
    hub.add_folder("alice/pets-references", references.save(tmp_path / "references"), repo_type="dataset")
    return hub


def test_it_runs_afresh_with_a_model_of_the_hub_and_finds_what_it_says(published):
    """One run: the small CNN, the caught cheat, and in place of the built-in model one that the Hub serves."""
    ids = {'MODEL = "xaihub/paper-pets"': 'MODEL = "alice/pets"',
           'REFERENCES = "xaihub/paper-pets"': 'REFERENCES = "alice/pets-references"'}  # fmt: skip
    sources = list(SOURCES)
    for old, new in ids.items():
        assert sum(old in source for source in sources) == 1, "the notebook says where another id goes"
        sources = [source.replace(old, new) for source in sources]

    shown: dict[int, list] = {}
    names = run_cells(sources, shown.__setitem__)

    assert names["pretrained"].name == f"alice/pets@{published.repo('alice/pets').head.sha[:12]}"
    assert names["explanation"].prediction.label == "rabbit"
    assert len(names["explanation"]["counterfactuals"]) == 3
    assert names["accuracy"](names["network"], names["held_out"]) > 0.6
    assert isinstance(names["classifier"], Classifier)
    assert names["classifier"].target_layer.proof == "bottleneck"
    honest, cheat = (int(share) for share in re.findall(r"calls (\d+)%", str(shown[10])))
    assert cheat > honest + 25
    assert float(re.search(r"hold ([\d.]+) times", str(shown[6]))[1]) > 1.3


def test_what_is_stored_is_what_the_built_in_model_says_now():
    starter = load_classifier("xaihub/paper-pets")
    assert f"{starter.name}\n{starter.target_layer.in_words}" in stored_text()
