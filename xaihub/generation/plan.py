"""Which files of a repository make up its pipeline; what would run somebody's code or be unpickled is refused."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xaihub.errors import TooLargeError, UnsupportedModelError

__all__ = ["INDEX", "Plan", "is_pipeline", "library", "plan"]

INDEX = "model_index.json"
LARGEST = 20 * 2**30  # bytes of weights; whoever wants more can fetch it and name the folder
_PICKLED = (".bin", ".ckpt", ".pt", ".pth", ".msgpack", ".h5", ".pkl")
_SMALL = (".json", ".txt", ".model", ".jinja")  # configurations and vocabularies
_ROOT = ("config.json", "scheduler_config.json", "preprocessor_config.json")
_WEIGHTS = ("diffusion_pytorch_model", "model")


@dataclass(frozen=True)
class Plan:
    """What is fetched of a repository, and the pipeline's class."""

    class_name: str
    paths: tuple[str, ...]
    bytes: int


def is_pipeline(folder: Path) -> bool:
    """Whether a folder holds a diffusers pipeline rather than pictures."""
    return (folder / INDEX).is_file()


def library() -> Any:
    """The diffusers library.

    Raises:
        UnsupportedModelError: it is not installed.
    """
    try:
        import diffusers
    except ImportError as error:
        raise UnsupportedModelError(
            "Making pictures takes the diffusers library, which is not installed here. Install it with pip install"
            " 'xaihub[generation]', or give a folder of pictures that were made elsewhere."
        ) from error
    return diffusers


def plan(name: str, files: Mapping[str, int], index: Mapping[str, Any]) -> Plan:
    """What to fetch for the pipeline, before anything large is fetched.

    Args:
        files: path -> size in bytes.
        index: the content of its model_index.json.

    Raises:
        UnsupportedModelError: it is no pipeline, runs code of its own, or its weights would have to be unpickled.
    """
    class_name = index.get("_class_name")
    if not index:
        raise UnsupportedModelError(
            f"{name} has no {INDEX}, so it is no diffusers pipeline. Name one, such as google/ddpm-cat-256, or a folder"
            " of pictures that were made elsewhere."
        )
    if not isinstance(class_name, str):
        raise _own_code(name, "its pipeline")
    parts = {part: made for part, made in index.items() if isinstance(made, list) and not part.startswith("_")}
    paths: list[str] = [INDEX]
    for part, made in parts.items():
        if len(made) == 2 and made[0] is not None:
            _refuse_own_code(name, part, made)
            paths += _files_of(name, part, files)
    chosen = tuple(dict.fromkeys(paths))
    size = sum(files[path] for path in chosen if path in files)
    if size > LARGEST:
        raise TooLargeError(
            f"The pipeline {name} has {size / 2**30:.0f} GB of files, more than {LARGEST / 2**30:.0f}. Use a smaller"
            " one."
        )
    return Plan(class_name, chosen, size)


def _refuse_own_code(name: str, part: str, made: list[Any]) -> None:
    owner = made[0]
    if owner not in ("diffusers", "transformers") and not hasattr(library().pipelines, str(owner)):
        raise _own_code(name, f"its part {part!r}")


def _own_code(name: str, what: str) -> UnsupportedModelError:
    return UnsupportedModelError(
        f"{name} brings Python code of its own for {what}, which is never run here. Use a pipeline of diffusers' own"
        " classes, or make the pictures yourself and name their folder."
    )


def _files_of(name: str, part: str, files: Mapping[str, int]) -> list[str]:
    """The files of one part; old repositories keep those of their only model at the root."""
    inside = [path for path in files if path.startswith(f"{part}/")]
    if not inside:
        inside = [path for path in files if "/" not in path and (path in _ROOT or path.startswith(_WEIGHTS))]
    weights = [path for path in inside if path.endswith(".safetensors") and not _is_variant(path)]
    pickled = [path for path in inside if path.endswith(_PICKLED) and "training_args" not in path]
    if pickled and not weights:
        raise UnsupportedModelError(
            f"{name} has the weights of {part!r} only as {pickled[0]}, which can run any code when it is opened, so it"
            " is not. Name a revision that has them as safetensors (on the Hub such conversions often wait as pull"
            " requests: --revision refs/pr/1), or load it once where you trust it and save it with"
            " safe_serialization=True, and name that folder."
        )
    return [path for path in inside if path.endswith(_SMALL) or path in weights or path.endswith(".index.json")]


def _is_variant(path: str) -> bool:
    """Whether these are weights in another precision, such as model.fp16.safetensors."""
    stem = path.rsplit("/", 1)[-1].removesuffix(".safetensors")
    return "." in stem
