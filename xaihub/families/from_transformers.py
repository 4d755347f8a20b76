"""Classifiers that `AutoModelForImageClassification` loads."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from copy import deepcopy
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import safe_open
from torch import Tensor, nn

from xaihub.classifier import Classifier
from xaihub.errors import UnsupportedModelError, shorten
from xaihub.families.base import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Config,
    building,
    family,
    finish,
    huge_pictures,
    labels_of,
    read_config,
    refuse_unfit,
    text_of,
    unusable,
)
from xaihub.families.cleaning import clean_config, leads_elsewhere
from xaihub.families.from_timm import asks_for_more
from xaihub.families.naflex import Naflex, unpatched
from xaihub.families.resizing import resize_check
from xaihub.preprocessing import Preprocess, Transform
from xaihub.progress import quietly

__all__ = ["Backbone", "load_backbone", "load_transformers", "read_settings"]


def _refuses_transformers(config: Config) -> str:
    kind = text_of(config, "model_type")
    if "auto_map" in config:
        return (
            "needs code of its own ('auto_map' in its config.json), and a stranger's code is never run here."
            " A model of a type that transformers itself knows would work."
        )
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES as CLASSIFIERS

    heads = config.get("architectures") or ()
    heads = [str(head) for head in (heads if isinstance(heads, list) else [heads] if heads else [])]
    if kind not in CLASSIFIERS or not all("Classif" in head or "TimmWrapper" in head for head in heads):
        what = shorten(heads[0]) if heads else f"of type {shorten(kind)}"
        return f"is not an image classifier but {what}. On the Hub, models under the task 'Image Classification' work."
    if config.get("problem_type") == "regression":
        return "predicts a number (problem_type 'regression'), not classes. A classifier would work."
    if kind == "shieldgemma2":
        return "is a vision-language model that answers with words, not an image classifier."
    if kind == "dinat" and find_spec("natten") is None:
        return "needs the package natten (neighbourhood attention), which is not installed here."
    if config.get("quantization_config"):
        return (
            "says that its weights are quantised ('quantization_config' in its config.json); what is run here are"
            " weights in plain numbers. The model that it was made from may work."
        )
    if kind == "imagegpt":
        return "reads a picture as a sequence of colours' numbers, so no gradient can lead back to its pixels."
    if leads_elsewhere(config) or asks_for_more(config):
        return "asks for further files by itself while loading, which is not allowed here."
    return huge_pictures({"image_size": config.get("image_size")}) or unusable(config.get("pretrained_cfg"))


def _refuses_processor(settings: Config) -> str:
    import transformers

    whole, inside = settings, settings.get("image_processor")
    settings = inside if isinstance(inside, Mapping) else settings
    kind = settings.get("image_processor_type") or settings.get("feature_extractor_type")
    if "auto_map" in settings and not hasattr(transformers, str(kind)):
        return (
            "needs code of its own for its pictures ('auto_map' in its preprocessor_config.json), and a stranger's code"
            " is never run here. A model with an image processor that transformers itself knows would work."
        )
    return unusable(whole)  # the part inside as well: which one is read depends on the file


@family(
    "transformers",
    claims=lambda config: config.get("model_type", "protopnet") != "protopnet",  # which has a loader of its own
    refuses=_refuses_transformers,
    files=("preprocessor_config.json", "processor_config.json"),
    refuses_file=_refuses_processor,
    clean=clean_config,
)
def load_transformers(folder: Path, config: Config, details: dict[str, Any]) -> Classifier:
    """A classifier that `AutoModelForImageClassification` loads, of timm's own format too."""
    from transformers import AutoModelForImageClassification

    with _quiet_transformers(), building(details["repo_id"], folder):
        settings = _with_all_names(read_settings(folder), folder)
    with _quiet_transformers(), building(details["repo_id"], folder):
        model, report = AutoModelForImageClassification.from_pretrained(
            folder,
            config=settings,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            ignore_mismatched_sizes=True,  # they are reported, and refused below in words of ours
            dtype=torch.float32,
            output_loading_info=True,
        )
    misfits = [
        f"{key}: {list(held)} in the weights, {list(wanted)} in the network"
        for key, held, wanted in report.get("mismatched_keys", ())
    ]
    refuse_unfit(details["repo_id"], misfits, report.get("missing_keys", ()))
    if not model.config.id2label:
        raise UnsupportedModelError(
            f"{details['repo_id']} has no classes (id2label is empty): it only describes pictures."
        )
    notices: list[str] = []
    names = config.get("id2label") or model.config.id2label
    labels, named, activation = labels_of(config, notices, model.config.num_labels, names=names)
    transform = _transformers_transform(folder, model.config, notices)
    module = Naflex(model) if model.config.model_type == "siglip2" else model
    return finish(
        module, labels, transform, notices, details, family="transformers", architecture=type(model).__name__,
        activation=activation, named=named,
    )  # fmt: skip


