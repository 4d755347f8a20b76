"""How references lie on a disk, and so on the Hub: three files, nothing pickled.

`references.json` (who made it, from what, checksums), `embeddings.safetensors` (embeddings and logits) and
`rows.parquet` (key, label, prediction, probability, hashes, picture; the Hub's dataset viewer shows it).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from xaihub.errors import ReferencesError
from xaihub.folders import file_digest

__all__ = ["FILES", "Stored", "read", "write"]

FORMAT = 1
FILES = ("references.json", "embeddings.safetensors", "rows.parquet")

_KINDS = {
    "key": "string", "label": "string", "predicted": "string", "predicted_index": "int64", "probability": "float32",
    "pixels_sha256": "string", "perceptual_hash": "uint64",
}  # fmt: skip


@dataclass(frozen=True)
class Stored:
    """The content of the three files, checked against each other.

    Attributes:
        made: who made it, from what.
        classes: the classifier's class names.
        embeddings, logits: (R, K) and (R, C).
        columns: name -> R values; "image" holds encoded pictures.
    """

    made: Mapping[str, Any]
    classes: Sequence[str]
    embeddings: Tensor
    logits: Tensor
    columns: Mapping[str, Sequence[Any]]


def write(stored: Stored, folder: Path) -> None:
    """Writes the three files into a folder that exists."""
    from safetensors.torch import save_file

    save_file({"embeddings": stored.embeddings.contiguous(), "logits": stored.logits.contiguous()}, folder / FILES[1])
    (folder / FILES[1]).chmod(0o644)  # safetensors writes for its owner alone
    _write_rows(stored.columns, folder / FILES[2])
    record = {
        "format": FORMAT,
        "made": dict(stored.made),
        "classes": list(stored.classes),
        "rows": len(stored.embeddings),
        "checksums": {name: file_digest(folder / name) for name in FILES[1:]},
    }
    (folder / FILES[0]).write_text(json.dumps(record, indent=1, ensure_ascii=False), "utf-8")


def read(folder: Path, name: str) -> Stored:
    """What the folder holds.

    Raises:
        ReferencesError: it holds no references, ones of another format, or ones that were changed.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        record = json.loads((folder / FILES[0]).read_text("utf-8"))
        if record["format"] != FORMAT:
            raise ReferencesError(
                f"{name} holds references of format {record['format']}; this version reads {FORMAT}. Update xaihub."
            )
        changed = [file for file in FILES[1:] if record["checksums"][file] != file_digest(folder / file)]
        if changed:
            raise ReferencesError(
                f"{changed[0]} of {name} is not the file that its references.json describes. Build the"
                " references again."
            )
        tensors, rows = load_file(folder / FILES[1]), pq.read_table(folder / FILES[2])
        stored = _assembled(record, tensors, rows)
    except (OSError, LookupError, ValueError, TypeError, AttributeError, pa.ArrowException, SafetensorError) as error:
        raise ReferencesError(
            f"{name} holds no references that can be read ({type(error).__name__}: {error})."
        ) from error
    return stored


def _assembled(record: Mapping[str, Any], tensors: Mapping[str, Tensor], rows: Any) -> Stored:
    embeddings, logits = tensors["embeddings"].float(), tensors["logits"].float()
    columns = {name: rows[name].to_pylist() for name in _KINDS}
    columns["image"] = rows["image"].combine_chunks().field("bytes").to_pylist()
    predicted = np.array(columns["predicted_index"], dtype=np.int64)
    if not len(rows) == len(embeddings) == len(logits) == record["rows"]:
        raise ValueError("its files have different numbers of rows")
    if np.any(np.diff(predicted) < 0) or np.any((predicted < 0) | (predicted >= len(record["classes"]))):
        raise ValueError("its rows are out of order, or of classes that it does not name")
    return Stored(record["made"], tuple(record["classes"]), embeddings, logits, columns)


def _write_rows(columns: Mapping[str, Sequence[Any]], file: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pictures = [{"bytes": data, "path": None} for data in columns["image"]]
    kinds = {name: pa.type_for_alias(kind) for name, kind in _KINDS.items()}
    table = pa.table(
        {name: pa.array(list(columns[name]), kind) for name, kind in kinds.items()}
        | {"image": pa.array(pictures, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))}
    )
    # what the datasets library, and so the Hub's viewer, reads the columns' meaning from
    features = {name: {"dtype": kind, "_type": "Value"} for name, kind in _KINDS.items()} | {
        "image": {"_type": "Image"}
    }
    pq.write_table(table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})}), file)
