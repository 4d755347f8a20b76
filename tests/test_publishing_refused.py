"""What is not published: secrets, pickles, links, wrong cards; and what the Hub or a visitor may do in the middle."""

from pathlib import Path

import pytest
from loopback_hub import LoopbackHub
from tiny_folders import FILES, TOKEN, on_hub, publish, titles, write

from xaihub import hub as hub_room
from xaihub.errors import CancelledError, HubError, HubUnreachableError

SECRET = "hf_" + "aB3" * 11


@pytest.fixture(autouse=True)
def alice(hub: LoopbackHub) -> None:
    hub.add_user("alice", token=TOKEN)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "made", FILES)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("model.bin", b"x", "model.bin can run code on the machine of whoever opens it, as pickles do"),
        ("a/weights.PT", b"x", "a/weights.PT can run code"),
        ("setup.exe", b"x", "setup.exe is of a kind that is not published here"),
        ("history", b"x", "history is of a kind that is not published here"),
        ("train.py", f"login('{SECRET}')".encode(), "train.py holds what looks like a token of the Hub \\(hf_aB…\\)"),
        ("model.safetensors", b"\0" * 5000 + SECRET.encode(), "model.safetensors holds what looks like a token"),
    ],
)
def test_what_should_not_be_seen_or_run_is_not_published(hub, folder, name, content, words):
    write(folder, {name: content})

    with pytest.raises(HubError, match=words) as refused:
        publish(folder)
    assert SECRET not in str(refused.value)
    with pytest.raises(HubError, match=words):
        hub_room.planned(folder)
    assert hub.requests == []


def test_what_only_looks_a_little_like_a_token_is_published(hub, folder):
    write(folder, {"notes/x.md": b"hf_hub_download, hf_" + b"a" * 29 + b", wolf_" + b"a" * 40})
    publish(folder)

    assert "notes/x.md" in on_hub(hub)


def test_a_link_out_of_the_folder_is_not_followed(hub, folder, tmp_path):
    (tmp_path / "private.txt").write_text("mine")
    (folder / "shared.txt").symlink_to(tmp_path / "private.txt")

    with pytest.raises(HubError, match=r"shared.txt is a link: what it leads to may not be meant for others"):
        publish(folder)


def test_an_empty_folder_or_one_without_a_card_is_not_published(hub, folder, tmp_path):
    (tmp_path / "empty").mkdir()
    (folder / "README.md").unlink()

    with pytest.raises(HubError, match=r"There is nothing in '.*empty' to publish"):
        publish(tmp_path / "empty")
    with pytest.raises(HubError, match=r"has no README.md\. Without a card nobody knows what alice/tiny is"):
        publish(folder)
    assert hub.requests == []


@pytest.mark.parametrize(
    ("card", "words"),
    [
        ("# Tiny\n", "README.md has no head: between two lines of ---"),
        ("---\n---\n# Tiny\n", "The head of README.md says nothing"),
        ("---\nlicense: [\n---\n# Tiny\n", "The head of README.md is not YAML: .* correct it"),
        ("---\n- a\n- b\n---\n# Tiny\n", "The head of README.md is not YAML: .* should be a dict"),
        ("---\ntags: [{a: 1}]\n---\n", 'The Hub finds the head of README.md wrong: "tags" must be an array of strings'),
    ],
)
def test_a_card_that_is_wrong_is_found_before_anything_is_made(hub, folder, card, words):
    (folder / "README.md").write_text(card)

    with pytest.raises(HubError, match=words):
        publish(folder)
    assert hub.repos == {}


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ({"path_contains": "/api/repos/create", "status": 402}, "The Hub asks for a paid plan before this account"),
        ({"path_contains": "/commit/main", "status": 400}, "did not take what was sent to alice/tiny: This failure"),
        ({"path_contains": "/commit/main", "status": 413}, "The Hub finds this too large for alice/tiny"),
        ({"path_contains": "/lfs-upload/", "status": 403}, "does not let this token do that with alice/tiny"),
        ({"path_contains": "/lfs-upload/", "status": 501}, r"does not answer as it should \(status 501\), so alice/t"),
        ({"path_contains": "/api/validate-yaml", "status": 500}, r"does not answer as it should \(status 500\)"),
    ],
)
def test_what_the_hub_has_against_it_is_said_and_leaves_things_as_they_were(hub, folder, fault, words):
    hub.add_files("alice/tiny", {"a.txt": "x"}, private=True)
    if "create" in fault["path_contains"]:
        del hub.repos["model", "alice/tiny"]
        hub.fault(path_contains="/api/models/alice/tiny", spare=1, status=404)
    made = hub.fault(**{"times": 9, **fault})

    with pytest.raises(HubError, match=words) as refused:
        publish(folder)
    assert made.times < 9
    assert "lfs-upload" not in str(refused.value)  # an address of the storage is as good as a signature
    if "create" not in fault["path_contains"]:
        assert on_hub(hub) == {"a.txt": b"x"}
    hub.faults.clear()
    publish(folder)
    assert FILES.items() <= on_hub(hub).items()


def test_another_commit_in_the_middle_is_not_overwritten(hub, folder):
    hub.add_files("alice/tiny", {"config.json": "first"}, private=True)

    def somebody(share: float, stage: str) -> None:
        if stage.startswith("Publishing"):
            hub.add_files("alice/tiny", {"config.json": "theirs"}, private=True)

    with pytest.raises(HubError, match="Somebody else changed alice/tiny meanwhile; it is as they left it"):
        publish(folder, progress=somebody)
    assert on_hub(hub) == {"config.json": b"theirs"}


@pytest.mark.parametrize("stage", ["Checking", "Uploading", "Publishing"])
def test_stopping_leaves_nothing_half_published(hub, folder, stage):
    def stop(share: float, said: str) -> None:
        if said.startswith(stage):
            raise CancelledError("Stopped.")

    with pytest.raises(CancelledError, match="Stopped"):
        publish(folder, progress=stop)
    assert stage == "Checking" or on_hub(hub) == {}
    publish(folder)
    assert titles(hub) == ["Publish", "initial commit"]


def test_a_hub_that_is_not_there_is_said_to_be_silent(hub, folder):
    hub.fault(kind="disconnect", times=100)

    with pytest.raises(HubUnreachableError, match=r"does not answer as it should .* so alice/tiny was not published"):
        hub_room.check_destination("alice/tiny", "model", TOKEN)


def test_the_clients_own_bars_are_as_they_were(hub, folder, capfd):
    from huggingface_hub.utils import are_progress_bars_disabled

    before = are_progress_bars_disabled()
    publish(folder)
    assert are_progress_bars_disabled() == before
    assert capfd.readouterr() == ("", "")


def test_a_card_may_hold_anything_that_was_checked(hub, folder):
    write(folder, {"README.md": hub_room.card_text({"license": "mit", "tags": ["no", "1", "🔍"]}, "# é").encode()})
    publish(folder)

    assert hub.repo("alice/tiny").head.read("README.md").decode().endswith("# é\n")
    assert hub_room.look("alice/tiny", token=TOKEN).card["tags"] == ["no", "1", "🔍"]