def read_settings(folder: Path) -> Any:
    """The configuration in a folder; what timm's format says of the classes twice is taken out."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    settings = clean_config(read_config(folder))
    config = CONFIG_MAPPING[settings["model_type"]].from_dict(settings)
    if isinstance(getattr(config, "model_args", None), dict):  # given twice, it would be a TypeError
        config.model_args = {key: value for key, value in config.model_args.items() if key != "num_classes"}
    return config


def _with_all_names(config: Any, folder: Path) -> Any:
    """The config with a name for each output of the stored head: transformers counts names, and gaps are no outputs."""
    from transformers import AutoModelForImageClassification

    names = config.id2label or {}
    if sorted(names) == list(range(len(names))):
        return config
    with torch.device("meta"):
        heads = _heads(AutoModelForImageClassification.from_config(config, trust_remote_code=False))
    rows = set()
    for file in folder.glob("*.safetensors"):
        with safe_open(file, "pt") as stored:
            rows |= {stored.get_slice(name).get_shape()[0] for name in heads & set(stored.keys())}
    if len(rows) == 1:
        config.id2label = {index: names.get(index, f"LABEL_{index}") for index in range(rows.pop())}
    return config


@dataclass(frozen=True, eq=False)
class Backbone:
    """A network with a new, random head, ready to be trained.

    Attributes:
        transform: picture -> pixels, measured.
        heads: the names of the layers that answer; all else was trained before.
    """

    module: Any
    transform: Transform
    heads: tuple[str, ...]
    processor: Any
    where: str

    def save(self, folder: Path) -> None:
        """Writes what `AutoModelForImageClassification` and `AutoImageProcessor` load."""
        with _quiet_transformers():
            self.module.to(memory_format=torch.contiguous_format).save_pretrained(folder)
            self.processor.save_pretrained(folder)
        for file in folder.glob("*.safetensors"):
            file.chmod(0o644)  # safetensors writes for its owner alone


def load_backbone(folder: Path, labels: Sequence[str], where: str, *, seed: int = 0) -> Backbone:
    """A classifier of transformers or timm whose last layer answers with these classes instead, drawn by seed.

    Raises:
        UnsupportedModelError: it cannot be built, more than its head would be random, or its pixels cannot be had.
    """
    from transformers import AutoModelForImageClassification

    with _quiet_transformers(), building(where, folder), torch.random.fork_rng():
        torch.manual_seed(seed)
        config = read_settings(folder)
        _name_classes(config, labels)
        model, report = AutoModelForImageClassification.from_pretrained(
            folder,
            config=config,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            ignore_mismatched_sizes=True,  # the head's; others are refused below
            dtype=torch.float32,
            output_loading_info=True,
        )
        heads = _heads(model)
        if getattr(config, "num_channels", 3) != 3:
            raise UnsupportedModelError(
                f"{where} reads pictures of {config.num_channels} channels, not RGB. Use another backbone."
            )
        processor = _processor_or_default(folder, config)
        function = _processor_function(processor, 3)
        with torch.no_grad():  # whether it takes what its processor gives is better known now than after the reading
            model.eval()(function(Image.new("RGB", (64, 64)))[None])
    misfits = [key for key, *_ in report.get("mismatched_keys", ()) if key not in heads]
    refuse_unfit(where, misfits, [key for key in report.get("missing_keys", ()) if key not in heads])
    _draw_anew(model, heads, seed)
    parts = tuple(dict.fromkeys(key.rpartition(".")[0] for key in heads))
    return Backbone(model, Transform(function, function.__doc__ or ""), parts, processor, where)


def _name_classes(config: Any, labels: Sequence[str]) -> None:
    """The config, answering with these classes; what timm's format says of the old ones is taken out."""
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: index for index, label in enumerate(labels)}
    config.problem_type = "single_label_classification"
    for name in ("label_names", "label_descriptions", "num_classes"):
        if name in vars(config):
            delattr(config, name)


def _heads(model: Any) -> set[str]:
    """The names of the parameters whose shape depends on the number of classes."""
    from transformers import AutoModelForImageClassification

    config = deepcopy(model.config)
    _name_classes(config, [*map(str, config.id2label.values()), "one more"])
    with torch.device("meta"):
        larger = AutoModelForImageClassification.from_config(config, trust_remote_code=False)
    shapes = {name: tensor.shape for name, tensor in larger.state_dict().items()}
    return {name for name, tensor in model.state_dict().items() if tensor.shape != shapes.get(name)}


