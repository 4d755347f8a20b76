"""Models of Kaggle, fetched by the real kagglehub from a Kaggle on loopback."""

import importlib.util
import json
import sys

import pytest
from loopback_hub.server import Fault
from loopback_kaggle import LoopbackKaggle, credentials_file
from tiny_models import TINY, assert_explained, assert_same_network, build, files_of, processor_of

from xaihub import Limits, load_classifier, preflight
from xaihub import kaggle as room
from xaihub.errors import (
    AccessDeniedError,
    CancelledError,
    DownloadError,
    HubUnreachableError,
    RepoNotFoundError,
    TooLargeError,
    UnsupportedModelError,
)

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("kagglehub") is None, reason="kagglehub, the extra 'kaggle', is not installed"
)

HANDLE = "alice/pets/transformers/tiny"
NAME = f"kaggle/{HANDLE}"
FORGOTTEN = ("KAGGLE_USERNAME", "KAGGLE_KEY", "KAGGLE_API_TOKEN", "KAGGLE_CONFIG_DIR", "KAGGLE_KERNEL_RUN_TYPE")


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, bytes]:
    """A whole, good model: a small ViT of three classes."""
    return files_of(build(TINY["vit"]), processor_of(TINY["vit"]), folder=tmp_path_factory.mktemp("vit"))


