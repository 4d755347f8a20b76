"""Files that were damaged, cut short, or are pointers; a machine without a network, a full disk, a missing right."""

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from loopback_hub.server import Fault
from test_kaggle import HANDLE, NAME, fetched
from test_kaggle import kaggle as _kaggle_fixture
from tiny_models import TINY, assert_same_network, build, files_of, processor_of

from xaihub import hub as hub_room
from xaihub import load_classifier, load_references, preflight
from xaihub.downloads import refused_by_disk
from xaihub.errors import DamagedFileError, DownloadError, HubError, XaihubError

kaggle = _kaggle_fixture
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 1000\n"
HOWS = ("cut short", "zeros", "one byte", "empty", "longer", "pointer")
WEIGHTS, PROCESSOR = "model.safetensors", "preprocessor_config.json"


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, bytes]:
    """A whole, good repository."""
    return files_of(build(TINY["vit"]), processor_of(TINY["vit"]), folder=tmp_path_factory.mktemp("vit"))


def cached(name: str) -> Path:
    """Where the client keeps a file of the one repository that was fetched: the blob itself."""
    from huggingface_hub import constants

    (found,) = Path(constants.HF_HUB_CACHE).glob(f"models--alice--tiny/snapshots/*/{name}")
    return found.resolve()


def spoil(file: Path, how: str) -> None:
    content = file.read_bytes()
    spoiled = {
        "cut short": content[: len(content) // 2],
        "zeros": bytes(len(content)),
        "one byte": content[:-1] + bytes([content[-1] ^ 1]),
        "empty": b"",
        "longer": content + b"\0",
        "pointer": POINTER,
    }[how]
    file.write_bytes(spoiled)


# The cache of the Hub


@pytest.mark.parametrize(
    ("name", "how"),
    [*((WEIGHTS, how) for how in HOWS), ("config.json", "zeros"), ("config.json", "cut short"), (PROCESSOR, "pointer")],
)
def test_a_file_that_was_damaged_in_the_cache_is_fetched_again_once(hub, files, name, how):
    hub.add_files("alice/tiny", files)
    load_classifier("alice/tiny", token=False)
    spoil(cached(name), how)
    hub.requests.clear()

    assert_same_network(load_classifier("alice/tiny", token=False), build(TINY["vit"]))
    again = [seen for seen in hub.requests if f"/{name}" in seen.path and (seen.method, seen.status) == ("GET", 200)]
    assert len(again) == 1
    assert cached(name).read_bytes() == files[name]


def test_a_file_that_is_damaged_on_each_way_is_named(hub, files):
    hub.add_files("alice/tiny", files)
    load_classifier("alice/tiny", token=False)
    spoil(cached(WEIGHTS), "one byte")
    plan = preflight("alice/tiny", token=False)
    good = hub.repo("alice/tiny").head.files[WEIGHTS]
    swapped = type(good)(good.content[:-1] + bytes([good.content[-1] ^ 1]), lfs=good.lfs)
    object.__setattr__(swapped, "oid", good.oid)
    hub.repo("alice/tiny").head.files[WEIGHTS] = swapped  # what is sent is another file than the one that is promised

    with pytest.raises(XaihubError, match=r"model\.safetensors of alice/tiny") as caught:
        load_classifier(plan, token=False)
    assert "config.json" not in str(caught.value)


def test_a_file_that_is_damaged_while_the_hub_is_silent_is_named(hub, files):
    hub.add_files("alice/tiny", files)
    load_classifier("alice/tiny", token=False)
    spoil(cached(WEIGHTS), "zeros")
    hub.fault(kind="disconnect", times=1000)

    with pytest.raises(DamagedFileError, match=r"model\.safetensors of alice/tiny is damaged in this machine's cache"):
        load_classifier("alice/tiny")


def test_whole_files_are_read_for_their_hash_once_in_a_process(hub, files, monkeypatch):
    from xaihub.hub import checking

    hub.add_files("alice/tiny", files)
    read, hashed = [], checking._hash
    monkeypatch.setattr(
        checking, "_hash", lambda file, *rest, **named: read.append(file.name) or hashed(file, *rest, **named)
    )
    for _ in range(3):
        load_classifier("alice/tiny", token=False)
    assert sorted(read) == sorted(["config.json", PROCESSOR, WEIGHTS])


@pytest.mark.parametrize("name", [WEIGHTS, "config.json", PROCESSOR])
def test_a_pointer_that_was_published_in_place_of_a_file_says_what_its_author_has_to_do(hub, files, name):
    hub.add_files("alice/tiny", {**files, name: POINTER})

    with pytest.raises(DamagedFileError, match=rf"{name} of alice/tiny is only a git-LFS pointer.*`git lfs pull`"):
        load_classifier("alice/tiny", token=False)


# Folders


@pytest.mark.parametrize(
    ("name", "how", "words"),
    [
        (
            WEIGHTS,
            "pointer",
            "a git-LFS pointer, not the file itself. In a folder that git made, `git lfs pull`",
        ),
        ("config.json", "pointer", "is only a git-LFS pointer"),
        (PROCESSOR, "pointer", "is only a git-LFS pointer"),
        (WEIGHTS, "cut short", "was cut short: its header describes"),
        (WEIGHTS, "zeros", "only zero bytes where it should begin"),
        (WEIGHTS, "empty", "is empty"),
        ("config.json", "zeros", "only zero bytes where it should begin"),
        ("config.json", "empty", "is empty"),
    ],
)
def test_a_damaged_file_of_a_folder_is_named_and_nothing_else_is_blamed(files, tmp_path, name, how, words):
    for each, content in files.items():
        (tmp_path / each).write_bytes(content)
    spoil(tmp_path / name, how)

    with pytest.raises(DamagedFileError, match=words) as caught:
        load_classifier(tmp_path)
    assert name in str(caught.value)
    assert "may be wrong or made" not in str(caught.value)


# Kaggle and torchvision


@pytest.mark.parametrize("how", ["zeros", "one byte", "cut short"])
def test_a_damaged_file_of_kaggle_is_fetched_again(kaggle, files, tmp_path, how):
    kaggle.add(HANDLE, files)
    load_classifier(NAME)
    (kept,) = (tmp_path / "cache" / "kaggle").rglob(WEIGHTS)
    spoil(kept, how)
    kaggle.asked.clear()

    assert_same_network(load_classifier(NAME), build(TINY["vit"]))
    assert fetched(kaggle) == [WEIGHTS]


def test_a_pointer_on_kaggle_is_told_as_one(kaggle, files):
    kaggle.add(HANDLE, {**files, WEIGHTS: POINTER})

    with pytest.raises(DamagedFileError, match=r"model\.safetensors of kaggle/alice/pets.* is only a git-LFS pointer"):
        load_classifier(NAME)


# Without a network


def run(program: str, **environment: str) -> str:
    """What a program in a process of its own prints, or the last line of its trouble."""
    given = {**os.environ, **environment}
    done = subprocess.run([sys.executable, "-c", program], env=given, capture_output=True, text=True, timeout=300)
    lines = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()
    return lines[-1] if lines else ""


OPEN = """
from xaihub import load_classifier, load_references, load_embedder, preflight, hub
print(load_classifier("alice/tiny").labels, len(load_references("alice/known")), load_embedder("alice/eye").tower.kind)
"""


def test_with_a_full_cache_everything_opens_offline(hub, files, tmp_path):
    from tiny_embedders import network
    from tiny_models import VIT

    from xaihub import load_embedder

    eye = files_of(network("ViTModel", **VIT), processor_of(TINY["vit"]), folder=tmp_path)
    hub.add_user("alice", token="hf_alice")
    hub.add_files("alice/tiny", files)
    hub.add_files("alice/eye", eye)
    starter = Path(hub_room.__file__).parents[1] / "starter" / "references"
    hub.add_folder("alice/known", starter, repo_type="dataset")
    load_classifier("alice/tiny", token=False)
    load_embedder("alice/eye", token=False)
    references = load_references("alice/known", token=False)

    offline = {"HF_HUB_OFFLINE": "1", "HF_ENDPOINT": "http://127.0.0.1:9"}
    assert run(OPEN, **offline) == f"('cat', 'dog', 'hen') {len(references)} ViT"
    assert run(OPEN, HF_ENDPOINT="http://127.0.0.1:9").endswith("ViT")  # nobody answers there


def test_what_another_program_fetched_opens_offline_on_its_own_machine_only(hub, files):
    from huggingface_hub import snapshot_download

    hub.add_files("alice/tiny", files)
    snapshot_download("alice/tiny", token=False)
    look = "from xaihub import hub\nprint(hub.look('alice/tiny', token={}, local={}).revision)"
    offline = {"HF_HUB_OFFLINE": "1"}

    assert run(look.format(None, False), **offline) == hub.repo("alice/tiny").head.sha
    assert run(look.format(False, True), **offline) == hub.repo("alice/tiny").head.sha
    assert "does not answer, so alice/tiny cannot be loaded" in run(look.format(False, False), **offline)
    assert "does not answer" in run(look.replace("alice/tiny", "alice/other").format(None, True), **offline)


def test_a_revision_that_was_not_fetched_does_not_open_offline(hub, files):
    hub.add_files("alice/tiny", files)
    load_classifier("alice/tiny", token=False)
    hub.fault(kind="disconnect", times=1000)

    for revision in ("v2", "0" * 40, "../../../x", "main/.."):
        with pytest.raises(HubError, match="does not answer"):
            preflight("alice/tiny", revision=revision)
    assert preflight("alice/tiny").revision == hub.repo("alice/tiny").head.sha


def test_a_line_that_dies_after_the_look_is_no_trouble_for_what_is_cached(hub, files):
    hub.add_files("alice/tiny", files)
    load_classifier("alice/tiny", token=False)
    hub.faults.append(Fault(path_contains="/resolve/", kind="disconnect", times=1000))

    assert_same_network(load_classifier("alice/tiny", token=False), build(TINY["vit"]))


# The disk


FETCH = """
import resource, signal, sys
from xaihub import hub
repo = hub.look("alice/tiny", token=False)
{}
hub.fetch(repo, ["config.json", "model.safetensors"], token=False)
"""


def test_a_full_disk_is_told_as_such(hub, files, tmp_path):
    """A file may not grow beyond so many bytes: what a quota does."""
    hub.add_files("alice/tiny", files)
    limit = "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))"

    said = run(FETCH.format(limit), HF_HOME=str(tmp_path))
    assert said.startswith(
        "xaihub.errors.DownloadError: A file of alice/tiny cannot be kept or read here: the disk is full."
    )
    assert "HF_HOME" in said


@pytest.mark.skipif(not Path("/sys/kernel").is_dir(), reason="needs a folder that nobody may write to")
def test_a_missing_right_is_told_as_such(hub, files):
    hub.add_files("alice/tiny", files)

    said = run(FETCH.format(""), HF_HUB_CACHE="/sys/kernel/xaihub")
    assert "DownloadError: A file of alice/tiny cannot be kept or read here: this program may not read or write" in said


def test_what_the_disk_refuses_is_found_below_what_a_library_made_of_it():
    error = RuntimeError("some library failed")
    error.__cause__ = OSError(errno.ENOSPC, "No space left on device", "/cache/x")
    assert refused_by_disk(error).startswith("the disk is full")
    assert refused_by_disk(OSError(errno.EROFS, "Read-only file system")).startswith("this program may not")
    assert refused_by_disk(OSError(errno.EDQUOT, "Quota")).startswith("the disk is full")
    assert refused_by_disk(FileNotFoundError(errno.ENOENT, "none")) == ""
    assert refused_by_disk(None) == ""


def test_a_read_only_cache_that_is_full_opens(hub, files, tmp_path):
    hub.add_files("alice/tiny", files)
    load_classifier("alice/tiny", token=False)
    note = next(cached("config.json").parents[1].glob("xaihub-*.json"))
    assert json.loads(note.read_text())["private"] is False
    shutil.copytree(note.parents[1], tmp_path / "hub", symlinks=True)
    for path in [tmp_path / "hub", *(tmp_path / "hub").rglob("*")]:
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o555)

    fetch = FETCH.format("") + "print('whole')"
    try:
        assert run(fetch, HF_HUB_CACHE=str(tmp_path / "hub")) == "whole"
    finally:
        for path in [tmp_path / "hub", *(tmp_path / "hub").rglob("*")]:
            if path.is_dir() and not path.is_symlink():
                path.chmod(0o755)


def test_a_download_that_arrives_damaged_leaves_no_file_that_is_believed(hub, files):
    hub.add_files("alice/tiny", files)
    hub.fault(path_contains="config.json", kind="truncate", times=1)

    with pytest.raises(DownloadError):
        load_classifier("alice/tiny", token=False)
    assert_same_network(load_classifier("alice/tiny", token=False), build(TINY["vit"]))
