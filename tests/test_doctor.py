"""`python -m xaihub doctor` says what the page says, of models from everywhere and of networks of one's own."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from html import unescape
from pathlib import Path

import pytest
import torch
from tiny_models import TINY, build, changed, files_of, picture, processor_of, tensors_of
from toy_networks import SmallNet, classifier_of

from xaihub import METHODS, load_classifier, preflight
from xaihub.__main__ import main
from xaihub.doctor import examine, told
from xaihub.errors import TargetLayerError, UnsupportedModelError, XaihubError
from xaihub.own_module import is_own_module, load_own_module
from xaihub.ui.words import status

ROOT = Path(__file__).parents[1]
MODELS = ROOT.parent / "shared" / "models"
OWN = '''
import numpy as np, torch

def transform(image):
    """squashed to 32 x 32"""
    return torch.from_numpy(np.array(image.resize((32, 32)))).permute(2, 0, 1) / 255

def load():
    from small import SmallNet
    return SmallNet().eval(), ["red", "green", "blue"], transform
'''


def terminal(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    """`python -m xaihub ...` in a process of its own, as a person runs it."""
    own = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run(
        [sys.executable, "-m", "xaihub", *arguments],
        cwd=ROOT, env=own, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip


def page_facts(plan, classifier) -> tuple[dict[str, str], list[str]]:
    """Each fact of the page's status line, and its notices, as a visitor reads them."""
    html = status(plan, classifier)
    facts = {unescape(key): unescape(value) for key, value in re.findall("<dt>(.*?)</dt><dd>(.*?)</dd>", html)}
    return facts, [unescape(notice) for notice in re.findall("<li>(.*?)</li>", html)]


def assert_same_as_page(said: str, plan, classifier) -> None:
    facts, notices = page_facts(plan, classifier)
    assert len(facts) >= 8
    for name, value in facts.items():
        assert value in said, f"the page says {name}: {value}"
    for notice in notices:
        assert f"note: {notice}" in said


# The models in ../shared, where they are


@pytest.mark.skipif(not MODELS.is_dir(), reason="the pretrained weights in ../shared are not here")
@pytest.mark.parametrize("name", ["mobilenet_v2_1.0_224"])
def test_doctor_says_of_a_folder_what_the_page_says(name):
    done = terminal("doctor", str(MODELS / name))

    assert done.returncode == 0, done.stderr
    plan = preflight(MODELS / name)
    assert_same_as_page(done.stdout, plan, load_classifier(plan))
    assert "(proved: with its output cut off" in done.stdout


@pytest.mark.skipif(not MODELS.is_dir(), reason="the pretrained weights in ../shared are not here")
def test_doctor_says_of_a_network_of_ones_own_where_it_looks():
    done = terminal("doctor", "tests/resnet20.py:load", "--json", RESNET20=str(MODELS / "cifar10_resnet20"))

    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    layer = report["target layer"]
    assert (layer["name"], layer["grid"], layer["channels"], layer["proof"]) == ("layer3.2", [8, 8], 64, "bottleneck")
    assert (report["architecture"], report["parameters"], report["classes"]) == ("ResNet", 269_722, 10)
    assert report["preprocessing"] == "Compose, 32 x 32 pixels"


# A network of one's own


@pytest.fixture
def own(tmp_path):
    """A folder with `my_model.py`, and the network it imports from beside it."""
    source = (ROOT / "tests" / "toy_networks.py").read_text()
    start, end = source.index("class SmallNet"), source.index("class TokenNet")
    (tmp_path / "small.py").write_text(f"import torch\nfrom torch import Tensor, nn\n\n{source[start:end]}")
    (tmp_path / "my_model.py").write_text(OWN)
    yield tmp_path
    sys.path[:] = [path for path in sys.path if path != str(tmp_path)]
    sys.modules.pop("small", None)


def test_a_file_of_ones_own_is_run_and_its_network_examined(own):
    done = terminal("doctor", f"{own}/my_model.py:load")

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("my_model.py:load at ")
    assert "SmallNet (your own module), image-classification, 2,155 parameters, no licence stated" in done.stdout
    assert "picture: squashed to 32 x 32" in done.stdout
    assert "target layer: after (8 x 8 places, 16 channels, NCHW), bottleneck" in done.stdout


