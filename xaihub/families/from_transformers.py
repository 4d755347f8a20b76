"""Classifiers that `AutoModelForImageClassification` loads."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from xaihub.classifier import Activation, Classifier
from xaihub.errors import UnsupportedModelError
from xaihub.families.base import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Config,
    building,
    family,
    finish,
    huge_pictures,
    labels_of,
    refuse_unfit,
)
from xaihub.families.from_timm import asks_for_more
from xaihub.families.naflex import Naflex, unpatched
from xaihub.preprocessing import Preprocess

__all__ = ["load_transformers"]


def _refuses_transformers(config: Config) -> str:
    kind = str(config.get("model_type"))
    if "auto_map" in config:
        return (
            "needs code of its own ('auto_map' in its config.json), and a stranger's code is never run here."
            " A model of a type that transformers itself knows would work."
        )
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES as CLASSIFIERS

    heads = config.get("architectures") or ()
    heads = [str(head) for head in (heads if isinstance(heads, list) else [heads] if heads else [])]
    if kind not in CLASSIFIERS or not all("Classif" in head or "TimmWrapper" in head for head in heads):
        what = heads[0] if heads else f"of type {kind}"
        return f"is not an image classifier but {what}. On the Hub, models under the task 'Image Classification' work."
    if config.get("problem_type") == "regression":
        return "predicts a number (problem_type 'regression'), not classes. A classifier would work."
    if kind == "shieldgemma2":
        return "is a vision-language model that answers with words, not an image classifier."
    if kind == "dinat" and find_spec("natten") is None:
        return "needs the package natten (neighbourhood attention), which is not installed here."
    if kind == "imagegpt":
        return "reads a picture as a sequence of colours' numbers, so no gradient can lead back to its pixels."
    if _asks_for_more(config) or asks_for_more(config):
        return "asks for further files by itself while loading, which is not allowed here."
    return huge_pictures({"image_size": config.get("image_size")})


def _asks_for_more(config: Any) -> bool:
    """Whether a config, or one inside it, names weights or programs that are elsewhere."""
    if not isinstance(config, Mapping):
        return False
    kernel = config.get("attn_implementation")  # "owner/name" is a repository of programs
    elsewhere = config.get("use_pretrained_backbone") or config.get("transformers_weights") or "/" in str(kernel)
    return bool(elsewhere) or any(_asks_for_more(value) for value in config.values())


def _refuses_processor(settings: Config) -> str:
    import transformers

    inside = settings.get("image_processor")
    settings = inside if isinstance(inside, Mapping) else settings
    kind = settings.get("image_processor_type") or settings.get("feature_extractor_type")
    if "auto_map" in settings and not hasattr(transformers, str(kind)):
        return (
            "needs code of its own for its pictures ('auto_map' in its preprocessor_config.json), and a stranger's code"
            " is never run here. A model with an image processor that transformers itself knows would work."
        )
    return huge_pictures(settings)


@family(
    "transformers",
    claims=lambda config: "model_type" in config,
    refuses=_refuses_transformers,
    files=("preprocessor_config.json", "processor_config.json"),
    refuses_file=_refuses_processor,
)
def load_transformers(folder: Path, config: Config, details: dict[str, Any]) -> Classifier:
    """A classifier that `AutoModelForImageClassification` loads."""
    from transformers import AutoModelForImageClassification

    with _quiet_transformers(), building(details["repo_id"], folder):
        model, report = AutoModelForImageClassification.from_pretrained(
            folder,
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
    labels, named = labels_of(model.config.id2label, notices)
    activation: Activation = "sigmoid" if config.get("problem_type") == "multi_label_classification" else "softmax"
    if activation == "sigmoid":
        notices.append("Its classes do not exclude each other (multi-label): each has a probability of its own.")
    if len(labels) == 1:
        notices.append(
            f"It answers with one number, read as the probability of {labels[0]!r} against 'not {labels[0]}'."
        )
    transform = _transformers_transform(folder, model.config, notices)
    module = Naflex(model) if model.config.model_type == "siglip2" else model
    return finish(
        module, labels, transform, notices, details, family="transformers", architecture=type(model).__name__,
        activation=activation, named=named,
    )  # fmt: skip


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
    def pixels_of(picture: Image.Image) -> Tensor:
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
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Without the library's own reports on the log: what matters of them is said on the page."""
    from transformers.utils import logging

    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()
