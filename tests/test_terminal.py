"""What scripts share: is a folder or a repository meant, is it checked before the work, and how does a run end."""

import argparse
import os
import subprocess
import sys
from pathlib import Path

import pytest

from xaihub import terminal
from xaihub.errors import AccessDeniedError, DatasetError, RepoNotFoundError

CARD = "---\nlicense: mit\n---\n# A card\n"


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XAIHUB_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture
def alice(hub, monkeypatch):
    hub.add_user("alice", token="hf_alice")
    monkeypatch.setenv("HF_TOKEN", "hf_alice")
    return hub


def given(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    terminal.add_destination(parser, "the result")
    return parser.parse_args(["--to", *words])


def deliver(*words: str, content: str = "{}") -> None:
    with terminal.delivering(given(*words), kind="dataset", mark="mark.json", owned=("data/*",)) as draft:
        (draft / "README.md").write_text(CARD)
        (draft / "mark.json").write_text(content)


@pytest.mark.parametrize(
    "text", ["result", "./alice/result", "/tmp/result", "~/result", "a/b/c", "here/result", "../x"]
)
def test_a_folder_is_meant(place, text):
    (place / "here").mkdir()
    assert terminal.destination(text) == Path(text).expanduser()


def test_an_id_is_meant_unless_there_is_such_a_folder(place):
    assert terminal.destination("alice/result") == "alice/result"
    (place / "alice").mkdir()
    assert terminal.destination("alice/result") == Path("alice/result")


def test_the_folder_appears_whole_and_is_the_last_line(place, capsys):
    deliver("result")
    assert sorted(os.listdir(place / "result")) == ["README.md", "mark.json"]
    assert capsys.readouterr().out.splitlines()[-1] == "result"


def test_a_folder_of_something_else_is_refused_before_the_work(place):
    (place / "result").mkdir()
    (place / "result" / "diary.txt").write_text("dear diary")
    refused = pytest.raises(FileExistsError, match=r"'result' exists and holds something else \(no mark.json\)")
    with refused, terminal.delivering(given("result"), kind="dataset", mark="mark.json"):
        pytest.fail("the work began")
    assert os.listdir(place / "result") == ["diary.txt"]


def test_the_repository_is_private_and_its_address_is_the_last_line(place, alice, capsys):
    deliver("alice/result")
    assert alice.repo("alice/result", "dataset").private
    assert set(alice.repo("alice/result", "dataset").head.files) >= {"README.md", "mark.json"}
    assert capsys.readouterr().out.splitlines()[-1] == f"{alice.endpoint}/datasets/alice/result"
    assert list((place / "cache" / "outbox").iterdir()) == []


def test_no_token_is_said_before_the_work_and_so_is_how_to_mean_a_folder(place, hub, monkeypatch):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    refused = pytest.raises(AccessDeniedError, match=r"token.*If 'alice/result' is meant as a folder, write ./alice/")
    with refused, terminal.delivering(given("alice/result"), kind="dataset", mark="mark.json"):
        pytest.fail("the work began")


def test_a_dry_run_lists_every_file_and_the_card_and_writes_nothing(place, alice, capsys):
    for to in ("alice/result", "result"):
        deliver(to, "--dry-run")
        said = capsys.readouterr().out
        assert "mark.json" in said
        assert "# A card" in said
        assert f"nothing was written to {to}" in said
    assert ("dataset", "alice/result") not in alice.repos
    assert not (place / "result").exists()
    assert {request.method for request in alice.requests} <= {"GET", "HEAD"}


def test_work_that_fails_leaves_nothing(place, alice):
    for to in ("alice/result", "result"):
        with pytest.raises(DatasetError), terminal.delivering(given(to), kind="dataset", mark="mark.json"):
            raise DatasetError("No pictures.")
    assert ("dataset", "alice/result") not in alice.repos
    assert not (place / "result").exists()
    assert [name for name in os.listdir(place) if name.startswith(".")] == []


def test_a_folder_half_written_by_a_killed_run_is_tidied_by_the_next(place):
    writing = "import os, sys\nfrom pathlib import Path\nfrom xaihub.folders import replacing\nwith replacing(Path("
    code = f"{writing}'result'), 'mark.json') as draft:\n    (draft / 'half').touch()\n    os.kill(os.getpid(), 9)\n"
    subprocess.run([sys.executable, "-c", code], cwd=place, check=False)
    assert [name for name in os.listdir(place) if name.startswith(".result-")], "else nothing was left to tidy"
    deliver("result")
    assert [name for name in os.listdir(place) if name.startswith(".")] == []
    assert sorted(os.listdir(place / "result")) == ["README.md", "mark.json"]


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (RepoNotFoundError("There is no model 'x/y'."), 2, "prog: There is no model 'x/y'."),
        (FileExistsError("'x' exists."), 2, "prog: 'x' exists."),
        (OSError(28, "No space left on device", "x"), 2, "No space left on device (x). Nothing half-made is left"),
        (KeyboardInterrupt(), 130, "stopped; the same command goes on from what was kept"),
    ],
)
def test_a_run_ends_with_a_sentence(capsys, error, code, said):
    def work(_arguments: argparse.Namespace) -> None:
        raise error

    assert terminal.run(argparse.ArgumentParser(prog="prog"), work, []) == code
    shown = capsys.readouterr().err
    assert said in shown
    assert "Traceback" not in shown


