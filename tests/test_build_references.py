"""scripts/build_references.py: from a classifier and a dataset, both by id, to references with a card; and refusals."""

import importlib.util
import json
import multiprocessing
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from killing import dies, moments
from tiny_datasets import push_rows

from xaihub import explain, load_classifier, load_references
from xaihub.building import filled
from xaihub.errors import HubError, ReferencesError, ReferencesMismatchError
from xaihub.images import pixel_digest
from xaihub.loading import STARTER_FOLDER
from xaihub.synthetic import paper_pets

ROOT = Path(__file__).parents[1]
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


def folder_of(found, folder: Path) -> Path:
    for pet in found:
        (folder / pet.label).mkdir(parents=True, exist_ok=True)
        pet.image.save(folder / pet.label / f"{pet.seed}.png")
    return folder


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
    assert "agreement@1" in card


def test_pictures_of_a_private_dataset_stay_there_and_those_who_may_read_it_see_them(hub, drawn, main, monkeypatch):
    hub.add_folder("alice/pets", STARTER_FOLDER / "classifier")
    hub.add_user("bob", token="hf_bob")
    given = ("--model", "alice/pets", "--data", drawn, "--no-fidelity")
    assert main(*given, "--to", "alice/shown", "--public") == 0
    published = hub.repo("alice/shown", "dataset").head.files
    assert json.loads(bytes(published["references.json"].content))["pictures"] is False
    assert "its pictures are not passed on" in bytes(published["README.md"].content).decode()

    monkeypatch.setenv("HF_TOKEN", "hf_bob")
    classifier, references = load_classifier("alice/pets"), load_references("alice/shown")
    assert references.sources[3] == (
        f"https://huggingface.co/datasets/{drawn}/viewer/default/train?row={references.keys[3].split('/')[1]}"
    )
    with pytest.raises(ReferencesError, match="since alice/drawn is not public"):
        references.picture(3)
    with pytest.raises(HubError):
        filled(references, classifier)
    seen = filled(references, classifier, token="hf_alice")
    assert pixel_digest(classifier.transform.view(seen.picture(3)).image) != "", "it is a picture again"
    assert filled(seen, classifier, token="hf_bob") is seen, "nobody is asked once they are there"

    swapped = replace(references, hashes=~references.hashes, digests=["0" * 64] * len(references))
    with pytest.raises(ReferencesError, match="is not the picture that was embedded"):
        filled(swapped, classifier, token="hf_alice").picture(3)


def test_several_embedders_share_a_pass_and_lie_beside_each_other(main, tmp_path):
    data = folder_of(pets(10, seed=5), tmp_path / "data")
    given = ("--model", STARTER_FOLDER / "classifier", "--data", data, "--to", tmp_path / "made", "--no-fidelity")
    assert main(*given, "--embedder", "contribution", "--embedder", "target-layer") == 0
    assert sorted(os.listdir(tmp_path / "made")) == [
        "README.md", "embeddings-target-layer.safetensors", "embeddings.safetensors", "references.json", "rows.parquet",
    ]  # fmt: skip
    references = load_references(tmp_path / "made")
    assert list(references.spaces) == ["contribution", "target-layer"]
    assert references.spaces["contribution"].weighted
    assert references.made.classifier == "classifier", "where the folder lies is nobody's business"
    for file in ("references.json", "README.md"):
        assert str(STARTER_FOLDER) not in (tmp_path / "made" / file).read_text()


def test_parts_that_any_scheduler_ran_become_the_same_references(main, tmp_path, capsys):
    data = folder_of(pets(20, seed=7), tmp_path / "data")
    given = ("--model", STARTER_FOLDER / "classifier", "--data", data, "--shard-rows", 8, "--batch", 4, "--no-fidelity")
    assert main(*given, "--to", tmp_path / "whole") == 0
    merge = (*given, "--to", tmp_path / "merged", "--merge")
    assert main(*given, "--to", tmp_path / "merged", "--shard", "2/2") == 0
    assert "1 of 3 shards written to" in capsys.readouterr().out
    assert main(*merge) == 2
    assert "2 of 3 shards are missing" in capsys.readouterr().err
    assert main(*given, "--to", tmp_path / "merged", "--shard", "1/2") == 0
    assert "all are there: run the same command with --merge" in capsys.readouterr().out
    assert main(*merge) == 0
    assert _contents(tmp_path / "merged") == _renamed(_contents(tmp_path / "whole"), "merged")
    assert not list((tmp_path / "cache" / "references").iterdir()), "what is delivered needs no shards"


