"""Labelled pictures of a dataset on the Hub, none of whose rows can make this machine read anything else."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from xaihub import hub
from xaihub.datasets.pictures import LabelledPictures, Source, draw, drawn, refuse_unknown_labels
from xaihub.errors import DatasetError, PictureError, XaihubError, first_line
from xaihub.progress import Progress

__all__ = ["Wanted", "hub_splits", "open_hub_dataset"]

_BUFFER = 1_000


@dataclass(frozen=True)
class Wanted:
    """Which rows of a dataset: the arguments of `open_dataset` that choose them."""

    config: str | None = None
    split: str | None = None
    revision: str | None = None
    labels: Sequence[str] | None = None
    label_column: str | None = None
    limit: int | None = None
    seed: int = 0


def open_hub_dataset(
    repo_id: str, wanted: Wanted, *, token: hub.Token, stream_beyond: int, progress: Progress
) -> LabelledPictures:
    """The rows that are wanted; of a dataset larger than `stream_beyond` bytes, rows of its beginning.

    Raises:
        DatasetError, HubError: it cannot be read.
    """
    # asked first, with this visitor's token: a warm cache would answer for a private dataset without asking
    repo = hub.look(repo_id, revision=wanted.revision, token=token, repo_type="dataset")
    with _explained(repo_id):
        refuse_foreign_files(repo, token)
        config, split = _config_and_split(repo, wanted.config, wanted.split, token)
        streamed = sum(repo.files.values()) > stream_beyond
        progress(0.0, f"{'Streaming' if streamed else 'Fetching'} {repo_id}")
        rows = _load(repo, config, split, token, streamed)
        columns = _columns(rows.features or {}, repo_id, wanted.label_column)
        if wanted.labels is not None:
            _refuse_labels(repo_id, wanted.labels, columns)
        rows = _undecoded(rows, [name for name in (columns.picture, columns.label) if name])
        read = _streamed if streamed else _whole
        chosen, note = read(rows, columns, wanted, repo, token, split)
    if not chosen:
        raise DatasetError(f"{repo_id} has no rows in its split {split!r}. Name another split.")
    labels = tuple(columns.names or sorted({label for _, label, _ in chosen if label is not None}))
    if wanted.labels is not None:
        labels = tuple(label for label in labels if label in wanted.labels)
    return LabelledPictures(
        repo_id, chosen, labels, repo.revision, config, split, note, not (repo.private or repo.gated),
        licence=repo.licence,
    )  # fmt: skip


@dataclass(frozen=True)
class _Columns:
    picture: str
    label: str | None
    names: tuple[str, ...] | None

    def word(self, label: Any) -> str | None:
        """A label of a row in words; None where it is withheld, as in test splits that say -1."""
        if label is None or (self.names and not 0 <= int(label) < len(self.names)):
            return None
        return self.names[int(label)] if self.names else str(label)


def _whole(
    rows: Any, columns: _Columns, wanted: Wanted, repo: hub.Repo, token: hub.Token, split: str
) -> tuple[list[Source], str]:
    labels = [columns.word(label) for label in rows[columns.label]] if columns.label else [None] * len(rows)
    if wanted.labels is not None:
        refuse_unknown_labels(repo.repo_id, wanted.labels, sorted({label for label in labels if label is not None}))
    found = [
        (f"{split}/{i}", label, _picture(partial(_cell, rows, i, columns.picture), repo, token))
        for i, label in enumerate(labels)
        if wanted.labels is None or label in wanted.labels
    ]
    chosen = draw(found, wanted.limit, wanted.seed)
    return chosen, drawn(len(chosen), len(found))


def _streamed(
    rows: Any, columns: _Columns, wanted: Wanted, repo: hub.Repo, token: hub.Token, _split: str
) -> tuple[list[Source], str]:
    count, buffer = wanted.limit or _BUFFER, _BUFFER
    if wanted.labels is not None:  # before the limit; and a buffer of a rare label would take the whole dataset
        rows, buffer = rows.filter(partial(_has_label, columns, frozenset(wanted.labels))), min(_BUFFER, 2 * count)
    taken = list(rows.shuffle(seed=wanted.seed, buffer_size=buffer).take(count))
    if not taken and wanted.labels is not None:
        raise DatasetError(f"{repo.repo_id} has no pictures labelled {' or '.join(map(repr, wanted.labels))}.")
    found: list[Source] = [
        (
            _called(i, row[columns.picture], repo),
            columns.word(row[columns.label]) if columns.label else None,
            _picture(partial(row.__getitem__, columns.picture), repo, token),
        )
        for i, row in enumerate(taken)
    ]
    return found, f"{len(found)} pictures from the beginning of a large dataset, shuffled"


def _called(place: int, cell: Any, repo: hub.Repo) -> str:
    """A streamed row's name: its place among those taken, and the name of its file where that is known."""
    path = cell.get("path") if isinstance(cell, Mapping) else None
    inside = str(path or "").removeprefix(f"hf://datasets/{repo.repo_id}@{repo.revision}/")
    return f"row {place}, {inside[-200:]}" if inside else f"row {place}"


