"""Labelled pictures from a folder of class folders or a dataset of the Hub. The only importer of datasets."""

import random
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from xaihub import hub
from xaihub.errors import DatasetError, PictureError, XaihubError
from xaihub.folders import folder_named
from xaihub.images import open_picture
from xaihub.progress import Progress, silent

__all__ = ["LabelledPictures", "Row", "from_pairs", "open_dataset"]

LARGEST_DOWNLOAD = 700 * 2**20  # beyond this the first rows are streamed instead, shuffled in a buffer
_BUFFER = 1_000
_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif"}


@dataclass(frozen=True)
class Row:
    """One labelled picture; `label` is None where the dataset has none."""

    key: str
    picture: Image.Image
    label: str | None


Get = Callable[[], bytes | Path | Image.Image]
Source = tuple[str, str | None, Get]  # key, label, how to get the picture


@dataclass
class LabelledPictures:
    """Labelled pictures, opened while they are iterated over; broken ones are left out and counted.

    Attributes:
        name: the dataset's id or the folder's name.
        label_names: of its classes, in the dataset's order.
        skipped: key -> why a picture was left out; filled by iterating.
        note: how rows were chosen, if not all were taken.
    """

    name: str
    sources: Sequence[Source]
    label_names: tuple[str, ...]
    revision: str | None = None
    config: str | None = None
    split: str | None = None
    note: str = ""
    public: bool = True
    skipped: dict[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.sources)

    def __iter__(self) -> Iterator[Row]:
        """Rows in order, opened two ahead on other threads: decoding takes as long as a small network."""
        with ThreadPoolExecutor(2) as pool:
            pending = [pool.submit(_open, get) for _, _, get in self.sources[:4]]
            for place, (key, label, _) in enumerate(self.sources):
                opened = pending.pop(0)
                if place + 4 < len(self.sources):
                    pending.append(pool.submit(_open, self.sources[place + 4][2]))
                try:
                    yield Row(key, opened.result(), label)
                except PictureError as error:
                    self.skipped[key] = str(error)


def _open(get: Get) -> Image.Image:
    return open_picture(get())


def open_dataset(
    source: str | Path,
    *,
    config: str | None = None,
    split: str | None = None,
    revision: str | None = None,
    limit: int | None = None,
    seed: int = 0,
    token: hub.Token = None,
    local: bool = True,
    progress: Progress = silent,
) -> LabelledPictures:
    """The labelled pictures of a folder of class folders, or of a dataset on the Hub.

    With a `limit` the rows are drawn by seed, the same number from each class as far as it has them.

    Args:
        source: a folder, or a dataset's id.
        config, split: of a Hub dataset; the first of each if not given, preferring the split "train".
        local: whether a folder on this machine may be named; never for a visitor.

    Raises:
        DatasetError: no pictures could be found in it.
        HubError: it cannot be read.
    """
    if limit is not None and limit < 1:
        raise DatasetError(f"A limit of {limit} pictures leaves none to read. Give 1 or more.")
    if local and (folder := folder_named(str(source))):
        return _folder(folder, limit, seed)
    return _hub_dataset(hub.clean_repo_id(str(source)), config, split, revision, limit, seed, token, progress)


def from_pairs(name: str, pairs: Sequence[tuple[str, str, Image.Image]]) -> LabelledPictures:
    """Pictures that are in memory already: (key, label, picture)."""
    labels = tuple(dict.fromkeys(label for _, label, _ in pairs))
    return LabelledPictures(name, [(key, label, partial(_same, picture)) for key, label, picture in pairs], labels)


def _same(value: Any) -> Any:
    return value


def _cell(rows: Any, index: int, column: str) -> Any:
    return rows[index][column]


def _folder(folder: Path, limit: int | None, seed: int) -> LabelledPictures:
    root = folder.resolve()
    classes = sorted(child.name for child in folder.iterdir() if child.is_dir() and not child.name.startswith("."))
    found: list[Source] = []
    for name in classes:
        for path in sorted((folder / name).rglob("*")):
            if path.suffix.lower() in _SUFFIXES and path.is_file() and path.resolve().is_relative_to(root):
                found.append((str(path.relative_to(folder)), name, partial(_same, path)))
    if not found:
        raise DatasetError(
            f"{str(folder)!r} holds no pictures in class folders. Put each class's pictures in a folder named after it."
        )
    chosen = _draw(found, limit, seed)
    names = tuple(name for name in classes if any(label == name for _, label, _ in found))
    return LabelledPictures(root.name, chosen, names, note=_drawn(len(chosen), len(found)))


