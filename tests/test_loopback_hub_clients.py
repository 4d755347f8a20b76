"""The tests' own Hub when things go wrong, and under the libraries that stand on huggingface_hub."""

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from hub_fixture import start_hub_for_session
from huggingface_hub import HfApi
from huggingface_hub.errors import BadRequestError, HfHubHTTPError
from loopback_hub import LoopbackHub

TOKEN = "hf_alice"
WEIGHTS = bytes(range(200))
LARGE = b"0123456789abcdef" * (700 * 1024)  # 11 MiB: clients write what has arrived to disk every 10 MiB


@pytest.fixture
def alice(hub: LoopbackHub) -> HfApi:
    hub.add_user("alice", token=TOKEN)
    return HfApi(token=TOKEN)


@pytest.fixture
def noise() -> torch.Tensor:
    """One picture of noise, the same every time."""
    return torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def test_a_shortened_file_is_refused_and_fetched_whole_the_next_time(hub, alice):
    hub.add_files("alice/tiny", {"model.safetensors": WEIGHTS})
    fault = hub.fault(path_contains="model.safetensors", kind="truncate")

    with pytest.raises(OSError, match="Consistency check failed"):
        alice.hf_hub_download("alice/tiny", "model.safetensors")
    assert fault.times == 0
    assert Path(alice.hf_hub_download("alice/tiny", "model.safetensors")).read_bytes() == WEIGHTS


def test_a_download_goes_on_where_the_line_went_dead(hub, alice):
    hub.add_files("alice/large", {"notes.txt": LARGE})
    hub.fault(path_contains="notes.txt", kind="disconnect", after_bytes=len(LARGE) - 1)

    assert Path(alice.hf_hub_download("alice/large", "notes.txt")).read_bytes() == LARGE
    assert [seen.status for seen in hub.requests] == [200, 200, 206]  # HEAD, the GET that broke off, its other end


def test_a_line_dead_before_the_answer_is_an_error_and_leaves_no_file(hub, alice):
    hub.add_files("alice/tiny", {"a.txt": "a"})
    hub.fault(path_contains="a.txt", kind="disconnect", method="HEAD")

    with pytest.raises(Exception, match="disconnected without sending a response"):
        alice.hf_hub_download("alice/tiny", "a.txt")
    assert Path(alice.hf_hub_download("alice/tiny", "a.txt")).read_text() == "a"


def test_a_push_that_breaks_off_changes_nothing_and_can_be_made_again(hub, alice):
    before = hub.add_files("alice/tiny", {"a.txt": "a"})
    hub.fault(path_contains="/commit/", kind="disconnect")

    def push() -> str:
        return alice.upload_file(repo_id="alice/tiny", path_in_repo="b.bin", path_or_fileobj=WEIGHTS).oid

    with pytest.raises(Exception, match="disconnected without sending a response"):
        push()
    assert alice.model_info("alice/tiny").sha == before
    hub.requests.clear()
    assert alice.model_info("alice/tiny", revision=push()).siblings[-1].rfilename == "b.bin"
    assert not [seen for seen in hub.requests if seen.method == "PUT"]  # the content had arrived the first time


def test_an_upload_that_is_refused_adds_no_file(hub, alice):
    hub.add_files("alice/tiny", {"a.txt": "a"})
    hub.fault(path_contains="/lfs-upload/", status=400)

    with pytest.raises(RuntimeError, match=r"Error while uploading 'b\.bin'"):
        alice.upload_file(repo_id="alice/tiny", path_in_repo="b.bin", path_or_fileobj=WEIGHTS)
    assert alice.list_repo_files("alice/tiny") == [".gitattributes", "a.txt"]


def test_a_fault_strikes_as_often_as_it_was_asked_to(hub, alice):
    hub.add_files("alice/tiny", {"a.txt": "a"})
    hub.fault(path_contains="/api/models/alice/tiny", status=400, times=2)
    hub.fault(path_contains="/api/models/alice/tiny", status=500)

    for error in (BadRequestError, BadRequestError, HfHubHTTPError):
        with pytest.raises(error):
            alice.model_info("alice/tiny")
    hub.fault(kind="slow", seconds=0.3)
    start = time.monotonic()
    assert alice.model_info("alice/tiny").id == "alice/tiny"
    assert time.monotonic() - start >= 0.3
    assert [seen.status for seen in hub.requests] == [400, 400, 500, 200]


