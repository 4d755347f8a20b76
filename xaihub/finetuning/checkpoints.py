"""How far some training has come: one file of tensors and facts, written whole or not at all, never a pickle."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from xaihub.folders import replacing_file

__all__ = ["read_checkpoint", "write_checkpoint"]


def write_checkpoint(file: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Replaces the file at once: after a kill at any moment it holds either what it held or all of this."""
    held = {
        name: tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)  # tied weights become two
        for name, tensor in tensors.items()
    }
    with replacing_file(file) as draft:
        save_file(held, draft, metadata={"facts": json.dumps(dict(facts))})


def read_checkpoint(file: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Tensors and facts; None where there is no file, or one that cannot be read (a disk that lost power)."""
    try:
        with safe_open(file, "pt") as held:
            return {name: held.get_tensor(name) for name in held.keys()}, json.loads(held.metadata()["facts"])  # noqa: SIM118
    except (OSError, SafetensorError, ValueError, KeyError, TypeError):
        return None
