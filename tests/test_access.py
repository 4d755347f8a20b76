"""Who may read what: files outside of a repository, the host's token, caches of one visitor, programs of the Hub."""

import json
import shutil

import pytest
import torch
from safetensors.torch import save
from tiny_datasets import class_folders
from tiny_embedders import network
from tiny_models import TINY, VIT, assert_same_network, build, changed, files_of, processor_of

from xaihub import hub as hub_room
from xaihub import load_classifier, load_embedder, preflight
from xaihub.errors import HubError, RepoNotFoundError, UnsupportedModelError
from xaihub.families.cleaning import clean_config
from xaihub.progress import silent
from xaihub.ui.desk import Desk, Question
from xaihub.ui.desk_audit import AuditDesk, AuditQuestion
from xaihub.ui.desk_layers import LayersDesk
from xaihub.ui.desk_quiz import QuizDesk
from xaihub.ui.settings import Settings, starter_examples
from xaihub.ui.tokens import token_for

INDEX = "model.safetensors.index.json"
CAT = str(starter_examples()[0])


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, bytes]:
    """A whole, good repository."""
    return files_of(build(TINY["vit"]), processor_of(TINY["vit"]), folder=tmp_path_factory.mktemp("vit"))


@pytest.fixture
def people(hub):
    hub.add_user("alice", token="hf_alice")
    hub.add_user("mallory", token="hf_mallory")
    return hub


def sharded(files: dict[str, bytes], name: str = "model-0000{}-of-00002.safetensors") -> dict[str, bytes]:
    """The same repository with its weights in two files and an index of them."""
    state = build(TINY["vit"]).state_dict()
    names = sorted(state)
    parts = {name.format(1): names[:9], name.format(2): names[9:]}
    places = {tensor: file for file, tensors in parts.items() for tensor in tensors}
    beside = {path: data for path, data in files.items() if path != "model.safetensors"}
    weights = {file: save({key: state[key].contiguous() for key in tensors}) for file, tensors in parts.items()}
    return {**beside, **weights, INDEX: json.dumps({"metadata": {}, "weight_map": places}).encode()}


def pointing(files: dict[str, bytes], place: object) -> dict[str, bytes]:
    """The same, the index of which says that every tensor of the first file lies at that place."""
    index = json.loads(files[INDEX])
    places = {name: place if "00001" in file else file for name, file in index["weight_map"].items()}
    return {**files, INDEX: json.dumps({**index, "weight_map": places}).encode()}


# C1: names that lead out of the repository


def test_weights_in_several_files_are_the_network_that_was_saved(hub, files):
    hub.add_files("alice/parts", sharded(files))

    assert_same_network(load_classifier("alice/parts", token=False), build(TINY["vit"]))


def test_weights_in_several_files_need_no_index(hub, files):
    hub.add_files("alice/parts", {path: data for path, data in sharded(files).items() if path != INDEX})

    assert_same_network(load_classifier("alice/parts", token=False), build(TINY["vit"]))


@pytest.mark.parametrize(
    "place",
    [
        "../../../models--bob--secret/snapshots/{commit}/model.safetensors", "/etc/passwd",
        "./model-00001-of-00002.safetensors", "model-00001-of-00002.safetensors/../model-00001-of-00002.safetensors",
        "..\\..\\model.safetensors", "%2e%2e/%2e%2e/model.safetensors", "file:///etc/passwd", "~/model.safetensors",
        "model-00001-of-00002.safetensors\0", "MODEL-00001-OF-00002.safetensors", "other/model.safetensors", "", None,
        7,
        ["model-00001-of-00002.safetensors"], "hf://bob/secret/model.safetensors", "config.json", INDEX,
    ],
)  # fmt: skip
def test_an_index_may_name_only_the_repositorys_own_files_of_weights(people, files, place):
    people.add_files("bob/secret", files, private=True)
    people.add_user("bob", token="hf_bob")
    commit = load_classifier("bob/secret", token="hf_bob").revision  # its files are in the cache now
    place = place.format(commit=commit) if isinstance(place, str) else place
    people.add_files("mallory/parts", pointing(sharded(files), place))
    people.requests.clear()

    with pytest.raises(UnsupportedModelError, match="which is none of its own files of weights"):
        load_classifier("mallory/parts", token=False)
    assert not [seen for seen in people.requests if "model-0000" in seen.path]


