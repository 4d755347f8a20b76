"""Labelled pictures from folders and from datasets of the Hub: the right picture beside the right name."""

from collections import Counter

import pytest
from tiny_datasets import COLOURS, TOKEN, class_folders, features, plain, png, push_rows, seen, write

from xaihub import datasets as room
from xaihub import open_dataset
from xaihub.datasets import from_pairs, open_flat_folder, splits_of
from xaihub.datasets.class_folders import is_flat_folder
from xaihub.datasets.splits import Source
from xaihub.errors import AccessDeniedError, DatasetError, RepoNotFoundError

ROWS = {"image": [plain(name) for name in COLOURS] * 2, "label": [0, 1, 2] * 2}
EXPECTED = [(name, colour) for name, colour in COLOURS.items()] * 2


def open_visitors(*args, **options):
    return open_dataset(*args, token=False, local=False, **options)


# Folders


def test_a_folder_of_class_folders_is_a_dataset(tmp_path):
    files = class_folders(red=1, blue=2) | {"red/deep/er.PNG": png("red"), "red/notes.txt": b"", "stray.png": b"x"}
    folder = write(tmp_path / "colours", {**files, ".cache/x.png": png("green"), "empty/notes.txt": b"no picture"})

    pictures = open_dataset(folder)

    assert (pictures.name, pictures.label_names, len(pictures)) == ("colours", ("blue", "red"), 4)
    assert [row.key for row in pictures] == ["blue/0.png", "blue/1.png", "red/0.png", "red/deep/er.PNG"]
    assert seen(pictures) == [("blue", COLOURS["blue"])] * 2 + [("red", COLOURS["red"])] * 2
    assert pictures.skipped == {}
    assert (pictures.note, pictures.public) == ("", True)


@pytest.mark.parametrize("files", [{}, {"cat.png": b"x"}, {"cats/notes.txt": b"x"}])
def test_a_folder_without_class_folders_is_refused(tmp_path, files):
    with pytest.raises(
        DatasetError, match=r"holds no pictures in class folders\. Put each class's pictures in a folder"
    ):
        open_dataset(write(tmp_path, files))


def test_a_broken_picture_among_good_ones_is_left_out_and_counted(tmp_path):
    files = class_folders(red=2, blue=1) | {"red/1.png": png("red")[:40], "blue/page.jpg": b"<html>"}

    pictures = open_dataset(write(tmp_path, files))

    assert len(pictures) == 4
    assert seen(pictures) == [("blue", COLOURS["blue"]), ("red", COLOURS["red"])]
    assert set(pictures.skipped) == {"red/1.png", "blue/page.jpg"}
    assert "is not a picture that can be read" in pictures.skipped["blue/page.jpg"]


def test_a_link_that_leads_out_of_the_folder_is_not_followed(tmp_path):
    outside = write(tmp_path / "outside", {"secret.png": png("green"), "more/secret.png": png("green")})
    folder = write(tmp_path / "inside", class_folders(red=1, blue=1))
    (folder / "red" / "link.png").symlink_to(outside / "secret.png")
    (folder / "red" / "more").symlink_to(outside / "more")
    (folder / "green").symlink_to(outside / "more")
    (folder / "blue" / "same.png").symlink_to(folder / "red" / "0.png")  # one that stays inside is

    assert [label for label, _ in seen(open_dataset(folder))] == ["blue", "blue", "red"]


