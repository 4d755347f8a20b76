"""scripts/build_dataset.py end to end: real clients, a pipeline pulled by its id, and what a stranger then reads."""

import io
import json
import multiprocessing
import os
import resource
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from killing import dies, moments
from PIL import Image
from tiny_datasets import TOKEN, push_rows, write
from tiny_pipelines import add_pipeline, ddpm

from xaihub import open_dataset

ROOT = Path(__file__).parents[1]
STUDENTS = ROOT.parent / "shared" / "data" / "cats_real_fake" / "train"
sys.path.insert(0, str(ROOT / "scripts"))

import build_dataset  # noqa: E402


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XAIHUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def noise(seed: int, width: int = 80, height: int = 60) -> bytes:
    coarse = np.random.default_rng(seed).integers(0, 255, (6, 6, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
def folders(here) -> list[str]:
    write(here / "A", {f"{i}.png": noise(i) for i in range(8)})
    write(here / "B", {f"{i}.png": noise(100 + i, 64, 64) for i in range(8)})
    return ["--real", "A", "--generated", "B", "--size", "48"]


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def head(text: str) -> dict:
    from huggingface_hub import DatasetCard

    return DatasetCard(text).data.to_dict()


# Folders


def test_two_folders_become_a_dataset_folder_and_its_place_is_printed_last(folders, here, capsys):
    assert build_dataset.main([*folders, "--split", "train=1", "--to", "D1"]) == 0

    assert capsys.readouterr().out == "train: 8 real, 8 generated\nD1\n"
    assert sorted(content(here / "D1")) == ["README.md", "data/train-00000-of-00001.parquet", "dataset.json"]
    assert len(open_dataset(here / "D1")) == 16
    assert open_dataset(here / "D1").label_names == ("real", "generated")
    before = content(here / "D1")
    assert build_dataset.main([*folders, "--split", "train=1", "--to", "D1"]) == 0
    assert content(here / "D1") == before


def test_the_datasets_library_reads_the_folder_by_its_card(folders, here):
    from datasets import disable_progress_bars, load_dataset

    disable_progress_bars()
    build_dataset.main([*folders, "--to", "D"])

    theirs = load_dataset(str(here / "D"))

    assert {name: len(rows) for name, rows in theirs.items()} == {"train": 12, "validation": 2, "test": 2}
    assert theirs["test"].features["label"].names == ["real", "generated"]
    ours = [(row.label, row.picture.tobytes()) for row in open_dataset(here / "D", split="test")]
    assert [
        (theirs["test"].features["label"].int2str(row["label"]), row["image"].tobytes()) for row in theirs["test"]
    ] == ours


def test_a_second_dataset_can_be_kept_free_of_the_firsts_pictures(folders, here):
    write(here / "A2", {"new.png": noise(50), "old.png": noise(3, 160, 120)})  # an old one, at twice the size
    write(here / "B2", {"new.png": noise(51, 64, 64)})
    build_dataset.main([*folders, "--split", "train=1", "--to", "D1"])

    options = ["--size", "48", "--split", "test=1", "--not-in", "D1", "--to", "D2"]
    assert build_dataset.main(["--real", "A2", "--generated", "B2", *options]) == 0

    report = json.loads((here / "D2" / "dataset.json").read_text("utf-8"))
    assert report["splits"] == {"test": {"real": 1, "generated": 1}}
    assert [one["key"] for one in report["dropped"]] == ["old.png"]
    assert report["dropped"][0]["why"].startswith("A copy, or nearly, of train/")


def test_other_names_and_five_pictures_will_do(folders, here):
    assert build_dataset.main([*folders, "--names", "cat", "dog", "--count", "5", "--to", "D"]) == 0

    report = json.loads((here / "D" / "dataset.json").read_text("utf-8"))
    assert report["classes"] == ["cat", "dog"]
    assert report["splits"]["train"] == {"cat": 3, "dog": 3}
    assert report["sources"][0]["note"] == "5 of 8 pictures, drawn evenly from the classes"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--real", "nowhere"], "nowhere"),
        (["--real", "empty"], "'empty' holds no pictures"),
        (["--split", "train=0.8"], "add up to 0.8, not to 1"),
        (["--names", "cat", "cat"], "Both classes would be called 'cat'. Give two names: --names cat dog."),
        (["--count", "2"], "There are 2 pictures of 'generated', and each of the 3 splits (train, validation, test)"),
        (["--real", "B"], "is both real and generated"),
        (["--to", "A"], "exists and holds something else (no dataset.json). Name another folder."),
        (["--smallest", "500"], "It is 80 x 60 pixels, smaller than 500 on its shorter side."),
    ],
)
def test_what_cannot_work_is_a_sentence_and_leaves_nothing(folders, here, hub, capsys, options, words):
    (here / "empty").mkdir()
    before = sorted(path.name for path in here.iterdir())

    assert build_dataset.main([*folders, "--to", "D", *options]) == 2

    said = capsys.readouterr()
    assert words in said.err
    assert said.err.startswith("build_dataset.py: ")
    assert said.out == ""
    assert sorted(path.name for path in here.iterdir()) == before


