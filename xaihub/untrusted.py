"""JSON that others wrote: bounded in bytes, depth, number of values, length of keys and size of numbers.

Everything here takes time and memory proportional to the bytes, so that a small repository cannot hold up a server.
Whatever reads a JSON file of a repository, of Kaggle or of a folder reads it through `json_object`.
"""

import json
import math
import re
from collections.abc import Mapping
from itertools import accumulate
from typing import Any

__all__ = ["POINTER", "BoundsError", "DamagedError", "damage", "json_object", "json_value", "most_bytes"]

POINTER = b"version https://git-lfs.github.com/spec/"  # the first line of what git has in place of a large file
_POINTER_BYTES = 1024  # a pointer has about 130

_MEGABYTE = 2**20
_MOST_BYTES: Mapping[str, int] = {
    "config.json": 4 * _MEGABYTE,  # 21,000 labels, once by name and once by number, have 1.5 MB
    "preprocessor_config.json": _MEGABYTE // 4,  # some hundred bytes
    "processor_config.json": _MEGABYTE // 4,
    "adapter_config.json": _MEGABYTE,
    "model.safetensors.index.json": 4 * _MEGABYTE,  # a hundred bytes for each tensor
    "header.safetensors": 16 * _MEGABYTE,  # the format allows 100 MB; a network of ten thousand tensors has one
    "references.json": 4 * _MEGABYTE,  # its classes' names
    "tokenizer.json": 64 * _MEGABYTE,  # a vocabulary of 256,000 words has 34 MB; only tokenizers itself reads it
    "vocab.json": 16 * _MEGABYTE,
    "added_tokens.json": 4 * _MEGABYTE,
    "tokenizer_config.json": 4 * _MEGABYTE,  # repeats each special token
}
_MOST_DEPTH = 32
_MOST_VALUES = 1_000_000
_LONGEST_KEY = 1_000  # letters: keys are names of settings, or of classes in label2id
_LONGEST_NUMBER = 40  # letters
_TEXTS = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)  # possessive: never goes back, so it is linear


class BoundsError(ValueError):
    """The file is larger, deeper or wider than a file of its kind can be."""


class DamagedError(ValueError):
    """The file holds a git-LFS pointer, or nothing but zero bytes, in place of what it should hold."""


def most_bytes(name: str) -> int:
    """Return how many bytes a JSON file of this name may have, wherever it lies."""
    return _MOST_BYTES.get(name.rpartition("/")[2], _MEGABYTE)


def damage(head: bytes, size: int) -> str:
    """Return what has taken the place of a file's content, told by its first bytes; "" if nothing can be told.

    Args:
        size: of the whole file.
    """
    if size < _POINTER_BYTES and head.startswith(POINTER):
        return "is only a git-LFS pointer, not the file itself"
    if size == 0:
        return "is empty"
    if head and not head.strip(b"\0"):
        return "holds only zero bytes where it should begin"
    return ""


def json_object(data: bytes, name: str) -> dict[str, Any]:
    """The object in a JSON file of this name.

    Raises:
        BoundsError: it is beyond what such a file can be, or has a number that is none.
        DamagedError: something else has taken its place.
        ValueError: it is no JSON, or holds something else than an object.
    """
    value = json_value(data, name)
    if not isinstance(value, dict):
        raise ValueError(f"holds a {type(value).__name__}, not a configuration")  # noqa: TRY004  of the file
    return value


def json_value(data: bytes, name: str) -> Any:
    """Return what a JSON file of this name holds; errors as of `json_object`."""
    if len(data) > most_bytes(name):
        raise BoundsError(f"has more than {most_bytes(name) / _MEGABYTE:g} MB, which no such file needs")
    if trouble := damage(data, len(data)):
        raise DamagedError(trouble)
    _check_shape(data)
    try:
        value = json.loads(
            data.decode("utf-8-sig", errors="replace"),
            object_pairs_hook=_object, parse_int=_whole, parse_float=_real, parse_constant=_no_number,
        )  # fmt: skip
        json.dumps(value, ensure_ascii=False).encode()  # half a surrogate pair could be shown to nobody
    except BoundsError:
        raise
    except (ValueError, RecursionError) as error:
        raise ValueError(f"is not valid JSON ({error})") from error
    return value


def _check_shape(data: bytes) -> None:
    """Counts brackets and commas beside the texts, before anything is built of them."""
    bare = _TEXTS.sub(b"", data)
    if bare.count(b",") + bare.count(b"[") + bare.count(b"{") > _MOST_VALUES:
        raise BoundsError(f"holds more than {_MOST_VALUES:,} values")
    steps = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
    brackets = bare.translate(None, bytes(set(range(256)) - set(steps)))
    if max(accumulate(map(steps.__getitem__, brackets)), default=0) > _MOST_DEPTH:
        raise BoundsError(f"is nested more than {_MOST_DEPTH} deep")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    longest = max((len(key) for key, _ in pairs), default=0)
    if longest > _LONGEST_KEY:
        raise BoundsError(f"has a key of {longest:,} letters")
    return dict(pairs)


def _whole(text: str) -> int:
    if len(text) > _LONGEST_NUMBER:
        raise BoundsError(f"has a number of {len(text):,} digits")
    return int(text)


def _real(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise BoundsError(f"has the number {text[:_LONGEST_NUMBER]}, which is beyond all bounds")
    return value


def _no_number(text: str) -> float:
    raise BoundsError(f"has {text} in place of a number")