def test_folders_that_are_splits_are_not_taken_for_classes(tmp_path):
    """As the datasets of half of all tutorials lie."""
    folder = tmp_path / "colours"
    write(folder / "val", class_folders(blue=1, red=2))
    write(folder / "Train", class_folders(blue=3, red=4))

    assert splits_of(folder) == ["train", "validation"]
    train, rest = open_dataset(folder), open_dataset(folder, split="validation", limit=2)
    assert Counter(label for label, _ in seen(train)) == {"blue": 3, "red": 4}
    assert (train.name, train.split, train.label_names) == ("colours", "train", ("blue", "red"))
    assert Counter(label for label, _ in seen(rest)) == {"blue": 1, "red": 1}
    assert Source(folder).to_measure() == "validation"
    with pytest.raises(RepoNotFoundError):
        splits_of(folder, local=False)  # a visitor sees no folder of this machine
    with pytest.raises(DatasetError, match=r"has no split 'test'\. It has: train, validation\."):
        open_dataset(folder, split="test")


@pytest.mark.parametrize(
    "files",
    [
        ["train/red/0.png", "ship/red/0.png"],  # means of transport
        ["train/0.png", "ship/0.png", "bus/red/0.png"],
        ["test/0.png", "control/0.png"],  # of a pregnancy
    ],
)
def test_folders_that_may_be_classes_are_classes(tmp_path, files):
    folder = write(tmp_path, dict.fromkeys(files, png("red")))

    assert splits_of(folder) == []
    assert set(open_dataset(folder).label_names) == {name.split("/")[0] for name in files}
    with pytest.raises(DatasetError, match="is a folder of class folders, which has none"):
        open_dataset(folder, split="train")


def test_a_folder_is_flat_where_none_of_its_folders_holds_pictures(tmp_path):
    for name, files, flat in (
        ("photos", {"a.png": png("red"), "notes/x.txt": b"", ".cache/b.png": png("red")}, True),
        ("none", {"notes/x.txt": b""}, True),
        ("classes", {"stray.png": png("red"), "red/0.png": png("red")}, False),
        ("splits", {"train/red/0.png": png("red")}, False),
    ):
        assert is_flat_folder(write(tmp_path / name, files)) is flat, name
    with pytest.raises(DatasetError, match="A limit of 0 pictures leaves none"):
        open_flat_folder(tmp_path / "photos", limit=0)


def test_a_limit_draws_evenly_from_the_classes_the_same_rows_for_the_same_seed(tmp_path):
    folder = write(tmp_path, class_folders(red=20, green=2, blue=9))

    pictures = open_dataset(folder, limit=9)

    keys = [row.key for row in pictures]
    assert Counter(row.label for row in pictures) == {"blue": 4, "green": 2, "red": 3}
    assert keys == [row.key for row in open_dataset(folder, limit=9)]
    assert keys == sorted(keys)  # drawn, but in their old order
    assert keys != [row.key for row in open_dataset(folder, limit=9, seed=1)]
    assert pictures.note == "9 of 31 pictures, drawn evenly from the classes"
    assert len(open_dataset(folder, limit=500)) == 31


def test_pictures_in_memory_are_a_dataset_too():
    pictures = from_pairs("drawn", [("a", "red", plain("red")), ("b", "blue", plain("blue"))])

    assert seen(pictures) == [("red", COLOURS["red"]), ("blue", COLOURS["blue"])]
    assert pictures.label_names == ("red", "blue")


# The Hub


def test_a_dataset_that_was_pushed_is_read_with_its_classes_in_their_order(hub):
    sha = push_rows(hub, "alice/colours", ROWS)
    told = []

    pictures = open_visitors("alice/colours", progress=lambda share, stage: told.append(stage))

    assert seen(pictures) == EXPECTED
    assert pictures.label_names == ("red", "green", "blue")
    assert (pictures.revision, pictures.config, pictures.split) == (sha, "default", "train")
    assert (pictures.name, pictures.public, pictures.skipped) == ("alice/colours", True, {})
    assert [row.key for row in pictures][:2] == ["train/0", "train/1"]
    assert told == ["Fetching alice/colours"]


