"""How references lie on a disk, and so on the Hub: a few files, nothing pickled.

`references.json`               who made them, from what, their spaces, checksums
`embeddings.safetensors`        vectors of the first space, and the logits; mapped, not read
`embeddings-NAME.safetensors`   vectors of each further space
`rows.parquet`                  key, label, prediction, hashes, picture; the Hub's dataset viewer shows it

Format 1, with one space in full precision, is still read.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from xaihub.errors import ReferencesError
from xaihub.folders import file_digest, replacing_file
from xaihub.reference_files.facts import Made, check_fidelity, made_of
from xaihub.reference_files.record import (
    EMBEDDINGS,
    FILES,
    FORMAT,
    RECORD,
    ROWS,
    check_name,
    facts_of_spaces,
    file_of,
    files_of,
    is_further,
    read_record,
)
from xaihub.reference_files.rows import Pictures, Texts, read_rows, rows_with, write_rows
from xaihub.reference_files.tensors import mapped_tensors, write_tensors
from xaihub.spaces import Space

__all__ = [
    "FILES",
    "Made",
    "Pictures",
    "Stored",
    "Texts",
    "files_of",
    "made_of",
    "mapped_tensors",
    "read",
    "rows_with",
    "write",
    "write_tensors",
]

_AT_ONCE = 1024  # rows that are looked at together
_HALF = 2e-3  # how far a length may be from one in half precision


@dataclass(frozen=True, eq=False)
class Stored:
    """The content of the files, checked against each other.

    Attributes:
        made: who made it, from what.
        classes: the classifier's class names.
        spaces: embedder -> its vectors; the first is the primary one.
        logits: (R, C).
        columns: name -> R values, an array or a sequence: key, label, predicted_index, probability, pixels_sha256,
            perceptual_hash, source and image (encoded pictures, or None).
        fidelity: what was measured, if anything was.
    """

    made: Mapping[str, Any]
    classes: Sequence[str]
    spaces: Mapping[str, Space]
    logits: Tensor
    columns: Mapping[str, Any]
    fidelity: Mapping[str, Any] | None = None


def write(stored: Stored, folder: Path) -> dict[str, Any]:
    """Writes the files into a folder that exists, and gives the record that describes them.

    Vectors and rows go a few thousand at a time from wherever they lie, so that no copy of them is in memory; this may
    be the folder itself, since each file is written beside its place. Files of spaces that are gone are removed.

    Raises:
        ReferencesError: a space has a name that could not be read again.
    """
    _check_names(stored.spaces.values())
    taken: set[str] = set()
    described = []
    for place, space in enumerate(stored.spaces.values()):
        file = file_of(space.name, first=not place, taken=taken)
        tensors = {"embeddings": space.vectors, "lengths": space.lengths}
        with replacing_file(folder / file) as draft:
            write_tensors(draft, tensors if place else tensors | {"logits": stored.logits})
        described.append(_described(space, file))
    with replacing_file(folder / ROWS) as draft:
        pictures = write_rows(draft, stored.columns, stored.classes)
    for left in folder.iterdir():
        if is_further(left.name) and left.name not in taken:
            left.unlink()
    files = [*(space["file"] for space in described), ROWS]
    record = {
        "format": FORMAT,
        "made": dict(stored.made),
        "spaces": described,
        "classes": list(stored.classes),
        "rows": len(stored.logits),
        "checksums": {file: file_digest(folder / file) for file in files},
        "fidelity": dict(stored.fidelity) if stored.fidelity else None,
        "pictures": pictures,
    }
    with replacing_file(folder / RECORD) as draft:
        draft.write_text(json.dumps(record, indent=1, ensure_ascii=False), "utf-8")
    return record


def _check_names(spaces: Iterable[Space]) -> None:
    for space in spaces:
        try:
            check_name(space.name, space.revision)
        except ValueError as error:
            raise ReferencesError(
                f"References that are written now could not be read: {error}. Call the embedder by a plain name"
                " without a slash, or give the repository and its commit as name and revision."
            ) from error


def _described(space: Space, file: str) -> dict[str, Any]:
    return {
        "name": space.name, "kind": space.kind, "alike": space.alike, "revision": space.revision,
        "leaks": space.leaks, "weighted": space.weighted, "file": file,
    }  # fmt: skip


def read(folder: Path, name: str) -> Stored:
    """What the folder holds; vectors stay on the disk, and so do pictures until they are asked for.

    The files stay open, so the folder may be removed while this is in use.

    Raises:
        ReferencesError: it holds no references, ones of another format, or ones that were changed.
    """
    import pyarrow as pa
    from safetensors import SafetensorError

    try:
        record = read_record(folder, name)
        facts = facts_of_spaces(record)
        files = [*(fact["file"] for fact in facts), ROWS]
        changed = [file for file in files if record["checksums"][file] != file_digest(folder / file)]
        if changed:
            raise ReferencesError(
                f"{changed[0]} of {name} is not the file that its references.json describes. Build the"
                " references again."
            )
        return _assembled(record, facts, folder)
    except (
        OSError, LookupError, ValueError, TypeError, AttributeError, RecursionError, pa.ArrowException, SafetensorError,
    ) as error:  # fmt: skip
        raise ReferencesError(
            f"{name} holds no references that can be read ({type(error).__name__}: {error})."
        ) from error


def _assembled(record: Mapping[str, Any], facts: Sequence[Mapping[str, Any]], folder: Path) -> Stored:
    rows, classes, fidelity = record["rows"], tuple(record["classes"]), record.get("fidelity")
    spaces = {fact["name"]: _space(fact, mapped_tensors(folder / fact["file"]), rows) for fact in facts}
    logits = mapped_tensors(folder / EMBEDDINGS)["logits"]
    if not all(isinstance(label, str) for label in classes):
        raise ValueError("its classes are not all names")
    if logits.shape != (rows, len(classes)) or logits.dtype != torch.float32:
        raise ValueError(f"its logits are {logits.dtype} of shape {tuple(logits.shape)}")
    check_fidelity(fidelity or {})
    columns = read_rows(folder / ROWS, rows)
    predicted = columns["predicted_index"]
    if len(predicted) != rows:
        raise ValueError("its files have different numbers of rows")
    if np.any(np.diff(predicted) < 0) or np.any((predicted < 0) | (predicted >= len(classes))):
        raise ValueError("its rows are out of order, or of classes that it does not name")
    return Stored(record["made"], classes, spaces, logits, columns, fidelity or None)


def _space(fact: Mapping[str, Any], tensors: Mapping[str, Tensor], rows: int) -> Space:
    vectors = tensors["embeddings"]
    lengths = tensors["lengths"] if "lengths" in tensors else torch.ones(len(vectors))  # format 1 kept none
    if vectors.ndim != 2 or vectors.dtype not in (torch.float16, torch.float32) or not vectors.shape[1]:
        raise ValueError(f"the embeddings of {fact['name']!r} are {vectors.dtype} of shape {tuple(vectors.shape)}")
    if not len(vectors) == rows or lengths.shape != (rows,) or lengths.dtype != torch.float32:
        raise ValueError("its files have different numbers of rows")
    if not _unit(vectors) or not torch.isfinite(lengths).all() or (lengths < 0).any():
        raise ValueError(f"the embeddings of {fact['name']!r} are not all finite and of length one, as cosines need")
    described = {key: fact[key] for key in ("name", "kind", "alike", "revision", "leaks", "weighted")}
    return Space(vectors=vectors, lengths=lengths, **described)


def _unit(vectors: Tensor) -> bool:
    """Whether each row is of length one or zero; a million rows of 512 numbers take a third of a second."""
    for start in range(0, len(vectors), _AT_ONCE):
        lengths = torch.linalg.vector_norm(vectors[start : start + _AT_ONCE], dim=1, dtype=torch.float32)
        if not ((lengths == 0) | ((lengths - 1).abs() <= _HALF)).all():  # also of what is not finite
            return False
    return True
