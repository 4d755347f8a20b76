"""The part of a stranger's settings that the libraries get to see: what they declare, and nothing that leads elsewhere.

transformers takes any key of a config.json for an attribute, also those that choose programs (attention kernels of
the Hub) or other files. So a config is cut down to the fields that its own class declares, at every depth; a new way
of leading elsewhere then has to be a declared setting of an image classifier to be followed at all.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

from xaihub.families.base import Config, text_of
from xaihub.families.bounds import settings_in

__all__ = ["TIMM_PREPROCESSING", "clean_config", "clean_settings", "leads_elsewhere"]

TIMM_PREPROCESSING = (
    "input_size", "test_input_size", "fixed_input_size", "min_input_size", "pool_size", "interpolation", "crop_pct",
    "test_crop_pct", "crop_mode", "mean", "std", "num_classes", "first_conv", "classifier",
)  # fmt: skip
_OF_ALL = ("architectures", "id2label", "label2id", "model_type", "num_labels", "problem_type")
_OF_TIMM = (
    "global_pool", "image_processor_type", "label_descriptions", "label_names", "num_classes", "pretrained_cfg",
)  # fmt: skip
_CHOOSES_PROGRAMS = re.compile("implementation|kernel")  # attention kernels, experts' kernels, ...
_LEADS_ELSEWHERE = ("use_pretrained_backbone", "transformers_weights")


def leads_elsewhere(config: Any) -> str:
    """The key of a config, at any depth, that names weights or programs which lie elsewhere; "" if none does."""
    for key, value in settings_in(config):
        name = key.lstrip("_")
        programs = _CHOOSES_PROGRAMS.search(name) and any("/" in text for text in _texts(value))
        if programs or (name in _LEADS_ELSEWHERE and value):
            return key
    return ""


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(part)


def clean_config(config: Config) -> dict[str, Any]:
    """A config.json of transformers, or of timm, cut down to what its class declares."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    kind = text_of(config, "model_type") or "timm_wrapper"
    return _declared(config, CONFIG_MAPPING[kind]) | {"model_type": kind}


def _declared(config: Config, kind: Any) -> dict[str, Any]:
    from transformers import PreTrainedConfig

    of_all = {field.name for field in fields(PreTrainedConfig)}
    own = {field.name for field in fields(kind)} - of_all
    known = {name for name in (*own, *kind.attribute_map) if not name.startswith("_")} | set(_OF_ALL)
    parts = dict(kind.sub_configs or {})
    older = {f"{name}_dict": name for name in parts}  # how CLIP once wrote its two halves
    known |= {*older, *_OF_TIMM}
    cleaned = {key: value for key, value in config.items() if key in known}
    for name, value in cleaned.items():
        part = parts.get(older.get(name, name))
        if part is not None and isinstance(value, Mapping):
            cleaned[name] = _declared(value, part) if hasattr(part, "attribute_map") else clean_config(value)
        elif name == "black_box" and isinstance(value, Mapping):
            cleaned[name] = clean_config(value)
        elif name == "pretrained_cfg" and isinstance(value, Mapping):
            cleaned[name] = {key: value[key] for key in TIMM_PREPROCESSING if key in value}
    return cleaned


def clean_settings(settings: Config) -> dict[str, Any]:
    """Settings of an image processor or a tokenizer, without what is private to the library or names files."""

    def own(key: str) -> bool:
        return not (key.startswith("_") or key.endswith("_file") or key in ("auto_map", "name_or_path"))

    return {
        key: clean_settings(value) if isinstance(value, Mapping) else value
        for key, value in settings.items()
        if own(key)
    }
