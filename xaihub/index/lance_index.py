"""Search with LanceDB: rows stay on disk, in a bucket or on the Hub, and only what is needed is read."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xaihub.errors import ReferencesError, first_line
from xaihub.folders import replacing
from xaihub.index.exact import ExactIndex
from xaihub.index.extras import extra
from xaihub.index.places import EVERYWHERE, Found, Where, checked, in_spans, size, spans
from xaihub.index.scoring import WEIGHED_EXACTLY, cosines, pool, ranked, stacked

__all__ = ["LanceIndex"]

_ROWS, _CLASSES = "references", "classes"  # the tables
_WIDER = 4  # times as many lists for one class, of which each holds few rows
_CHUNK = 16_384  # rows written or read at a time


@dataclass(frozen=True, eq=False)
class LanceIndex:
    """Rows in a LanceDB table, filtered before they are compared; the best max(50, 10 k) are scored again exactly.

    Up to `flat_below` rows are compared one by one, more by an inverted file of rounded numbers (IVF_SQ).

    Attributes:
        table: with the columns row, predicted and vector, in the order of the rows.
        classes: predicted class -> its rows.
        weighed_exactly: a weighted search that may find no more rows than this reads all of them.
        probes: how many lists are looked into.
    """

    table: Any
    classes: dict[int, tuple[int, int]]
    width: int
    weighed_exactly: int = WEIGHED_EXACTLY
    probes: int = 32

    @classmethod
    def build(
        cls, vectors: Tensor, predicted: NDArray[np.int64], folder: Path, *, flat_below: int = 100_000
    ) -> "LanceIndex":
        """An index of vectors (R, K) sorted by class, kept in a folder.

        Raises:
            ReferencesError: LanceDB is not installed. FileExistsError: the folder holds something else.
        """
        lancedb = extra("lancedb", "lance")
        places = ExactIndex(vectors, predicted).classes  # refuses what does not fit
        with replacing(Path(folder), f"{_ROWS}.lance") as draft:
            database = lancedb.connect(draft)
            table = database.create_table(_ROWS, _batches(vectors, np.asarray(predicted)), schema=_schema(vectors))
            spans_of = [{"predicted": c, "start": start, "stop": end} for c, (start, end) in places.items()]
            database.create_table(_CLASSES, spans_of)
            table.create_index("predicted", config=extra("lancedb.index", "lance").Bitmap())
            if len(vectors) >= flat_below:
                table.create_index("vector", config=_codes(len(vectors)))
        return cls.open(folder)

    @classmethod
    def open(cls, place: Path | str, *, weighed_exactly: int = WEIGHED_EXACTLY) -> "LanceIndex":
        """The index in a folder, or at an address that LanceDB reads: `s3://...`, `hf://datasets/OWNER/NAME/FOLDER`.

        An address of the Hub is read where it is; a private one needs the environment's HF_TOKEN.

        Raises:
            ReferencesError: there is none, or LanceDB is not installed.
        """
        lancedb = extra("lancedb", "lance")
        try:
            database = lancedb.connect(place)
            table, rows = database.open_table(_ROWS), database.open_table(_CLASSES).to_arrow().to_pylist()
            classes = {row["predicted"]: (row["start"], row["stop"]) for row in rows}
            width = table.schema.field("vector").type.list_size
        except (OSError, ValueError, KeyError, AttributeError, RuntimeError) as error:
            raise ReferencesError(
                f"{str(place)!r} holds no LanceDB index that can be read ({first_line(error)})."
                " Build it with LanceIndex.build, or name its folder or address."
            ) from error
        return cls(table, dict(sorted(classes.items())), width, weighed_exactly)

    def __len__(self) -> int:
        return size(self.classes.values())

    def vectors(self, rows: Sequence[int] | NDArray[np.int64]) -> Tensor:
        """See `VectorIndex.vectors`."""
        return self._stored(np.asarray(rows, dtype=np.int64)).float()

    def search(self, queries: Tensor, k: int, where: Where = EVERYWHERE, *, weights: Tensor | None = None) -> Found:
        """See `VectorIndex.search`; the rows found among many are nearly always the best, their cosines exact."""
        units, weighing = checked(queries, k, weights, self.width)
        places = spans(self.classes, where)
        out = in_spans(where.leave_out, places)
        there = size(places) - len(out)
        if weighing is not None and size(places) <= self.weighed_exactly:
            found = self._weighed(units, min(k, there), where, out, weighing)
            return stacked(len(units), k, found.__getitem__)

        def best(query: int) -> Found:
            rows, vectors = self._likely(units[query], min(pool(k), there), where, out)
            return ranked(rows, cosines(vectors, units[query], weighing), k)

        return stacked(len(units), k, best)

    def _likely(
        self, unit: Tensor, most: int, where: Where, out: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], Tensor]:
        """The likely best rows, as many as asked for, and their vectors (n, K); what is left out was fetched on top."""
        if not most:
            return out[:0], torch.zeros(0, self.width)
        asked = self.table.search(unit.float().numpy()).distance_type("dot").select(["row", "vector", "_distance"])
        probes = self.probes * (_WIDER if where.predicted is not None else 1)
        asked = asked.limit(most + len(out)).nprobes(probes)
        if chosen := _sql(where):
            asked = asked.where(chosen, prefilter=True)
        table = asked.to_arrow()
        if len(table) < most + len(out):  # the lists that were looked into hold too few: all rows are
            table = asked.bypass_vector_index().to_arrow()
        rows, vectors = _read(table, self.width)
        kept = ~np.isin(rows, out)
        return rows[kept], vectors[torch.from_numpy(kept)]

    def _weighed(self, units: Tensor, k: int, where: Where, out: NDArray[np.int64], weights: Tensor) -> list[Found]:
        """The k best for each query, of all rows that may be found."""
        found = [(out[:0], np.zeros(0, np.float32)) for _ in units]
        for rows, vectors in self._all(where):
            kept = ~np.isin(rows, out)
            for query, unit in enumerate(units):
                values = cosines(vectors[torch.from_numpy(kept)], unit, weights)
                so_far, cosine = found[query]
                found[query] = ranked(np.append(so_far, rows[kept]), np.append(cosine, values), k)
        return found

    def _all(self, where: Where) -> Iterator[tuple[NDArray[np.int64], Tensor]]:
        asked = self.table.search().select(["row", "vector"])
        if chosen := _sql(where):
            asked = asked.where(chosen)
        for batch in asked.to_batches(_CHUNK):
            yield _read(batch, self.width)

    def _stored(self, rows: NDArray[np.int64]) -> Tensor:
        """(n, K) as they are stored."""
        once, back = np.unique(rows, return_inverse=True)
        table = self.table.take_offsets(once.tolist()).select(["row", "vector"]).to_arrow()
        found, vectors = _read(table, self.width)
        return vectors[torch.from_numpy(np.argsort(found)[back])]


def _sql(where: Where) -> str:
    parts = [("=", where.predicted), ("!=", where.predicted_not)]
    return " AND ".join(f"predicted {sign} {int(value)}" for sign, value in parts if value is not None)


def _read(table: Any, width: int) -> tuple[NDArray[np.int64], Tensor]:
    """Rows (n,) and vectors (n, K) of a table or batch of Arrow."""
    column = table["vector"]
    column = column.combine_chunks() if hasattr(column, "combine_chunks") else column
    numbers = np.array(column.flatten().to_numpy(zero_copy_only=False)).reshape(-1, width)
    return np.array(table["row"].to_numpy(), dtype=np.int64), torch.from_numpy(numbers)


def _schema(vectors: Tensor) -> Any:
    import pyarrow as pa

    number = pa.float16() if vectors.dtype == torch.float16 else pa.float32()
    columns = {"row": pa.int64(), "predicted": pa.int64(), "vector": pa.list_(number, vectors.shape[1])}
    return pa.schema(list(columns.items()))


def _batches(vectors: Tensor, predicted: NDArray[np.int64]) -> Iterator[Any]:
    import pyarrow as pa

    schema = _schema(vectors)
    for start in range(0, len(vectors), _CHUNK):
        some = vectors[start : start + _CHUNK]
        rows = np.arange(start, start + len(some))
        numbers = pa.array(some.reshape(-1).numpy())
        lists = pa.FixedSizeListArray.from_arrays(numbers, vectors.shape[1])
        yield pa.record_batch([pa.array(rows), pa.array(predicted[rows]), lists], schema=schema)


def _codes(rows: int) -> Any:
    """IVF_SQ of about sqrt(n) lists, with one byte for each number.

    Product codes would be an eighth of that, but take about ten times as long to learn. LanceDB's own 50 turns over 256
    rows a list take long, too; scoring again evens out the rest.
    """
    return extra("lancedb.index", "lance").IvfSq(
        distance_type="dot",
        num_partitions=max(1, min(int(rows**0.5), rows // 64)),
        max_iterations=15,
        sample_rate=64,
    )
