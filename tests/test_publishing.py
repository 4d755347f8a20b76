"""Publishing with the real client: whose token, which name, one commit of what differs, and lines that go dead."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from loopback_hub import LoopbackHub
from safetensors.numpy import save
from tiny_folders import CARD, FILES, TOKEN, on_hub, publish, titles, uploads, write, writes

from xaihub import hub as hub_room
from xaihub.errors import AccessDeniedError, HubError, HubUnreachableError, RepoNotFoundError


@pytest.fixture(autouse=True)
def alice(hub: LoopbackHub) -> None:
    hub.add_user("alice", token=TOKEN)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "made", FILES)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client waits up to 23 seconds for a line to come back; here it tries as often, without waiting."""
    monkeypatch.setattr("time.sleep", lambda seconds: None)


# What is published


def test_a_folder_is_published_privately_in_one_commit(hub, folder):
    url = publish(folder)

    assert url == f"{hub.endpoint}/alice/tiny"
    assert hub.repo("alice/tiny").private
    assert on_hub(hub) == FILES
    assert titles(hub) == ["Publish", "initial commit"]
    assert hub.repo("alice/tiny").head.files["model.safetensors"].lfs


@pytest.mark.parametrize("repo_type", ["model", "dataset", "space"])
def test_every_type_is_published_where_it_belongs_and_openly_if_asked(hub, folder, repo_type):
    url = publish(folder, repo_type=repo_type, public=True)

    prefix = {"model": "", "dataset": "datasets/", "space": "spaces/"}[repo_type]
    assert url == f"{hub.endpoint}/{prefix}alice/tiny"
    repo = hub.repo("alice/tiny", repo_type)
    assert not repo.private
    assert repo.sdk == ("gradio" if repo_type == "space" else None)
    assert publish(folder, repo_type=repo_type, public=True) == url


def test_the_same_folder_again_writes_nothing(hub, folder):
    publish(folder)
    hub.requests.clear()

    assert publish(folder) == f"{hub.endpoint}/alice/tiny"
    assert writes(hub) == []
    assert titles(hub) == ["Publish", "initial commit"]


def test_only_what_differs_is_sent(hub, folder):
    publish(folder)
    hub.requests.clear()
    new = save({"weight": np.ones(3)})
    write(folder, {"notes/b.safetensors": new, "config.json": b"{}"})
    publish(folder, message="Second")

    assert on_hub(hub) == {**FILES, "notes/b.safetensors": new, "config.json": b"{}"}
    assert uploads(hub) == 1  # model.safetensors stays where it is
    repo = hub.repo("alice/tiny")
    assert repo.last_change(repo.head, "config.json").title == "Second"
    assert repo.last_change(repo.head, "README.md").title == "Publish"


def test_owned_files_that_are_gone_are_deleted_and_no_others(hub, folder):
    parts = {f"data/train-{i}.parquet": b"PAR1" + bytes([i]) for i in range(3)}
    publish(write(folder, parts), repo_type="dataset")
    hub.add_files("alice/tiny", {"theirs.md": "x", "data/old/x.parquet": "y"}, repo_type="dataset", private=True)
    for i in (1, 2):
        (folder / f"data/train-{i}.parquet").unlink()
    (folder / "config.json").unlink()
    publish(folder, repo_type="dataset", owned=["data/*.parquet", "*.nothing"])

    left = on_hub(hub, repo_type="dataset")
    assert {path for path in left if path.startswith("data/")} == {"data/train-0.parquet", "data/old/x.parquet"}
    assert "theirs.md" in left
    assert "config.json" in left  # gone from the folder, but nobody said whose it was
    publish(folder, repo_type="dataset", owned=["data/**", "*"])
    assert set(on_hub(hub, repo_type="dataset")) == {*FILES, "data/train-0.parquet"} - {"config.json"}
    assert ".gitattributes" in hub.repo("alice/tiny", "dataset").head.files


def test_a_gitignore_on_the_hub_leaves_nothing_out(hub, folder):
    hub.add_files("alice/tiny", {".gitignore": "notes\n*.safetensors\n"}, private=True)
    publish(folder)

    assert {path: on_hub(hub)[path] for path in FILES} == FILES