@pytest.mark.parametrize("index", [b"{}", b'{"weight_map": []}', b'{"weight_map": {}}', b'{"weight_map": "x"}'])
def test_an_index_that_names_no_file_is_refused(hub, files, index):
    hub.add_files("alice/parts", {**sharded(files), INDEX: index})

    with pytest.raises(UnsupportedModelError, match="alice/parts points to"):
        load_classifier("alice/parts", token=False)


def test_a_folder_and_an_embedder_with_such_an_index_are_refused_as_well(hub, files, tmp_path):
    vit = files_of(network("ViTModel", **VIT), processor_of(TINY["vit"]), folder=tmp_path / "vit")
    spoiled = pointing(sharded(files), "../secret.safetensors")
    (tmp_path / "folder").mkdir()
    for name, content in spoiled.items():
        (tmp_path / "folder" / name).write_bytes(content)
    (tmp_path / "secret.safetensors").write_bytes(files["model.safetensors"])
    hub.add_files("alice/eye", {**spoiled, "config.json": vit["config.json"]})

    with pytest.raises(UnsupportedModelError, match="none of its own files of weights"):
        load_classifier(tmp_path / "folder")
    with pytest.raises(UnsupportedModelError, match="none of its own files of weights"):
        load_embedder("alice/eye", token=False)


def test_what_else_lies_in_the_cache_beside_the_planned_files_is_not_opened(hub, files):
    """An adapter of PEFT beside a config is loaded by transformers without being asked for."""
    adapter = json.dumps({"peft_type": "LORA", "base_model_name_or_path": "mallory/base", "auto_mapping": None})
    spoiled = {
        **files,
        "adapter_config.json": adapter.encode(),
        "adapter_model.safetensors": files["model.safetensors"],
    }
    hub.add_files("alice/whole", spoiled)
    repo = hub_room.look("alice/whole", token=False)
    hub_room.fetch(repo, list(repo.files), token=False)
    hub.requests.clear()

    assert_same_network(load_classifier("alice/whole", token=False), build(TINY["vit"]))
    assert not [seen for seen in hub.requests if "mallory" in seen.path]


# C2: whose token, and whose cache


def test_the_hosts_token_goes_by_kind_and_name(people):
    settings = Settings(model="alice/cats", references="alice/known")

    assert token_for("model", "alice/cats", "", settings) is None
    assert token_for("dataset", "alice/known", "", settings) is None
    assert token_for("dataset", "alice/cats", "", settings) is False
    assert token_for("model", "alice/known", "hf_mallory", settings) == "hf_mallory"
    assert token_for("model", "alice/cats@older", "", settings) is False  # the main branch is what the host shows