@pytest.fixture
def kaggle(monkeypatch, tmp_path):
    """A Kaggle, an empty cache, and a home in which no credentials lie."""
    server = LoopbackKaggle().start()
    for name in FORGOTTEN:
        monkeypatch.delenv(name, raising=False)
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("XAIHUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    yield server
    server.stop()


def cached(tmp_path) -> list[str]:
    """Every file in the cache, below the model's folder."""
    folder = tmp_path / "cache" / "kaggle" / HANDLE
    found = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    return sorted(path.relative_to(folder).as_posix() for path in found)


def fetched(kaggle) -> list[str]:
    return [asked.file for asked in kaggle.asked if asked.what == "bucket"]


def test_a_model_of_kaggle_is_the_network_that_was_uploaded(kaggle, files, tmp_path):
    kaggle.add(HANDLE, {**files, "README.md": b"# Pets", "training_args.bin": b"x"})

    classifier = load_classifier(NAME)

    assert (classifier.repo_id, classifier.revision) == (NAME, "1")
    assert classifier.facts["licence"] == "Apache 2.0"
    assert classifier.labels == ("cat", "dog", "hen")
    assert_same_network(classifier, build(TINY["vit"]))
    assert_explained(classifier, 64)
    assert cached(tmp_path) == ["1/config.json", "1/model.safetensors", "1/preprocessor_config.json"]
    assert sorted(fetched(kaggle)) == ["config.json", "model.safetensors", "preprocessor_config.json"]


def test_what_was_fetched_once_is_not_fetched_again_but_kaggle_is_asked_whether_it_may_be_had(kaggle, files):
    kaggle.add(HANDLE, files)
    load_classifier(NAME)
    kaggle.asked.clear()

    load_classifier(NAME)
    assert {asked.what for asked in kaggle.asked} == {"GetModelInstance", "ListModelInstanceVersionFiles"}

    kaggle.models[HANDLE].private = True
    with pytest.raises(AccessDeniedError):
        load_classifier(NAME)


def test_a_plan_reads_the_small_files_alone(kaggle, files):
    kaggle.add(HANDLE, files)

    plan = preflight(NAME)

    assert (plan.repo_id, plan.family, plan.revision, plan.licence) == (NAME, "transformers", "1", "Apache 2.0")
    assert plan.download == sum(map(len, files.values()))
    assert sorted(fetched(kaggle)) == ["config.json", "preprocessor_config.json"]


@pytest.mark.parametrize(
    ("name", "revision"),
    [
        (f"{NAME}/1", None),
        (NAME, "1"),
        (f"{NAME}/1", "1"),
        ("https://www.kaggle.com/models/alice/pets/transformers/tiny/1", None),
        ("kaggle.com/models/alice/pets/frameworks/transformers/variations/tiny/versions/1?tab=x", None),
    ],
)
def test_a_version_may_be_named_and_a_page_may_be_pasted(kaggle, files, name, revision):
    kaggle.add(HANDLE, files)
    kaggle.add(HANDLE, {"nothing.txt": b"the second version is spoiled"})

    assert preflight(name, revision=revision).revision == "1"


def test_without_a_version_the_latest_is_meant(kaggle, files):
    kaggle.add(HANDLE, files)
    kaggle.add(HANDLE, {"nothing.txt": b"x"})

    with pytest.raises(UnsupportedModelError, match=f"{NAME} has no weights"):
        preflight(NAME)


@pytest.mark.parametrize(
    "name",
    [
        "kaggle/alice/pets", "kaggle/alice/pets/transformers", f"{NAME}/latest", f"{NAME}/0", f"{NAME}/1/2",
        "kaggle/alice/../transformers/tiny", "kaggle/alice/pets/transformers/..", "kaggle//etc/passwd/x",
        "kaggle/alice/pets/transformers/tiny\n", "kaggle/alice/pets/trans formers/tiny",
        "kaggle/alice/pets/transformers/ti%2e%2e", "kaggle/älice/pets/transformers/tiny",
        "kaggle/alice/pets/transformers/a..b", "kaggle/" + "a" * 200 + "/pets/transformers/tiny",
        "https://www.kaggle.com/models/alice/pets",
    ],
)  # fmt: skip
def test_what_is_no_handle_is_refused_before_anybody_is_asked(kaggle, name):
    if name.endswith("\n"):
        assert room.clean_handle(name) == (HANDLE, None)  # a stray line break is what pasting leaves
        return
    with pytest.raises(RepoNotFoundError, match=r"is not the handle of a model on Kaggle. One looks like 'kaggle/"):
        preflight(name)
    assert kaggle.asked == []


@pytest.mark.parametrize("revision", ["main", "2", "-1", "1.0"])
def test_a_revision_that_is_no_version_is_refused(kaggle, files, revision):
    kaggle.add(HANDLE, files)

    with pytest.raises(RepoNotFoundError, match=f"has no revision '{revision}'. On Kaggle a revision is the version's"):
        preflight(f"{NAME}/1", revision=revision)


def test_one_name_after_kaggle_is_a_repository_of_the_hub(kaggle, hub, files):
    hub.add_files("kaggle/tiny", files)

    assert load_classifier("kaggle/tiny", token=False).labels == ("cat", "dog", "hen")
    assert kaggle.asked == []


# Who may have what


def give_credentials(monkeypatch, tmp_path, way):
    if way == "token":
        monkeypatch.setenv("KAGGLE_API_TOKEN", "KGAT_host")
    elif way == "key":
        monkeypatch.setenv("KAGGLE_USERNAME", "host")
        monkeypatch.setenv("KAGGLE_KEY", "key")
    elif way == "token file":
        (tmp_path / "home" / ".kaggle").mkdir(parents=True)
        (tmp_path / "home" / ".kaggle" / "access_token").write_text("KGAT_host")
    else:
        credentials_file(tmp_path / "home")
    if way == "configured folder":
        (tmp_path / "home").rename(tmp_path / "elsewhere")
        monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path / "elsewhere" / ".kaggle"))


WAYS = ["token", "key", "token file", "file", "configured folder"]


@pytest.mark.parametrize("way", WAYS)
def test_ones_own_private_model_is_had_with_ones_own_credentials(kaggle, files, monkeypatch, tmp_path, way):
    kaggle.add(HANDLE, files, private=True)
    give_credentials(monkeypatch, tmp_path, way)

    assert preflight(NAME).revision == "1"


def test_a_private_model_is_refused_without_credentials(kaggle, files):
    kaggle.add(HANDLE, files, private=True)

    with pytest.raises(AccessDeniedError, match=r"does not give .* to you: it is private.*KAGGLE_API_TOKEN"):
        preflight(NAME)


