"""Datasets that name what is not theirs: files of this machine, other sites, other people's repositories."""

import json

import pytest
from tiny_datasets import COLOURS, SECRET, TOKEN, class_folders, features, parquet, plain, png, push_rows, seen, write

from xaihub import datasets as room
from xaihub import hub as hub_room
from xaihub import open_dataset
from xaihub.errors import DatasetError


def open_visitors(*args, **options):
    return open_dataset(*args, token=False, local=False, **options)


def card(*configs: dict) -> bytes:
    return f"---\nconfigs: {json.dumps(configs)}\n---\n".encode()


@pytest.mark.parametrize(
    "elsewhere",
    [
        "/etc/*", "~/pictures/*.png", "../other/*.png", "data/../../x.csv", "\\\\host\\share\\x.csv",
        "https://example.com/x.parquet", "hf://datasets/alice/private/x.parquet", "file:///etc/passwd",
        "file:/etc/passwd", "simplecache::/etc/passwd", "zip://*.csv::/tmp/x.zip", "data:text/csv,x",
    ],
)  # fmt: skip
@pytest.mark.parametrize("shape", ["text", "list", "splits", "folder"])
def test_a_card_that_points_elsewhere_is_refused_before_anything_there_is_looked_at(hub, elsewhere, shape):
    files = {
        "text": {"data_files": elsewhere},
        "list": {"data_files": ["train/*", elsewhere]},
        "splits": {"data_files": [{"split": "train", "path": ["red/*", elsewhere]}]},
        "folder": {"data_dir": elsewhere},
    }[shape]
    good = {"config_name": "default", "data_files": "red/*"}
    hub.add_files(
        "alice/evil",
        {**class_folders(red=1), "README.md": card(good, {"config_name": "more", **files})},
        repo_type="dataset",
    )

    with pytest.raises(
        DatasetError, match=r"The card of alice/evil points to .* outside of its own files, so it is not"
    ):
        open_visitors("alice/evil")
    assert not [request for request in hub.requests if "/tree/" in request.path]


def test_a_card_that_points_to_its_own_files_is_followed(hub):
    own = card({"config_name": "default", "data_files": [{"split": "test", "path": ["b*/*.png", "red/0.png"]}]})
    hub.add_files("alice/good", {**class_folders(red=2, blue=1), "README.md": own}, repo_type="dataset")

    pictures = open_visitors("alice/good")

    assert pictures.split == "test"
    assert sorted(seen(pictures)) == [("blue", COLOURS["blue"]), ("red", COLOURS["red"])]


def test_a_second_card_that_the_hub_does_not_show_is_refused(hub):
    hidden = 'configs:\n- {config_name: default, data_files: "/etc/*"}\n'
    hub.add_files("alice/evil", {**class_folders(red=1), ".huggingface.yaml": hidden}, repo_type="dataset")

    with pytest.raises(
        DatasetError, match=r"alice/evil says in a \.huggingface\.yaml how it is to be read, which is not"
    ):
        open_visitors("alice/evil")


def test_a_folder_of_this_machine_that_has_the_same_name_is_not_read_instead(hub, tmp_path, monkeypatch):
    hub.add_files("alice/colours", class_folders(red=1, blue=1), repo_type="dataset")
    write(tmp_path / "alice" / "colours", {"mine/0.png": png(SECRET), "yours/0.png": png(SECRET)})
    monkeypatch.chdir(tmp_path)

    with pytest.raises(DatasetError, match="There is a folder 'alice/colours' where this program runs"):
        open_visitors("alice/colours")
    assert seen(open_dataset("alice/colours"))[0] == ("mine", SECRET)  # its owner may mean it


def test_a_row_that_names_a_file_of_this_machine_is_not_read(hub, tmp_path):
    secret = write(tmp_path, {"secret.png": png(SECRET)}) / "secret.png"
    link = tmp_path / "link.png"
    link.symlink_to(secret)
    paths = [str(secret), str(link), f"file://{secret}", "/etc/hostname", "~/x.png", "../secret.png", "\0", ""]
    rows = [{"image": {"bytes": png("red"), "path": str(secret)}, "label": 0}]
    rows += [{"image": {"bytes": None, "path": path}, "label": 1} for path in paths]
    hub.add_files("alice/evil", {"train.parquet": parquet(rows)}, repo_type="dataset")

    pictures = open_visitors("alice/evil")

    assert seen(pictures) == [("red", COLOURS["red"])]
    assert set(pictures.skipped.values()) == {"This row holds no picture."}
    assert len(pictures.skipped) == len(paths)


