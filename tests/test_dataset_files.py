"""Which files of a folder are images: those that systems and tools leave are not; what is left out is counted."""

import io
import os

import pytest
from PIL import Image
from tiny_datasets import COLOURS, class_folders, plain, png, seen, write

from xaihub import open_dataset
from xaihub.curation import real_source
from xaihub.datasets import open_flat_folder, splits_of
from xaihub.datasets.listing import image_suffixes, is_clutter, list_folder
from xaihub.errors import DatasetError

CLUTTER = [
    ".ipynb_checkpoints/0-checkpoint.png", "red/.ipynb_checkpoints/0-checkpoint.png", "@eaDir/0.png/THUMB_M.png",
    "red/@eaDir/0.png/SYNOPHOTO_THUMB_S.png", "__MACOSX/red/._0.png", "red/._0.png", ".DS_Store", "red/Thumbs.db",
    "red/desktop.ini", ".git/objects/0.png", ".Trashes/501/0.png", "$RECYCLE.BIN/S-1-5/0.png", "red/.thumbnails/0.png",
    "__pycache__/0.png", "#recycle/0.png", "System Volume Information/0.png", "lost+found/0.png", "red/0.png.part",
    "red/0.png~", "red/1.png.crdownload", ".Trash-1000/files/0.png", "@Recycle/0.png",
]  # fmt: skip


@pytest.mark.parametrize("path", CLUTTER)
def test_files_that_no_person_put_there_are_left_out_and_counted(tmp_path, path):
    folder = write(tmp_path, class_folders(red=2, blue=2) | {path: png("green")})

    rows = open_dataset(folder)

    assert seen(rows) == [("blue", COLOURS["blue"])] * 2 + [("red", COLOURS["red"])] * 2
    assert rows.notices == ("1 file was left out: 1 hidden or of a system",)
    assert rows.skipped == {}


def test_they_are_left_out_before_a_limit_is_drawn(tmp_path):
    files = class_folders(red=2, blue=2)
    files |= {f"{name}/._{i}.png": b"\0\5\x16\7" for name in ("red", "blue") for i in range(40)}
    folder = write(tmp_path, files)

    rows = open_dataset(folder, limit=4)
    flat = open_flat_folder(folder, limit=4)

    assert len(seen(rows)) == len(seen(flat)) == 4
    assert rows.skipped == flat.skipped == {}
    assert flat.notices == ("80 files were left out: 80 hidden or of a system",)
    assert len(seen(real_source(str(folder), "real", count=4).pictures)) == 4


def test_system_folders_are_neither_classes_nor_splits(tmp_path):
    folder = write(tmp_path, {f"{split}/{name}": content for split in ("train", "test")
                              for name, content in class_folders(red=1, blue=1).items()})  # fmt: skip
    write(folder, {f"{name}/red/0.png": png("red") for name in ("__MACOSX", "@eaDir", ".ipynb_checkpoints")})

    assert splits_of(folder) == ["train", "test"]
    assert open_dataset(folder).label_names == ("blue", "red")


def test_a_class_may_begin_like_clutter_without_being_it():
    assert not any(map(is_clutter, ("_background_noise_", "thumbs", "git", "a.b", "@home", "#1", "partner", "desktop")))


def test_every_suffix_of_a_format_that_is_read_is_an_image_and_others_are_counted(tmp_path):
    kinds = {"jpg": "JPEG", "jpeg": "JPEG", "jfif": "JPEG", "jpe": "JPEG", "JPG": "JPEG", "Png": "PNG", "bmp": "BMP",
             "gif": "GIF", "tif": "TIFF", "TIFF": "TIFF", "webp": "WEBP"}  # fmt: skip
    files = {}
    for suffix, kind in kinds.items():
        stream = io.BytesIO()
        plain("red").save(stream, kind)
        files[f"red/{suffix}.{suffix}"] = stream.getvalue()
    folder = write(
        tmp_path, files | {"blue/0.png": png("blue"), "blue/a.pdf": b"%PDF", "red/b.txt": b"x", "x.ico": b"x"}
    )

    rows = open_dataset(folder)

    assert [row.label for row in rows] == ["blue"] + ["red"] * len(kinds)
    assert {".jfif", ".jpe", ".avif"} < image_suffixes()
    assert rows.notices == ("3 files were left out: 1 not images (.pdf), 1 not images (.txt), 1 not images (.ico)",)


