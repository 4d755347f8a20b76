"""Classifiers of every family, small and with random weights, and what is known of each before it is loaded."""

import json
from typing import Any, NamedTuple

import numpy as np
import torch
from loopback_hub import LoopbackHub
from PIL import Image
from safetensors.torch import save
from torch import Tensor, nn

from xaihub import Classifier, explain
from xaihub.passes import tap

torch.set_num_threads(1)

TOKEN = "hf_alice"
LABELS = {0: "cat", 1: "dog", 2: "hen"}
VIT = {
    "image_size": 64, "patch_size": 16, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2,
    "intermediate_size": 48,
}  # fmt: skip
TEXT = {
    "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "vocab_size": 10,
    "bos_token_id": 0, "eos_token_id": 1,
}  # fmt: skip


class Tiny(NamedTuple):
    """A classifier of transformers, and the target layer that design/TARGET_LAYER.md promises for its family."""

    kind: str
    head: str
    processor: str
    settings: dict[str, Any]
    layer: str
    layout: str
    grid: tuple[int, int]
    prefix_tokens: int = 0
    size: int = 64
    keeps_places: bool = True  # also with random weights


TINY = {
    "resnet": Tiny(
        "resnet", "ResNetForImageClassification", "ConvNextImageProcessor",
        {"embedding_size": 8, "hidden_sizes": [8, 12], "depths": [1, 2], "layer_type": "basic"},
        "resnet.encoder.stages.1.layers.1", "NCHW", (8, 8),
    ),
    "convnext": Tiny(
        "convnext", "ConvNextForImageClassification", "ConvNextImageProcessor",
        {"hidden_sizes": [8, 12, 16, 24], "depths": [1, 1, 1, 2]},
        "convnext.encoder.stages.3.layers.1", "NCHW", (2, 2),
    ),
    "vit": Tiny("vit", "ViTForImageClassification", "ViTImageProcessor", VIT, "vit.layers.1", "NLC", (4, 4), 1),
    "dinov2 with registers": Tiny(
        "dinov2_with_registers", "Dinov2WithRegistersForImageClassification", "BitImageProcessor",
        {**VIT, "num_register_tokens": 4, "mlp_ratio": 2},
        "dinov2_with_registers.layernorm", "NLC", (4, 4), 5,
    ),
    "swin": Tiny(
        "swin", "SwinForImageClassification", "ViTImageProcessor",
        {"image_size": 64, "patch_size": 4, "embed_dim": 12, "depths": [1, 2], "num_heads": [2, 4], "window_size": 4},
        "swin.layernorm", "NLC", (8, 8),
    ),
    "levit": Tiny(
        "levit", "LevitForImageClassificationWithTeacher", "LevitImageProcessor",
        {
            "image_size": 96, "hidden_sizes": [32, 48, 64], "num_attention_heads": [2, 3, 4], "key_dim": [8, 8, 8],
            "depths": [1, 1, 1], "initializer_range": 0.3,
        },
        "levit.encoder.stages.2.layers.1", "NLC", (2, 2), 0, 96, False,
    ),
    "segformer": Tiny(
        "segformer", "SegformerForImageClassification", "SegformerImageProcessor",
        {
            "hidden_sizes": [8, 8, 16, 24], "depths": [1, 1, 1, 1], "num_attention_heads": [1, 1, 2, 3],
            "decoder_hidden_size": 8,
        },
        "segformer.stages.3", "NCHW", (2, 2),
    ),
    "beit": Tiny("beit", "BeitForImageClassification", "BeitImageProcessor", VIT, "beit.layers.2", "NLC", (4, 4), 1),
    "clip": Tiny(
        "clip", "CLIPForImageClassification", "CLIPImageProcessor",
        {"vision_config": VIT, "text_config": TEXT, "projection_dim": 8},
        "vision_model.encoder.layers.2", "NLC", (4, 4), 1,
    ),
}  # fmt: skip


def build(tiny: Tiny, *, seed: int = 0, labels: dict[int, str] | None = None, **settings: Any) -> Any:
    """A classifier of transformers with random weights, the same every time, in eval mode."""
    import transformers

    config = transformers.AutoConfig.for_model(tiny.kind, **{"id2label": labels or LABELS, **tiny.settings, **settings})
    torch.manual_seed(seed)
    return lively(getattr(transformers, tiny.head)(config))


def lively(module: nn.Module) -> Any:
    """The same network, its head drawn anew, in eval mode: at initialisation it passes next to no gradient."""
    linear = [part for part in module.modules() if isinstance(part, nn.Linear)]
    for part in linear:
        if part.out_features == linear[-1].out_features:
            nn.init.normal_(part.weight)
    return module.eval()