def test_labels_may_be_words_or_numbers(hub):
    from datasets import Value

    push_rows(hub, "alice/words", {**ROWS, "label": list(COLOURS) * 2}, features(label=Value("string")))
    push_rows(hub, "alice/numbers", {**ROWS, "label": [7, 8, 9] * 2}, features(label=Value("int64")))

    words, numbers = open_visitors("alice/words"), open_visitors("alice/numbers")
    assert seen(words) == EXPECTED
    assert words.label_names == ("blue", "green", "red")
    assert [label for label, _ in seen(numbers)] == ["7", "8", "9"] * 2


def test_a_label_that_is_withheld_is_none(hub):
    push_rows(hub, "alice/colours", {**ROWS, "label": [0, -1, 2] * 2}, split="test")

    pictures = open_visitors("alice/colours")

    assert (pictures.split, pictures.label_names) == ("test", ("red", "green", "blue"))
    assert [label for label, _ in seen(pictures)] == ["red", None, "blue"] * 2


def test_class_folders_on_the_hub_are_a_dataset(hub):
    hub.add_files("alice/folders", class_folders(red=2, green=1, blue=1), repo_type="dataset")

    pictures = open_visitors("alice/folders")

    expected = [("blue", COLOURS["blue"]), ("green", COLOURS["green"]), *[("red", COLOURS["red"])] * 2]
    assert seen(pictures) == expected
    assert pictures.label_names == ("blue", "green", "red")


def test_pictures_with_a_table_of_their_labels_are_a_dataset(hub):
    table = '{"file_name": "2.png", "label": "blue"}\n{"file_name": "0.png", "label": "red"}\n'
    hub.add_files(
        "alice/table", {"0.png": png("red"), "2.png": png("blue"), "metadata.jsonl": table}, repo_type="dataset"
    )

    assert seen(open_visitors("alice/table")) == [("blue", COLOURS["blue"]), ("red", COLOURS["red"])]


def test_a_limit_draws_evenly_from_a_dataset_of_the_hub(hub):
    names = [0] * 8 + [1] + [2] * 3
    push_rows(hub, "alice/colours", {"image": [plain(list(COLOURS)[i]) for i in names], "label": names})

    pictures = open_visitors("alice/colours", limit=6)

    assert Counter(seen(pictures)) == {
        ("red", COLOURS["red"]): 3,
        ("blue", COLOURS["blue"]): 2,
        ("green", COLOURS["green"]): 1,
    }
    assert pictures.note == "6 of 12 pictures, drawn evenly from the classes"


def test_a_broken_row_among_good_ones_is_left_out_and_counted(hub):
    images = [{"bytes": png("red"), "path": None}, {"bytes": b"broken", "path": "a.png"}, None]
    push_rows(hub, "alice/colours", {"image": images, "label": [0, 1, 2]})

    pictures = open_visitors("alice/colours")

    assert seen(pictures) == [("red", COLOURS["red"])]
    assert set(pictures.skipped) == {"train/1", "train/2"}
    assert pictures.skipped["train/2"] == "This row holds no picture."


def test_a_dataset_without_pictures_is_refused_with_its_columns(hub):
    hub.add_files("alice/texts", {"data.csv": "text,label\nhello,1\n"}, repo_type="dataset")

    words = r"alice/texts has no column of pictures; its columns are: text \(Value\), label \(Value\). Use an image"
    with pytest.raises(DatasetError, match=words):
        open_visitors("alice/texts")


def test_an_empty_dataset_is_refused(hub):
    hub.add_files("alice/nothing", {"README.md": "---\nlicense: mit\n---\n"}, repo_type="dataset")

    with pytest.raises(DatasetError, match=r"alice/nothing could not be read as a dataset .*doesn't contain any data"):
        open_visitors("alice/nothing")


