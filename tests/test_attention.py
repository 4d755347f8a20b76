"""Attention as the libraries themselves give it, and two maps from it: by hand, in plain loops, the right way up."""

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_models import LABELS, TEXT, TINY, VIT, lively
from torch import nn
from torch.nn import functional as F  # noqa: N812
from toy_networks import SmallNet, TokenNet, classifier_of

from xaihub.attention import attention_gradients, attention_rollout, attentions, blocks_of, legrad, read_tokens
from xaihub.calls import attending
from xaihub.errors import TargetLayerError
from xaihub.explaining import explain

BIAS = {**VIT, "use_relative_position_bias": True}
PATCHES, CLASS_TOKEN = "the patches", "the class token"
FOLLOWED = {  # class, settings, what the answer is read from
    "vit": ("ViTForImageClassification", VIT, CLASS_TOKEN),
    "deit": ("DeiTForImageClassification", VIT, CLASS_TOKEN),
    "deit with teacher": ("DeiTForImageClassificationWithTeacher", VIT, "both class tokens"),
    "beit": ("BeitForImageClassification", BIAS, PATCHES),
    "beit by class token": ("BeitForImageClassification", {**BIAS, "use_mean_pooling": False}, CLASS_TOKEN),
    "data2vec-vision": ("Data2VecVisionForImageClassification", BIAS, PATCHES),
    "dinov2": ("Dinov2ForImageClassification", {**VIT, "mlp_ratio": 2}, "all"),
    "dinov2_with_registers": ("Dinov2WithRegistersForImageClassification", {**VIT, "num_register_tokens": 4}, "all"),
    "ijepa": ("IJepaForImageClassification", VIT, PATCHES),
    "vit_msn": ("ViTMSNForImageClassification", VIT, CLASS_TOKEN),
    "clip": ("CLIPForImageClassification", TINY["clip"].settings, PATCHES),
    "siglip": ("SiglipForImageClassification", {"vision_config": VIT, "text_config": TEXT}, PATCHES),
}
REFUSED = {
    "swin": ("SwinForImageClassification", TINY["swin"].settings, "windows, or other numbers of tokens"),
    "levit": ("LevitForImageClassification", TINY["levit"].settings, "windows, or other numbers of tokens"),
    "segformer": ("SegformerForImageClassification", TINY["segformer"].settings, "target layer holds tokens"),
    "resnet": ("ResNetForImageClassification", TINY["resnet"].settings, "target layer holds tokens"),
    "mobilevit": (
        "MobileViTForImageClassification",
        {"image_size": 64, "hidden_sizes": [16, 16, 24], "num_attention_heads": 2},
        "target layer holds tokens",
    ),
}


def network(kind, head, settings, how="eager"):
    import transformers

    config = transformers.AutoConfig.for_model(kind.split()[0], **{"id2label": LABELS, **settings})
    torch.manual_seed(0)
    net = getattr(transformers, head)._from_config(config, attn_implementation=how)
    for name, parameter in net.named_parameters():
        if name.endswith("relative_position_bias_table"):
            nn.init.normal_(parameter)  # zeros at first
    return lively(net)


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("how", ["eager", "sdpa"])
@pytest.mark.parametrize("kind", FOLLOWED)
def test_attention_is_what_transformers_itself_returns(kind, how):
    head, settings, read = FOLLOWED[kind]
    classifier = classifier_of(network(kind, head, settings, how), (64, 64))
    assert classifier.no_attention == ""
    pixels = drawn(1, 3, 64, 64)
    with torch.no_grad():
        theirs = network(kind, head, settings)(pixel_values=pixels, output_attentions=True).attentions
    ours = attentions(classifier, pixels)
    torch.testing.assert_close(ours, torch.cat(theirs), atol=1e-5, rtol=0)
    with torch.no_grad(), attending(lambda weights: None):
        torch.testing.assert_close(classifier._forward(pixels), classifier.logits(pixels), atol=1e-5, rtol=0)

    prefix = classifier.target_layer.prefix_tokens
    got = read_tokens(classifier, pixels, 1, len(ours)).tolist()
    expected = {CLASS_TOKEN: (1, 0), PATCHES: (0, 16), "both class tokens": (2, 0), "all": (1, 16)}[read]
    registers_or_unread = prefix - expected[0]
    assert got == [True] * expected[0] + [False] * registers_or_unread + [expected[1] > 0] * 16


@pytest.mark.parametrize("kind", REFUSED)
def test_a_network_whose_attention_does_not_join_all_patches_is_refused_in_words(kind):
    head, settings, words = REFUSED[kind]
    size = 96 if kind == "levit" else 64
    classifier = classifier_of(network(kind, head, settings), (size, size))
    assert words in classifier.no_attention
    with pytest.raises(TargetLayerError, match=f"attention-rollout cannot run here. .*{words}"):
        explain(classifier, Image.new("RGB", (64, 64)), ["attention-rollout"])
    with pytest.raises(TargetLayerError, match=words):
        attentions(classifier, drawn(1, 3, size, size))


