"""The parts of a dataset on the Hub: its configurations, its splits, and which files are which.

The datasets library says which files are a configuration's splits, but for images in folders: these are read as local
ones are, see class_folders.py.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xaihub import hub
from xaihub.errors import DatasetError, XaihubError, first_line

__all__ = ["MAX_TABLES", "Parts", "Wanted", "explained", "parts_of"]

_MAX_INFOS = 16 * 2**20
MAX_TABLES = 32 * 2**20  # bytes of all tables of a stranger's images: ten times as much in memory


@dataclass(frozen=True)
class Wanted:
    """Which rows of a dataset: the arguments of `open_dataset` that choose them."""

    config: str | None = None
    split: str | None = None
    revision: str | None = None
    labels: Sequence[str] | None = None
    label_column: str | None = None
    image_column: str | None = None
    layout: str | None = None
    limit: int | None = None
    seed: int = 0


@dataclass(frozen=True)
class Parts:
    """Parts of a dataset.

    Attributes:
        kind: of its files, as the datasets library calls it: parquet, imagefolder, webdataset, ...
        splits: split -> its files, of which some may be tables or archives.
        schema: arrow's, with the features that the card declares; None if it declares none.
        declared: whether the card says which files are which split.
    """

    repo: hub.Repo
    token: hub.Token
    config: str
    kind: str
    splits: Mapping[str, Sequence[str]]
    schema: Any
    declared: bool

    @property
    def in_folders(self) -> bool:
        return self.kind == "imagefolder"


def parts_of(repo: hub.Repo, config: str | None, token: hub.Token) -> Parts:
    """Which files are which split, as the datasets library finds them; none of them is fetched but the card."""
    import datasets

    refuse_foreign_files(repo, token)
    configs = datasets.get_dataset_config_names(repo.repo_id, revision=repo.revision, token=token)
    config = config or ("default" if "default" in configs else configs[0])
    if config not in configs:
        raise DatasetError(f"{repo.repo_id} has no configuration {config!r}. It has: {', '.join(configs[:20])}.")
    builder = datasets.load_dataset_builder(repo.repo_id, config, revision=repo.revision, token=token)
    own = f"hf://datasets/{repo.repo_id}@{repo.revision}/"
    splits = {
        str(split): [str(file).removeprefix(own) for file in files]
        for split, files in (builder.config.data_files or {}).items()
    }
    elsewhere = [file for files in splits.values() for file in files if file not in repo.files]
    if elsewhere or not splits:
        raise DatasetError(f"{repo.repo_id} names {str(elsewhere[:1])[:80]}, which is none of its own files.")
    tables = [file for files in splits.values() for file in files if file.rsplit("/", 1)[-1].startswith("metadata.")]
    hub.refuse_large_files(repo, dict.fromkeys(tables, MAX_TABLES))
    features = builder.info.features
    declared = bool(hub.card_as_read(repo, token=token).get("configs"))
    kind = type(builder).__module__.rsplit(".", 1)[-1]
    return Parts(repo, token, config, kind, splits, features.arrow_schema if features else None, declared)


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
    hub.refuse_large_files(repo, {"dataset_infos.json": _MAX_INFOS, "dataset_info.json": _MAX_INFOS})
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


@contextmanager
def explained(name: str) -> Iterator[None]:
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
