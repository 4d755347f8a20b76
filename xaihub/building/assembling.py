"""What references say of themselves, where each of their rows came from, and the key of the work."""

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from PIL import Image

from xaihub.classifier import Classifier
from xaihub.datasets import LabelledPictures
from xaihub.embedders import Embedder
from xaihub.errors import PictureError
from xaihub.folders import folder_named
from xaihub.progress import Progress
from xaihub.references import Made, ReferenceSet
from xaihub.shards import Embedded, key_of, merged
from xaihub.spaces import Space

__all__ = ["address_of", "assembled", "key_of_work"]

_SCHEMA = 1
_PROBED = 32  # files whose content the key of the work knows; of all others their size and time


def assembled(
    classifier: Classifier,
    rows: LabelledPictures,
    embedders: Sequence[Embedder],
    parts: Sequence[Embedded],
    folder: Path | None,
    progress: Progress,
) -> ReferenceSet:
    """References of all rows of the parts; see `merged` for the folder."""
    held = merged(parts, folder, progress)
    spaces = {
        each.name: Space(
            each.name, each.kind, each.alike, held.vectors[each.name], held.lengths[each.name],
            each.revision, each.leaks, each.weighted,
        )
        for each in embedders
    }  # fmt: skip
    columns: dict[str, Sequence[Any]] = dict(held.columns)
    if folder is None:
        columns = {name: tuple(column) for name, column in columns.items()}
    return ReferenceSet(
        _made(classifier, rows, embedders),
        classifier.labels,
        spaces,
        held.logits,
        held.predicted,
        held.probability,
        columns["label"],
        columns["key"],
        columns["digest"],
        held.hashes,
        columns["picture"],
        columns["source"],
    )


def _made(classifier: Classifier, rows: LabelledPictures, embedders: Sequence[Embedder]) -> Made:
    return Made(
        _name_of(classifier),
        classifier.revision,
        _layer_of(classifier),
        embedders[0].name,
        classifier.transform.description,
        rows.name,
        rows.revision,
        rows.config,
        rows.split,
        rows.note,
        len(rows.skipped),
        {name: version(name) for name in ("torch", "numpy", "pillow")},
        classifier.fingerprint,
        public=rows.public,
    )


def _name_of(classifier: Classifier) -> str:
    """The repository's id; of a folder its name alone, since where it lies is nobody's business."""
    folder = folder_named(classifier.repo_id)
    return folder.resolve().name if folder else classifier.repo_id


def _layer_of(classifier: Classifier) -> str:
    return classifier.target_layer.name if classifier.target_layer else ""


def address_of(rows: LabelledPictures) -> Callable[[str], str | None]:
    """Key -> the address where the Hub shows the row; None for pictures that are not from the Hub."""
    if rows.revision is None:
        return lambda _key: None
    place = "/".join(quote(part, safe="") for part in (rows.config or "default", rows.split or "train"))
    page = f"https://huggingface.co/datasets/{rows.name}/viewer/{place}"
    numbered = re.compile(re.escape(rows.split or "") + r"/(\d+)")

    def address(key: str) -> str:
        found = numbered.fullmatch(key)
        return f"{page}?row={found[1]}" if found else page  # a streamed row has no number

    return address


def key_of_work(
    classifier: Classifier, rows: LabelledPictures, embedders: Sequence[Embedder], batch: int, shard_rows: int
) -> str:
    """Changes with all that the bytes of the shards depend on: commits, never names of branches."""
    weights = [weight for weight in classifier.module.parameters() if weight.is_floating_point()]
    return key_of(
        {
            "schema": _SCHEMA,
            "model": [_name_of(classifier), classifier.revision, classifier.fingerprint, list(classifier.labels)],
            "kind": [classifier.activation, str(weights[0].dtype) if weights else "", classifier.device.type],
            "layer": _layer_of(classifier),
            "preprocessing": [classifier.transform.description, _probe(classifier)],
            "data": [rows.name, rows.revision, rows.config, rows.split, _selection(rows)],
            "embedders": [[each.name, each.revision] for each in embedders],
            "rows": [batch, shard_rows],
            "versions": {name: version(name) for name in ("torch", "numpy", "pillow", "xaihub")},
        }
    )


def _probe(classifier: Classifier) -> str:
    """What the preprocessing makes of one picture: two that are described alike may differ."""
    levels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    pixels = classifier.transform(Image.fromarray(levels))
    return hashlib.sha256(pixels.contiguous().numpy().tobytes()).hexdigest()


def _selection(rows: LabelledPictures) -> str:
    """Of which rows, in which order; where no commit says what they hold, by their files and a sample of them.

    Pictures that are no files, such as those in memory, are all looked at: nothing else tells them apart.
    """
    digest = hashlib.sha256()
    probed = set(np.linspace(0, len(rows) - 1, min(_PROBED, len(rows))).astype(int).tolist())
    for place, (key, label, get) in enumerate(rows.sources):
        stamp = None if rows.revision else _stamp(get)
        digest.update(json.dumps([key, label, stamp]).encode())
        if rows.revision is None and (stamp is None or place in probed):
            digest.update(_content(get))
    return digest.hexdigest()


def _stamp(get: Callable[[], Any]) -> list[int] | None:
    """Size and time of the file of a row, if it is one."""
    path = get.args[0] if isinstance(get, partial) and get.args else None
    if not isinstance(path, Path) or not path.is_file():
        return None
    return [path.stat().st_size, path.stat().st_mtime_ns]


def _content(get: Callable[[], Any]) -> bytes:
    """The digest of what a row holds, of any length; of one that cannot be read, as of an empty one."""
    try:
        value = get()
        if isinstance(value, Path):
            value = value.read_bytes()
    except (PictureError, OSError):
        value = b""
    digest = hashlib.sha256()
    if isinstance(value, Image.Image):
        digest.update(json.dumps([value.mode, value.size, value.getpalette()]).encode())
        value = value.tobytes()
    digest.update(bytes(value))
    return digest.digest()