def test_another_split_or_configuration_is_found_and_one_that_there_is_not_is_named(hub):
    push_rows(hub, "alice/colours", ROWS)
    push_rows(hub, "alice/colours", {"image": [plain("blue")], "label": [2]}, split="test")
    push_rows(hub, "alice/colours", {"image": [plain("green")], "label": [1]}, config_name="leaves")

    assert seen(open_visitors("alice/colours", split="test")) == [("blue", COLOURS["blue"])]
    assert seen(open_visitors("alice/colours", config="leaves")) == [("green", COLOURS["green"])]
    with pytest.raises(DatasetError, match=r"alice/colours has no split 'dev'. It has: train, test\."):
        open_visitors("alice/colours", split="dev")
    with pytest.raises(DatasetError, match=r"alice/colours has no configuration 'roots'. It has: default, leaves\."):
        open_visitors("alice/colours", config="roots")


def test_an_older_commit_has_its_own_rows(hub):
    sha = push_rows(hub, "alice/colours", ROWS)
    push_rows(hub, "alice/colours", {"image": [plain("blue")], "label": [2]})

    assert len(open_visitors("alice/colours")) == 1
    pinned = open_visitors("alice/colours", revision=sha)
    assert (seen(pinned), pinned.revision) == (EXPECTED, sha)
    with pytest.raises(RepoNotFoundError, match="alice/colours has no revision 'v2'"):
        open_visitors("alice/colours", revision="v2")


def test_a_private_dataset_is_open_to_its_owner_alone_also_when_it_is_in_the_cache(hub):
    push_rows(hub, "alice/colours", ROWS, private=True)

    for _ in range(2):  # before it is in the cache, and after
        with pytest.raises(
            RepoNotFoundError, match="no dataset 'alice/colours' on the Hub, or it is private and not open"
        ):
            open_visitors("alice/colours")
        with pytest.raises(AccessDeniedError, match="The Hub does not know this token"):
            open_dataset("alice/colours", token="hf_wrong", local=False)
        pictures = open_dataset("alice/colours", token=TOKEN, local=False)
        assert seen(pictures) == EXPECTED
        assert not pictures.public


def test_a_gated_dataset_is_closed_to_others_also_when_it_is_in_the_cache(hub):
    push_rows(hub, "alice/colours", ROWS)
    hub.repo("alice/colours", "dataset").gated = "manual"

    assert seen(open_dataset("alice/colours", token=TOKEN, local=False)) == EXPECTED
    with pytest.raises(AccessDeniedError, match="alice/colours is gated: its authors ask people to accept"):
        open_visitors("alice/colours")


def test_a_visitors_dataset_is_asked_for_without_this_machines_own_token(hub, monkeypatch):
    push_rows(hub, "alice/colours", ROWS)
    hub.add_files("alice/folders", class_folders(red=2, green=1), repo_type="dataset")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub.requests.clear()

    assert len(seen(open_visitors("alice/colours"))) == 6
    monkeypatch.setattr(room, "LARGEST_DOWNLOAD", 10)
    assert len(seen(open_visitors("alice/folders"))) == 3  # this one is streamed

    assert {request.token for request in hub.requests} == {None}


def test_of_a_large_dataset_the_beginning_is_streamed(hub, monkeypatch):
    monkeypatch.setattr(room, "LARGEST_DOWNLOAD", 10)
    hub.add_files("alice/folders", class_folders(red=5, green=5, blue=5), repo_type="dataset")

    pictures = open_visitors("alice/folders", limit=7)

    assert len(pictures) == 7
    assert {(label, COLOURS[label]) for label, _ in seen(pictures)} == set(seen(pictures))
    assert pictures.skipped == {}
    assert pictures.note == "7 pictures from the beginning of a large dataset, shuffled"
    assert pictures.label_names == ("blue", "green", "red")
    fetched = {request.path for request in hub.requests if request.path.endswith(".png")}
    assert len(fetched) == 7  # and no more than those


@pytest.mark.parametrize("limit", [0, -3])
def test_a_limit_that_leaves_nothing_is_a_sentence(tmp_path, limit):
    with pytest.raises(DatasetError, match=rf"A limit of {limit} pictures leaves none to read"):
        open_dataset(tmp_path, limit=limit)
