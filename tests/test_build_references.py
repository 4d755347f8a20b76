"""scripts/build_references.py: from a classifier and a dataset, both by id, to references with a card; and refusals."""

import importlib.util
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest
from tiny_datasets import push_rows

from xaihub import explain, load_classifier, load_references
from xaihub.errors import ReferencesMismatchError
from xaihub.loading import STARTER_FOLDER
from xaihub.synthetic import paper_pets

ROOT = Path(__file__).parents[1]
KILLS = int(os.environ.get("XAIHUB_KILLS", "3"))
PETS = ["cat", "dog", "fox", "mouse", "rabbit"]


@pytest.fixture
def main(monkeypatch, tmp_path):
    monkeypatch.setenv("XAIHUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_TOKEN", "hf_alice")
    spec = importlib.util.spec_from_file_location("script_build_references", ROOT / "scripts" / "build_references.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return lambda *arguments: module.main([str(argument) for argument in arguments])


def pets(count: int, seed: int):
    return list(paper_pets(count, seed=seed, size=161))


@pytest.fixture
def drawn(hub) -> str:
    """A private dataset of drawings on the Hub."""
    import datasets

    found = pets(15, seed=3)
    columns = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=PETS)})
    rows = {"image": [pet.image for pet in found], "label": [pet.label for pet in found]}
    push_rows(hub, "alice/drawn", rows, columns, private=True)
    return "alice/drawn"


def test_references_come_back_by_id_beside_the_classifier_they_were_built_for(hub, drawn, main, capsys):
    hub.add_folder("alice/pets", STARTER_FOLDER / "classifier")
    assert main("--model", "alice/pets", "--data", drawn, "--to", "alice/pets-references") == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"{hub.endpoint}/datasets/alice/pets-references"

    classifier, references = load_classifier("alice/pets"), load_references("alice/pets-references")
    assert len(references) == 15
    assert references.made.dataset_revision == hub.repo(drawn, "dataset").head.sha
    shown = explain(classifier, pets(1, seed=4)[0].image, ["twins", "counterfactuals"], references=references)
    assert len(shown["twins"]) >= 1
    card = bytes(hub.repo("alice/pets-references", "dataset").head.files["README.md"].content).decode()
    for said in ("alice/pets", drawn, classifier.revision, "labelled pictures as their label does", "rows.parquet"):
        assert said in card
    assert 'load_references("alice/pets-references")' in card


def test_a_new_card_of_the_model_does_not_part_it_from_its_references(hub, drawn, main, tmp_path):
    hub.add_folder("alice/pets", STARTER_FOLDER / "classifier")
    assert main("--model", "alice/pets", "--data", drawn, "--to", tmp_path / "references") == 0
    references = load_references(tmp_path / "references")
    hub.add_files("alice/pets", {"README.md": b"---\nlicense: mit\n---\n# Another card\n"})
    again = load_classifier("alice/pets")
    assert again.revision != references.made.classifier_revision
    references.check(again)

    import torch

    with torch.no_grad():
        next(again.module.parameters()).add_(1e-3)
    again.__dict__.pop("fingerprint", None)
    with pytest.raises(ReferencesMismatchError, match="build references for this classifier"):
        references.check(again)