def test_torchs_own_attention_is_followed_in_torchvisions_transformer():
    from torchvision.models import VisionTransformer

    torch.manual_seed(0)
    net = lively(VisionTransformer(64, 16, 3, 4, 32, 48, num_classes=3))
    classifier, pixels = classifier_of(net, (64, 64)), drawn(1, 3, 64, 64)
    inputs = []
    layers = [layer.self_attention for layer in net.encoder.layers]
    handles = [layer.register_forward_pre_hook(lambda _, given: inputs.append(given[0])) for layer in layers]
    net(pixels)
    for handle in handles:
        handle.remove()
    theirs = [
        layer(x, x, x, average_attn_weights=False)[1][0].detach() for layer, x in zip(layers, inputs, strict=True)
    ]
    torch.testing.assert_close(attentions(classifier, pixels), torch.stack(theirs), atol=1e-6, rtol=1e-5)
    assert blocks_of(classifier, pixels) == [f"encoder.layers.encoder_layer_{i}" for i in range(3)]


def test_timms_attention_is_the_same_fused_or_not():
    timm = pytest.importorskip("timm")
    net = timm.models.vision_transformer.VisionTransformer(
        64, 16, embed_dim=24, depth=3, num_heads=3, num_classes=3, reg_tokens=2, global_pool="avg"
    )
    classifier, pixels = classifier_of(lively(net), (64, 64)), drawn(1, 3, 64, 64)
    maps = []
    for fused in (True, False):
        for block in net.blocks:
            block.attn.fused_attn = fused
        maps.append(attentions(classifier, pixels))
    torch.testing.assert_close(maps[0], maps[1], atol=1e-6, rtol=1e-5)
    assert maps[0].shape == (3, 3, 19, 19)
    assert read_tokens(classifier, pixels, 0, 3).tolist() == [False] * 3 + [True] * 16  # a class token nobody reads
    assert blocks_of(classifier, pixels) == ["blocks.0", "blocks.1", "blocks.2"]


def test_rollout_of_two_layers_is_what_it_is_by_hand():
    first = torch.tensor([[[0.5, 0.5], [0.0, 1.0]]])
    second = torch.tensor([[[0.0, 1.0], [1.0, 0.0]], [[0.0, 1.0], [0.0, 1.0]]]).mean(0, keepdim=True)  # two heads
    expected = [[0.375, 0.625], [0.1875, 0.8125]]
    assert attention_rollout(torch.stack([first, second])).tolist() == expected


def test_rollout_equals_the_published_loop():
    """As in the code that its authors and most others use: add the identity, divide each row by its sum, multiply."""
    weights = drawn(4, 3, 7, 7).softmax(-1)
    result = np.eye(7)
    for layer in weights.double().numpy():
        mean = sum(layer) / len(layer)
        mixed = mean + np.eye(7)
        result = (mixed / mixed.sum(1, keepdims=True)) @ result
    np.testing.assert_allclose(attention_rollout(weights), result, atol=1e-6)


@pytest.mark.parametrize(("kind", "first", "last"), [("vit", 0, 1), ("beit", 1, 17), ("deit with teacher", 0, 2)])
def test_rollout_starts_at_the_tokens_that_the_answer_is_read_from(kind, first, last):
    classifier, picture = classifier_of(network(kind, *FOLLOWED[kind][:2]), (64, 64)), Image.effect_noise((64, 64), 90)
    raw = explain(classifier, picture.convert("RGB"), ["attention-rollout"])["attention-rollout"][0].raw.ravel()
    rolled = attention_rollout(attentions(classifier, classifier.transform(picture.convert("RGB"))[None]))
    expected = rolled[first:last].mean(0)[-16:]
    np.testing.assert_allclose(raw, expected - expected.min(), atol=1e-7)


def gradient_to_one_layer(classifier, pixels, target, blocks, which):
    """The slow way: one whole run for one layer, its tokens put after the last block."""
    kept, ran = {}, [0]

    def see(weights):
        ran[0] += 1
        if ran[0] - 1 == which:
            kept["weights"] = weights
            weights.retain_grad()

    def hook(name):
        def keep(_module, _given, output):
            tokens = output[0] if isinstance(output, tuple) else output
            if name == blocks[which]:
                kept["tokens"] = tokens
            if name == blocks[-1]:
                return (kept["tokens"], *output[1:]) if isinstance(output, tuple) else kept["tokens"]
            return None

        return keep

    handles = [classifier.module.get_submodule(name).register_forward_hook(hook(name)) for name in blocks]
    with attending(see):
        classifier._forward(pixels.clone().requires_grad_())[0, target].backward()
    for handle in handles:
        handle.remove()
    classifier.module.zero_grad(set_to_none=True)
    return kept["weights"].grad[0]


