"""Which files hold a model's weights, how many parameters they state, and what is there instead of a whole model."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from xaihub.downloads import REPAIR
from xaihub.errors import DamagedFileError, DownloadError, UnsupportedModelError, shorten
from xaihub.tensor_headers import Header, read_header
from xaihub.untrusted import damage

__all__ = [
    "ADAPTER", "INDEX", "adapter_of", "refuse_adapter", "refuse_foreign_shards", "stored_headers", "weight_files",
]  # fmt: skip

INDEX = "model.safetensors.index.json"  # which of several files holds which tensor

ADAPTER = "adapter_config.json"  # what PEFT writes, and AdapterHub too

_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_FOREIGN = {
    ".h5": "of Keras", ".keras": "of Keras", ".msgpack": "of Flax", ".tflite": "of TensorFlow Lite",
    ".pb": "of TensorFlow", ".onnx": "of ONNX", ".gguf": "of llama.cpp",
    ".tar": "an archive", ".tar.gz": "an archive", ".tgz": "an archive", ".zip": "an archive",
}  # fmt: skip
# the names in their papers; any other is shown as it is written
_KINDS = {"LORA": "LoRA", "ADALORA": "AdaLoRA", "LOHA": "LoHa", "LOKR": "LoKr", "VERA": "VeRA", "XLORA": "X-LoRA"}
_MOST_SHARDS = 64  # a host takes some hundred megabytes, and shards are of gigabytes


def weight_files(files: Mapping[str, int], where: str) -> list[str]:
    """The safetensors files that hold the weights.

    Raises:
        UnsupportedModelError: there are none, and what there is instead.
    """
    safe = sorted(path for path in files if re.fullmatch(r"model(-\d+-of-\d+)?\.safetensors", path))
    if "model.safetensors" in safe:
        return ["model.safetensors"]
    if len(safe) > _MOST_SHARDS:
        raise UnsupportedModelError(
            f"{where} has its weights in {len(safe):,} files; at most {_MOST_SHARDS} are opened here. Its author can"
            " save it again with larger ones."
        )
    if safe:
        return [*safe, INDEX] if INDEX in files else safe
    pickles = [path for path in files if path.endswith(_PICKLES) and not _of_training(path)]
    if pickles:
        raise UnsupportedModelError(
            f"{where} has its weights only as {pickles[0][:120]}, a format that can run programs when opened, so it is"
            " not opened here. Its author can convert it at https://huggingface.co/spaces/safetensors/convert;"
            " then it works."
        )
    foreign = [path for path in files if path.endswith(tuple(_FOREIGN))]
    if foreign:
        raise UnsupportedModelError(_foreign(where, foreign[0]))
    raise UnsupportedModelError(
        f"{where} has no weights (no model.safetensors). It may not be a model that is ready to use."
    )


def _foreign(where: str, path: str) -> str:
    kind = next(kind for ending, kind in _FOREIGN.items() if path.endswith(ending))
    if kind == "an archive":
        return (
            f"{where} has only {path[:120]}, an archive, and archives are not unpacked here. Its author can upload the"
            " files themselves: config.json and model.safetensors."
        )
    return (
        f"{where} has its weights only as {path[:120]}, a format {kind}; what is run here are PyTorch's, from"
        " model.safetensors. Many models are published for transformers or timm as well: open that one."
    )


def _of_training(path: str) -> bool:
    """Whether a file is what a Trainer leaves beside the weights, and so says nothing about them."""
    return path.rpartition("/")[2].startswith(("training_args", "optimizer", "scheduler", "rng_state", "scaler"))


def refuse_foreign_shards(where: str, weights: Sequence[str], read: Callable[[str], Mapping[str, Any]]) -> None:
    """Raise if the index of the weights names other files than those that are planned: each by its exact name.

    Args:
        weights: as `weight_files` gives them.
        read: gives a JSON file of the repository.

    Raises:
        UnsupportedModelError: it does, wherever that file lies.
    """
    if INDEX not in weights:
        return
    places = read(INDEX).get("weight_map")
    named = list(places.values()) if isinstance(places, Mapping) and places else [places]
    foreign = [name for name in named if not isinstance(name, str) or name not in weights[:-1]]
    if foreign:
        raise UnsupportedModelError(
            f"{where} points to {shorten(foreign[0], 80)!r} in its {INDEX}, which is none of its own files of weights"
            f" ({', '.join(weights[:2])}, ...), so nothing of it is opened. Its author can save it again."
        )


def stored_headers(files: Sequence[Path], where: str) -> list[Header]:
    """Return what these safetensors files hold, read from their headers alone.

    Raises:
        DownloadError: a file has no header that could be read, or not as many bytes as it describes.
    """
    return [_header(file, where) for file in files]


def _header(file: Path, where: str) -> Header:
    try:
        return read_header(file)
    except (OSError, ValueError) as error:
        with file.open("rb") as stream:
            broken = damage(stream.read(1024), file.stat().st_size) or "cut short" in str(error)
        advice = REPAIR if broken else "Tell its author."
        kind = DamagedFileError if broken else DownloadError
        raise kind(f"{file.name}, the weights of {where}, {error}. {advice}") from error


def refuse_adapter(where: str, files: Mapping[str, int], read: Callable[[str], Mapping[str, Any]]) -> None:
    """Nothing, unless the files are an adapter's and no whole model lies beside it.

    Args:
        read: gives a JSON file of it. What is in there is a stranger's: it may hold anything, of any length.

    Raises:
        UnsupportedModelError: which adapter it is, for which model, and what to do.
    """
    whole = any(re.fullmatch(r"model(-\d+-of-\d+)?\.safetensors", path) for path in files) and "config.json" in files
    if ADAPTER not in files or whole:
        return
    try:
        config = read(ADAPTER)
    except (DownloadError, UnsupportedModelError):  # no JSON object: an adapter all the same
        config = {}
    kind, base = _kind(config), _base(config)
    of = f"for the base model {base}" if base else "and does not name its base model"
    instead = "" if base is None or not _openable(base) else f", or open the base model {base}, if it is a classifier"
    raise UnsupportedModelError(
        f"{where} is {_article(kind)} {kind} adapter {of}: it holds only what was changed, not a whole model. Merge it"
        f" into its base with peft (merge_and_unload), publish that and open it here{instead}."
    )


def adapter_of(module: nn.Module) -> str:
    """What adapter a network in memory carries, in words, such as "LoRA on google/vit-base-patch16-224"; or ""."""
    configs = getattr(module, "peft_config", None)
    if not isinstance(configs, Mapping):
        return ""
    told = []
    for config in configs.values():
        values = {key: getattr(config, key, None) for key in ("peft_type", "base_model_name_or_path")}
        base = _base(values)
        told.append(f"{_kind(values)} on {base}" if base else _kind(values))
    return ", ".join(dict.fromkeys(told))


def _kind(config: Mapping[str, Any]) -> str:
    """The adapter's type as its paper spells it; nothing but letters and digits of a stranger's is repeated."""
    given = config.get("peft_type")
    given = str(getattr(given, "value", given) or "")
    return _KINDS.get(given, given if re.fullmatch(r"[A-Za-z0-9_]{1,30}", given) else "PEFT")


def _base(config: Mapping[str, Any]) -> str | None:
    """The base model's name, as an id or quoted, with line breaks and control characters made visible."""
    given = config.get("base_model_name_or_path") or config.get("model_name")
    if not isinstance(given, str) or not given.strip():
        return None
    return given if _openable(given) else repr(given[:80] + ("..." if len(given) > 80 else ""))


def _openable(name: str) -> bool:
    return bool(re.fullmatch(r"\w[\w.-]{0,95}/\w[\w.-]{0,95}", name, re.ASCII))


def _article(kind: str) -> str:
    return "an" if kind[0] in "AEIOUX" else "a"
