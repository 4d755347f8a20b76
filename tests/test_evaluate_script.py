"""scripts/evaluate.py: a page and tables in a folder, a dataset on the Hub that grows, and a section of a card."""

import csv
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from datasets import load_dataset
from huggingface_hub import DatasetCard, ModelCard
from test_explanations_evaluated import SPOTS, spot
from tiny_models import TINY, TOKEN, build, picture, processor_of

from xaihub.cards.evaluation import with_explanations
from xaihub.evaluating.tables import COLUMNS, read_rows

sys.path.insert(0, str(Path(__file__).parents[1]))

from scripts.evaluate import main

FEW = ["--methods", "gradcam", "--metrics", "deletion:steps=3", "insertion:steps=3", "insertion-deletion:steps=3"]
CARD = "---\nlicense: mit\ntags:\n- mine\n---\n# My model\n\nWords of mine.\n"


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny-resnet"
    build(TINY["resnet"]).save_pretrained(folder)
    processor_of(TINY["resnet"]).save_pretrained(folder)
    (folder / "README.md").write_text(CARD)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "spots"
    (folder / "some").mkdir(parents=True)
    for i, place in enumerate(SPOTS):
        spot(*place, seed=i).save(folder / "some" / f"{i}.png")
    return folder


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XAIHUB_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def account(hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub.add_user("alice", token=TOKEN)
    return hub


def run(*arguments) -> int:
    return main([str(argument) for argument in arguments])


def test_a_folder_gets_the_page_and_the_tables(model, data, tmp_path, capsys):
    to = tmp_path / "results"

    assert run("--model", model, "--data", data, *FEW, "--to", to) == 0

    printed = capsys.readouterr().out.splitlines()
    assert printed[-1] == str(to)
    assert {str(path.relative_to(to)) for path in to.rglob("*") if path.is_file() and path.parent == to} == {
        "README.md", "evaluation.json", "report.html", "scores.csv", "scores.md",
    }  # fmt: skip
    (parquet,) = (to / "data").iterdir()
    rows = read_rows(parquet)
    with (to / "scores.csv").open(newline="") as stream:
        typed = list(csv.DictReader(stream))
    assert list(rows[0]) == list(typed[0]) == list(COLUMNS)
    assert {(row["metric"], row["method"]) for row in rows} == {
        (metric, method)
        for metric in ("deletion", "insertion", "insertion-deletion")
        for method in ("gradcam", "random", "centre", "edges")
    }
    for row, text in zip(rows, typed, strict=True):
        assert float(text["value"]) == row["value"]
        assert row["low"] <= row["value"] <= row["high"]
        assert row["n"] == 5
        assert (row["model"], row["dataset"], json.loads(row["settings"])) == ("tiny-resnet", "spots", {"steps": 3})
    mine = next(row for row in rows if (row["metric"], row["method"]) == ("deletion", "gradcam"))
    assert mine["gain_over_random"] == pytest.approx(mine["value_random"] - mine["value"])
    assert str(model.parent) not in "".join(path.read_text("utf-8") for path in to.glob("*.csv"))
    told = json.loads((to / "evaluation.json").read_text())
    assert told["models"][0]["pictures"] == "5 of spots"
    assert "scripts/evaluate.py --model" in told["command"]


def test_a_limit_draws_the_same_pictures_and_a_run_that_goes_on_gives_the_same_table(model, data, tmp_path):
    tables = []
    for name in ("one", "two"):
        assert run("--model", model, "--data", data, "--limit", 3, *FEW, "--to", tmp_path / name) == 0
        tables.append([row | {"made": ""} for row in read_rows(next((tmp_path / name / "data").iterdir()))])
    assert tables[0] == tables[1]
    assert tables[0][0]["n"] == 3


def test_a_folder_of_pictures_needs_no_class_folders(model, data, tmp_path, capsys):
    flat, boxes = tmp_path / "photos", tmp_path / "boxes.csv"
    shutil.copytree(data / "some", flat)
    boxes.write_text("file,classes,x0,y0,x1,y1\n0.png,1,0,0,9,9\n")
    for name, more in (("all", []), ("some", ["--limit", 3]), ("boxed", ["--boxes", boxes])):
        assert run("--model", model, "--data", flat, *FEW, *more, "--to", tmp_path / name) == 0

    told = {
        name: json.loads((tmp_path / name / "evaluation.json").read_text())["models"][0]["pictures"]
        for name in ("all", "some", "boxed")
    }
    assert told["all"] == "5 of photos"
    assert told["some"].startswith("3 of photos")
    assert told["boxed"] == "1 of photos; those that have a box, 1 of 5"
    capsys.readouterr()
    for more, words in (
        (["--limit", 0], "A limit of 0 pictures leaves none"),
        (["--split", "test"], "has no split 'test'. It is a folder of pictures"),
        (["--seed", -1], "No random numbers start from the seed -1"),
        (["--metrics", "deletion:steps=-3"], "steps must be a whole number of 1 or more"),
    ):
        assert run("--model", model, "--data", flat, *FEW, *more, "--to", tmp_path / "refused") == 2
        assert words in capsys.readouterr().err
    assert not (tmp_path / "refused").exists()


def test_a_folder_without_pictures_is_refused(model, tmp_path, capsys):
    (tmp_path / "none").mkdir()

    assert run("--model", model, "--data", tmp_path / "none", *FEW, "--to", tmp_path / "to") == 2

    assert "holds no pictures (.avif" in capsys.readouterr().err


def test_few_pictures_settle_nothing_in_any_of_the_texts(model, data, tmp_path, capsys):
    assert run("--model", model, "--data", data, *FEW, "--to", tmp_path / "to") == 0

    printed = capsys.readouterr().out
    assert "Grad-CAM: 5 pictures are too few to tell whether it is better than random" in printed
    for name in ("scores.md", "report.html"):
        text = (tmp_path / "to" / name).read_text("utf-8")
        assert "Some means here are of fewer than 10 pictures, the fewest of 5" in text
        assert "too few pictures to tell" in text
        assert "**0" not in text
        assert "Grad-CAM is better" not in text


def test_boxes_are_those_of_the_original_picture(model, data, tmp_path):
    boxes = tmp_path / "boxes.csv"
    lines = [f"some/{i}.png,{1 + i % 2} 2,{c},{r},{c + 8},{r + 8}" for i, (r, c) in enumerate(SPOTS[:3])]
    boxes.write_text("\n".join(["file,classes,x0,y0,x1,y1", *lines, "some/0.png,cat,0,0,4,4"]) + "\n")

    given = ["--methods", "gradcam", "--metrics", "pointing-game", "energy-pointing-game", "--boxes", boxes]
    assert run("--model", model, "--data", data, *given, "--to", tmp_path / "to") == 0

    rows = read_rows(next((tmp_path / "to" / "data").iterdir()))
    told = json.loads((tmp_path / "to" / "evaluation.json").read_text())["models"][0]
    assert {row["n"] for row in rows} == {4}, "three pictures, one of them asked about two things"
    assert told["pictures"].startswith("3 of spots, about which 4 questions were asked; those that have a box, 3 of 5")
    centre = next(row for row in rows if (row["metric"], row["method"]) == ("energy-pointing-game", "centre"))
    assert 0 < centre["value"] < 0.2, "squares off the middle"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("file,x0,y0,x1,y1\n", "has no column 'classes'"),
        ("file,classes,x0,y0,x1,y1\n", "holds no boxes"),
        ("file,classes,x0,y0,x1,y1\nsome/0.png,1,0,0,a,9\n", "line 2: the corners"),
        ("file,classes,x0,y0,x1,y1\nsome/0.png,1,9,0,3,9\n", "from 9, 0 to 3, 9 holds nothing"),
        ("file,classes,x0,y0,x1,y1\nother.png,1,0,0,3,9\n", "calls its own 'some/0.png'"),
    ],
)
def test_boxes_that_cannot_be_used_are_refused_with_the_line(model, data, tmp_path, capsys, text, words):
    (tmp_path / "boxes.csv").write_text(text)

    assert run("--model", model, "--data", data, "--boxes", tmp_path / "boxes.csv", "--to", tmp_path / "to") == 2

    assert words in capsys.readouterr().err
    assert not (tmp_path / "to").exists()