def _hub_dataset(
    repo_id: str,
    config: str | None,
    split: str | None,
    revision: str | None,
    limit: int | None,
    seed: int,
    token: hub.Token,
    progress: Progress,
) -> LabelledPictures:
    # asked first, with this visitor's token: a warm cache would answer for a private dataset without asking
    repo = hub.look(repo_id, revision=revision, token=token, repo_type="dataset")
    with _explained(repo_id):
        _refuse_foreign_files(repo, token)
        config, split = _config_and_split(repo, config, split, token)
        streamed = sum(repo.files.values()) > LARGEST_DOWNLOAD
        progress(0.0, f"{'Streaming' if streamed else 'Fetching'} {repo_id}")
        rows = _load(repo, config, split, token, streamed)
        picture_column, label_column, names = _columns(rows.features or {}, repo_id)
        rows = _undecoded(rows, [name for name in (picture_column, label_column) if name])
        if streamed:
            rows = list(rows.shuffle(seed=seed, buffer_size=_BUFFER).take(limit or _BUFFER))
            found = [
                _source(
                    f"row {i}",
                    row[label_column] if label_column else None,
                    names,
                    partial(row.__getitem__, picture_column),
                    repo,
                    token,
                )
                for i, row in enumerate(rows)
            ]
            note = f"{len(found)} pictures from the beginning of a large dataset, shuffled"
            chosen = found
        else:
            labels = rows[label_column] if label_column else [None] * len(rows)
            found = [
                _source(f"{split}/{i}", label, names, partial(_cell, rows, i, picture_column), repo, token)
                for i, label in enumerate(labels)
            ]
            chosen = _draw(found, limit, seed)
            note = _drawn(len(chosen), len(found))
    if not chosen:
        raise DatasetError(f"{repo_id} has no rows in its split {split!r}. Name another split.")
    labels = tuple(names or sorted({label for _, label, _ in chosen if label is not None}))
    return LabelledPictures(
        repo_id, chosen, labels, repo.revision, config, split, note, not (repo.private or repo.gated)
    )


def _refuse_foreign_files(repo: hub.Repo, token: hub.Token) -> None:
    """A dataset may say where its files are; it must not name files of this machine or of other sites."""
    if Path(repo.repo_id).exists():
        raise DatasetError(
            f"There is a folder {repo.repo_id!r} where this program runs, and the datasets library would read that"
            " instead of the Hub's dataset. Start it in another folder."
        )
    if ".huggingface.yaml" in repo.files:
        raise DatasetError(
            f"{repo.repo_id} says in a .huggingface.yaml how it is to be read, which is not followed here. The same"
            " lines at the head of its README.md would work."
        )
    known: set[int] = set()  # YAML can name one part many times over, and each time within another

    def names(value: Any) -> Iterator[str]:
        if isinstance(value, str):
            yield value
        elif isinstance(value, Mapping | list | tuple) and id(value) not in known:
            known.add(id(value))
            for part in value.values() if isinstance(value, Mapping) else value:
                yield from names(part)

    configs = hub.card_as_read(repo, token=token).get("configs")
    for entry in configs if isinstance(configs, list) else ():
        for part in (entry.get("data_files"), entry.get("data_dir")) if isinstance(entry, Mapping) else ():
            for name in names(part):
                if re.match(r"[/~\\]|[A-Za-z][\w+.-]*:", name) or "::" in name or ".." in name:
                    raise DatasetError(
                        f"The card of {repo.repo_id} points to {name[:80]!r}, outside of its own files, so it is not"
                        " read."
                    )


def _config_and_split(repo: hub.Repo, config: str | None, split: str | None, token: hub.Token) -> tuple[str, str]:
    import datasets

    configs = datasets.get_dataset_config_names(repo.repo_id, revision=repo.revision, token=token)
    config = config or ("default" if "default" in configs else configs[0])
    if config not in configs:
        raise DatasetError(f"{repo.repo_id} has no configuration {config!r}. It has: {', '.join(configs[:20])}.")
    splits = datasets.get_dataset_split_names(repo.repo_id, config, revision=repo.revision, token=token)
    split = split or ("train" if "train" in splits else splits[0])
    if split not in splits:
        raise DatasetError(f"{repo.repo_id} has no split {split!r}. It has: {', '.join(splits)}.")
    return config, split


