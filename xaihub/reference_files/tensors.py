"""Tensors in safetensors files, larger than memory: written a piece at a time, read by mapping the file."""

import json
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

__all__ = ["mapped_tensors", "pieces", "write_tensors"]

_AT_ONCE = 16 * 2**20  # bytes
_NAMES = {
    torch.float16: "F16", torch.float32: "F32", torch.int64: "I64", torch.int32: "I32", torch.uint8: "U8",
}  # fmt: skip


def write_tensors(file: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, str] | None = None) -> None:
    """Writes a safetensors file: equal bytes for equal tensors, and never more than some megabytes of them copied.

    The library's own writer holds a second copy of all of them. Args: `facts` are its metadata.
    """
    # the widest numbers first, so that each begins where its kind may
    ordered = sorted(tensors.items(), key=lambda item: (-item[1].element_size(), item[0]))
    header: dict[str, object] = {"__metadata__": dict(facts)} if facts else {}
    end = 0
    for name, tensor in ordered:
        start, end = end, end + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": _NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header, ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    with file.open("wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for _, tensor in ordered:
            for piece in pieces(tensor):
                out.write(piece)


def pieces(tensor: Tensor) -> Iterator[bytes]:
    """The bytes of a tensor in order, some rows at a time."""
    row = max(1, tensor[:1].numel() * tensor.element_size())
    step = max(1, _AT_ONCE // row)
    for start in range(0, len(tensor), step):
        yield tensor[start : start + step].contiguous().numpy().tobytes()


def mapped_tensors(file: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file; the system reads their pages when they are used, and may drop them again."""
    from safetensors import safe_open

    with safe_open(file, "pt") as held:
        return {name: held.get_tensor(name) for name in held.keys()}  # noqa: SIM118
