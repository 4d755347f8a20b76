"""Networks of transformers that only describe pictures: CLIP, SigLIP, DINOv2, and classifiers without their head."""

import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from xaihub.costs import PassLimits
from xaihub.errors import UnsupportedModelError, shorten
from xaihub.families.base import Config, building, huge_pictures
from xaihub.families.cleaning import leads_elsewhere
from xaihub.families.from_timm import asks_for_more
from xaihub.families.from_transformers import _quiet_transformers, read_settings
from xaihub.families.towers import Tower, mean, pooler_output

__all__ = ["TOKENIZERS", "beside_weights", "load_tower", "reads_words", "refuse_backbone"]

_PROCESSORS = ("preprocessor_config.json", "processor_config.json")
TOKENIZERS = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
    "merges.txt", "spiece.model", "tokenizer.model",
)  # fmt: skip

# of text and pictures: type -> the whole network, and its half that sees
_PAIRS = {
    "clip": ("CLIPModel", "CLIPVisionModelWithProjection"),
    "metaclip_2": ("MetaClip2Model", "MetaClip2VisionModelWithProjection"),
    "siglip": ("SiglipModel", "SiglipVisionModel"),
    "siglip2": ("Siglip2Model", "Siglip2VisionModel"),
}
_PICTURES_ONLY = {
    "beit", "bit", "clip_vision_model", "convnext", "convnextv2", "cvt", "data2vec-vision", "deit", "dinov2",
    "dinov2_with_registers", "dinov3_convnext", "dinov3_vit", "efficientnet", "focalnet", "hiera", "ijepa", "levit",
    "mobilenet_v1", "mobilenet_v2", "mobilevit", "mobilevitv2", "poolformer", "pvt", "pvt_v2", "regnet", "resnet",
    "segformer", "siglip2_vision_model", "siglip_vision_model", "swiftformer", "swin", "swinv2", "vit", "vit_msn",
}  # fmt: skip
_WORKS = "What works: CLIP, SigLIP, DINOv2, DINOv3, and ViT, Swin, ResNet, ConvNeXt, MobileNet and the like."
_SPELLED = {"Siglip": "SigLIP", "Dinov2": "DINOv2", "Dino": "DINO", "Clip": "CLIP", "ConvNext": "ConvNeXt"}


def reads_words(config: Config) -> bool:
    """Whether a network has a half that reads, in the same space as the half that sees."""
    return str(config.get("model_type")) in _PAIRS and not _classifies(config)


def beside_weights(held: Collection[str], where: str, *, words: bool = False) -> list[str]:
    """Which of the files held say how pictures, and words, are prepared.

    Raises:
        UnsupportedModelError: none does.
    """
    processors, tokenizers = ([name for name in names if name in held] for names in (_PROCESSORS, TOKENIZERS))
    if not processors:
        raise UnsupportedModelError(
            f"{where} does not say how its pictures are prepared (no preprocessor_config.json), and vectors of pictures"
            f" prepared otherwise mean little. {_WORKS}"
        )
    if words and not tokenizers:
        raise UnsupportedModelError(
            f"{where} has no tokenizer (no tokenizer.json), so it cannot read words. It can still compare pictures:"
            " load it without words."
        )
    return [*processors, *(tokenizers if words else [])]


def refuse_backbone(config: Config, where: str, *, words: bool = False) -> None:
    """Nothing, if `load_tower` can make an embedder of it.

    Raises:
        UnsupportedModelError: it cannot, and what would work.
    """
    if reason := _reason(config, words):
        raise UnsupportedModelError(f"{where} {reason}")


def _reason(config: Config, words: bool) -> str:
    kind = str(config.get("model_type"))
    if "auto_map" in config:
        return (
            "needs code of its own ('auto_map' in its config.json), and a stranger's code is never run here."
            " A model of a type that transformers itself knows would work."
        )
    if kind not in _PAIRS and kind not in _PICTURES_ONLY:
        what = f"of type {shorten(kind)!r}" if "model_type" in config else "of no type that transformers knows"
        return f"is a model {what}, not one that describes single pictures by a vector. {_WORKS}"
    if words and not reads_words(config):
        return (
            f"sees pictures but reads no words (it is of type {kind!r}). To search with words, name a CLIP or SigLIP."
        )
    if leads_elsewhere(config) or asks_for_more(config):
        return "asks for further files by itself while loading, which is not allowed here."
    seeing = config.get("vision_config")
    inside = seeing.get("image_size") if isinstance(seeing, Mapping) else None
    return huge_pictures({"image_size": [config.get("image_size"), inside]})