def test_a_row_may_name_the_datasets_own_files_and_no_other_repositorys(hub):
    push_rows(hub, "alice/private", {"image": [plain("red")], "label": [0]}, private=True)
    private = hub.add_files("alice/private", {"secret.png": png(SECRET)}, repo_type="dataset", private=True)
    theirs = hub_room.look("alice/private", token=TOKEN, repo_type="dataset")
    cached = hub_room.fetch(theirs, ["secret.png"], token=TOKEN) / "secret.png"
    own = hub.add_files("alice/evil", {"own.png": png("blue"), "x.txt": "x"}, repo_type="dataset")
    paths = [
        f"hf://datasets/alice/evil@{own}/own.png", f"hf://datasets/alice/private@{private}/secret.png", str(cached),
        f"{hub.endpoint}/datasets/alice/private/resolve/main/secret.png",
    ]  # fmt: skip
    rows = [{"image": {"bytes": None, "path": path}, "label": i % 3} for i, path in enumerate(paths)]
    hub.add_files("alice/evil", {"train.parquet": parquet(rows)}, repo_type="dataset")
    head = hub.repo("alice/evil", "dataset").head.sha
    rows[0]["image"]["path"] = f"hf://datasets/alice/evil@{head}/own.png"  # as the library names its own files
    repo = hub_room.look("alice/evil", token=False, repo_type="dataset")

    pictures = open_visitors("alice/evil")
    hub.requests.clear()
    assert seen(pictures) == []
    assert len(pictures.skipped) == len(paths)
    assert hub.requests == []  # nothing was asked for with anybody's token
    file = hub_room.own_file(repo, f"hf://datasets/alice/evil@{head}/own.png", token=False)
    assert file.read_bytes() == png("blue")


def test_columns_that_are_not_shown_are_not_opened(hub, tmp_path):
    from datasets import Image, List

    secret = write(tmp_path, {"secret.png": png(SECRET)}) / "secret.png"
    trap = {"bytes": None, "path": f"{hub.endpoint}/trap.png"}
    columns = features(thumb=Image(), more=List(Image()))
    row = {"image": {"bytes": png("red"), "path": None}, "label": 0, "thumb": trap, "more": [trap, trap]}
    rows = [row, {**row, "thumb": {"bytes": None, "path": str(secret)}}]
    hub.add_files("alice/evil", {"train.parquet": parquet(rows, columns)}, repo_type="dataset")

    assert seen(open_visitors("alice/evil")) == [("red", COLOURS["red"])] * 2
    assert not [request for request in hub.requests if "trap" in request.path]


def test_a_streamed_row_is_not_followed_either(hub, tmp_path, monkeypatch):
    from datasets import Image, List

    monkeypatch.setattr(room, "LARGEST_DOWNLOAD", 10)
    secret = write(tmp_path, {"secret.png": png(SECRET)}) / "secret.png"
    trap = {"bytes": None, "path": f"{hub.endpoint}/trap.png"}
    columns = features(thumb=Image(), more=List(Image()))
    row = {"image": {"bytes": png("red"), "path": str(secret)}, "label": 0, "thumb": trap, "more": [trap]}
    rows = [row, {**row, "image": {"bytes": None, "path": str(secret)}}, {**row, "image": trap}]
    hub.add_files("alice/evil", {"train.parquet": parquet(rows, columns)}, repo_type="dataset")

    pictures = open_visitors("alice/evil")

    assert seen(pictures) == [("red", COLOURS["red"])]
    assert len(pictures.skipped) == 2
    assert not [request for request in hub.requests if "trap" in request.path]


def test_a_table_that_names_files_elsewhere_is_refused(hub, tmp_path):
    secret = write(tmp_path, {"secret.png": png(SECRET)}) / "secret.png"
    table = "".join(json.dumps({"file_name": name, "label": "red"}) + "\n" for name in ("0.png", str(secret)))
    hub.add_files("alice/evil", {"0.png": png("red"), "metadata.jsonl": table}, repo_type="dataset")

    with pytest.raises(DatasetError, match=r"alice/evil could not be read as a dataset .*secret.png"):
        open_visitors("alice/evil")


@pytest.mark.parametrize("name", ["../x", "/etc", "~", "", "alice/x/y", "https://example.com/a/b"])
def test_a_visitor_can_name_no_folder(hub, name):
    from xaihub.errors import RepoNotFoundError

    with pytest.raises(RepoNotFoundError, match="is not the id of a repository"):
        open_visitors(name)
    assert hub.requests == []