def processor_of(tiny: Tiny, **settings: Any) -> Any:
    """The image processor that goes with it, for pictures of its size."""
    import transformers

    edge = {"shortest_edge": tiny.size}
    sizes = {
        "ConvNextImageProcessor": {"size": edge, "crop_pct": 0.875},
        "BitImageProcessor": {"size": edge, "crop_size": tiny.size},
        "CLIPImageProcessor": {"size": edge, "crop_size": tiny.size},
        "LevitImageProcessor": {"size": edge, "crop_size": tiny.size},
        "BeitImageProcessor": {"size": tiny.size, "do_center_crop": False},
    }
    return getattr(transformers, tiny.processor)(**{**sizes.get(tiny.processor, {"size": tiny.size}), **settings})


def push(hub: LoopbackHub, repo_id: str, *parts: Any, private: bool = False) -> str:
    """The commit at which the repository holds what each part's own `push_to_hub` wrote."""
    hub.add_user("alice", token=TOKEN)
    for part in parts:
        part.push_to_hub(repo_id, token=TOKEN, private=private)
    return hub.repo(repo_id).head.sha


def files_of(*parts: Any, folder: Any) -> dict[str, bytes]:
    """What each part's own `save_pretrained` writes, by name: for repositories that are then spoiled by hand."""
    for part in parts:
        part.save_pretrained(folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def changed(files: dict[str, bytes], name: str = "config.json", **settings: Any) -> dict[str, bytes]:
    """The same files, one JSON of them changed; None takes a key out."""
    values = {**json.loads(files.get(name, b"{}")), **settings}
    return {**files, name: json.dumps({key: value for key, value in values.items() if value is not None}).encode()}


def tensors_of(module: nn.Module, **others: Tensor) -> bytes:
    """The module's weights as safetensors."""
    return save({**{key: value.contiguous() for key, value in module.state_dict().items()}, **others})


def picture(width: int = 100, height: int = 80, seed: int = 0) -> Image.Image:
    """A picture with structure at several scales, wider than high so that a transposed axis shows."""
    generator = np.random.default_rng(seed)
    layers = [
        Image.fromarray(generator.integers(0, 256, (edge, edge, 3), dtype=np.uint8)).resize((width, height))
        for edge in (3, 9, 27)
    ]
    return Image.fromarray(np.mean([np.asarray(layer) for layer in layers], axis=0).astype(np.uint8))


def layer_of(classifier: Classifier) -> tuple[Any, ...]:
    """The target layer as TARGET_LAYER.md describes one."""
    layer = classifier.target_layer
    return layer.name, layer.layout, layer.grid, layer.prefix_tokens, layer.proof


def answers(module: nn.Module, pixels: Tensor) -> Tensor:
    """(N, C) from the library's own module."""
    with torch.no_grad():
        output = module(pixels)
    return getattr(output, "logits", output)


def assert_same_network(classifier: Classifier, module: nn.Module) -> None:
    """The classifier gives the module's own answers, and is ready: float32, eval mode, no hook, no gradient."""
    pixels = classifier.transform(picture())[None]
    torch.testing.assert_close(classifier.logits(pixels), answers(module, pixels))
    assert not any(part.training or part._forward_hooks for part in classifier.module.modules())
    for parameter in classifier.module.parameters():
        assert parameter.dtype == torch.float32
        assert parameter.grad is None
        assert not parameter.requires_grad


def assert_explained(classifier: Classifier, size: int) -> None:
    """A heatmap as large as the crop that was seen, finite, from none to all, and not the same everywhere."""
    explanation = explain(classifier, picture(), ["gradcam"])
    heatmap = explanation["gradcam"][0].heatmap
    assert heatmap.shape == explanation.image.size[::-1] == (size, size)
    assert np.isfinite(heatmap).all()
    assert heatmap.min() >= 0
    assert 0 < heatmap.max() <= 1  # over the largest absolute value: evidence against may be stronger
    assert heatmap.std() > 0.05 * heatmap.max()
    assert explanation.provenance["revision"] == classifier.revision


def assert_right_way_up(classifier: Classifier) -> None:
    """When the upper right quarter of the picture changes, the map changes most in its own upper right."""
    pixels = classifier.transform(picture(96, 96))[None]
    other = pixels.clone()
    half = pixels.shape[-1] // 2
    other[..., :half, half:] += 1
    with tap(classifier) as run:
        change = (run(pixels).activations - run(other).activations).abs().mean((0, 1))  # (h, w)
    rows, columns = change.shape[0] // 2, change.shape[1] // 2
    quarters = [
        part[:, side].mean()
        for part in (change[:rows], change[-rows:])
        for side in (slice(columns), slice(-columns, None))
    ]
    assert int(torch.stack(quarters).argmax()) == 1, f"upper left, upper right, lower left, lower right: {quarters}"
