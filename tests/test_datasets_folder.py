"""A dataset as a folder of parquet files: the datasets library and we read the same, and labels can be chosen."""

import pytest
from tiny_datasets import COLOURS, class_folders, features, plain, png, push_rows, seen, write

from xaihub import datasets as room
from xaihub import open_dataset
from xaihub.datasets import dataset_folder, open_flat_folder, open_splits, splits_of, write_split
from xaihub.errors import DatasetError

CLASSES = ("red", "green", "blue")


def row(colour: str, key: str = "a.png") -> dict:
    texts = {name: "x" for name, kind in dataset_folder.COLUMNS.items() if kind == "string"}
    sizes = {"original_width": 8, "original_height": 6}
    return {"image": png(colour), "label": CLASSES.index(colour), **texts, **sizes, "source_key": key}


@pytest.fixture
def folder(tmp_path):
    write_split(tmp_path, "train", [row(colour) for colour in ("green", "red", "blue", "red")], CLASSES)
    write_split(tmp_path, "test", [row("blue", "b.png")], CLASSES)
    return tmp_path


def test_a_folder_gives_back_its_rows_the_split_train_if_none_is_named(folder):
    pictures = open_dataset(folder)

    assert seen(pictures) == [(name, COLOURS[name]) for name in ("green", "red", "blue", "red")]
    assert (pictures.split, pictures.label_names, pictures.name) == ("train", CLASSES, folder.name)
    assert [one.key for one in pictures] == ["train/0", "train/1", "train/2", "train/3"]
    assert seen(open_dataset(folder, split="test")) == [("blue", COLOURS["blue"])]
    assert splits_of(folder) == ["train", "test"]
    assert [one.split for one in open_splits(folder)] == ["train", "test"]


def test_the_datasets_library_reads_the_same_with_the_classes_and_pictures_it_has_to_know(folder):
    from datasets import ClassLabel, Image, disable_progress_bars, load_dataset

    disable_progress_bars()
    theirs = load_dataset(str(folder), split="train")

    assert isinstance(theirs.features["image"], Image)
    assert theirs.features["label"] == ClassLabel(names=list(CLASSES))
    assert [(CLASSES[one["label"]], one["image"].getpixel((3, 2))) for one in theirs] == seen(open_dataset(folder))
    assert theirs[0]["source_key"] == "a.png"
    assert theirs[0]["original_width"] == 8


def test_a_split_that_is_not_there_is_named_with_those_that_are(folder):
    with pytest.raises(DatasetError, match=r"has no split 'dev'\. It has: train, test\."):
        open_dataset(folder, split="dev")


def test_rows_are_found_over_several_files_and_row_groups(tmp_path, monkeypatch):
    monkeypatch.setattr(dataset_folder, "_GROUP_ROWS", 3)
    monkeypatch.setattr(dataset_folder, "_SHARD_BYTES", 700)  # two groups reach it
    colours = [CLASSES[i % 3] for i in range(0, 32, 2)]

    files = write_split(tmp_path, "train", (row(colour) for colour in colours), CLASSES)

    assert len(files) > 1
    assert files[0].name == f"train-00000-of-{len(files):05d}.parquet"
    assert sorted(tmp_path.rglob("*.*")) == sorted(files)
    pictures = open_dataset(tmp_path)
    assert seen(pictures) == [(colour, COLOURS[colour]) for colour in colours]
    assert seen(open_dataset(tmp_path, limit=4)) == [
        (one.label, one.picture.getpixel((0, 0))) for one in open_dataset(tmp_path, limit=4)
    ]


def test_the_same_rows_are_the_same_bytes(tmp_path):
    files = [write_split(tmp_path / name, "train", [row("red"), row("blue")], CLASSES)[0] for name in ("a", "b")]

    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_file_that_is_no_dataset_is_a_sentence(folder):
    (folder / "data" / "train-00000-of-00001.parquet").write_bytes(b"PAR1 not")

    with pytest.raises(DatasetError, match=r"holds no dataset that can be read \(Arrow.*Build it again"):
        open_dataset(folder)


def test_a_broken_picture_in_a_folder_is_left_out_and_counted(tmp_path):
    write_split(tmp_path, "train", [row("red"), {**row("red"), "image": b"broken"}], CLASSES)

    pictures = open_dataset(tmp_path)

    assert len(seen(pictures)) == 1
    assert list(pictures.skipped) == ["train/1"]


# Labels that are wanted


