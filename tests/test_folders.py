"""A folder is written whole or not at all; a limit of time stops work in words."""

import hashlib
import os
import shutil
import stat

import pytest

from xaihub import folders, progress
from xaihub.errors import CancelledError
from xaihub.folders import file_digest, replacing
from xaihub.progress import silent, until

MARK = "mark.json"


def write(folder, text):
    with replacing(folder, MARK) as draft:
        (draft / MARK).write_text(text)
        (draft / "inner").mkdir()
        (draft / "inner" / "data").write_text(text)


def contents(folder):
    return {str(file.relative_to(folder)): file.read_text() for file in folder.rglob("*") if file.is_file()}


@pytest.fixture
def place(tmp_path):
    return tmp_path / "room" / "place"


def test_the_folder_appears_only_when_it_is_whole(place):
    with replacing(place, MARK) as draft:
        (draft / MARK).write_text("new")
        assert not place.exists()
        assert draft.parent == place.parent, "the same disk, so moving it is one step"
    assert contents(place) == {MARK: "new"}
    assert os.listdir(place.parent) == ["place"]
    assert stat.S_IMODE(place.stat().st_mode) == 0o755, "others may read it"


def test_an_older_folder_with_the_mark_is_replaced_and_none_of_it_stays(place):
    write(place, "old")
    (place / "left over").touch()
    write(place, "new")
    assert contents(place) == {MARK: "new", "inner/data": "new"}
    assert os.listdir(place.parent) == ["place"]


def test_an_empty_folder_is_taken(place):
    place.mkdir(parents=True)
    write(place, "new")
    assert contents(place) == {MARK: "new", "inner/data": "new"}


@pytest.mark.parametrize("kind", ["a folder", "a file"])
def test_what_somebody_else_put_there_is_left_alone(place, kind):
    (place if kind == "a folder" else place.parent).mkdir(parents=True)
    theirs = place / "thesis" if kind == "a folder" else place
    theirs.write_text("mine")
    with pytest.raises(FileExistsError, match=r"place' exists and holds something else \(no mark.json\). Name another"):
        write(place, "new")
    assert theirs.read_text() == "mine"
    assert os.listdir(place.parent) == ["place"]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt, CancelledError])
def test_an_exception_in_the_middle_leaves_the_old_folder_and_no_draft(place, error):
    write(place, "old")

    def interrupted():
        with replacing(place, MARK) as draft:
            (draft / MARK).write_text("half")
            raise error

    with pytest.raises(error):
        interrupted()
    assert contents(place) == {MARK: "old", "inner/data": "old"}
    assert os.listdir(place.parent) == ["place"]


def test_a_failing_last_step_puts_the_old_folder_back(place, monkeypatch):
    write(place, "old")
    moved, move = [], os.replace

    def failing(source, target):
        moved.append(source)
        if len(moved) == 2:
            raise OSError(5, "Input/output error")
        move(source, target)

    monkeypatch.setattr(folders.os, "replace", failing)
    with pytest.raises(OSError, match="Input/output"):
        write(place, "new")
    assert contents(place) == {MARK: "old", "inner/data": "old"}
    assert os.listdir(place.parent) == ["place"]


def test_an_old_folder_that_cannot_be_deleted_does_not_cost_the_new_one(place, monkeypatch):
    write(place, "old")
    delete = shutil.rmtree

    def failing(path, ignore_errors=False):
        if str(path).endswith("-old") and not ignore_errors:
            raise PermissionError(13, "Permission denied")
        delete(path, ignore_errors=ignore_errors)

    monkeypatch.setattr(folders.shutil, "rmtree", failing)
    write(place, "new")
    assert contents(place) == {MARK: "new", "inner/data": "new"}


def test_the_current_folder_and_a_link_are_replaced_where_they_lie(tmp_path, monkeypatch):
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.chdir(home)
    write(folders.Path("."), "here")
    assert contents(home) == {MARK: "here", "inner/data": "here"}
    link = tmp_path / "link"
    link.symlink_to(home)
    write(link, "there")
    assert link.is_symlink()
    assert contents(home) == {MARK: "there", "inner/data": "there"}


def test_a_digest_is_sha256_of_the_bytes(tmp_path):
    (tmp_path / "file").write_bytes(b"xaihub" * 100_000)
    assert file_digest(tmp_path / "file") == hashlib.sha256(b"xaihub" * 100_000).hexdigest()


@pytest.mark.parametrize("text", ["", "  ", "nowhere", "x" * 5000, "a\0b", "~nobody-of-this-name/x"])
def test_what_names_no_folder_is_no_folder(text):
    assert folders.folder_named(text) is None


def test_a_folder_is_found_by_its_name_also_at_home(tmp_path, monkeypatch):
    (tmp_path / "cats").mkdir()
    (tmp_path / "file").touch()
    monkeypatch.setenv("HOME", str(tmp_path))
    assert folders.folder_named(str(tmp_path / "cats")) == folders.folder_named("~/cats") == tmp_path / "cats"
    assert folders.folder_named(str(tmp_path / "file")) is None


def test_work_goes_on_until_its_time_is_up_and_then_stops_in_words(monkeypatch):
    now, seen = [100.0], []
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with until(30, lambda share, stage: seen.append((share, stage)), "Embedding alice/owls") as watched:
        watched(0.25, "first")
        now[0] = 130.0
        watched(0.5, "second")
        now[0] = 130.5
        with pytest.raises(
            CancelledError, match=r"Embedding alice/owls took longer than the limit of 30 s .* Try something smaller"
        ):
            watched(0.75, "third")
    assert seen == [(0.25, "first"), (0.5, "second")]
    assert silent(1.0, "nobody watches") is None