@pytest.mark.parametrize("kind", ["token net", "vit", "beit", "dinov2_with_registers", "clip"])
def test_legrad_equals_one_whole_run_for_each_layer(kind):
    net, size = (TokenNet(), 32) if kind == "token net" else (network(kind, *FOLLOWED[kind][:2]), 64)
    classifier, pixels = classifier_of(net, (size, size)), drawn(1, 3, size, size)
    blocks = blocks_of(classifier, pixels)
    assert len(blocks) == 3
    slow = [gradient_to_one_layer(classifier, pixels, 2, blocks, i) for i in range(3)]
    fast = attention_gradients(classifier, pixels, 2, blocks)
    for ours, theirs in zip(fast, slow, strict=True):
        assert theirs.abs().max() > 0
        torch.testing.assert_close(ours, theirs, atol=1e-5 * float(theirs.abs().max()), rtol=1e-4)
    heads, tokens = slow[0].shape[:2]
    expected = [
        sum(
            max(float(layer[h, i, j]), 0) / (3 * heads * tokens)
            for layer in slow
            for h in range(heads)
            for i in range(tokens)
        )
        for j in range(tokens)
    ]
    np.testing.assert_allclose(legrad(fast), expected, rtol=1e-4, atol=1e-7)


class Planted(nn.Module):
    """Every token attends to the bright patches, and the class token is read: where is known on paper."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 16, 8, stride=8, bias=False)
        nn.init.constant_(self.embed.weight, 1 / 192)
        self.blocks = nn.ModuleList(nn.Identity() for _ in range(2))

    def attend(self, tokens):
        keys = tokens[:, None]
        return tokens + F.scaled_dot_product_attention(torch.ones_like(keys), keys, keys)[:, 0]

    def forward(self, pixels):
        tokens = self.embed(pixels).flatten(2).transpose(1, 2)
        tokens = torch.cat([torch.zeros_like(tokens[:, :1]), tokens], 1)
        for block in self.blocks:
            tokens = block(self.attend(tokens))
        return tokens[:, 0, :3] * torch.tensor([1.0, 2.0, 3.0])


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.keys = nn.Identity()
        self.out = nn.Identity()

    def forward(self, tokens):
        keys = self.keys(tokens)[:, None]
        return tokens + self.out(F.scaled_dot_product_attention(torch.ones_like(keys), keys, keys)[:, 0])


class PlantedInBlocks(Planted):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block() for _ in range(3))

    def attend(self, tokens):
        return tokens


def in_windows(tokens):
    windows = tokens.unflatten(1, (5, 5))[:, :, None]  # (N, windows, heads, T, E), as in timm's Twins
    return tokens + F.scaled_dot_product_attention(windows, windows, windows)[:, :, 0].flatten(1, 2)


def with_a_token_of_its_own(tokens):
    own = tokens.mean(1, keepdim=True)[:, None]  # (N, heads, 1, E) asks itself and all others, as in CaiT
    keys = torch.cat([own, tokens[:, None]], 2)
    return tokens + F.scaled_dot_product_attention(own, keys, keys)[:, 0]


@pytest.mark.parametrize("attend", [in_windows, with_a_token_of_its_own])
def test_one_layer_of_another_kind_of_attention_is_enough_to_refuse(attend):
    net = PlantedInBlocks()
    assert classifier_of(net, (32, 48)).no_attention == ""
    net.attend = attend
    assert "windows, or other numbers of tokens" in classifier_of(net, (32, 48)).no_attention


@pytest.mark.parametrize("method", ["attention-rollout", "legrad"])
def test_the_map_is_the_right_way_up_on_a_picture_that_is_not_square(method):
    picture = np.zeros((32, 48, 3), dtype=np.uint8)
    picture[8:16, 32:40] = 255  # row 1, column 4 of 4 x 6 patches
    classifier = classifier_of(PlantedInBlocks(), (32, 48))
    evidence = explain(classifier, Image.fromarray(picture), [method], target="blue")[method][0]
    assert evidence.raw.shape == (4, 6)
    assert np.unravel_index(evidence.raw.argmax(), (4, 6)) == (1, 4)
    assert np.sort(evidence.raw.ravel())[-2] < 0.5 * evidence.raw.max()
    assert evidence.heatmap.shape == (32, 48)
    assert np.unravel_index(evidence.heatmap.argmax(), (32, 48))[0] in range(8, 16)


def test_legrad_says_why_it_cannot_run_where_blocks_are_no_modules_and_rollout_runs():
    classifier = classifier_of(Planted(), (32, 48))
    explanation = explain(classifier, Image.new("RGB", (48, 32), "white"), ["legrad", "attention-rollout"])
    assert explanation["legrad"] == ()
    (note,) = explanation.notes["legrad"]
    assert "the blocks of this network cannot be told apart" in note
    assert explanation["attention-rollout"][0].raw.shape == (4, 6)


def test_a_network_without_attention_shows_everything_else():
    explanation = explain(classifier_of(SmallNet()), Image.new("RGB", (32, 32), "red"))
    assert "legrad" not in explanation.evidence
    assert explanation.notes["legrad"] == explanation.notes["attention-rollout"]
    assert "gradcam" in explanation.evidence