def _draw_anew(model: nn.Module, heads: set[str], seed: int) -> None:
    """Small random weights and no bias: a head of the same size as the old one would else have been kept."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in heads:
                drawn = torch.randn(parameter.shape, generator=generator)
                parameter.copy_(0.02 * drawn if parameter.ndim > 1 else torch.zeros_like(drawn))


def _processor_or_default(folder: Path, config: Any) -> Any:
    """The repository's own image processor, or the common one that is assumed elsewhere as well."""
    from transformers import AutoImageProcessor, ViTImageProcessor

    has_files = any((folder / name).is_file() for name in ("preprocessor_config.json", "processor_config.json"))
    if has_files or getattr(config, "pretrained_cfg", None):
        return AutoImageProcessor.from_pretrained(folder, backend="pil", trust_remote_code=False, local_files_only=True)
    height, width = _image_size(config)
    size, mean, std = {"height": height, "width": width}, list(IMAGENET_MEAN), list(IMAGENET_STD)
    return ViTImageProcessor(size=size, image_mean=mean, image_std=std, resample=Image.Resampling.BILINEAR)


def _transformers_transform(folder: Path, config: Any, notices: list[str]) -> Preprocess:
    """The repository's own image processor, or a stated default where it has none that works."""
    from transformers import AutoImageProcessor

    channels = getattr(config, "num_channels", 3)
    if channels not in (1, 3):
        raise UnsupportedModelError(
            f"This model reads pictures of {channels} channels; only grey and RGB pictures can be given."
        )
    if channels == 1:
        notices.append("It reads grey pictures, so colours are taken out first.")
    why = "It comes without preprocessing"
    has_files = any((folder / name).is_file() for name in ("preprocessor_config.json", "processor_config.json"))
    if has_files or getattr(config, "pretrained_cfg", None):  # the wrapper of timm keeps it in config.json
        try:
            with _quiet_transformers():
                processor = AutoImageProcessor.from_pretrained(
                    folder, backend="pil", trust_remote_code=False, local_files_only=True
                )
            return _processor_function(processor, channels)
        except (OSError, ValueError, KeyError, TypeError, ImportError, AttributeError) as error:
            why = f"Its preprocessing could not be read ({type(error).__name__})"
    size = _image_size(config)
    notices.append(
        f"{why}, so a common one is assumed: resize to {size[1]} x {size[0]}, ImageNet mean and deviation. Its answers"
        " may be worse than its authors measured."
    )
    return _default_function(size, channels)


def _processor_function(processor: Any, channels: int) -> Preprocess:
    fits = resize_check(getattr(processor, "size", None), getattr(processor, "crop_pct", None))

    def pixels_of(picture: Image.Image) -> Tensor:
        fits(picture.size)
        processed = processor(images=picture, return_tensors="pt")
        pixels = unpatched(processed)[None] if "spatial_shapes" in processed else processed["pixel_values"]
        if pixels.ndim != 4 or len(pixels) != 1:
            raise UnsupportedModelError(
                f"This model's preprocessing gives pixels of shape {tuple(pixels.shape)}, not one picture. It"
                " is not supported."
            )
        return pixels[0]

    small = Image.new("RGB", (64, 64))
    grey = _grey_mode(pixels_of, small) if channels == 1 else ""

    def preprocess(picture: Image.Image) -> Tensor:
        if not grey:
            return pixels_of(picture)
        return pixels_of(picture.convert("L").convert(grey)).mean(0, keepdim=True)

    size = preprocess(small).shape[-2:]
    preprocess.__doc__ = f"{type(processor).__name__}, {size[1]} x {size[0]} pixels{', grey' if grey else ''}"
    return preprocess


def _grey_mode(pixels_of: Preprocess, picture: Image.Image) -> str:
    """How a grey picture must be handed over: some processors normalise one channel, some insist on three."""
    try:
        pixels_of(picture.convert("L"))
    except ValueError:
        return "RGB"
    return "L"


def _default_function(size: tuple[int, int], channels: int) -> Preprocess:
    mean, std = torch.tensor(IMAGENET_MEAN)[:, None, None], torch.tensor(IMAGENET_STD)[:, None, None]

    def preprocess(picture: Image.Image) -> Tensor:
        resized = picture.resize((size[1], size[0]), Image.Resampling.BILINEAR)
        if channels == 1:
            resized = resized.convert("L").convert("RGB")
        pixels = (torch.from_numpy(np.array(resized)).permute(2, 0, 1).float() / 255 - mean) / std
        return pixels if channels == 3 else pixels.mean(0, keepdim=True)

    grey = ", grey" if channels == 1 else ""
    preprocess.__doc__ = f"assumed: resize to {size[1]} x {size[0]}, ImageNet mean and deviation{grey}"
    return preprocess


def _image_size(config: Any) -> tuple[int, int]:
    size = getattr(config, "image_size", None) or 224
    if isinstance(size, Mapping):
        return int(size["height"]), int(size["width"])
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))


def _quiet_transformers() -> AbstractContextManager[None]:
    from transformers.utils import logging

    return quietly(logging)
