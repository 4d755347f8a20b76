"""Bounds of a stranger's numbers: those of preprocessing, the counts of a config, and what building may allocate."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter, tree_map

from xaihub.errors import UnsupportedModelError, shorten
from xaihub.tensor_headers import Header

__all__ = ["LABELS", "Allowance", "faulty_numbers", "refuse_counts"]

# names of classes, which may be as many and as long as they like
LABELS = frozenset({"id2label", "label2id", "label_names", "label_descriptions", "labels", "black_box_labels"})

MOST_CLASSES = 100_000  # ImageNet-21k has 21,841
MOST_COUNT = 2**20  # of anything else, in a network of few parameters: positions, words of a half that is not stored
_CLASSES = ("num_labels", "num_classes", "id2label", "label_names")
_LEAST_TENSOR = 64 * 2**20  # bytes that any network may take for one tensor while it is built
_SIDES = {"height", "width", "shortest_edge", "longest_edge"}


def faulty_numbers(settings: Any) -> str:
    """Why pixels cannot be computed with these settings, or ""; numbers are known by their keys, at any depth.

    An image is rescaled, less a mean, divided by a deviation: each has to be finite, and the last two steps have to
    keep what the image shows.
    """
    for key, value in settings_in(settings):
        name = key.rpartition("image_")[2]
        if value is None or isinstance(value, bool):
            continue
        if name in ("mean", "std") and (reason := _faulty_channels(key, value)):
            return reason
        if name == "rescale_factor" and not _number(value, 1e-6, 1e4):
            return _says(key, value, "a positive number such as 1/255")
        if name in ("crop_pct", "test_crop_pct") and not _number(value, 1e-9, 10.0):
            return _says(key, value, "a positive share such as 0.875")
        if name in _SIDES and not _number(value, 1.0, math.inf):
            return _says(key, value, "a number of pixels")
        if name.endswith("size") and isinstance(value, int | float | list) and not _all(value, 0.5, math.inf):
            return _says(key, value, "positive numbers of pixels")
    return ""


def settings_in(value: Any) -> Iterator[tuple[str, Any]]:
    """Every key with its value, at any depth; the classes' names are no settings."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield str(key), part
            if key not in LABELS:
                yield from settings_in(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from settings_in(part)


def _faulty_channels(key: str, value: Any) -> str:
    least = 1e-4 if key.endswith("std") else -1e4
    wanted = "one number, or one for each colour" + (", above zero" if key.endswith("std") else "")
    right = _all(value, least, 1e4) and (not isinstance(value, list | tuple) or len(value) in (1, 3, 4))
    return "" if right else _says(key, value, wanted)


def _all(value: Any, least: float, most: float) -> bool:
    parts = value if isinstance(value, list | tuple) else [value]
    return bool(parts) and all(part is None or _number(part, least, most) for part in parts)


def _number(value: Any, least: float, most: float) -> bool:
    known = isinstance(value, int | float) and not isinstance(value, bool)
    return known and math.isfinite(value) and least <= value <= most


def _says(key: str, value: Any, wanted: str) -> str:
    return (
        f"prepares its images with {shorten(key, 60)} = {shorten(value, 80)}, which has to be {wanted}. Its author can"
        " correct that; another model of the same kind may work."
    )


def refuse_counts(where: str, config: Any, headers: Sequence[Header], size: int) -> None:
    """Raise unless each count of a config can be one of the network whose tensors are stored.

    Asked before a library makes lists as long as a config says. Counts are known by their size, not by their name.

    Args:
        headers: of all files of weights, which have `size` bytes together.

    Raises:
        UnsupportedModelError: more classes than any tensor has rows, or a count beyond all that is stored.
    """
    rows = max(
        (max(shape, default=0) for header in headers for shape in header.shapes.values() if math.prod(shape)), default=0
    )
    most = max(MOST_COUNT, sum(header.parameters for header in headers))
    for key, count in _counts(config):
        if count > most:
            raise UnsupportedModelError(
                f"{where} describes a network of more than {size / 1e6:,.1f} M parameters, but its weights have only"
                f" {size / 2**20:,.1f} MB ({shorten(key, 60)} is {shorten(count, 40)}). Its config.json belongs to"
                " other weights."
            )
        if key in _CLASSES and count > min(MOST_CLASSES, max(rows, 2)):
            raise UnsupportedModelError(
                f"{where} has {count:,.0f} classes ({key}), but none of its tensors has so many rows: the largest has"
                f" {rows:,}, and at most {MOST_CLASSES:,} classes are shown here. Its config.json belongs to other"
                " weights."
            )


def _counts(config: Any) -> Iterator[tuple[str, float]]:
    for key, value in settings_in(config):
        if key in _CLASSES and isinstance(value, Mapping | list):
            yield key, len(value)
        if key in LABELS:
            continue
        for number in value if isinstance(value, list | tuple) else [value]:
            if isinstance(number, int | float) and not isinstance(number, bool):
                yield key, abs(number)


class Allowance(TorchDispatchMode):
    """While it is entered, an operation that would make a tensor of more bytes than allowed is refused unrun.

    What a config makes a network compute while it is built, such as tables of positions, is bounded so whatever its
    name. An operation whose arguments allow a large result is first run on the meta device, which computes shapes
    alone; the first such run imports for seconds, so the rest are let through by their arguments.

    Args:
        where: whose network is built.
        size: bytes of its weights.
    """

    def __init__(self, where: str, size: int) -> None:
        super().__init__()
        self.where, self.most = where, max(_LEAST_TENSOR, 4 * size)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if not func._schema.is_mutable and _at_most((args, kwargs)) > self.most:
            made = sum(_made(func, args, kwargs))
            if made > self.most:
                raise UnsupportedModelError(
                    f"{self.where} asks for {made / 2**20:,.0f} MB at once while its network is built; at most"
                    f" {self.most / 2**20:,.0f} MB are given to a network of its weights. Its config.json belongs to"
                    " other weights."
                )
        return func(*args, **kwargs)


def _at_most(arguments: Any) -> float:
    """Bytes that the result can have at most: all sizes among the arguments, of tensors and as numbers, multiplied."""
    most = 16.0  # bytes of the widest number
    for value in tree_iter(arguments):
        size = value.numel() if isinstance(value, Tensor) else value
        if isinstance(size, int | float) and not isinstance(size, bool) and size == size:
            most *= max(1.0, abs(size))
    return most


def _made(func: Any, args: Any, kwargs: Any) -> Iterable[int]:
    """Bytes of each tensor that an operation would make anew; none where that cannot be told."""
    try:
        outputs = func(*tree_map(_on_meta, args), **{**tree_map(_on_meta, kwargs), **_meta_device(func)})
    except Exception:  # noqa: BLE001  whatever is wrong with it shows when it is run
        return ()
    return [output.untyped_storage().nbytes() for output in tree_iter(outputs) if isinstance(output, Tensor)]


def _on_meta(value: Any) -> Any:
    return value.to("meta") if isinstance(value, Tensor) else value


def _meta_device(func: Any) -> dict[str, Any]:
    takes = any(argument.name == "device" for argument in func._schema.arguments)
    return {"device": torch.device("meta")} if takes else {}
