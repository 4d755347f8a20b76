"""The folder that a library loads from: the planned files and no other, their settings as they were checked."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from xaihub.downloads import checked_json, disk_trouble
from xaihub.errors import DamagedFileError, DownloadError, UnsafeFileError
from xaihub.families.base import Config, Family
from xaihub.families.cleaning import clean_settings
from xaihub.families.weights import INDEX, stored_headers

__all__ = ["staged"]

_READ_BY_TOKENIZERS = ("tokenizer.json", "vocab.json", "added_tokens.json")  # words, no settings


@contextmanager
def staged(
    folder: Path, files: Sequence[str], config: Config, family: Family, where: str
) -> Iterator[tuple[Path, Config]]:
    """A folder with the planned files of another one, and the config in it; it is gone when the block ends.

    A library opens whatever else it finds beside a config.json (an adapter, other weights, code), and follows an index
    of weights anywhere. Here it finds what was planned, by name: files of weights as links, settings cleaned and
    written again, and an index that is made from the files themselves.

    Args:
        files: what was planned, by name.
        config: what its config.json holds.
        where: whose files they are, for people.

    Raises:
        DownloadError: a file is damaged, or there is no room for the settings.
    """
    cleaned = family.clean(config)
    with disk_trouble(where), tempfile.TemporaryDirectory(prefix="xaihub-", ignore_cleanup_errors=True) as place:
        stage = Path(place)
        _write(stage / "config.json", cleaned)
        for name in files:
            if name not in ("config.json", INDEX) and (folder / name).is_file():
                _put(folder / name, stage / name)
        shards = sorted(stage.glob("model-*-of-*.safetensors"))
        if shards:
            _write(stage / INDEX, _index(shards, where))
        yield stage, cleaned


def _put(file: Path, to: Path) -> None:
    """A link to a file, or its settings without what leads elsewhere."""
    if to.suffix == ".json" and to.name not in _READ_BY_TOKENIZERS:
        try:
            _write(to, clean_settings(checked_json(file, file.name)))
        except (DamagedFileError, UnsafeFileError):
            raise
        except DownloadError:  # no JSON object: the library finds that it cannot read it, and a default is assumed
            pass
        else:
            return
    try:
        to.symlink_to(file.resolve())
    except OSError:  # where links are not allowed
        shutil.copyfile(file, to)


def _index(shards: list[Path], where: str) -> dict[str, Any]:
    headers = zip(shards, stored_headers(shards, where), strict=True)
    places = {name: shard.name for shard, header in headers for name in header.shapes}
    return {"metadata": {"total_size": sum(os.path.getsize(shard) for shard in shards)}, "weight_map": places}


def _write(file: Path, value: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(value, ensure_ascii=False), "utf-8")