def test_building_twice_gives_the_same_bytes(main, tmp_path):
    for pet in pets(10, seed=5):
        (tmp_path / "data" / pet.label).mkdir(parents=True, exist_ok=True)
        pet.image.save(tmp_path / "data" / pet.label / f"{pet.seed}.png")
    for to in ("a", "b"):
        given = ("--model", STARTER_FOLDER / "classifier", "--data", tmp_path / "data", "--to", tmp_path / to)
        assert main(*given, "--batch", 4) == 0
    for file in ("references.json", "embeddings.safetensors", "rows.parquet"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    record = json.loads((tmp_path / "a" / "references.json").read_text())
    assert len(record["made"]["weights"]) == 64


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--data", "alice/drawn", "--public"), "alice/drawn is private or gated, and references hold copies"),
        (("--data", "alice/nothing"), "There is no dataset 'alice/nothing'"),
        (("--data", "alice/drawn", "--split", "moon"), "has no split 'moon'"),
        (("--data", "alice/drawn", "--limit", 0), "A limit of 0 pictures leaves none to read"),
        (("--data", "alice/drawn", "--batch", 0), "A batch of 0 pictures embeds none"),
        (("--data", "alice/drawn", "--embedder", "smell"), "smell"),
        (("--data", "alice/drawn", "--layer", "roof"), "roof"),
    ],
)
def test_bad_input_is_a_sentence_and_nothing_is_published(hub, drawn, main, capsys, arguments, said):
    hub.add_folder("alice/pets", STARTER_FOLDER / "classifier")
    assert main("--model", "alice/pets", "--to", "alice/refused", *arguments) == 2
    assert said in capsys.readouterr().err
    assert ("dataset", "alice/refused") not in hub.repos


def test_its_help_is_its_docstring(main, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["build_references.py"])
    with pytest.raises(SystemExit):
        main("--help")
    assert "searched for twins and counterfactuals" in capsys.readouterr().out


def test_killed_at_any_moment_it_leaves_nothing_or_everything_and_the_next_run_ends_the_same(main, tmp_path):
    for pet in pets(40, seed=6):
        (tmp_path / "data" / pet.label).mkdir(parents=True, exist_ok=True)
        pet.image.save(tmp_path / "data" / pet.label / f"{pet.seed}.png")
    given = ["--model", str(STARTER_FOLDER / "classifier"), "--data", str(tmp_path / "data"), "--batch", "2"]
    assert main(*given, "--to", tmp_path / "whole") == 0
    assert _run_forked(["--help"]) == 0  # starts the server of processes, which takes longer than the work
    started = time.monotonic()
    assert _run_forked([*given, "--to", str(tmp_path / "again")]) == 0
    takes = time.monotonic() - started
    shutil.rmtree(tmp_path / "again")
    whole = _contents(tmp_path / "whole")
    chance, statuses = random.Random(0), []
    for _ in range(KILLS):
        shutil.rmtree(tmp_path / "killed", ignore_errors=True)
        statuses.append(_run_forked([*given, "--to", str(tmp_path / "killed")], kill_after=chance.uniform(0, takes)))
        left = _contents(tmp_path / "killed")
        assert left in ({}, _renamed(whole))
        assert main(*given, "--to", tmp_path / "killed") == 0
        assert _contents(tmp_path / "killed") == _renamed(whole)
        assert sorted(os.listdir(tmp_path)) == ["data", "killed", "whole"], "no draft is left"
    assert -signal.SIGKILL in statuses


def _renamed(contents: dict[str, bytes]) -> dict[str, bytes]:
    """The card calls the references by the name of their folder."""
    return {name: data.replace(b"/whole", b"/killed") for name, data in contents.items()}


def _contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()} if folder.exists() else {}


def _run_forked(arguments: list[str], kill_after: float | None = None) -> int:
    """The status of a process that ran the script, killed outright after so many seconds."""
    context = multiprocessing.get_context("forkserver")  # its children begin with torch imported, but never used
    context.set_forkserver_preload(
        [
            "torch",
            "torchvision",
            "transformers.models.resnet.modeling_resnet",
            "xaihub.building",
            "xaihub.families",
            "xaihub.terminal",
        ]
    )
    process = context.Process(target=_script, args=(arguments,))
    process.start()
    process.join(kill_after)
    if process.is_alive() and kill_after is not None:
        process.kill()
    process.join()
    return process.exitcode


def _script(arguments: list[str]) -> None:
    sys.path.insert(0, str(ROOT / "scripts"))
    import build_references

    sys.exit(build_references.main(arguments))