def _has_label(columns: _Columns, labels: frozenset[str], row: Mapping[str, Any]) -> bool:
    return columns.word(row[columns.label or ""]) in labels


def _cell(rows: Any, index: int, column: str) -> Any:
    return rows[index][column]


def _refuse_labels(repo_id: str, labels: Sequence[str], columns: _Columns) -> None:
    if columns.label is None:
        raise DatasetError(f"{repo_id} has no column of labels, so none can be asked for. Leave the label out.")
    if columns.names is not None:
        refuse_unknown_labels(repo_id, labels, columns.names)


def refuse_foreign_files(repo: hub.Repo, token: hub.Token) -> None:
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


def hub_splits(
    repo_id: str, *, config: str | None = None, revision: str | None = None, token: hub.Token = None
) -> list[str]:
    """The splits of a configuration, the first if none is named; train first where there is one.

    Raises:
        DatasetError, HubError: it cannot be read.
    """
    repo = hub.look(repo_id, revision=revision, token=token, repo_type="dataset")
    with _explained(repo_id):
        refuse_foreign_files(repo, token)
        return sorted(_config_and_splits(repo, config, token)[1], key="train".__ne__)


def _config_and_splits(repo: hub.Repo, config: str | None, token: hub.Token) -> tuple[str, list[str]]:
    import datasets

    configs = datasets.get_dataset_config_names(repo.repo_id, revision=repo.revision, token=token)
    config = config or ("default" if "default" in configs else configs[0])
    if config not in configs:
        raise DatasetError(f"{repo.repo_id} has no configuration {config!r}. It has: {', '.join(configs[:20])}.")
    return config, datasets.get_dataset_split_names(repo.repo_id, config, revision=repo.revision, token=token)


def _config_and_split(repo: hub.Repo, config: str | None, split: str | None, token: hub.Token) -> tuple[str, str]:
    config, splits = _config_and_splits(repo, config, token)
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


def _columns(features: Mapping[str, Any], repo_id: str, label_column: str | None) -> _Columns:
    """The picture and label columns, found by their features, and the classes' names."""
    import datasets

    pictures = [name for name, feature in features.items() if isinstance(feature, datasets.Image)]
    if not pictures:
        kinds = ", ".join(f"{name} ({type(feature).__name__})" for name, feature in list(features.items())[:8])
        raise DatasetError(
            f"{repo_id} has no column of pictures; its columns are: {kinds or 'unknown'}. Use an image dataset."
        )
    picture = "image" if "image" in pictures else pictures[0]
    if label_column is not None and label_column not in features:
        raise DatasetError(f"{repo_id} has no column {label_column!r}. Its columns are: {', '.join(features)}.")
    classes = [name for name, feature in features.items() if isinstance(feature, datasets.ClassLabel)]
    texts = [
        name for name, feature in features.items()
        if isinstance(feature, datasets.Value) and feature.dtype in ("string", "large_string", "int64", "int32", "bool")
        and name.lower() in ("label", "labels", "class", "category", "target", "class_name", "label_name", "cls")
    ]  # fmt: skip
    usual = [name for name in ("label", "labels", "fine_label") if name in classes]
    label = label_column or next(iter(usual or classes or texts), None)
    names = tuple(features[label].names) if label in classes and label is not None else None
    return _Columns(picture, label, names)


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


def _picture(value: Callable[[], Any], repo: hub.Repo, token: hub.Token) -> Callable[[], bytes | Path]:
    """How to fetch a row's picture when it is asked for; a path is followed only into the dataset's own files."""

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


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Turns whatever the datasets library raises over a stranger's files into a sentence about them."""
    try:
        yield
    except XaihubError:
        raise
    except Exception as error:
        cause = error.__cause__ or error  # "An error occurred while generating the dataset" says nothing
        raise DatasetError(
            f"{name} could not be read as a dataset ({first_line(cause, 200)}). Use a dataset of pictures and labels."
        ) from error