def load_tower(
    folder: Path,
    config: Config,
    where: str,
    *,
    words: bool = False,
    device: str | torch.device | None = None,
    limits: PassLimits | None = None,
) -> Tower:
    """The network of a folder, in float32 and eval mode, without its head and, unless for words, the half that reads.

    Args:
        limits: what a pass may cost; None for any.

    Raises:
        UnsupportedModelError: it cannot be built, a part of it would be random, or its pixels cannot be had.
    """
    refuse_backbone(config, where, words=words)
    with _quiet_transformers(), building(where, folder):
        kind, settings = _network(folder, config, words)
        module, report = kind.from_pretrained(
            folder,
            config=settings,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            ignore_mismatched_sizes=True,  # they are reported, and refused below in words of ours
            dtype=torch.float32,
            output_loading_info=True,
        )
        missing = set(map(str, report.get("missing_keys", ())))
        spared = set() if words else {name for name in missing if _of_pooler(name)}
        _refuse_random(where, missing - spared, report.get("mismatched_keys", ()))
        processor = _processor(folder)
        tokenizer = _tokenizer(folder) if words else None
        module = module.eval().requires_grad_(False).to(device or "cpu")
        seeing = sum(
            value.numel() for name, value in module.named_parameters() if not name.startswith(("text_", "logit_"))
        )
        pool = _pooling(module, bool(spared))
        tower = Tower(module, processor, pool, _kind(module), where, seeing, tokenizer)
        if limits is not None:
            tower.check_cost(limits)
        _try(tower)
    return tower


def _try(tower: Tower) -> None:
    """Whether it takes what its processor and tokenizer give is better known now than after the download of pictures.

    Raises:
        UnsupportedModelError: what it gives are no vectors, or words have other ones than pictures.
    """
    seen = tower.see([Image.new("RGB", (64, 48), "grey")])
    if seen.ndim != 2 or not seen.isfinite().all():
        raise UnsupportedModelError(f"{tower.where} gives no vector of numbers for a picture. {_WORKS}")
    if tower.tokenizer is not None and tower.read(["cat"]).shape != seen.shape:
        raise UnsupportedModelError(
            f"{tower.where} gives words and pictures vectors of different sizes, so they cannot be compared. {_WORKS}"
        )


def _network(folder: Path, config: Config, words: bool) -> tuple[Any, Any]:
    """The class of transformers that has the part which is wanted and no more, and the configuration of that part."""
    import transformers

    settings = read_settings(folder)
    kind = str(config["model_type"])
    if kind == "clip_vision_model" and config.get("architectures") == ["CLIPVisionModelWithProjection"]:
        return transformers.CLIPVisionModelWithProjection, settings
    if kind not in _PAIRS:
        return transformers.AutoModel, settings
    whole, seeing = _PAIRS[kind]
    if words:
        return getattr(transformers, whole), settings
    if _classifies(config):  # it has kept the half that sees, and dropped the projection
        return getattr(transformers, seeing.removesuffix("WithProjection")), settings.vision_config
    if hasattr(settings, "projection_dim"):  # stated once for both halves; the half's own is a default, and unused
        settings.vision_config.projection_dim = settings.projection_dim
    return getattr(transformers, seeing), settings.vision_config


def _classifies(config: Config) -> bool:
    heads = config.get("architectures")
    return isinstance(heads, list) and any("ForImageClassification" in str(head) for head in heads)


def _of_pooler(name: str) -> bool:
    return not {"pooler", "head"}.isdisjoint(name.split("."))


def _refuse_random(where: str, missing: Collection[str], mismatched: Any) -> None:
    lost = sorted([*missing, *(str(key) for key, *_ in mismatched)])
    if lost:
        raise UnsupportedModelError(
            f"{where} has weights that do not fill its network: {len(lost)} are missing or of another shape, such as"
            f" {lost[0][:120]}. A part of it would be random, so what it finds alike would mean nothing. {_WORKS}"
        )


def _pooling(module: nn.Module, unlearnt: bool) -> Callable[[Any], Tensor]:
    """How to take one vector from what the network gives.

    A classifier's ViT has no pooler, so that transformers draws one at random; and where there is one, its dense layer
    and tanh served another task. The class token is taken instead, or the mean where there is none.
    """
    dense = getattr(getattr(module, "pooler", None), "dense", None)
    if not unlearnt and dense is None:
        return pooler_output
    has_class = any(re.search(r"(^|\.)(cls_token|class_embedding)$", name) for name, _ in module.named_parameters())
    return _first_token if has_class else mean


def _first_token(output: Any) -> Tensor:
    return output.last_hidden_state[:, 0]


def _kind(module: nn.Module) -> str:
    """What people call it: "CLIP" of a CLIPVisionModelWithProjection."""
    name = re.sub(r"(WithRegisters)?(Vision)?Model(WithProjection)?$", "", type(module).__name__)
    return next((good + name.removeprefix(bad) for bad, good in _SPELLED.items() if name.startswith(bad)), name)


def _processor(folder: Path) -> Any:
    from transformers import AutoImageProcessor

    return AutoImageProcessor.from_pretrained(folder, backend="pil", trust_remote_code=False, local_files_only=True)


def _tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