def _load(repo: hub.Repo, config: str, split: str, token: hub.Token, streamed: bool) -> Any:
    import datasets

    bars = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        return datasets.load_dataset(
            repo.repo_id, config, split=split, revision=repo.revision, token=token, streaming=streamed
        )
    finally:
        if bars:
            datasets.enable_progress_bars()


def _columns(features: Mapping[str, Any], repo_id: str) -> tuple[str, str | None, tuple[str, ...] | None]:
    """The picture and label columns, found by their features, and the classes' names."""
    import datasets

    pictures = [name for name, feature in features.items() if isinstance(feature, datasets.Image)]
    if not pictures:
        kinds = ", ".join(f"{name} ({type(feature).__name__})" for name, feature in list(features.items())[:8])
        raise DatasetError(
            f"{repo_id} has no column of pictures; its columns are: {kinds or 'unknown'}. Use an image dataset."
        )
    picture = "image" if "image" in pictures else pictures[0]
    classes = [name for name, feature in features.items() if isinstance(feature, datasets.ClassLabel)]
    texts = [
        name for name, feature in features.items()
        if isinstance(feature, datasets.Value) and feature.dtype in ("string", "large_string", "int64", "int32", "bool")
        and name.lower() in ("label", "labels", "class", "category", "target", "class_name", "label_name", "cls")
    ]  # fmt: skip
    usual = [name for name in ("label", "labels", "fine_label") if name in classes]
    label = next(iter(usual or classes or texts), None)
    names = tuple(features[label].names) if label in classes and label is not None else None
    return picture, label, names


def _undecoded(rows: Any, columns: list[str]) -> Any:
    """These columns, giving bytes: pictures are decoded by us, with our limits, and a broken one is only one lost.

    Other columns may hold pictures or sounds as well, and to read a row would be to open them, wherever they are.
    """
    import datasets

    if isinstance(rows, datasets.IterableDataset):
        return rows.decode(False).select_columns(columns)
    rows = rows.select_columns(columns)
    for name, feature in rows.features.items():
        if isinstance(feature, datasets.Image):
            rows = rows.cast_column(name, datasets.Image(decode=False))
    return rows


def _source(
    key: str, label: Any, names: Sequence[str] | None, value: Callable[[], Any], repo: hub.Repo, token: hub.Token
) -> Source:
    """A row whose picture is fetched when asked for; a path is followed only into the dataset's own files."""

    def get() -> bytes | Path:
        cell = value()
        data, path = (cell.get("bytes"), cell.get("path")) if isinstance(cell, Mapping) else (None, None)
        if data is not None:
            return bytes(data)
        file = hub.own_file(repo, str(path), token=token) if path else None
        if file is None:
            raise PictureError("This row holds no picture.")
        return file

    return key, _name(label, names), get


def _name(label: Any, names: Sequence[str] | None) -> str | None:
    if label is None or (names and not 0 <= int(label) < len(names)):  # -1 stands for "withheld" in test splits
        return None
    return names[int(label)] if names else str(label)


def _draw(found: Sequence[Source], limit: int | None, seed: int) -> list[Source]:
    """At most `limit` of them, in turn from each class, in their old order."""
    if limit is None or len(found) <= limit:
        return list(found)
    classes: dict[str | None, list[int]] = defaultdict(list)
    for place, (_, label, _) in enumerate(found):
        classes[label].append(place)
    generator = random.Random(seed)  # noqa: S311  a sample, not a secret
    for places in classes.values():
        generator.shuffle(places)
    rounds = max(map(len, classes.values()))
    in_turn = [places[i] for i in range(rounds) for places in classes.values() if i < len(places)]
    return [found[place] for place in sorted(in_turn[:limit])]


def _drawn(taken: int, of: int) -> str:
    return "" if taken == of else f"{taken:,} of {of:,} pictures, drawn evenly from the classes"


@contextmanager
def _explained(repo_id: str) -> Iterator[None]:
    """Turns whatever the datasets library raises over a stranger's files into a sentence about them."""
    try:
        yield
    except XaihubError:
        raise
    except Exception as error:
        cause = error.__cause__ or error  # "An error occurred while generating the dataset" says nothing
        line = (str(cause).strip() or type(cause).__name__).splitlines()[0][:200]
        raise DatasetError(
            f"{repo_id} could not be read as a dataset ({line}). Use a dataset of pictures and labels."
        ) from error
