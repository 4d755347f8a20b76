"""`python -m xaihub`: what a terminal shows, what it writes, and how it says no."""

import json

import numpy as np
import pytest

from xaihub.__main__ import main
from xaihub.loading import STARTER_FOLDER
from xaihub.synthetic import draw_pet

MODEL = "xaihub/paper-pets"


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "pet.png"
    draw_pet("rabbit", 4321).image.save(path)
    return str(path)


def test_explain_writes_a_folder_and_prints_its_place_last(picture, tmp_path, capsys):
    to = tmp_path / "why"
    assert main(["explain", MODEL, picture, "--references", MODEL, "--to", str(to)]) == 0
    lines = capsys.readouterr().out.strip().splitlines()
    assert lines[-1] == str(to)
    assert "rabbit" in lines[0]
    record = json.loads((to / "explanation.json").read_text())
    assert record["prediction"]["label"] == "rabbit"
    assert record["provenance"]["model"] == MODEL
    assert record["provenance"]["layer"]
    assert set(record["evidence"]) >= {
        "gradcam",
        "hirescam",
        "layercam",
        "gradcam++",
        "xgradcam",
        "twins",
        "counterfactuals",
    }
    heatmap = np.load(to / "gradcam-heatmap.npy", allow_pickle=False)
    assert heatmap.max() == pytest.approx(1)
    assert (to / record["evidence"]["twins"][2]["files"]["image"]).is_file()


def test_explain_obeys_method_target_and_layer(picture, tmp_path):
    to = tmp_path / "why"
    assert main(["explain", MODEL, picture, "--method", "layercam", "--target", "dog", "--to", str(to)]) == 0
    record = json.loads((to / "explanation.json").read_text())
    assert list(record["evidence"]) == ["layercam"]
    assert record["target"]["label"] == "dog"


def test_references_may_be_a_folder_of_pictures(picture, tmp_path):
    for label in ("cat", "dog"):
        (tmp_path / "pets" / label).mkdir(parents=True)
        for seed in range(4):
            draw_pet(label, seed).image.save(tmp_path / "pets" / label / f"{seed}.png")
    to = tmp_path / "why"
    arguments = ["explain", MODEL, picture, "--references", str(tmp_path / "pets"), "--limit", "6", "--to", str(to)]
    assert main([*arguments, "--method", "counterfactuals"]) == 0
    record = json.loads((to / "explanation.json").read_text())
    assert {row["facts"]["label"] for row in record["evidence"]["counterfactuals"]} <= {"cat", "dog"}
    assert record["evidence"]["counterfactuals"]


def test_doctor_tells_the_layer_and_its_proof(capsys):
    assert main(["doctor", MODEL]) == 0
    told = capsys.readouterr().out
    assert "target layer" in told
    assert "bottleneck" in told
    assert "proved" in told


def test_doctor_speaks_json(capsys):
    assert main(["doctor", str(STARTER_FOLDER / "classifier"), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["target layer"]["proof"] == "bottleneck"
    assert report["library"] == "transformers"
    assert report["classes"] == len(report["first classes"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["doctor", "nobody/nothing"], "There is no model 'nobody/nothing'"),
        (["doctor", "torchvision/resnet19"], "torchvision has no classifier 'resnet19'. Did you mean"),
        (["explain", MODEL, "no.png", "--to", "x"], "There is no file 'no.png'"),
        (["explain", MODEL, "PICTURE", "--method", "gradcan", "--to", "x"], "Did you mean 'gradcam'"),
        (["explain", MODEL, "PICTURE", "--target", "rabit", "--to", "x"], "Did you mean 'rabbit'"),
        (["explain", MODEL, "PICTURE", "--layer", "nowhere", "--to", "x"], "no layer 'nowhere'"),
    ],
)
def test_an_error_is_a_sentence_and_exit_code_2(arguments, words, picture, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert main([picture if argument == "PICTURE" else argument for argument in arguments]) == 2
    told = capsys.readouterr()
    assert words in told.err
    assert told.out == ""
    assert not (tmp_path / "x").exists()
