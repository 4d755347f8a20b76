"""One tiny network of every type in transformers' image-classification mapping, with random weights."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from xaihub.families.naflex import Naflex

Size = tuple[int, int]

CLASSES = 11  # a number that no width has, so that heads are known by it
OPEN = ("image_size", None)  # filled in with the size of the pictures

VIT = {
    "patch_size": 16, "hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 3, "intermediate_size": 64,
    "image_size": None,
}  # fmt: skip
TEXT = {
    "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "vocab_size": 10,
    "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2,
}  # fmt: skip
STAGES = {"hidden_sizes": [16, 24, 32, 48], "depths": [1, 1, 1, 2]}
PYRAMID = {
    **STAGES, "num_attention_heads": [1, 1, 2, 3], "sr_ratios": [8, 4, 2, 1], "mlp_ratios": [2, 2, 2, 2],
    "decoder_hidden_size": 16,
}  # fmt: skip
WINDOWS = {"image_size": None, "patch_size": 4, "embed_dim": 12, "depths": [1, 1, 1, 2], "num_heads": [1, 2, 2, 4]}
TWO = {"vision_config": VIT, "text_config": TEXT, "projection_dim": 16}
PERCEIVER = {
    "num_latents": 30, "d_latents": 24, "num_blocks": 1, "num_self_attends_per_block": 1,
    "num_self_attention_heads": 2, "num_cross_attention_heads": 1, "image_size": 64,
}  # fmt: skip

TINY: dict[str, dict[str, Any]] = {
    "beit": {**VIT, "use_relative_position_bias": True},
    "bit": {"embedding_size": 16, **STAGES, "num_groups": 4},
    "clip": TWO,
    "convnext": STAGES,
    "convnextv2": STAGES,
    "cvt": {"embed_dim": [16, 24, 48], "num_heads": [1, 2, 3], "depth": [1, 2, 3]},
    "data2vec-vision": {**VIT, "use_relative_position_bias": True},
    "deit": VIT,
    "dinat": {},
    "dinov2": {**VIT, "mlp_ratio": 2},
    "dinov2_with_registers": {**VIT, "num_register_tokens": 4, "mlp_ratio": 2},
    "donut-swin": {**WINDOWS, "window_size": 4},
    "efficientnet": {
        "image_size": 64, "width_coefficient": 0.5, "depth_coefficient": 0.3, "hidden_dim": 640,
        "num_block_repeats": [1, 1, 1, 1, 1, 1, 1],
    },
    "focalnet": {"image_size": None, "embed_dim": 12, "depths": [1, 1, 1, 2], "hidden_sizes": [12, 24, 48, 96]},
    "hgnet_v2": {
        "depths": [1, 1, 1, 1], "hidden_sizes": [16, 24, 32, 48], "embedding_size": 16, "stem_channels": [3, 16, 16],
        "stage_in_channels": [16, 24, 32, 40], "stage_mid_channels": [16, 16, 16, 16],
        "stage_out_channels": [24, 32, 40, 48], "stage_num_blocks": [1, 1, 1, 1],
        "stage_numb_of_layers": [2, 2, 2, 2],
    },
    "hiera": {"image_size": None, "embed_dim": 12, "depths": [1, 1, 1, 2], "num_heads": [1, 2, 2, 4]},
    "ijepa": VIT,
    "imagegpt": {"n_embd": 16, "n_layer": 1, "n_head": 2},
    "levit": {
        "image_size": None, "hidden_sizes": [32, 48, 64], "num_attention_heads": [2, 3, 4], "key_dim": [8, 8, 8],
        "depths": [1, 1, 2],
    },
    "metaclip_2": TWO,
    "mobilenet_v1": {"depth_multiplier": 0.25},
    "mobilenet_v2": {"depth_multiplier": 0.25},
    "mobilevit": {
        "hidden_sizes": [16, 24, 32], "neck_hidden_sizes": [8, 8, 16, 16, 24, 32, 64], "num_attention_heads": 2,
    },
    "mobilevitv2": {"width_multiplier": 0.25, "n_attn_blocks": [1, 1, 1]},
    "perceiver": PERCEIVER,
    "poolformer": STAGES,
    "pp_lcnet": {"scale": 0.5, "class_expand": 64},
    "pvt": {**PYRAMID, "sequence_reduction_ratios": [8, 4, 2, 1], "image_size": None},
    "pvt_v2": {**PYRAMID, "image_size": None},
    "regnet": {"embedding_size": 16, **STAGES, "groups_width": 8},
    "resnet": {"embedding_size": 16, **STAGES, "layer_type": "basic"},
    "segformer": PYRAMID,
    "shieldgemma2": {},
    "siglip": {"vision_config": VIT, "text_config": TEXT},
    "siglip2": {"vision_config": {**VIT, "num_patches": 64}, "text_config": TEXT},
    "swiftformer": {"depths": [1, 1, 1, 2], "embed_dims": [16, 24, 32, 48]},
    "swin": {**WINDOWS, "window_size": 4},
    "swinv2": {**WINDOWS, "window_size": 4},
    "textnet": {
        "image_size": [64, 64], "stem_out_channels": 16, "hidden_sizes": [16, 16, 24, 32, 48], "depths": [1, 1, 1, 1],
        "conv_layer_kernel_sizes": [[[3, 3]], [[3, 3]], [[3, 3]], [[3, 3]]],
        "conv_layer_strides": [[2], [2], [2], [2]],
    },
    "timm_wrapper": {"architecture": "test_resnet", "num_classes": CLASSES},
    "vit": VIT,
    "vit_msn": VIT,
}  # fmt: skip


def heads() -> list[tuple[str, str]]:
    """(type, class) of every classifier that `AutoModelForImageClassification` may load."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES as CLASSIFIERS

    return [
        (kind, head)
        for kind, names in CLASSIFIERS.items()
        for head in (names if isinstance(names, tuple) else (names,))
    ]


def build(kind: str, head: str, size: Size) -> nn.Module:
    """The tiny network of one type with this head, for pictures of this size (H, W)."""
    import transformers

    config = transformers.AutoConfig.for_model(kind, num_labels=CLASSES, **_sized(TINY[kind], size, kind))
    network = getattr(transformers, head)(config)
    return Naflex(network) if kind == "siglip2" else network


def _sized(settings: Mapping[str, Any], size: Size, kind: str) -> dict[str, Any]:
    """The settings with each open image size filled in: one edge, or (H, W) where the type takes it."""
    edge: Any = size[0] if size[0] == size[1] and kind not in ("hiera", "pvt_v2") else list(size)
    return {
        key: _sized(value, size, kind) if isinstance(value, Mapping) else edge if (key, value) == OPEN else value
        for key, value in settings.items()
    }