def test_labels_are_chosen_before_the_limit_is_counted(tmp_path, folder):
    classes = write(tmp_path / "classes", class_folders(red=3, green=9, blue=2))

    assert [label for label, _ in seen(open_dataset(classes, labels=["red", "blue"], limit=4))] == [
        "blue", "blue", "red", "red",
    ]  # fmt: skip
    assert open_dataset(classes, labels=["red"]).label_names == ("red",)
    assert [label for label, _ in seen(open_dataset(folder, labels=["red"]))] == ["red", "red"]
    with pytest.raises(DatasetError, match=r"no pictures labelled 'cat'\. Its labels are: 'blue', 'green', 'red'\."):
        open_dataset(classes, labels=["cat"])


def test_labels_of_a_hub_dataset_are_chosen_before_the_limit(hub):
    push_rows(hub, "alice/many", {"image": [plain("green")] * 30 + [plain("red")] * 3, "label": [1] * 30 + [0] * 3})

    assert seen(open_dataset("alice/many", labels=["red"], limit=2)) == [("red", COLOURS["red"])] * 2
    with pytest.raises(DatasetError, match=r"alice/many has no pictures labelled 'cat'\. Its labels are: 'red', 'gre"):
        open_dataset("alice/many", labels=["cat"])
    with pytest.raises(DatasetError, match=r"alice/many has no pictures labelled 'blue'\. Its labels are: 'green'"):
        open_dataset("alice/many", labels=["blue"])


def test_labels_of_a_large_dataset_are_chosen_while_it_is_streamed(hub, monkeypatch):
    monkeypatch.setattr(room, "LARGEST_DOWNLOAD", 10)
    hub.add_files("alice/folders", class_folders(green=30, red=3), repo_type="dataset")

    pictures = open_dataset("alice/folders", labels=["red"], limit=2)

    assert seen(pictures) == [("red", COLOURS["red"])] * 2
    assert {row.key.split(", ")[1] for row in pictures} < {"red/0.png", "red/1.png", "red/2.png"}


def test_labels_may_be_words_and_of_a_column_that_is_named(hub):
    from datasets import ClassLabel, Value

    columns = features(label=Value("string"), kind=ClassLabel(names=["cat", "dog"]))
    rows = {"image": [plain(name) for name in COLOURS], "label": list(COLOURS), "kind": [1, 0, 1]}
    push_rows(hub, "alice/words", rows, columns)

    assert seen(open_dataset("alice/words", labels=["green"], label_column="label")) == [("green", COLOURS["green"])]
    assert [label for label, _ in seen(open_dataset("alice/words", label_column="kind"))] == ["dog", "cat", "dog"]
    with pytest.raises(DatasetError, match=r"has no pictures labelled 'violet'\. Its labels are: 'blue', 'green', 're"):
        open_dataset("alice/words", labels=["violet"], label_column="label")
    with pytest.raises(DatasetError, match=r"has no column 'breed'\. Its columns are: image, label, kind\."):
        open_dataset("alice/words", label_column="breed")


def test_labels_of_a_dataset_without_any_are_refused(hub):
    from datasets import Features, Image

    push_rows(hub, "alice/bare", {"image": [plain("red")]}, Features({"image": Image()}))

    with pytest.raises(DatasetError, match="alice/bare has no column of labels, so none can be asked for"):
        open_dataset("alice/bare", labels=["red"])


def test_the_licence_and_all_splits_of_a_hub_dataset_are_known(hub):
    card = "---\nlicense: cc-by-4.0\n---\n"
    hub.add_files(
        "alice/two", {"test/red/0.png": png("red"), "train/red/0.png": png("red"), "README.md": card},
        repo_type="dataset",
    )  # fmt: skip

    assert open_dataset("alice/two").licence == "cc-by-4.0"
    assert splits_of("alice/two") == ["train", "test"]
    assert [one.split for one in open_splits("alice/two")] == ["train", "test"]


# One folder of pictures


def test_a_flat_folder_gives_all_its_pictures_without_labels(tmp_path):
    folder = write(tmp_path / "cats", {"b.png": png("red"), "deep/a.PNG": png("blue"), ".hidden/x.png": png("green")})

    outside = write(tmp_path / "blobs", {"1234": png("red")}) / "1234"
    (folder / "link.png").symlink_to(outside)  # as the Hub's client keeps its files

    pictures = open_flat_folder(folder)

    assert [(one.key, one.label) for one in pictures] == [("b.png", None), ("deep/a.PNG", None), ("link.png", None)]
    with pytest.raises(DatasetError, match=r"holds no pictures \(\.avif.*Name a folder that does"):
        open_flat_folder(write(tmp_path / "none", {"x.txt": b""}))
