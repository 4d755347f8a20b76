"""The tests' own Hub and the settings of Spaces, with the real client: secrets go in and never come out."""

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError
from loopback_hub import LoopbackHub


@pytest.fixture
def alice(hub: LoopbackHub) -> HfApi:
    hub.add_user("alice", token="hf_alice")
    return HfApi(token="hf_alice")


@pytest.fixture
def space(alice: HfApi) -> str:
    alice.create_repo("alice/why", repo_type="space", space_sdk="gradio", private=True)
    return "alice/why"


def test_variables_are_set_changed_read_and_deleted(alice, space):
    alice.add_space_variable(space, "XAIHUB_MODEL", "alice/one", description="the first")
    alice.add_space_variable(space, "OTHER", "x")
    found = alice.get_space_variables(space)
    assert (found["XAIHUB_MODEL"].value, found["XAIHUB_MODEL"].description) == ("alice/one", "the first")

    changed = alice.add_space_variable(space, "XAIHUB_MODEL", "alice/two")["XAIHUB_MODEL"]
    assert changed.value == "alice/two"
    assert changed.updated_at > found["XAIHUB_MODEL"].updated_at
    assert set(alice.delete_space_variable(space, "OTHER")) == {"XAIHUB_MODEL"}


def test_secrets_show_their_names_alone(hub, alice, space):
    alice.add_space_secret(space, "HF_TOKEN", "hf_hidden")

    assert set(alice.get_space_secrets(space)) == {"HF_TOKEN"}
    answer = alice.get_space_secrets(space)["HF_TOKEN"]
    assert "hf_hidden" not in repr(vars(answer))
    assert hub.repo(space, "space").secrets["HF_TOKEN"]["value"] == "hf_hidden"
    alice.delete_space_secret(space, "HF_TOKEN")
    assert alice.get_space_secrets(space) == {}


def test_both_may_come_with_the_space(hub, alice):
    alice.create_repo(
        "alice/new", repo_type="space", space_sdk="gradio",
        space_variables=[{"key": "A", "value": "1"}], space_secrets=[{"key": "B", "value": "2"}],
    )  # fmt: skip

    assert alice.get_space_variables("alice/new")["A"].value == "1"
    assert set(alice.get_space_secrets("alice/new")) == {"B"}


def test_settings_are_for_those_who_may_write(hub, alice, space):
    hub.add_user("alice", token="hf_reader", role="read")
    hub.add_user("bob", token="hf_bob")

    with pytest.raises(HfHubHTTPError, match="write token"):
        HfApi(token="hf_reader").add_space_variable(space, "A", "1")
    for call in ("get_space_variables", "get_space_secrets"):
        with pytest.raises(RepositoryNotFoundError):
            getattr(HfApi(token="hf_bob"), call)(space)
    with pytest.raises(HfHubHTTPError, match="Invalid key: A-B"):
        alice.add_space_variable(space, "A-B", "1")


def test_a_snapshot_of_the_hub_keeps_the_settings(hub, alice, space):
    alice.add_space_variable(space, "A", "1")
    before = hub.snapshot()
    alice.add_space_variable(space, "A", "2")
    hub.restore(before)

    assert hub.repo(space, "space").variables["A"]["value"] == "1"


def test_a_fine_grained_token_says_so_and_organisations_their_role(hub, alice):
    hub.add_user("alice", token="hf_fine", role="fineGrained")
    hub.add_organisation("lab", members=["alice"])
    who = HfApi(token="hf_fine").whoami()

    assert who["auth"]["accessToken"]["role"] == "fineGrained"
    assert [(org["name"], org["roleInOrg"]) for org in who["orgs"]] == [("lab", "write")]
    HfApi(token="hf_fine").create_repo("lab/tiny")


def test_a_fault_may_spare_the_first_requests_and_lose_only_the_answer(hub, alice):
    hub.fault(kind="disconnect", spare=1, lose_answer=True)

    alice.whoami()
    with pytest.raises(Exception, match="disconnected"):
        alice.create_repo("alice/tiny")
    assert ("model", "alice/tiny") in hub.repos
    alice.whoami()