def test_without_a_known_suffix_the_first_bytes_say_what_a_file_is(tmp_path):
    files = {
        "red/0": png("red"),
        "red/1.image": png("red"),
        "red/README": b"about",
        "blue/n02_7.x": png("blue"),
        "blue/y": b"",
    }

    rows = open_dataset(write(tmp_path, files))

    assert seen(rows) == [("blue", COLOURS["blue"])] + [("red", COLOURS["red"])] * 2
    assert rows.notices == ("2 files were left out: 1 empty, 1 not images (no suffix)",)


def test_an_empty_image_is_named_and_takes_no_place_of_a_limit(tmp_path):
    folder = write(tmp_path, class_folders(red=1, blue=1) | {"red/9.png": b"", "green/0.png": b""})

    rows = open_dataset(folder, limit=2)

    assert len(seen(rows)) == 2
    assert rows.label_names == ("blue", "red")
    assert rows.skipped == {"green/0.png": "It is empty (0 bytes).", "red/9.png": "It is empty (0 bytes)."}


def test_links_in_circles_and_out_of_the_folder_are_counted_and_those_within_are_followed(tmp_path):
    outside = write(tmp_path / "outside", {"secret.png": png("green")})
    folder = write(tmp_path / "inside", class_folders(red=1, blue=1))
    (folder / "red" / "again").symlink_to(folder / "red")
    (folder / "blue" / "up").symlink_to(folder)
    (folder / "red" / "link.png").symlink_to(outside / "secret.png")
    (folder / "red" / "gone.png").symlink_to(outside / "nothing.png")
    (folder / "blue" / "same.png").symlink_to(folder / "blue" / "0.png")
    (folder / "red" / "loop.png").symlink_to("loop.png")
    os.mkfifo(folder / "red" / "pipe.png")

    rows = open_dataset(folder)

    assert [row.key for row in rows] == ["blue/0.png", "blue/same.png", "red/0.png"]
    assert dict(list_folder(folder).left_out) == {
        "links in a circle": 2, "links out of the folder": 1, "broken links": 2,
    }  # fmt: skip


def test_a_folder_of_clutter_alone_says_what_it_holds(tmp_path):
    folder = write(tmp_path, {"red/._0.png": b"x", "red/notes.txt": b"x", ".git/0.png": png("red")})

    with pytest.raises(
        DatasetError, match=r"no pictures in class folders.*3 files were left out: 2 hidden or of a sys"
    ):
        open_dataset(folder)


def test_what_was_left_out_stands_in_an_audits_report_and_in_the_log(tmp_path, caplog):
    from xaihub.datasets import from_pairs

    folder = write(tmp_path / "with notes", class_folders(red=2, blue=2) | {"red/notes.pdf": b"x"})
    open_dataset(folder)

    assert "with notes: 1 file was left out: 1 not images (.pdf)." in caplog.text
    assert from_pairs("made", [("a", "red", Image.new("RGB", (8, 8)))]).notices == ()


def test_clutter_on_the_hub_is_left_out_too(hub):
    files = class_folders(red=2, blue=2) | {
        path: png("green") for path in ("@eaDir/0.png", "red/._0.png", "red/1.jfif.part")
    }
    hub.add_files("alice/clutter", files, repo_type="dataset")

    assert seen(open_dataset("alice/clutter")) == [("blue", COLOURS["blue"])] * 2 + [("red", COLOURS["red"])] * 2