def test_a_file_of_ones_own_explains_a_picture(own, tmp_path, capsys):
    picture().save(tmp_path / "picture.png")

    assert main(["explain", f"{own}/my_model.py", str(tmp_path / "picture.png"), "--to", str(tmp_path / "why")]) == 0

    made = json.loads((tmp_path / "why" / "explanation.json").read_text())["provenance"]
    assert (made["model"], made["layer"]) == ("my_model.py:load", "after")
    assert capsys.readouterr().out.strip().endswith(str(tmp_path / "why"))


@pytest.fixture
def readme(tmp_path):
    """The README's `my_model.py`, in a folder of its own."""
    code = re.search(
        r"<!-- tested: my_model.py -->\n```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.S
    )
    (tmp_path / "my_model.py").write_text(code[1])
    yield tmp_path
    sys.path[:] = [path for path in sys.path if path != str(tmp_path)]


def test_the_readmes_file_of_ones_own_works_as_written(readme, capsys):
    from torchvision import models

    torch.manual_seed(0)
    (readme / "model.safetensors").write_bytes(tensors_of(models.squeezenet1_0(num_classes=2)))
    (readme / "config.json").write_text('{"id2label": {"0": "ant", "1": "bee"}}')

    assert main(["doctor", f"{readme}/my_model.py:load"]) == 0
    said = capsys.readouterr().out
    assert "SqueezeNet (your own module)" in said
    assert "2 classes (ant, bee), softmax" in said
    assert "Compose, 227 x 227 pixels" in said
    assert "(13 x 13 places" in said


@pytest.mark.skipif(not MODELS.is_dir(), reason="the pretrained weights in ../shared are not here")
def test_the_readmes_file_sees_in_real_weights_what_their_folder_shows(readme):
    folder = MODELS / "squeezenet1_0_deepcompression"
    for name in ("model.safetensors", "config.json"):
        (readme / name).symlink_to(folder / name)

    own, plan = load_own_module(f"{readme}/my_model.py:load"), preflight(folder)
    loaded = load_classifier(plan)
    assert own.target_layer.in_words == loaded.target_layer.in_words
    assert own.labels == loaded.labels
    torch.testing.assert_close(own.transform(picture()), loaded.transform(picture()), atol=1e-5, rtol=0)
    assert own.predict(picture()).probabilities == pytest.approx(loaded.predict(picture()).probabilities, abs=1e-5)


def test_its_revision_changes_with_its_weights_and_with_nothing_else(own):
    first, same = (load_own_module(f"{own}/my_model.py:load").revision for _ in range(2))
    (own / "my_model.py").write_text(OWN.replace("SmallNet()", "SmallNet(seed=1)"))

    assert first == same
    assert len(first) == 40
    assert load_own_module(f"{own}/my_model.py:load").revision != first


def test_a_function_may_return_a_classifier_and_the_layer_may_be_chosen(own):
    (own / "my_model.py").write_text(
        OWN + "\ndef mine():\n    from xaihub import Classifier\n    module, labels, see = load()\n"
        "    return Classifier.from_module(module, labels=labels, transform=see, repo_id='me/mine', revision='v1')\n"
    )

    classifier = load_own_module(f"{own}/my_model.py:mine")
    assert (classifier.repo_id, classifier.revision, classifier.target_layer.name) == ("me/mine", "v1", "after")
    for function in ("mine", "load"):
        chosen = load_own_module(f"{own}/my_model.py:{function}", target_layer="stem.2")
        assert (chosen.target_layer.name, chosen.target_layer.proof) == ("stem.2", "chosen")
    with pytest.raises(TargetLayerError, match="no layer 'nowhere'"):
        load_own_module(f"{own}/my_model.py:mine", target_layer="nowhere")