def test_progress_goes_up_and_names_what_is_done(hub, folder):
    seen = []
    publish(folder, progress=lambda share, stage: seen.append((share, stage)))

    shares = [share for share, _ in seen]
    assert shares == sorted(shares)
    assert seen[0] == (0.0, "Checking alice/tiny")
    assert any(stage.startswith("Uploading README.md (6 of 6 files)") for _, stage in seen)
    assert seen[-1] == (1.0, "Published alice/tiny")


def test_what_would_be_published_is_listed_without_asking_the_hub(hub, folder):
    write(folder, {".git/config": b"x", "__pycache__/a.pyc": b"x", ".cache/a.bin": b"x"})

    assert hub_room.planned(folder) == [(path, len(FILES[path])) for path in sorted(FILES)]
    assert hub.requests == []


# Who may publish, and where


def refusal(folder: Path, words: str, kind: type[HubError] = HubError, **options) -> None:
    """Both ask first: the check before any long work, and publishing itself."""
    known = {"repo_type": "model", "token": TOKEN, "public": False, "repo_id": "alice/tiny", **options}
    with pytest.raises(kind, match=words):
        hub_room.check_destination(**known)
    with pytest.raises(kind, match=words):
        publish(folder, **known)


def test_without_a_token_nothing_is_asked(hub, folder):
    for token in (None, False, ""):
        refusal(folder, "needs a token that may write. Set HF_TOKEN or run `hf auth login`, or give a folder",
                AccessDeniedError, token=token)  # fmt: skip
    assert hub.requests == []


def test_the_token_of_the_machine_is_used(hub, folder, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)

    hub_room.check_destination("alice/tiny", "model")
    publish(folder, token=None)
    assert on_hub(hub) == FILES


@pytest.mark.parametrize("token", ["hf_wrong", "hf_ali ce", "hf_\u00e4"])
def test_an_unknown_token_is_said_to_be_unknown(hub, folder, token):
    refusal(folder, "The Hub does not know this token", AccessDeniedError, token=token)
    assert hub.repos == {}


def test_a_token_that_only_reads_is_told_what_it_lacks(hub, folder):
    hub.add_user("alice", token="hf_reader", role="read")

    refusal(folder, "The token of alice may only read, so alice/tiny cannot be published", AccessDeniedError,
            token="hf_reader")  # fmt: skip
    assert hub.repos == {}


def test_a_fine_grained_token_is_let_pass_and_believed_when_it_may_not(hub, folder):
    hub.add_user("alice", token="hf_fine", role="fineGrained")
    hub_room.check_destination("alice/tiny", "model", "hf_fine")
    hub.fault(path_contains="/api/repos/create", status=403)
    hub.fault(path_contains="/api/models/alice/tiny", spare=1, status=403)

    with pytest.raises(AccessDeniedError, match="does not let this token do that with alice/tiny: This failure was"):
        publish(folder, token="hf_fine")
    publish(folder, token="hf_fine")
    assert on_hub(hub) == FILES


def test_a_strange_namespace_is_answered_with_those_that_would_work(hub, folder):
    hub.add_organisation("lab", members=["alice"])
    hub.add_organisation("others", members=["bob"])

    for owner in ("bob", "others", "Alice"):
        refusal(folder, f"alice may not publish under '{owner}'.*What would work: alice/tiny, lab/tiny.$",
                AccessDeniedError, repo_id=f"{owner}/tiny")  # fmt: skip
    publish(folder, "lab/tiny")
    assert on_hub(hub, "lab/tiny") == FILES


@pytest.mark.parametrize(
    ("repo_id", "words"),
    [("tiny", r"'tiny' says no owner. Give OWNER/NAME, such as 'alice/tiny'"), ("a/b/c", "is not the id of a repos")],
)
def test_a_name_that_cannot_be_one_is_refused(hub, folder, repo_id, words):
    refusal(folder, words, RepoNotFoundError, repo_id=repo_id)
    assert hub.requests == []