@pytest.mark.parametrize("wrong", ["0", "-3", "x"])
def test_a_count_that_is_none_is_refused_by_the_parser(folders, wrong, capsys):
    with pytest.raises(SystemExit):
        build_dataset.main([*folders, "--to", "D", "--count", wrong])
    assert "argument --count" in capsys.readouterr().err


def _build_with_room(folders: list[str], bytes_of_a_file: int, said: str) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # the write fails instead, as on a full disk
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_of_a_file, bytes_of_a_file))
    sys.stderr = io.StringIO()
    code = build_dataset.main([*folders, "--split", "train=1", "--to", "D"])
    os.write(os.open(said, os.O_WRONLY), f"{code} {sys.stderr.getvalue()}".encode())
    os._exit(0)


@pytest.mark.parametrize("too_little", [20_000, 50])  # for the pictures; only for the file that then holds them all
def test_where_no_file_can_grow_any_more_the_reason_is_said_and_nothing_is_left(folders, here, too_little):
    build_dataset.main([*folders, "--split", "train=1", "--to", "whole"])
    room = (here / "whole" / "data" / "train-00000-of-00001.parquet").stat().st_size - too_little
    (here / "said").touch()
    process = multiprocessing.get_context("fork").Process(target=_build_with_room, args=(folders, room, "said"))
    process.start()
    process.join()

    said = (here / "said").read_text()
    assert said.startswith("2 build_dataset.py: ")
    assert "Nothing half-made is left; make room" in said
    assert sorted(path.name for path in here.iterdir()) == ["A", "B", "said", "whole"]


def _build(folders: list[str], to: str) -> None:
    build_dataset.main([*folders, "--to", to])


def test_a_build_that_was_killed_ends_in_the_same_bytes_when_it_is_run_again(folders, here):
    fork, arguments = multiprocessing.get_context("fork"), (folders, "D")

    for moment in moments(fork, _build, arguments, here, seed=0):
        whole = content(here / "D")
        assert dies(fork, _build, arguments, here, moment)
        assert content(here / "D") in (whole, {})  # the earlier result stands until the new one takes its place

        assert build_dataset.main([*folders, "--to", "D"]) == 0
        assert content(here / "D") == whole
        assert sorted(path.name for path in here.iterdir()) == ["A", "B", "D"]  # no drafts left either


# The Hub


def test_from_a_hub_dataset_and_a_pipeline_to_a_hub_dataset_and_back(hub, here, monkeypatch, capsys):
    from datasets import disable_progress_bars, load_dataset

    disable_progress_bars()
    hub.add_user("alice", token=TOKEN)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    files = {f"cat/{i}.png": noise(i) for i in range(7)} | {f"dog/{i}.png": noise(i + 50) for i in range(3)}
    real = hub.add_files("bob/pets", {**files, "README.md": b"---\nlicense: cc-by-sa-4.0\n---\n"}, repo_type="dataset")
    made = add_pipeline(hub, "bob/ddpm", ddpm())
    options = [
        "--real", "bob/pets", "--labels", "cat", "--generated", "bob/ddpm", "--count", "6", "--steps", "2",
        "--size", "32", "--split", "train=0.5,test=0.5", "--to", "alice/cats",
    ]  # fmt: skip

    assert build_dataset.main(options) == 0

    assert capsys.readouterr().out.strip().endswith("/datasets/alice/cats")
    theirs = load_dataset("alice/cats", token=TOKEN)
    assert {name: rows["label"].count(0) for name, rows in {k: v.to_dict() for k, v in theirs.items()}.items()} == {
        "train": 3, "test": 3,
    }  # fmt: skip
    ours = open_dataset("alice/cats", split="test", token=TOKEN)
    assert [row.label for row in ours].count("generated") == 3
    rows = theirs["train"].to_dict()
    generated = [i for i, label in enumerate(rows["label"]) if label == 1]
    assert {(rows["source"][i], rows["generator_revision"][i]) for i in generated} == {("bob/ddpm", made)}
    assert all(rows["source_key"][i].startswith("seed ") for i in generated)
    files = hub.repo("alice/cats", "dataset").head.files
    report = json.loads(files["dataset.json"].content)
    assert [source["revision"] for source in report["sources"]] == [real, made]
    assert [source["licence"] for source in report["sources"]] == ["cc-by-sa-4.0", "apache-2.0"]
    card = files["README.md"].content.decode()
    assert head(card)["license"] == "other"
    for words in ("**cc-by-sa-4.0**", "**apache-2.0**", f"`{made}`", 'load_dataset("alice/cats", split="train")'):
        assert words in card
    assert hub.repo("alice/cats", "dataset").private

    commits = len(hub.repo("alice/cats", "dataset").history(hub.repo("alice/cats", "dataset").head))
    assert build_dataset.main(options) == 0  # nothing has changed, so nothing is sent
    assert len(hub.repo("alice/cats", "dataset").history(hub.repo("alice/cats", "dataset").head)) == commits


