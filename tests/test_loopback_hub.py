"""The tests' own Hub, proved with the real client libraries: what they push is what they get back."""

from pathlib import Path

import pytest
import torch
from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationCopy,
    CommitOperationDelete,
    HfApi,
    HfFileSystem,
    snapshot_download,
)
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import get_session
from loopback_hub import LoopbackHub
from safetensors.torch import save

WEIGHTS = save({"head.weight": torch.arange(6.0).reshape(2, 3), "head.bias": torch.zeros(2, dtype=torch.float16)})
CARD = "---\nlicense: mit\ntags: [tiny]\npipeline_tag: image-classification\n---\n# Tiny\n"


@pytest.fixture
def alice(hub: LoopbackHub) -> HfApi:
    """Alice's client, with the right to write."""
    hub.add_user("alice", token="hf_alice")
    return HfApi(token="hf_alice")


@pytest.fixture
def bob(hub: LoopbackHub) -> HfApi:
    """Bob's client; he may only read."""
    hub.add_user("bob", token="hf_bob", role="read")
    return HfApi(token="hf_bob")


@pytest.fixture
def anyone(hub: LoopbackHub) -> HfApi:
    return HfApi(token=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A card, weights that go through LFS, and files in folders whose names need quoting."""
    contents = {
        "README.md": CARD.encode(),
        "model.safetensors": WEIGHTS,
        "notes/ünï cödé #1.txt": b"one\r\ntwo",
        "notes/empty.txt": b"",
    }
    for path, content in contents.items():
        (tmp_path / "source" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "source" / path).write_bytes(content)
    return tmp_path / "source"


def contents(root: str | Path) -> dict[str, bytes]:
    paths = [path for path in Path(root).rglob("*") if path.is_file() and ".cache" not in path.parts]
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in paths}


def test_a_folder_comes_back_as_it_was_pushed(hub, alice, folder, tmp_path):
    alice.create_repo("alice/tiny")
    alice.upload_folder(repo_id="alice/tiny", folder_path=folder)
    found = contents(snapshot_download("alice/tiny", local_dir=tmp_path / "copy", token=False))

    assert found.pop(".gitattributes").startswith(b"*.7z filter=lfs")
    assert found == contents(folder)
    kept = {file.rfilename: file.lfs for file in alice.model_info("alice/tiny", files_metadata=True).siblings}
    assert kept["model.safetensors"].size == len(WEIGHTS)
    assert kept["notes/empty.txt"] is None
    uploads = [seen for seen in hub.requests if seen.path.startswith("/lfs-upload/")]
    assert [(seen.method, seen.token, seen.status) for seen in uploads] == [("PUT", None, 200)]


def test_pushing_the_same_folder_twice_makes_no_second_commit(hub, alice, folder):
    alice.create_repo("alice/tiny")
    first = alice.upload_folder(repo_id="alice/tiny", folder_path=folder).oid
    hub.requests.clear()
    second = alice.upload_folder(repo_id="alice/tiny", folder_path=folder).oid

    assert second == first
    assert not [seen for seen in hub.requests if seen.method == "PUT" or "/commit/" in seen.path]
    assert len(alice.list_repo_commits("alice/tiny")) == 2  # the first holds .gitattributes


def test_a_folder_added_without_http_equals_one_that_was_pushed(hub, alice, folder):
    alice.create_repo("alice/pushed")
    alice.upload_folder(repo_id="alice/pushed", folder_path=folder)
    sha = hub.add_folder("alice/added", folder)

    assert hub.add_folder("alice/added", folder) == sha
    pushed, added = (list(alice.list_repo_tree(f"alice/{name}", recursive=True)) for name in ("pushed", "added"))
    assert pushed == added


def test_a_private_repository_is_found_only_by_its_owner(hub, alice, bob, anyone):
    hub.add_files("alice/secret", {"config.json": "{}"}, private=True)

    assert alice.model_info("alice/secret").private
    for stranger in (bob, anyone):
        with pytest.raises(RepositoryNotFoundError):
            stranger.model_info("alice/secret")
        with pytest.raises(RepositoryNotFoundError):
            stranger.hf_hub_download("alice/secret", "config.json")
        assert not list(stranger.list_models())
    with pytest.raises(HfHubHTTPError, match="Invalid credentials") as wrong:
        HfApi(token="hf_wrong").model_info("alice/secret")
    assert not isinstance(wrong.value, RepositoryNotFoundError)


def test_a_gated_repository_shows_itself_and_keeps_its_files(hub, alice, bob, anyone):
    hub.add_files("alice/gated", {"config.json": "{}"}, gated=True)

    assert anyone.model_info("alice/gated").gated == "manual"
    for api, status in ((anyone, 401), (bob, 403)):
        with pytest.raises(GatedRepoError, match="is restricted") as refused:
            api.hf_hub_download("alice/gated", "config.json")
        assert refused.value.response.status_code == status
        with pytest.raises(GatedRepoError):
            api.auth_check("alice/gated")
    hub.allow("alice/gated", "bob")
    bob.auth_check("alice/gated")
    assert Path(bob.hf_hub_download("alice/gated", "config.json")).read_text() == "{}"
    alice.update_repo_settings("alice/gated", gated=False)
    anyone.auth_check("alice/gated")


def test_only_members_with_a_write_token_may_write(hub, alice, bob, anyone):
    hub.add_user("bob", token="hf_bob_write")
    hub.add_organisation("lab", members=["alice"])
    alice.create_repo("lab/model")
    alice.upload_file(repo_id="lab/model", path_or_fileobj=b"1", path_in_repo="a.txt")

    assert alice.whoami()["orgs"][0]["name"] == "lab"
    for api in (bob, HfApi(token="hf_bob_write"), anyone):
        with pytest.raises(HfHubHTTPError, match=r"401|403"):
            api.upload_file(repo_id="lab/model", path_or_fileobj=b"2", path_in_repo="a.txt")
    with pytest.raises(HfHubHTTPError, match="write token"):
        bob.create_repo("bob/model")
    with pytest.raises(HfHubHTTPError, match="don't have the rights to create"):
        alice.create_repo("bob/model")


def test_what_is_missing_raises_its_own_error(hub, alice, anyone):
    hub.add_files("alice/tiny", {"a.txt": "a"})

    for name in ("alice/nothing", "nothing"):
        with pytest.raises(RepositoryNotFoundError):
            alice.hf_hub_download(name, "a.txt")
    with pytest.raises(RepositoryNotFoundError):
        anyone.dataset_info("alice/tiny")
    with pytest.raises(RevisionNotFoundError):
        anyone.hf_hub_download("alice/tiny", "a.txt", revision="v9")
    with pytest.raises(EntryNotFoundError):
        anyone.hf_hub_download("alice/tiny", "b.txt")
    with pytest.raises(EntryNotFoundError):
        list(anyone.list_repo_tree("alice/tiny", "folder"))
    with pytest.raises(HfHubHTTPError, match="Invalid user token"):
        HfApi(token="hf_wrong").whoami()


def test_branches_tags_and_shas_pin_a_revision(hub, alice):
    first = hub.add_files("alice/tiny", {"a.txt": "1"})
    alice.create_tag("alice/tiny", tag="v1.0")
    alice.create_branch("alice/tiny", branch="exp/a")
    second = alice.upload_file(repo_id="alice/tiny", path_or_fileobj=b"2", path_in_repo="a.txt", revision="exp/a").oid
    alice.upload_file(repo_id="alice/tiny", path_or_fileobj=b"3", path_in_repo="a.txt")

    def read(revision: str | None) -> str:
        return Path(alice.hf_hub_download("alice/tiny", "a.txt", revision=revision)).read_text()

    revisions = (None, "main", "exp/a", "v1.0", first, second)
    assert [read(revision) for revision in revisions] == ["3", "3", "2", "1", "1", "2"]
    refs = alice.list_repo_refs("alice/tiny")
    assert {ref.name: ref.target_commit for ref in refs.branches + refs.tags} == {
        "main": alice.model_info("alice/tiny").sha,
        "exp/a": second,
        "v1.0": first,
    }
    with pytest.raises(HfHubHTTPError, match="409"):
        alice.create_branch("alice/tiny", branch="exp/a")
    alice.delete_branch("alice/tiny", branch="exp/a")
    alice.delete_tag("alice/tiny", tag="v1.0")
    assert alice.list_repo_refs("alice/tiny").tags == []


def test_a_commit_adds_copies_and_deletes_unless_its_parent_is_old(hub, alice):
    old = hub.add_files("alice/tiny", {"old/a.txt": "a", "old/b.bin": b"b", "c.txt": "c"})
    operations = [
        CommitOperationCopy(src_path_in_repo="old/b.bin", path_in_repo="new/b.bin"),
        CommitOperationDelete(path_in_repo="old/"),
        CommitOperationAdd(path_in_repo="d.txt", path_or_fileobj=b"d"),
    ]
    alice.create_commit("alice/tiny", operations, commit_message="tidy", parent_commit=old)

    assert alice.list_repo_files("alice/tiny") == [".gitattributes", "c.txt", "d.txt", "new/b.bin"]
    node = alice.get_paths_info("alice/tiny", ["c.txt", "new", "gone"], expand=True)
    assert [(found.path, found.last_commit.title) for found in node] == [("c.txt", "Add files"), ("new", "tidy")]
    gone = [CommitOperationDelete(path_in_repo="gone.txt")]
    with pytest.raises(HfHubHTTPError, match="412"):
        alice.create_commit("alice/tiny", gone, commit_message="late", parent_commit=old)
    with pytest.raises(EntryNotFoundError, match="A file with this name doesn't exist"):
        alice.create_commit("alice/tiny", gone, commit_message="gone")
    with pytest.raises(HfHubHTTPError, match="no pull requests"):
        alice.upload_file(repo_id="alice/tiny", path_or_fileobj=b"e", path_in_repo="e.txt", create_pr=True)


def test_a_card_with_broken_metadata_is_refused(hub, alice):
    alice.create_repo("alice/tiny")

    with pytest.raises(ValueError, match="not YAML"):
        alice.upload_file(repo_id="alice/tiny", path_or_fileobj=b"---\na: [\n---\n", path_in_repo="README.md")
    with pytest.warns(UserWarning, match="empty or missing yaml metadata"):
        alice.upload_file(repo_id="alice/tiny", path_or_fileobj=b"# Tiny", path_in_repo="README.md")


def test_repositories_are_created_once_and_deleted(hub, alice):
    assert alice.create_repo("tiny", private=True).repo_id == "alice/tiny"
    with pytest.raises(HfHubHTTPError, match="already created"):
        alice.create_repo("alice/tiny")
    assert alice.create_repo("alice/tiny", repo_type="space", space_sdk="gradio").repo_type == "space"
    assert alice.create_repo("alice/tiny", exist_ok=True).repo_id == "alice/tiny"
    assert alice.space_info("alice/tiny").sdk == "gradio"
    alice.delete_repo("alice/tiny")
    assert alice.repo_exists("alice/tiny", repo_type="space")
    with pytest.raises(RepositoryNotFoundError):
        alice.delete_repo("alice/tiny")


def test_models_are_listed_by_task_name_tag_and_size_page_by_page(hub, alice):
    for i in range(5):
        hub.add_files(f"alice/cat-{i}", {"README.md": CARD})
    hub.add_files("bob/dog", {"model.safetensors": WEIGHTS}, pipeline_tag="text-generation", tags=["dataset:bob/dogs"])
    hub.page_size = 2

    def names(**asked) -> list[str]:
        return sorted(model.id for model in alice.list_models(**asked))

    cats = [f"alice/cat-{i}" for i in range(5)]
    assert names() == [*cats, "bob/dog"]
    assert len([seen for seen in hub.requests if seen.path.startswith("/api/models?cursor=")]) == 2
    assert names(pipeline_tag="image-classification", limit=3) == cats[:3]
    assert names(search="CAT-4") == ["alice/cat-4"]
    assert names(author="bob") == names(trained_dataset="bob/dogs") == names(filter="safetensors") == ["bob/dog"]
    assert names(filter=["tiny", "license:mit"]) == cats
    assert names(num_parameters="min:8,max:1K") == ["bob/dog"]
    assert names(num_parameters="min:9") == []
    newest = next(iter(alice.list_models(sort="last_modified", full=True)))
    assert (newest.id, newest.author, newest.card_data) == ("bob/dog", "bob", None)


def test_a_tree_longer_than_a_page_is_listed_whole(hub, anyone):
    hub.add_files("alice/many", {f"images/{i}.png": b"%d" % i for i in range(9)}, repo_type="dataset")
    hub.page_size = 4

    assert len(list(anyone.list_repo_tree("alice/many", "images", repo_type="dataset"))) == 9
    assert [node.path for node in anyone.list_repo_tree("alice/many", repo_type="dataset")] == [
        ".gitattributes",
        "images",
    ]


def test_parameters_and_card_are_known_before_any_download(hub, anyone):
    hub.add_files("alice/tiny", {"README.md": CARD, "model.safetensors": WEIGHTS})

    info = anyone.model_info("alice/tiny", expand=["safetensors", "cardData", "pipeline_tag", "tags"])
    assert (info.safetensors.parameters, info.pipeline_tag, info.author) == (
        {"F32": 6, "F16": 2},
        "image-classification",
        None,
    )
    assert info.card_data.license == "mit"
    assert {"tiny", "safetensors", "license:mit"} <= set(info.tags)
    metadata = anyone.get_safetensors_metadata("alice/tiny")
    assert metadata.files_metadata["model.safetensors"].tensors["head.weight"].shape == [2, 3]


def test_a_range_beyond_the_end_is_cut_and_one_past_it_refused(hub):
    hub.add_files("alice/tiny", {"a.txt": "abcdef"})
    with HfFileSystem(token=False).open("alice/tiny/a.txt", block_size=4) as file:
        file.seek(2)
        assert file.read(3) == b"cde"

    def part(wanted: str) -> tuple[int, str]:
        answer = get_session().get(f"{hub.endpoint}/alice/tiny/resolve/main/a.txt", headers={"Range": wanted})
        return answer.status_code, answer.text

    assert part("bytes=0-1") == (206, "ab")
    assert part("bytes=4-99") == part("bytes=-2") == (206, "ef")
    assert part("bytes=6-")[0] == 416
