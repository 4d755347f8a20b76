"""PEFT adapters: as files they are named, with their base model; as networks in memory they are explained."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny_models import TINY, build, files_of, picture, processor_of
from torch import nn
from toy_networks import SmallNet, to_pixels

from xaihub import Classifier, explain, load_classifier
from xaihub.errors import UnsupportedModelError
from xaihub.families import adapter_of

WEIGHTS = {"adapter_model.safetensors": b"x", "training_args.bin": b"x"}


def adapter(**config) -> dict[str, bytes]:
    return {"adapter_config.json": json.dumps(config).encode(), **WEIGHTS}


def refusal(hub, files) -> str:
    hub.add_files("alice/tiny", files)
    with pytest.raises(UnsupportedModelError) as caught:
        load_classifier("alice/tiny", token=False)
    assert not [seen for seen in hub.requests if "adapter_model" in seen.path]
    return str(caught.value)


def test_an_adapter_is_named_with_its_base_model_and_what_to_do(hub):
    told = refusal(hub, adapter(peft_type="LORA", base_model_name_or_path="google/vit-base-patch16-224"))

    assert told == (
        "alice/tiny is a LoRA adapter for the base model google/vit-base-patch16-224: it holds only what was changed,"
        " not a whole model. Merge it into its base with peft (merge_and_unload), publish that and open it here, or"
        " open the base model google/vit-base-patch16-224, if it is a classifier."
    )


@pytest.mark.parametrize(
    ("kind", "named"), [("ADALORA", "an AdaLoRA"), ("IA3", "an IA3"), ("OFT", "an OFT"), ("VERA", "a VeRA")]
)
def test_every_kind_of_adapter_has_its_name(hub, kind, named):
    assert f"alice/tiny is {named} adapter" in refusal(hub, adapter(peft_type=kind))


def test_a_base_model_that_is_no_repository_is_quoted_and_not_recommended(hub):
    told = refusal(hub, adapter(peft_type="LORA", base_model_name_or_path="/home/bob/models/vit\x1b[2J"))

    assert r"for the base model '/home/bob/models/vit\x1b[2J': it holds" in told
    assert told.endswith("publish that and open it here.")


@pytest.mark.parametrize(
    "config",
    [
        b"{broken", b"[1, 2]", b"{}", b'{"peft_type": null, "base_model_name_or_path": null}',
        b'{"peft_type": ["LORA"], "base_model_name_or_path": {"a": 1}}',
        b'{"peft_type": "<script>alert(1)</script>", "base_model_name_or_path": 7}',
    ],
)  # fmt: skip
def test_an_adapter_that_does_not_say_what_it_is_is_an_adapter_all_the_same(hub, config):
    told = refusal(hub, {"adapter_config.json": config, **WEIGHTS})

    assert told.startswith(
        "alice/tiny is a PEFT adapter and does not name its base model: it holds only what was changed"
    )


def test_nothing_long_or_marked_up_is_repeated(hub):
    told = refusal(hub, adapter(peft_type="X" * 100_000, base_model_name_or_path="<b>" * 100_000))

    assert len(told) < 500
    assert "is a PEFT adapter for the base model '<b><b>" in told  # quoted; the page escapes what it shows


def test_an_adapter_beside_the_config_of_its_base_is_an_adapter_too(hub, tmp_path):
    files = files_of(build(TINY["vit"]), processor_of(TINY["vit"]), folder=tmp_path)
    whole = {**files, **adapter(peft_type="LORA", base_model_name_or_path="alice/base")}
    part = {name: content for name, content in whole.items() if name != "model.safetensors"}

    assert "is a LoRA adapter for the base model alice/base" in refusal(hub, part)
    hub.add_files("alice/whole", whole)
    assert load_classifier("alice/whole", token=False).labels == ("cat", "dog", "hen")


def test_an_adapter_in_a_folder_is_refused_in_the_same_words(tmp_path):
    for name, content in adapter(peft_type="LORA", base_model_name_or_path="alice/base").items():
        (tmp_path / name).write_bytes(content)

    with pytest.raises(UnsupportedModelError, match=r"is a LoRA adapter for the base model alice/base: it holds only"):
        load_classifier(tmp_path)


class Wrapped(nn.Module):
    """A network inside two others, with a low-rank detour at one layer: what peft makes of it."""

    def __init__(self, inside: nn.Module) -> None:
        super().__init__()
        self.base_model = nn.Module()
        self.base_model.model = inside
        self.peft_config = {"default": SimpleNamespace(peft_type="LORA", base_model_name_or_path="alice/base")}

    def forward(self, *args, **kwargs):
        return self.base_model.model(*args, **kwargs)


class Detour(nn.Module):
    def __init__(self, layer: nn.Conv2d, rank: int = 2) -> None:
        super().__init__()
        self.base_layer = layer
        self.down = nn.Conv2d(layer.in_channels, rank, layer.kernel_size, layer.stride, layer.padding, bias=False)
        self.up = nn.Conv2d(rank, layer.out_channels, 1, bias=False)

    def forward(self, features):
        return self.base_layer(features) + self.up(self.down(features))


def test_a_network_that_carries_an_adapter_is_explained_at_the_layer_with_the_detour():
    torch.manual_seed(0)
    inside = SmallNet()
    inside.body = Detour(inside.body)
    network = Wrapped(inside).eval()
    classifier = Classifier.from_module(network, labels=["red", "green", "blue"], transform=to_pixels((32, 32)))

    assert adapter_of(network) == "LoRA on alice/base"
    assert classifier.target_layer.name == "base_model.model.after"
    merged = SmallNet()
    own = {key.replace("base_layer.", ""): value for key, value in inside.state_dict().items()}
    merged.load_state_dict({key: own[key] for key in merged.state_dict()})
    difference = classifier.logits(torch.ones(1, 3, 32, 32)) - merged.eval()(torch.ones(1, 3, 32, 32))
    assert difference.abs().max() > 1e-3, "the detour is part of the answer"
    raw, bare = (
        explain(of, picture(), "gradcam")["gradcam"][0].raw
        for of in (classifier, Classifier.from_module(inside, labels=classifier.labels, transform=to_pixels((32, 32))))
    )
    assert abs(raw).max() > 0
    np.testing.assert_allclose(raw, bare)


def test_a_network_without_adapters_is_not_called_one():
    assert adapter_of(SmallNet()) == ""
    odd = SmallNet()
    odd.peft_config = "LORA"
    assert adapter_of(odd) == ""


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")  # peft 0.21 reads it
def test_a_model_of_peft_is_explained_as_it_is():
    peft = pytest.importorskip("peft", reason="peft is not installed")
    base = build(TINY["vit"])
    base.config.name_or_path = "alice/base"
    settings = peft.LoraConfig(target_modules=["query", "value", "q_proj", "v_proj"], init_lora_weights=False, r=2)
    network = peft.get_peft_model(base, settings).eval()
    classifier = Classifier.from_module(network, labels=["cat", "dog", "hen"], transform=to_pixels((64, 64)))

    assert adapter_of(network).startswith("LoRA")
    assert classifier.target_layer.grid == (4, 4)
    pixels = torch.rand(1, 3, 64, 64)
    merged = network.merge_and_unload()
    with torch.no_grad():
        torch.testing.assert_close(classifier.logits(pixels), merged(pixels).logits, atol=1e-4, rtol=1e-4)