def test_a_private_dataset_called_like_the_hosts_model_is_closed_to_visitors(people, files, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_alice")
    people.add_files("alice/cats", files, private=True)
    people.add_files("alice/cats", class_folders(red=4, green=4), repo_type="dataset", private=True)
    desk = Desk(Settings(model="alice/cats"))

    *_, asked = desk.answer(Question(CAT, "alice/cats", "alice/cats"), silent)
    assert asked.explanation.prediction.label in ("cat", "dog", "hen")  # the model itself is shown to all
    assert asked.references is None
    assert "There is no dataset 'alice/cats' on the Hub, or it is private and not open to visitors" in asked.trouble
    with pytest.raises(RepoNotFoundError, match="There is no dataset 'alice/cats'"):
        list(AuditDesk(desk).answer(AuditQuestion("", "alice/cats", 8), silent))
    with pytest.raises(RepoNotFoundError, match="There is no dataset 'alice/cats'"):
        QuizDesk(desk).begin(Question("", "alice/cats", "alice/cats"), ["gradcam"], 2, "1", silent)
    (explored, *_, beside) = LayersDesk(desk).answer(Question(CAT, "alice/cats", "alice/cats"), silent)
    assert explored.strip is not None
    assert "There is no dataset 'alice/cats'" in beside.trouble


def test_a_private_model_called_like_the_hosts_references_is_closed_to_visitors(people, files, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_alice")
    people.add_files("alice/known", files, private=True)
    desk = Desk(Settings(references="alice/known"))

    with pytest.raises(RepoNotFoundError, match="There is no model 'alice/known'"):
        desk.look("alice/known", "")
    with pytest.raises(RepoNotFoundError, match="There is no model 'alice/known'"):
        desk.embedder("alice/known", "", silent)
    assert {seen.token for seen in people.requests} == {None}


CLOSED = [{"private": True}, {"gated": "manual"}]


@pytest.mark.parametrize("closed", CLOSED, ids=["private", "gated"])
def test_what_one_visitor_opened_serves_no_other(people, files, tmp_path, closed):
    """Two visitors of one server: model, dataset, references and embedder, all in memory and on the disk already."""
    eye = files_of(network("ViTModel", **VIT), processor_of(TINY["vit"]), folder=tmp_path)
    people.add_files("alice/model", files, **closed)
    people.add_files("alice/open", files)
    people.add_files("alice/eye", eye, **closed)
    people.add_files("alice/data", class_folders(red=4, green=4), repo_type="dataset", **closed)
    people.add_files("alice/shown", class_folders(red=4, green=4), repo_type="dataset")
    desk = Desk(Settings())

    def answer(token, model="alice/open", references="alice/shown", looks=""):
        return list(desk.answer(Question(CAT, model, references, 8, looks=looks, token=token), silent))[-1]

    for asked in (answer("hf_alice", model="alice/model"), answer("hf_alice", references="alice/data")):
        assert not asked.trouble
    assert "alice/eye" in answer("hf_alice", looks="alice/eye").whole.spaces
    for token in ("", "hf_mallory"):
        with pytest.raises(HubError, match=r"private and not open|is gated"):
            answer(token, model="alice/model")
        without = answer(token, references="alice/data")
        assert without.references is None
        assert "private and not open" in without.trouble or "is gated" in without.trouble
        unseen = answer(token, looks="alice/eye")  # what a closed network sees is no more open than itself
        assert unseen.whole is None
        assert "alice/eye" in unseen.trouble
        assert not answer(token).trouble


@pytest.mark.parametrize("closed", CLOSED, ids=["private", "gated"])
def test_references_that_one_visitor_opened_serve_no_other(people, files, tmp_path, closed):
    from xaihub import build_references

    folder = tmp_path / "colours"
    for name, content in class_folders(red=4, green=4).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    people.add_files("alice/open", files)
    references = build_references(load_classifier("alice/open", token=False), folder, fidelity=False)
    people.add_folder("alice/known", references.save(tmp_path / "refs"), repo_type="dataset", **closed)
    desk = Desk(Settings())

    def answer(token):
        return list(desk.answer(Question(CAT, "alice/open", "alice/known", token=token), silent))[-1]

    assert answer("hf_alice").trouble == ""
    assert answer("hf_alice").references is not None
    assert answer("").references is answer("hf_mallory").references is None
    assert "not open to visitors" in answer("").trouble or "is gated" in answer("").trouble
    people.add_files("alice/known", {"note.txt": "open"}, repo_type="dataset", private=False)
    assert answer("").references is not None


def test_without_the_hub_a_visitor_gets_only_what_was_open_to_all(people, files):
    people.add_files("alice/open", files)
    people.add_files("alice/closed", files, private=True)
    people.add_files("alice/gated", files, gated="auto")
    for name in ("open", "closed", "gated"):
        load_classifier(f"alice/{name}", token="hf_alice")
    people.fault(path_contains="/api/", kind="disconnect", times=1000)

    assert preflight("alice/open", token=False, local=False).revision
    for name in ("closed", "gated"):
        for token in (False, "hf_mallory", "hf_alice"):
            with pytest.raises(HubError, match=f"does not answer, so alice/{name} cannot be loaded"):
                preflight(f"alice/{name}", token=token, local=False)
        assert preflight(f"alice/{name}").revision  # whoever sits at this machine reads its cache
    people.faults.clear()
    people.add_files("alice/open", {"note.txt": "x"}, private=True)
    load_classifier("alice/open", token="hf_alice")
    people.fault(path_contains="/api/", kind="disconnect", times=1000)
    with pytest.raises(HubError, match="does not answer, so alice/open cannot be loaded"):
        preflight("alice/open", token=False, local=False)


# C3: settings that lead elsewhere


@pytest.mark.parametrize(
    "settings",
    [
        {"attn_implementation": "mallory/kernel"},
        {"_attn_implementation": "mallory/kernel"},
        {"_attn_implementation_internal": "mallory/kernel"},
        {"__attn_implementation": "mallory/kernel@main:attend"},
        {"vision_config": {"_attn_implementation": "mallory/kernel"}},
        {"text_config": [{"deep": {"_attn_implementation": {"": "mallory/kernel"}}}]},
        {"_experts_implementation": "mallory/kernel"},
        {"kernel_config": {"kernel_mapping": {"RMSNorm": "mallory/kernel:RMSNorm"}}},
        {"backbone_config": {"use_pretrained_backbone": True}},
        {"sub": [{"_transformers_weights": "other.safetensors"}]},
    ],
)
def test_a_config_that_names_programs_or_weights_elsewhere_is_refused(hub, files, settings):
    hub.add_files("alice/tiny", changed(files, **settings))
    hub.requests.clear()

    with pytest.raises(UnsupportedModelError, match="asks for further files by itself while loading"):
        load_classifier("alice/tiny", token=False)
    assert not [seen for seen in hub.requests if "mallory" in seen.path]


def test_only_what_a_config_declares_reaches_the_library():
    given = {
        "model_type": "clip", "attn_implementation": "flash_attention_2", "_name_or_path": "mallory/x", "dtype": "load",
        "use_kernels": True, "auto_map": {"AutoModel": "evil.Net"}, "id2label": {"0": "_cat/dog"}, "new_in_2030": "a/b",
        "projection_dim": 8, "vision_config": {"hidden_size": 32, "_attn_implementation": "x", "backbone": "a/b"},
    }  # fmt: skip

    assert clean_config(given) == {
        "model_type": "clip", "id2label": {"0": "_cat/dog"}, "projection_dim": 8, "vision_config": {"hidden_size": 32},
    }  # fmt: skip


def test_timms_settings_in_transformers_wrapper_are_those_of_preprocessing():
    elsewhere = {"url": "http://evil/x", "file": "/etc/passwd", "hf_hub_id": "mallory/x"}
    cfg = {**elsewhere, "input_size": [3, 64, 64], "mean": [0]}
    given = {"architecture": "test_vit", "pretrained_cfg": cfg, "num_classes": 2, "hf_hub_id": "mallory/x"}

    assert clean_config(given) == {
        "model_type": "timm_wrapper", "architecture": "test_vit", "num_classes": 2,
        "pretrained_cfg": {"input_size": [3, 64, 64], "mean": [0]},
    }  # fmt: skip


def test_a_harmless_choice_of_attention_changes_no_answer(hub, files):
    hub.add_files("alice/tiny", changed(files, _attn_implementation="flash_attention_2", output_attentions=True))

    classifier = load_classifier("alice/tiny", token=False)
    pixels = torch.linspace(-1, 1, 3 * 64 * 64).reshape(1, 3, 64, 64)
    torch.testing.assert_close(classifier.logits(pixels), build(TINY["vit"])(pixels).logits.detach())


def test_a_prototype_networks_inner_config_is_cut_down_as_well():
    inner = {"model_type": "vit", "hidden_size": 32, "_attn_implementation": "x", "use_kernels": True}
    import xaihub.families.protopnet_model  # noqa: F401  transformers knows the type from then on

    cleaned = clean_config({"model_type": "protopnet", "black_box": inner, "kind": "head", "_from": "a/b"})
    assert cleaned == {"model_type": "protopnet", "black_box": {"model_type": "vit", "hidden_size": 32}, "kind": "head"}


def test_the_folder_that_was_loaded_from_is_gone_and_the_network_stays(hub, files, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    hub.add_files("alice/tiny", files)

    classifier = load_classifier("alice/tiny", token=False)
    assert list(tmp_path.iterdir()) == []
    shutil.rmtree(tmp_path)
    assert_same_network(classifier, build(TINY["vit"]))