def test_an_error_of_ours_is_not_hidden():
    def work(_arguments: argparse.Namespace) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        terminal.run(argparse.ArgumentParser(prog="prog"), work, [])


def test_a_folder_that_was_built_before_is_published_as_it_is(place, alice, capsys):
    from xaihub import load_references
    from xaihub.__main__ import main

    (place / "built").mkdir()
    built = load_references("xaihub/paper-pets")
    built.write(place / "built", named="alice/starter")
    (place / "built" / "notes.txt").write_text("mine")
    before = {path.name: path.read_bytes() for path in (place / "built").iterdir()}
    alice.add_files("alice/starter", {"embeddings-gone.safetensors": b"of an embedder before"}, repo_type="dataset")
    assert main(["publish", str(place / "built"), "--to", "alice/starter", "--public"]) == 0
    assert {path.name: path.read_bytes() for path in (place / "built").iterdir()} == before
    files = alice.repo("alice/starter", "dataset").head.files
    assert {name for name in files if name != ".gitattributes"} == set(before)
    assert load_references("alice/starter").fidelity == built.fidelity
    assert main(["publish", str(place), "--to", "alice/nothing"]) == 2
    assert "it is neither a dataset, nor references, nor a classifier" in capsys.readouterr().err


def test_the_publish_command_copies_references_and_keeps_back_what_is_private(place):
    from dataclasses import replace

    from xaihub import load_references
    from xaihub.__main__ import main

    built = load_references("xaihub/paper-pets")
    replace(built, made=replace(built.made, public=False)).save(place / "built")
    assert main(["publish", "built", "--to", "./shown"]) == 0
    assert "pixels" in built.spaces, "else there is nothing to keep back"
    assert not (place / "shown" / "embeddings-pixels.safetensors").exists()
    shown = load_references(place / "shown")
    assert list(shown.spaces) == [name for name in built.spaces if name != "pixels"]
    assert list(shown.pictures) == [None] * len(built)
    assert list(shown.keys) == list(built.keys)
    assert set(load_references(place / "built").spaces) == set(built.spaces), "one's own stay as they were"


def test_being_told_to_end_leaves_no_draft(place):
    code = (
        "import os, signal, sys, argparse, threading, time\nfrom xaihub import terminal\n"
        "parser = argparse.ArgumentParser(prog='prog')\nterminal.add_destination(parser, 'it')\n"
        "def work(arguments):\n"
        "    with terminal.delivering(arguments, kind='dataset', mark='mark.json') as draft:\n"
        "        (draft / 'half').touch()\n        os.kill(os.getpid(), signal.SIGTERM)\n        time.sleep(5)\n"
        "sys.exit(terminal.run(parser, work, ['--to', 'result']))\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=place, check=False, capture_output=True, text=True)
    assert ended.returncode == 130
    assert "stopped" in ended.stderr
    assert list(place.iterdir()) == []
