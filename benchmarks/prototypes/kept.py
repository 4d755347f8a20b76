"""Pieces of a long measurement: each result is kept, so that a run that was killed goes on where it was."""

import hashlib
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import xaihub
from xaihub.downloads import cache_folder
from xaihub.folders import replacing_file

__all__ = ["CODE", "Piece", "inventory", "read", "take", "timed", "work_folder"]


_CODE = ("prototypes/*.py", "prototype_*.py", "prototype_training/*.py", "finetuning/*.py")


def _digest() -> str:
    """Of the code that makes prototypes and black boxes."""
    files = sorted(path for pattern in _CODE for path in Path(xaihub.__file__).parent.glob(pattern))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:16]


CODE = _digest()  # of what was imported, whatever is edited meanwhile


@dataclass(frozen=True, eq=False)
class Piece:
    """One thing to measure.

    Attributes:
        name: of words, the part of the document first.
        facts: what changes the result: settings, and an inventory of what is read.
        make: measures it; what it gives must be writable as JSON.
    """

    name: str
    facts: Any
    make: Callable[[], dict[str, Any]]

    @property
    def file(self) -> Path:
        digest = hashlib.sha256(json.dumps([self.facts, torch.__version__]).encode()).hexdigest()[:16]
        return work_folder() / f"{self.name.replace(' ', '-')}-{digest}.json"


def work_folder() -> Path:
    """Where results are kept, and black boxes until they are needed no more."""
    return cache_folder() / "benchmarks" / "prototypes"


def read(piece: Piece) -> dict[str, Any] | None:
    """What was measured earlier; None if it was not."""
    return json.loads(piece.file.read_text("utf-8")) if piece.file.is_file() else None


def take(piece: Piece) -> None:
    """Measures a piece and keeps what came out, with what it was measured on."""
    with timed() as spent:
        found = piece.make()
    found |= {"code": CODE, "machine": _machine(), "whole": dict(spent)}
    with replacing_file(piece.file) as draft:
        draft.write_text(json.dumps(found), "utf-8")
    print(f"{piece.name}: {spent['cpu']:.0f} s of CPU, {spent['wall']:.0f} s", file=sys.stderr, flush=True)


@contextmanager
def timed() -> Iterator[dict[str, float]]:
    """Seconds of CPU (of all threads) and on the clock, once the block has ended."""
    spent: dict[str, float] = {}
    wall, cpu = time.monotonic(), time.process_time()
    yield spent
    spent |= {"wall": time.monotonic() - wall, "cpu": time.process_time() - cpu}


def inventory(folder: Path) -> list[list[Any]]:
    """The names and sizes of all files of a folder: it changes with what is in there, and is quickly made."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [[path.relative_to(folder).as_posix(), path.stat().st_size] for path in files]


def _machine() -> str:
    return (
        f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} used, Python"
        f" {platform.python_version()}, torch {torch.__version__.split('+')[0]}"
    )