def test_a_visitor_never_uses_the_credentials_of_the_host(kaggle, files, monkeypatch, tmp_path):
    kaggle.add(HANDLE, files)
    kaggle.add("host/secret/transformers/tiny", files, private=True)
    for way in WAYS[:4]:
        give_credentials(monkeypatch, tmp_path, way)
    load_classifier("kaggle/host/secret/transformers/tiny")  # the host itself may, and now it lies in the cache
    assert {asked.authorization for asked in kaggle.asked if asked.what != "bucket"} <= kaggle.tokens
    kaggle.asked.clear()

    with pytest.raises(AccessDeniedError, match=r"to visitors without an account: .* Here only public models are read"):
        preflight("kaggle/host/secret/transformers/tiny", local=False)
    load_classifier(preflight(NAME, local=False), local=False)

    assert {asked.what for asked in kaggle.asked} >= {"DownloadModelInstanceVersion", "bucket"}
    assert {asked.authorization for asked in kaggle.asked} == {None}


# What is refused


def test_without_kagglehub_it_is_said_how_to_install_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)

    with pytest.raises(
        UnsupportedModelError, match=r"not installed here. Install it with pip install 'xaihub\[kaggle\]'"
    ):
        preflight(NAME)


def test_kagglehub_is_not_imported_by_this_process(kaggle, files):
    kaggle.add(HANDLE, files)
    load_classifier(NAME)

    assert not {"kagglehub", "kagglesdk"} & set(sys.modules)


@pytest.mark.parametrize(
    ("others", "words"),
    [
        ({"pytorch_model.bin": b"\x80\x04evil"}, "only as pytorch_model.bin, a format that can run programs"),
        ({"tf_model.h5": b"x"}, "only as tf_model.h5, a format of Keras; what is run here are PyTorch's"),
        ({"model.tflite": b"x"}, "only as model.tflite, a format of TensorFlow Lite"),
        ({"model.tar.gz": b"x"}, "has only model.tar.gz, an archive, and archives are not unpacked here"),
        ({}, r"has no weights \(no model.safetensors\)"),
    ],
)
def test_weights_that_are_not_safetensors_are_refused_and_not_fetched(kaggle, files, tmp_path, others, words):
    kaggle.add(HANDLE, {"config.json": files["config.json"], **others})

    with pytest.raises(UnsupportedModelError, match=words):
        load_classifier(NAME)
    assert fetched(kaggle) == ["config.json"]


def test_an_adapter_of_kaggle_is_named_too(kaggle):
    config = {"peft_type": "LORA", "base_model_name_or_path": "google/vit-base-patch16-224"}
    kaggle.add(HANDLE, {"adapter_config.json": json.dumps(config).encode(), "adapter_model.safetensors": b"x"})

    with pytest.raises(UnsupportedModelError, match="is a LoRA adapter for the base model google/vit-base-patch16-224"):
        load_classifier(NAME)


def test_too_many_bytes_are_refused_before_any_is_fetched(kaggle, files):
    kaggle.add(HANDLE, files, claims={"model.safetensors": 3 * 2**30})

    with pytest.raises(TooLargeError, match="3,072 MB of weights; this host takes at most 700 MB"):
        load_classifier(NAME)
    assert "model.safetensors" not in fetched(kaggle)


def test_too_many_parameters_are_refused_before_they_are_loaded(kaggle, files):
    kaggle.add(HANDLE, files)

    with pytest.raises(TooLargeError, match=r"has 0 M parameters; this host runs at most 0 M"):
        load_classifier(NAME, limits=Limits(parameters=20_000))
    assert load_classifier(NAME, limits=Limits(parameters=50_000)).labels[0] == "cat"


@pytest.mark.parametrize("claimed", [-1, 10, 20_000_000])
def test_a_file_of_another_size_than_was_stated_is_not_opened(kaggle, files, tmp_path, claimed):
    kaggle.add(HANDLE, files, claims={"model.safetensors": claimed})

    with pytest.raises(DownloadError, match=f"{NAME}.* did not arrive"):
        load_classifier(NAME)
    assert "1/model.safetensors" not in cached(tmp_path)


def test_a_file_that_grows_without_end_is_stopped(kaggle, files, tmp_path):
    endless = {**files, "model.safetensors": b"x" * (8 * 2**20)}
    kaggle.add(HANDLE, endless, claims={"model.safetensors": 1000})

    with pytest.raises(DownloadError):
        load_classifier(NAME)
    left = [path for path in (tmp_path / "cache").rglob("*") if path.is_file() and path.stat().st_size > 100_000]
    assert left == []