def test_a_dry_run_lists_every_file_and_the_card_and_writes_nothing(folders, here, hub, capsys):
    assert build_dataset.main([*folders, "--to", "alice/cats", "--dry-run"]) == 0

    said = capsys.readouterr().out
    for words in ("data/train-00000-of-00001.parquet", "dataset.json", "README.md", "pretty_name: cats", "A dry run"):
        assert words in said
    assert not [request for request in hub.requests if request.method not in ("GET", "HEAD")]


def test_nothing_is_generated_for_a_place_that_may_not_be_written(hub, monkeypatch, capsys):
    hub.add_user("alice", token=TOKEN)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    add_pipeline(hub, "bob/ddpm", ddpm())

    assert build_dataset.main(["--real", "nowhere/x", "--generated", "bob/ddpm", "--to", "bob/cats"]) == 2

    assert "bob" in capsys.readouterr().err
    assert not [request for request in hub.requests if "ddpm" in request.path]


def test_by_default_the_cats_of_a_public_set_are_asked_for(hub, here, monkeypatch):
    from datasets import ClassLabel, Features, Image

    features = Features(
        {
            "image": Image(),
            "label": ClassLabel(names=["beagle", "persian"]),
            "label_cat_dog": ClassLabel(names=["cat", "dog"]),
        }
    )
    pictures = [{"bytes": noise(i), "path": None} for i in range(6)]
    rows = {"image": pictures, "label": [0, 1] * 3, "label_cat_dog": [1, 0] * 3}
    hub.add_user("timm", token="hf_timm")
    push_rows(hub, "alice/pets", rows, features)
    hub.add_files(
        "timm/oxford-iiit-pet",
        {path: file.content for path, file in hub.repo("alice/pets", "dataset").head.files.items()},
        repo_type="dataset",
    )
    write(here / "B", {f"{i}.png": noise(100 + i) for i in range(3)})

    assert build_dataset.main(["--generated", "B", "--to", "D"]) == 0

    report = json.loads((here / "D" / "dataset.json").read_text("utf-8"))
    assert report["sources"][0]["pictures"] == 3
    assert report["sources"][0]["settings"] == {"labels": ["cat"]}


# The card


def test_the_card_says_what_a_stranger_must_know(folders, here):
    write(here / "A", {"broken.png": b"x", "again.png": noise(2), "near.png": noise(4, 160, 120)})
    options = ["--real-licence", "cc0-1.0", "--generated-licence", "cc0-1.0", "--generator", "google/ddpm-cat-256"]
    build_dataset.main([*folders, *options, "--split", "train=1", "--to", str(here / "deep" / "my-cats")])

    card = (here / "deep" / "my-cats" / "README.md").read_text("utf-8")

    assert head(card) == {
        "pretty_name": "my cats",
        "license": "cc0-1.0",
        "task_categories": ["image-classification"],
        "size_categories": ["n<1K"],
        "tags": ["xaihub", "synthetic", "real-vs-generated"],
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": "data/train-*"}]}],
    }
    for words in (
        "| train | 9 | 8 | 17 |",
        "0 is real, 1 is generated",
        "Made by `google/ddpm-cat-256`",
        "Resized to 48 x 48 pixels with a Lanczos filter",
        "format 50%, width 50%, height 50%, aspect 50%",
        "- real, `broken.png`: 'broken.png' is not a picture",
        "`real/4.png`, `real/near.png`",
        "python scripts/build_dataset.py --real A --generated B",
        "--to my-cats",
        "`perceptual_hash`: 64 bits in hex",
    ):
        assert words in card, words
    assert str(here) not in card + (here / "deep" / "my-cats" / "dataset.json").read_text("utf-8")


# The student project's pictures


@pytest.mark.skipif(not STUDENTS.is_dir(), reason="the pictures of ../shared/data are not here")
def test_nothing_but_the_pictures_tells_the_students_cats_apart_when_treated_alike(here):
    folders = ["--real", str(STUDENTS / "real"), "--generated", str(STUDENTS / "fake"), "--split", "train=1"]

    assert build_dataset.main([*folders, "--to", "fair"]) == 0
    assert build_dataset.main([*folders, "--as-is", "--to", "original"]) == 0

    fair, original = (json.loads((here / name / "dataset.json").read_text("utf-8")) for name in ("fair", "original"))
    assert fair["splits"] == original["splits"] == {"train": {"real": 100, "generated": 100}}
    assert {fair["shortcuts"][name] for name in ("format", "width", "height", "aspect")} == {0.5}
    assert {original["shortcuts"][name] for name in ("format", "width")} == {1.0}
    assert (
        "The format of the file alone tells real from generated for 100% of the pictures (chance is 50%): real has JPEG"
        " (100), generated has PNG (100)." in original["leaks"]
    )
    assert {row.picture.size for row in open_dataset(here / "fair")} == {(256, 256)}
