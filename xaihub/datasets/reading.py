"""Rows of a split before any is drawn, and how the image of one is fetched."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xaihub import hub
from xaihub.datasets.pictures import Source
from xaihub.errors import PictureError

__all__ = ["BUFFER", "LARGE", "Read", "picture"]

LARGE = "from the beginning of a large dataset"
BUFFER = 1_000  # rows of a large dataset among which some are drawn


@dataclass(frozen=True)
class Read:
    """Rows of one split, before any is drawn."""

    found: list[Source]
    names: tuple[str, ...]
    note: str = ""
    notices: tuple[str, ...] = ()


def picture(value: Callable[[], Any], repo: hub.Repo, token: hub.Token) -> Callable[[], bytes | Path]:
    """Return a function that fetches a row's image; a path is followed only into the dataset's own files."""

    def get() -> bytes | Path:
        cell = value()
        data, path = (cell.get("bytes"), cell.get("path")) if isinstance(cell, Mapping) else (None, None)
        if data is not None:
            return bytes(data)
        file = hub.own_file(repo, str(path), token=token) if path else None
        if file is None:
            raise PictureError("This row holds no picture.")
        return file

    return get