@pytest.mark.parametrize(
    ("source", "name", "words"),
    [
        ("", "", r"has no function 'load'. Write one that takes nothing and returns a Classifier"),
        ("load = 3", ":load", "has no function 'load'"),
        ("def load():\n    return 3", "", r"load\(\) in .* returned a int. It must return a Classifier, or a tuple"),
        (
            "import nothing_of_that_name",
            "",
            "It failed at line 1 with ModuleNotFoundError: No module named",
        ),
        ("\ndef load():\n    return 1 / 0", "", r"load\(\) failed at line 3 with ZeroDivisionError: division by zero"),
        ("def load(:", "", "It failed with SyntaxError"),
        (OWN.replace('"blue"]', '"blue", "grey"]'), "", "with ValueError: The network answers with 3 classes, but 4"),
    ],
)
def test_a_file_that_gives_no_classifier_is_refused_in_words(own, source, name, words, capsys):
    (own / "my_model.py").write_text(source)

    assert main(["doctor", f"{own}/my_model.py{name}"]) == 2
    assert re.search(words, capsys.readouterr().err)


def test_a_file_that_is_not_there_or_asked_for_a_revision_is_refused(own, capsys):
    assert main(["doctor", f"{own}/other.py:load"]) == 2
    assert "There is no file" in capsys.readouterr().err
    assert main(["doctor", f"{own}/my_model.py:load", "--revision", "main"]) == 2
    assert "is a file of your own: leave --revision out" in capsys.readouterr().err


@pytest.mark.parametrize("local", [True, False])
def test_no_id_reaches_a_file_of_ones_own(own, monkeypatch, local):
    """Only the terminal's commands look for one; the library and the page know folders and ids."""
    (own / "my_model.py").write_text("raise SystemExit('this was run')")
    monkeypatch.chdir(own)

    for name in ("my_model.py", "my_model.py:load", f"{own}/my_model.py:load", "./my_model.py"):
        with pytest.raises(XaihubError):
            preflight(name, local=local, token=False)


def test_what_is_a_file_of_ones_own_is_told_by_its_name():
    assert all(is_own_module(name) for name in ("my.py", "a/b.py:load", "~/x.py:load_it", "C:\\x\\my.py:load"))
    assert not any(is_own_module(name) for name in ("microsoft/resnet-18", "a/b.python", "my.py:not a name", "x.py:1"))
    with pytest.raises(UnsupportedModelError, match="does not name a Python file"):
        load_own_module("microsoft/resnet-18")


# What the report says


def test_doctor_says_of_a_model_of_the_hub_what_the_page_says(hub, tmp_path, capsys):
    files = files_of(build(TINY["vit"]), processor_of(TINY["vit"]), folder=tmp_path)
    unnamed = changed(files, id2label={str(i): f"LABEL_{i}" for i in range(3)})
    hub.add_files("alice/tiny", unnamed, tags=["license:mit"], pipeline_tag="image-classification")

    assert main(["doctor", "alice/tiny"]) == 0
    said = capsys.readouterr().out
    plan = preflight("alice/tiny", token=False)
    assert_same_as_page(said, plan, load_classifier(plan, token=False))
    assert "note: Its authors did not name its classes" in said


def test_every_method_is_listed_as_one_that_can_run_or_with_the_reason_why_not():
    report = examine(classifier_of(SmallNet()))

    assert sorted([*report["methods"], *report["methods that cannot run"]]) == sorted(METHODS)
    assert "gradcam" in report["methods"]
    assert report["methods that cannot run"]["twins"] == "It needs references: labelled pictures to search."
    searching = "twins, lookalikes, counterfactuals, semifactuals, swap"
    assert f"not by {searching}: It needs references" in "\n".join(told(report))


def test_a_classifier_without_a_layer_says_why_and_what_is_left():
    class Flat(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = torch.nn.Linear(3 * 32 * 32, 3)

        def forward(self, pixels):
            return self.head(pixels.flatten(1))

    classifier = classifier_of(Flat())
    said = "\n".join(told(examine(classifier)))

    assert classifier.no_layer
    assert f"no target layer: {classifier.no_layer}" in said
    assert "occlusion" in examine(classifier)["methods"], "it needs no layer"


def test_what_a_stranger_named_cannot_move_the_cursor():
    evil = replace(classifier_of(SmallNet()), labels=("\x1b[2Jcat\r", "dog\n", "hen\u202e"))

    lines = told(examine(evil))
    assert all(line.isprintable() for line in lines)
    assert any("[2Jcat" in line for line in lines)


def test_a_network_that_carries_an_adapter_is_said_to():
    classifier = classifier_of(SmallNet())
    classifier.module.peft_config = {"default": type("Config", (), {"peft_type": "LORA"})()}

    assert "  adapter: LoRA" in told(examine(classifier))