def test_a_dataset_on_the_hub_grows_with_every_model(account, model, data, tmp_path):
    other = tmp_path / "other-resnet"
    build(TINY["resnet"], hidden_sizes=[8, 10]).save_pretrained(other)
    processor_of(TINY["resnet"]).save_pretrained(other)
    for one in (model, other, model):
        assert run("--model", one, "--data", data, *FEW, "--to", "alice/results") == 0

    repo = account.repo("alice/results", "dataset")
    assert repo.private
    files = repo.head.files
    assert len([path for path in files if path.startswith("data/")]) == 2, "the third run replaced the first"
    rows = load_dataset("alice/results", split="train", token=TOKEN)
    assert set(rows["model"]) == {"tiny-resnet", "other-resnet"}
    assert rows.num_rows == 2 * 12
    card = DatasetCard(files["README.md"].content.decode())
    assert card.data.tags == ["xaihub", "explainability", "evaluation", "leaderboard"]
    assert "explanations of 2 image classifiers" in card.text
    assert card.text.count("| tiny-resnet |") == card.text.count("| other-resnet |") == 12


def test_a_dry_run_lists_everything_and_sends_nothing(account, model, data, capsys):
    assert run("--model", model, "--data", data, *FEW, "--to", "alice/results", "--dry-run", "--cards") == 0

    printed = capsys.readouterr().out
    assert "report.html" in printed
    assert "A dry run: nothing was written to alice/results." in printed
    assert "How far its explanations can be relied on" in printed
    assert ("dataset", "alice/results") not in account.repos
    assert "relied on" not in (model / "README.md").read_text()