@pytest.mark.parametrize(("taken", "wanted"), [("dataset", "model"), ("space", "dataset"), ("model", "space")])
def test_a_name_that_another_type_has_is_not_used_twice(hub, folder, taken, wanted):
    hub.add_files("alice/tiny", {"README.md": CARD}, repo_type=taken)

    refusal(folder, f"alice/tiny is the name of a {taken} already, and this is a {wanted}.*alice/tiny-{wanted}",
            repo_type=wanted)  # fmt: skip
    assert (wanted, "alice/tiny") not in hub.repos
    hub.add_files("alice/tiny", {}, repo_type=wanted, private=True, sdk="gradio")
    hub_room.check_destination("alice/tiny", wanted, TOKEN)  # both are there: somebody meant it so


def test_a_space_of_another_kind_is_left_alone(hub, folder):
    hub.add_files("alice/tiny", {"README.md": CARD}, repo_type="space", sdk="docker", private=True)

    refusal(folder, "The Space alice/tiny is made with docker, and this one needs gradio", repo_type="space")


def test_visibility_never_changes_and_is_never_mistaken(hub, folder):
    hub.add_files("alice/open", {"a.txt": "x"})
    hub.add_files("alice/closed", {"a.txt": "x"}, private=True)

    refusal(folder, "The model alice/open is public, so this would be for everyone to see. Say --public",
            repo_id="alice/open")  # fmt: skip
    refusal(folder, "alice/closed is private, and publishing does not change .*/alice/closed/settings",
            repo_id="alice/closed", public=True)  # fmt: skip
    hub_room.check_destination("alice/open", "model", TOKEN)  # not asked about that
    publish(folder, "alice/open", public=True)
    publish(folder, "alice/closed")
    assert (hub.repo("alice/open").private, hub.repo("alice/closed").private) == (False, True)


# What goes wrong on the way


def failure(folder: Path, **options) -> str | None:
    try:
        publish(folder, **options)
    except HubUnreachableError as error:
        return str(error)
    return None


def cut_everywhere(hub: LoopbackHub, folder: Path, wanted: dict[str, bytes], before: dict[str, bytes], **fault) -> int:
    """The line goes dead after each number of requests in turn, until there are fewer; how many there were."""
    start, options = hub.snapshot(), {"owned": ["notes/*"]}
    for answered in itertools.count():
        hub.restore(start)
        dead = hub.fault(kind="disconnect", spare=answered, times=10**6, **fault)
        said = failure(folder, **options)
        if said is None:
            assert dead.times == 10**6, "it was cut, and nobody said so"
            assert on_hub(hub) == wanted
            return answered
        assert "run the same again" in said.lower()
        hub.faults.clear()
        known = ("model", "alice/tiny") in hub.repos
        assert (on_hub(hub) if known else {}) in (before, wanted)
        sent = len(hub.repo("alice/tiny").objects) if known else 0
        hub.requests.clear()
        publish(folder, **options)
        assert on_hub(hub) == wanted
        assert hub.repo("alice/tiny").private
        assert titles(hub).count("Publish") == 1
        assert uploads(hub) == len(hub.repo("alice/tiny").objects) - sent  # what had arrived is not sent again
    raise AssertionError


@pytest.mark.parametrize("lost", [False, True])
def test_a_first_publication_cut_anywhere_is_whole_after_the_next_run(hub, folder, impatient, lost):
    assert cut_everywhere(hub, folder, FILES, {}, lose_answer=lost) >= 10


def test_an_update_cut_anywhere_leaves_the_old_or_the_new_files(hub, folder, impatient):
    hub.add_files("alice/tiny", {**FILES, "notes/old.md": "x", "mine.md": "y"}, private=True)
    new = write(folder, {"model.safetensors": save({"weight": np.ones(6)}), "config.json": b"{}"})
    wanted = {path.relative_to(new).as_posix(): path.read_bytes() for path in new.rglob("*") if path.is_file()}
    before = on_hub(hub)

    assert cut_everywhere(hub, folder, {**wanted, "mine.md": b"y"}, before) >= 6


def test_a_commit_whose_answer_is_lost_is_found_to_be_there(hub, folder):
    hub.fault(path_contains="/commit/main", kind="disconnect", lose_answer=True)

    assert publish(folder) == f"{hub.endpoint}/alice/tiny"
    assert titles(hub) == ["Publish", "initial commit"]