@pytest.mark.skipif("XAIHUB_SLOW" not in os.environ, reason="Ray takes half a minute to begin: set XAIHUB_SLOW=1")
def test_two_workers_of_ray_give_the_same_bytes(main, tmp_path, monkeypatch):
    pytest.importorskip("ray")
    data = folder_of(pets(20, seed=7), tmp_path / "data")
    given = ("--model", STARTER_FOLDER / "classifier", "--data", data, "--shard-rows", 8, "--batch", 4, "--no-fidelity")
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as many as a worker has: else the last digits may differ
    try:
        assert main(*given, "--to", tmp_path / "whole") == 0
    finally:
        torch.set_num_threads(threads)
    assert main(*given, "--to", tmp_path / "rays", "--ray", 2) == 0
    assert _contents(tmp_path / "rays") == _renamed(_contents(tmp_path / "whole"), "rays")


def test_without_ray_its_extra_is_named(main, tmp_path, monkeypatch, capsys):
    data = folder_of(pets(5, seed=7), tmp_path / "data")
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main("--model", STARTER_FOLDER / "classifier", "--data", data, "--to", tmp_path / "made", "--ray") == 2
    assert "pip install 'xaihub[ray]'" in capsys.readouterr().err


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
    folder_of(pets(10, seed=5), tmp_path / "data")
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
        (("--data", "alice/nothing"), "There is no dataset 'alice/nothing'"),
        (("--data", "alice/drawn", "--split", "moon"), "has no split 'moon'"),
        (("--data", "alice/drawn", "--limit", 0), "A limit of 0 pictures leaves none to read"),
        (("--data", "alice/drawn", "--batch", 0), "A batch of 0 pictures embeds none"),
        (("--data", "alice/drawn", "--shard-rows", 0), "A shard of 0 rows holds none"),
        (("--data", "alice/drawn", "--merge"), "1 of 1 shards are missing"),
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
    folder_of(pets(40, seed=6), tmp_path / "data")
    given = ["--model", str(STARTER_FOLDER / "classifier"), "--data", str(tmp_path / "data"), "--batch", "2"]
    given += ["--shard-rows", "8", "--no-fidelity"]
    context = _server()
    for moment in moments(context, _script, ([*given, "--to", str(tmp_path / "whole")],), tmp_path, seed=0):
        whole = _contents(tmp_path / "whole")
        assert dies(context, _script, ([*given, "--to", str(tmp_path / "killed")],), tmp_path, moment)
        assert _contents(tmp_path / "killed") in ({}, _renamed(whole))
        assert main(*given, "--to", tmp_path / "killed") == 0
        assert _contents(tmp_path / "killed") == _renamed(whole)
        assert sorted(os.listdir(tmp_path)) == ["cache", "data", "killed", "whole"], "no draft is left"
        assert not list((tmp_path / "cache" / "references").iterdir()), "nor any shard"
        shutil.rmtree(tmp_path / "killed")


def _renamed(contents: dict[str, bytes], name: str = "killed") -> dict[str, bytes]:
    """The card calls the references by the name of their folder."""
    old, new = b'("whole")', f'("{name}")'.encode()
    return {file: data.replace(old, new) for file, data in contents.items()}


def _contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()} if folder.exists() else {}


def _server():
    """A server of processes: they begin with torch imported, but never used."""
    context = multiprocessing.get_context("forkserver")
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
    return context


def _script(arguments: list[str]) -> None:
    sys.path.insert(0, str(ROOT / "scripts"))
    import build_references

    assert build_references.main(arguments) == 0