def test_the_models_own_card_keeps_a_strangers_words_and_one_section_of_ours(account, model, data, tmp_path):
    account.add_folder("alice/tiny-resnet", model, private=True)
    for _ in range(2):
        given = ["--model", "alice/tiny-resnet", "--data", data, *FEW, "--to", "alice/results", "--cards"]
        assert run(*given) == 0

    repo = account.repo("alice/tiny-resnet")
    card = ModelCard(repo.head.files["README.md"].content.decode())
    assert card.data.license == "mit"
    assert card.data.tags == ["mine"]
    assert card.text.startswith("# My model\n\nWords of mine.\n\n")
    assert card.text.count("## How far its explanations can be relied on") == 1
    assert "the dataset `alice/results`" in card.text
    assert "| gradcam |" in card.text
    assert repo.private
    assert set(repo.head.files) >= {"model.safetensors", "config.json"}


def test_a_section_stands_where_the_last_one_stood():
    once = with_explanations("---\nlicense: mit\n---\n# Mine\n\nBefore.\n", "First.")
    again = with_explanations(once + "\nAfter.\n", "Second.")

    assert again.startswith("---\nlicense: mit\n---\n# Mine\n\nBefore.\n\n<!--")
    assert "First." not in again
    assert again.index("Second.") < again.index("After.")


def test_pictures_that_not_everybody_may_see_stay_out_of_a_page_on_the_hub(account, model, data, tmp_path):
    for name, private in (("alice/open", False), ("alice/closed", True)):
        account.add_folder(name, data, repo_type="dataset", private=private)
    pages = {}
    for name, source in (("open", "alice/open"), ("closed", "alice/closed"), ("mine", str(data))):
        assert run("--model", model, "--data", source, *FEW, "--to", f"alice/{name}-results") == 0
        pages[name] = account.repo(f"alice/{name}-results", "dataset").head.files["report.html"].content.decode()
    assert "data:image/jpeg" in pages["open"]
    assert "data:image" not in pages["closed"]
    assert "data:image" not in pages["mine"]  # a folder of one's own


def test_twins_and_counterfactuals_are_measured_where_there_are_references(model, data, tmp_path):
    from xaihub import build_references, load_classifier
    from xaihub.datasets import from_pairs

    rows = from_pairs("noise", [(str(i), "none", picture(seed=i)) for i in range(24)])
    build_references(load_classifier(str(model)), rows, fidelity=False).save(tmp_path / "references")
    given = ["--methods", "twins", "counterfactuals", "--references", tmp_path / "references"]

    assert run("--model", model, "--data", data, *given, "--to", tmp_path / "to") == 0

    held = {(row["metric"], row["method"]): row for row in read_rows(next((tmp_path / "to" / "data").iterdir()))}
    assert {metric for metric, method in held if method == "twins"} == {
        "agreement@1", "agreement@3", "agreement@5", "probability-error",
    }  # fmt: skip
    assert 0 <= held["probability-error", "twins"]["value"] <= 1
    assert np.isnan(held["agreement@1", "twins"]["gain_over_random"] or np.nan)
    assert "Agreement of the nearest 3" in (tmp_path / "to" / "report.html").read_text()