def test_names_that_lead_elsewhere_are_never_asked_for(kaggle, files, tmp_path):
    kaggle.add(HANDLE, {**files, "../../evil.json": b"{}", "/etc/evil": b"x", "sub/model.safetensors": b"x"})

    assert load_classifier(NAME).labels[0] == "cat"
    assert "evil" not in " ".join(fetched(kaggle))
    listing = room.Listing(HANDLE, 1, {"../../evil.json": 2})
    with pytest.raises(DownloadError, match=r"has a file called '../../evil.json', which is not fetched here"):
        room.fetch(listing, ["../../evil.json"], tmp_path / "cache")


@pytest.mark.parametrize("content", [b"{broken", b"[1, 2]"])
def test_a_config_that_is_none_is_refused(kaggle, files, content):
    kaggle.add(HANDLE, {**files, "config.json": content})

    with pytest.raises(DownloadError, match=f"config.json of {NAME} (is not valid JSON|holds a list)"):
        preflight(NAME)


def test_a_long_listing_is_read_to_its_end(kaggle, files):
    kaggle.page_size = 2
    kaggle.add(HANDLE, {**files, **{f"checkpoint-{i}.txt": b"x" for i in range(7)}})

    assert preflight(NAME).files == ("config.json", "preprocessor_config.json", "model.safetensors")
    assert [asked.what for asked in kaggle.asked].count("ListModelInstanceVersionFiles") == 5


# What goes wrong


def test_a_model_that_is_not_there_is_refused(kaggle, files):
    kaggle.add(HANDLE, files)

    with pytest.raises(AccessDeniedError, match="it is private, asks for consent, or is not there"):
        preflight("kaggle/alice/nothing/transformers/tiny")
    with pytest.raises(RepoNotFoundError, match=f"There is no model {NAME}/7 on Kaggle"):
        preflight(f"{NAME}/7")
    with pytest.raises(RepoNotFoundError, match="names the framework 'tensorflux', which Kaggle does not have"):
        preflight("kaggle/alice/pets/tensorflux/tiny")


@pytest.mark.parametrize(("status", "words"), [(429, "too many requests"), (500, r"failed .* \(status 500\)")])
def test_a_kaggle_that_fails_is_said_to_fail(kaggle, files, status, words):
    kaggle.add(HANDLE, files)
    kaggle.faults.append(Fault("GetModelInstance", "status", status=status))

    with pytest.raises(HubUnreachableError, match=words):
        preflight(NAME)


def test_a_kaggle_that_is_gone_does_not_answer(kaggle, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")

    with pytest.raises(HubUnreachableError, match=f"Kaggle does not answer, so {NAME} cannot be loaded now"):
        preflight(NAME)


def test_a_kaggle_that_never_answers_is_given_up(kaggle, files, monkeypatch):
    monkeypatch.setattr(room, "_SECONDS_TO_LOOK", 4.0)
    kaggle.add(HANDLE, files)
    kaggle.faults.append(Fault("GetModelInstance", "slow", seconds=60))

    with pytest.raises(HubUnreachableError, match="Kaggle does not answer"):
        preflight(NAME)


def test_a_download_that_breaks_off_leaves_nothing_and_the_next_one_works(kaggle, files, tmp_path):
    kaggle.add(HANDLE, files)
    kaggle.faults.append(Fault("model.safetensors", "disconnect", method="GET", after_bytes=3000))

    with pytest.raises(DownloadError, match="did not arrive whole"):
        load_classifier(NAME)
    assert cached(tmp_path) == ["1/config.json", "1/preprocessor_config.json"]
    assert not list((tmp_path / "cache").rglob(".kaggle-*"))
    assert load_classifier(NAME).labels[0] == "cat"


def test_progress_is_told_and_may_stop_the_download(kaggle, files, tmp_path):
    kaggle.add(HANDLE, files)
    plan = preflight(NAME)
    kaggle.faults.append(Fault("model.safetensors", "slow", seconds=60, method="GET"))

    def stop(share: float, stage: str) -> None:
        if stage.startswith("Downloading"):
            raise CancelledError("Stopped.")

    with pytest.raises(CancelledError, match="Stopped"):
        load_classifier(plan, progress=stop)
    assert not list((tmp_path / "cache").rglob(".kaggle-*"))
    assert "1/model.safetensors" not in cached(tmp_path)
