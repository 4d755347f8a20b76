"""What the Hub, a typo or a token can do to a load: each time one error that says the value, why, and what next."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_models import TINY, TOKEN, assert_same_network, build, files_of, processor_of

from xaihub import hub as hub_room
from xaihub import load_classifier, preflight
from xaihub.errors import (
    AccessDeniedError,
    DownloadError,
    HubError,
    HubUnreachableError,
    RepoNotFoundError,
)

VIT = TINY["vit"]


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, bytes]:
    """A whole, good repository."""
    return files_of(build(VIT), processor_of(VIT), folder=tmp_path_factory.mktemp("vit"))


@pytest.fixture
def people(hub) -> None:
    hub.add_user("alice", token=TOKEN)
    hub.add_user("mallory", token="hf_mallory")


def tokens(hub) -> set[str | None]:
    return {seen.token for seen in hub.requests}


# The line to the Hub


@pytest.mark.parametrize("offline", ["", "1"])
def test_without_a_network_the_hub_does_not_answer(offline):
    program = "from xaihub import hub; hub.look('microsoft/resnet-18', token=False)"
    nowhere = {**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": offline}

    done = subprocess.run([sys.executable, "-c", program], env=nowhere, capture_output=True, text=True, timeout=120)

    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("xaihub.errors.HubUnreachableError: The Hugging Face Hub does not answer, so microsoft/resn")
    assert last.endswith("Check the network and try again; the built-in starter works without it.")


@pytest.mark.parametrize("path", ["/api/models/alice/tiny", "config.json", "model.safetensors"])
def test_a_line_that_goes_dead_is_said_to_be_dead_and_the_next_load_works(hub, files, path):
    hub.add_files("alice/tiny", files)
    hub.fault(path_contains=path, kind="disconnect", times=10)

    with pytest.raises(HubUnreachableError, match="Hub does not answer, so alice/tiny cannot be loaded now"):
        load_classifier("alice/tiny", token=False)
    hub.faults.clear()
    assert_same_network(load_classifier("alice/tiny", token=False), build(VIT))


@pytest.mark.parametrize(
    ("status", "words"),
    [(503, r"failed while answering for alice/tiny \(status 503\). Try again"), (429, "too many requests from here")],
)
def test_a_hub_in_trouble_is_asked_again_later(hub, files, status, words):
    hub.add_files("alice/tiny", files)
    hub.fault(path_contains="/api/models/alice/tiny", status=status)

    with pytest.raises(HubUnreachableError, match=words):
        load_classifier("alice/tiny", token=False)


def test_a_download_that_was_cut_short_is_not_believed_and_is_made_again(hub, files):
    hub.add_files("alice/tiny", files)
    plan = preflight("alice/tiny", token=False)
    hub.fault(path_contains="model.safetensors", kind="truncate")

    with pytest.raises(DownloadError, match=r"alice/tiny did not arrive whole .* Try again"):
        load_classifier(plan, token=False)
    assert_same_network(load_classifier(plan, token=False), build(VIT))


def test_a_header_that_was_cut_short_is_not_believed(hub, files):
    hub.add_files("alice/tiny", files)
    hub.fault(path_contains="model.safetensors", kind="truncate", after_bytes=100, times=2)

    with pytest.raises(DownloadError, match="alice/tiny did not arrive whole"):
        load_classifier("alice/tiny", token=False)


# What was typed


@pytest.mark.parametrize(
    ("typed", "near"),
    [
        ("microsoft/resnet-81", r"Did you mean 'microsoft/resnet-18'\?"),
        ("Google/vit-base-patch16-224", r"Did you mean 'google/vit-base-patch16-224'\?"),
        ("someone/entirely-else", "visitors without a token.$"),
    ],
)
def test_an_unknown_id_is_answered_with_the_nearest_that_is_known(hub, typed, near):
    with pytest.raises(RepoNotFoundError, match=f"There is no model '{typed}' on the Hub, or it is private.*{near}"):
        load_classifier(typed, token=False)


@pytest.mark.parametrize(
    "typed",
    [
        "https://huggingface.co/alice/tiny",
        "HTTPS://HuggingFace.co/alice/tiny/",
        "hf.co/alice/tiny",
        " huggingface.co/alice/tiny/tree/main ",
        "https://huggingface.co/alice/tiny/blob/main/config.json",
        "https://huggingface.co/alice/tiny?library=transformers#use",
        "https://huggingface.co/alice/tiny/discussions/3",
    ],
)
def test_a_pages_address_is_as_good_as_an_id(hub, files, typed):
    hub.add_files("alice/tiny", files)

    assert preflight(typed, token=False).repo_id == "alice/tiny"


@pytest.mark.parametrize("name", ["bert", "_x/y_", "a.b/c.d-e", "A/B"])
def test_an_id_may_be_what_the_hub_allows(name):
    assert hub_room.clean_repo_id(name) == name


@pytest.mark.parametrize(
    "typed",
    [
        "", " ", "../x", "/etc/passwd", "~nobody/model", "alice/../tiny", "alice/tiny/config.json", "alice//tiny",
        "https://example.com/alice/tiny", "https://huggingface.co.evil.com/alice/tiny", "http://127.0.0.1/alice/tiny",
        "file:///etc/passwd", "hf-hub:alice/tiny", "alice\\tiny", "alice/tiny\n/x", "alice/ti ny", "alice/tiny--x",
        "älice/tiny", "alice/\0", "x" * 5000, "alice/" + "x" * 200,
    ],
)  # fmt: skip
@pytest.mark.parametrize("local", [True, False])
def test_what_cannot_be_an_id_is_never_asked_for(hub, typed, local):
    with pytest.raises(
        RepoNotFoundError, match=r"is not the id of a repository\. An id looks like 'microsoft/resnet-18'"
    ):
        preflight(typed, local=local)
    assert hub.requests == []


def test_a_visitor_cannot_name_a_folder_of_this_machine(hub, files, tmp_path, monkeypatch):
    (tmp_path / "alice" / "tiny").mkdir(parents=True)
    for name, content in files.items():
        (tmp_path / "alice" / "tiny" / name).write_bytes(content)
    monkeypatch.chdir(tmp_path)

    assert preflight("alice/tiny").folder == Path("alice/tiny")
    with pytest.raises(RepoNotFoundError, match="There is no model 'alice/tiny' on the Hub"):
        load_classifier("alice/tiny", token=False, local=False)
    with pytest.raises(RepoNotFoundError, match="is not the id of a repository"):
        load_classifier(str(tmp_path / "alice" / "tiny"), token=False, local=False)


def test_a_revision_that_there_is_not_is_named(hub, files):
    hub.add_files("alice/tiny", files)

    with pytest.raises(RepoNotFoundError, match=r"alice/tiny has no revision 'v2'. Leave the revision out, or give"):
        load_classifier("alice/tiny", revision="v2", token=False)


# Whose token


def test_a_private_repository_is_open_to_its_owners_token_alone(hub, people, files):
    hub.add_files("alice/tiny", files, private=True)

    with pytest.raises(RepoNotFoundError, match="or it is private and not open to visitors without a token"):
        load_classifier("alice/tiny", token=False)
    with pytest.raises(RepoNotFoundError, match="or it is private and not open to your token"):
        load_classifier("alice/tiny", token="hf_mallory")
    with pytest.raises(AccessDeniedError, match=r"The Hub does not know this token\. Sign in again"):
        load_classifier("alice/tiny", token="hf_wrong")
    assert_same_network(load_classifier("alice/tiny", token=TOKEN), build(VIT))
    with pytest.raises(RepoNotFoundError, match="not open to visitors"):
        load_classifier("alice/tiny", token=False)  # though its files are in the cache now


def test_a_gated_repository_is_closed_to_others_also_when_its_files_are_in_the_cache(hub, people, files):
    hub.add_user("carol", token="hf_carol")
    hub.add_files("alice/tiny", files, gated="manual")
    hub.allow("alice/tiny", "carol")
    closed = "alice/tiny is gated: its authors ask people to accept their terms. Open its page on the Hub"

    with pytest.raises(AccessDeniedError, match=f"{closed}, accept them, and sign in here.$"):
        load_classifier("alice/tiny", token=False)
    assert_same_network(load_classifier("alice/tiny", token="hf_carol"), build(VIT))
    with pytest.raises(AccessDeniedError, match=closed):
        load_classifier("alice/tiny", token=False)
    with pytest.raises(AccessDeniedError, match=f"{closed}.* with the account that did"):
        load_classifier("alice/tiny", token="hf_mallory")


@pytest.mark.parametrize("where", ["environment", "file"])
def test_a_visitors_load_never_sends_this_machines_own_token(hub, people, files, monkeypatch, where):
    from huggingface_hub import constants

    if where == "environment":
        monkeypatch.setenv("HF_TOKEN", TOKEN)
    else:
        Path(constants.HF_TOKEN_PATH).write_text(TOKEN)
    try:
        hub.add_files("alice/tiny", files)
        load_classifier("alice/tiny", token=False, local=False)
        hub_room.search_models("tiny")
        with pytest.raises(HubError):
            load_classifier("alice/nothing", token=False)
        assert tokens(hub) == {None}

        hub.requests.clear()
        preflight("alice/tiny")  # its owner's own load does
        assert tokens(hub) == {TOKEN}
    finally:
        Path(constants.HF_TOKEN_PATH).unlink(missing_ok=True)


@pytest.mark.parametrize("token", ["hf_alice\nX-Evil: 1", "hf_älice", "\0", "hf alice"])
def test_a_token_that_cannot_be_sent_is_an_error_in_words(hub, files, token):
    hub.add_files("alice/tiny", files)

    with pytest.raises(HubError, match=r"The Hub does not know this token\. Sign in again"):
        load_classifier("alice/tiny", token=token)
    assert hub.requests == []


# Searching


def test_a_search_gives_classifiers_alone_and_nothing_when_the_hub_fails(hub, files):
    hub.add_files("alice/small-vit", files)
    hub.add_files("bob/large-vit", files)
    hub.add_files("bob/vit-text", {"config.json": "{}"}, pipeline_tag="text-generation")
    hub.repo("bob/large-vit").downloads = 7

    assert hub_room.search_models("vit") == ["bob/large-vit", "alice/small-vit"]
    assert hub_room.search_models("vit", limit=1) == ["bob/large-vit"]
    assert hub_room.search_models("resnet") == []
    hub.fault(path_contains="/api/models", status=500)
    assert hub_room.search_models("vit") == []