def test_transformers_loads_the_model_it_pushed(hub, alice, noise, tmp_path):
    from transformers import AutoConfig, AutoModelForImageClassification, ResNetConfig

    config = ResNetConfig(embedding_size=4, hidden_sizes=[4, 6], depths=[1, 1], id2label={0: "cat", 1: "dog"})
    model = AutoModelForImageClassification.from_config(config).eval()
    model.push_to_hub("alice/tiny", token=TOKEN, private=True)
    loaded = AutoModelForImageClassification.from_pretrained(
        "alice/tiny", token=TOKEN, trust_remote_code=False, use_safetensors=True
    )

    torch.testing.assert_close(loaded(noise).logits, model(noise).logits)
    assert loaded.config.id2label == {0: "cat", 1: "dog"}
    assert alice.model_info("alice/tiny").pipeline_tag == "image-classification"  # guessed from the architecture
    AutoConfig.from_pretrained("alice/tiny", token=False)  # the client's rule: what is cached needs no token
    with pytest.raises(OSError, match="alice/tiny"):
        AutoConfig.from_pretrained("alice/tiny", token=False, cache_dir=tmp_path)


def test_timm_loads_the_model_it_pushed(hub, alice, noise):
    import timm

    model = timm.create_model("test_resnet", num_classes=3).eval()
    timm.models.push_to_hf_hub(model, "alice/tiny", token=TOKEN)
    loaded = timm.create_model("hf-hub:alice/tiny", pretrained=True).eval()

    torch.testing.assert_close(loaded(noise), model(noise))
    info = alice.model_info("alice/tiny")
    assert (info.library_name, info.pipeline_tag) == ("timm", "image-classification")


def test_datasets_loads_and_streams_the_private_dataset_it_pushed(hub, alice):
    from datasets import ClassLabel, Dataset, Features, Image, load_dataset
    from datasets.exceptions import DatasetNotFoundError
    from PIL import Image as Pictures

    pictures = [Pictures.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    features = Features({"image": Image(), "label": ClassLabel(names=["red", "blue"])})
    rows = Dataset.from_dict({"image": pictures, "label": [0, 1]}, features=features)
    rows.push_to_hub("alice/colours", private=True, token=TOKEN)

    with pytest.raises(DatasetNotFoundError):
        load_dataset("alice/colours", token=False)
    with pytest.raises(HfHubHTTPError, match="Invalid credentials"):  # no error of its own for a wrong token
        load_dataset("alice/colours", token="hf_wrong")
    loaded = load_dataset("alice/colours", split="train", token=TOKEN)
    assert loaded.features["label"].names == ["red", "blue"]
    assert [row["image"].getpixel((1, 2)) for row in loaded] == [(255, 0, 0), (0, 0, 255)]
    streamed = load_dataset("alice/colours", split="train", streaming=True, token=TOKEN)
    assert [row["label"] for row in streamed] == [0, 1]
    assert alice.dataset_info("alice/colours").card_data.dataset_info["splits"][0]["num_examples"] == 2


def test_what_a_test_did_can_be_undone(hub):
    hub.add_files("alice/tiny", {"a.txt": "1"})
    before = hub.snapshot()
    for _ in range(2):  # a snapshot serves more than once
        hub.add_files("alice/tiny", {"a.txt": "2"})
        hub.add_files("alice/other", {})
        hub.fault()
        hub.restore(before)
        assert list(hub.repos) == [("model", "alice/tiny")]
        assert hub.repo("alice/tiny").head.files["a.txt"].content == b"1"
        assert hub.faults == []


def test_a_stopped_hub_leaves_no_thread_and_no_connection(hub):
    before = threading.active_count()
    with LoopbackHub() as other:
        other.add_files("alice/tiny", {"a.txt": "a"})
        api = HfApi(endpoint=other.endpoint, token=False)
        assert api.model_info("alice/tiny").id == "alice/tiny"
        assert threading.active_count() > before
    with pytest.raises(Exception, match=r"refused|disconnected"):
        api.model_info("alice/tiny")
    assert threading.active_count() <= before
    assert hub.requests == []


def test_the_hub_refuses_to_start_after_the_clients_were_imported():
    with pytest.raises(RuntimeError, match="was imported before"):
        start_hub_for_session()


def test_the_hub_can_be_run_by_hand(tmp_path):
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n")
    command = [sys.executable, "-m", "tests.loopback_hub", "--port", "0", "--push", f"{tmp_path}=datasets/carol/notes"]
    with subprocess.Popen(command, cwd=Path(__file__).parents[1], stdout=subprocess.PIPE, text=True) as process:
        pushed, token, environment = (process.stdout.readline().strip() for _ in range(3))
        endpoint = environment.split()[0].removeprefix("HF_ENDPOINT=")
        info = HfApi(endpoint=endpoint, token="hf_carol").dataset_info("carol/notes")
        process.terminate()

    assert pushed == f"{endpoint}/datasets/carol/notes at {info.sha[:7]}"
    assert token == "token of carol: hf_carol"
    assert info.card_data.license == "mit"
