"""Labelled pictures of one colour each, as every kind of dataset: which picture came out is seen at a glance."""

import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from loopback_hub import LoopbackHub
from PIL import Image

from xaihub.datasets import LabelledPictures

TOKEN = "hf_alice"
COLOURS = {"red": (250, 0, 0), "green": (0, 250, 0), "blue": (0, 0, 250)}
SECRET = (1, 2, 3)  # the colour of pictures that must not be read


def plain(colour: str | tuple[int, int, int]) -> Image.Image:
    return Image.new("RGB", (8, 6), COLOURS.get(colour, colour))


def png(colour: str | tuple[int, int, int]) -> bytes:
    stream = io.BytesIO()
    plain(colour).save(stream, "PNG")
    return stream.getvalue()


def class_folders(**counts: int) -> dict[str, bytes]:
    """Path to content of class folders: class_folders(red=2) is red/0.png and red/1.png."""
    return {f"{name}/{i}.png": png(name) for name, count in counts.items() for i in range(count)}


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def features(**columns: Any) -> Any:
    """Features of the datasets library: a picture, and classes in an order that is not the alphabet's."""
    import datasets

    usual = {"image": datasets.Image(), "label": datasets.ClassLabel(names=list(COLOURS))}
    return datasets.Features({**usual, **columns})


def push_rows(hub: LoopbackHub, repo_id: str, rows: dict[str, list[Any]], columns: Any = None, **settings: Any) -> str:
    """The commit at which the dataset holds the rows, pushed by the datasets library."""
    import datasets

    hub.add_user("alice", token=TOKEN)
    shown = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        made = datasets.Dataset.from_dict(rows, features=columns or features())
        made.push_to_hub(repo_id, token=TOKEN, **settings)
    finally:
        if shown:
            datasets.enable_progress_bars()
    return hub.repo(repo_id, "dataset").head.sha


def parquet(rows: list[dict[str, Any]], columns: Any = None) -> bytes:
    """A parquet file as a stranger may write it: push_to_hub would read the files that its rows name."""
    stream = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=(columns or features()).arrow_schema), stream)
    return stream.getvalue()


def seen(pictures: LabelledPictures) -> list[tuple[str | None, tuple[int, int, int]]]:
    """Label and colour of each row, in order."""
    return [(row.label, row.picture.getpixel((3, 2))) for row in pictures]
