"""Approximate search with FAISS (Douze et al., 2024, arXiv:2401.08281), one inverted file for each large class."""

import json
from collections.abc import Mapping, Sequence
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
from xaihub.index.places import EVERYWHERE, Found, Where, checked, size, spans
from xaihub.index.scoring import WEIGHED_EXACTLY, exact_cosines, pool, ranked, stacked

__all__ = ["FaissIndex"]

_MANIFEST, _VECTORS = "index.json", "vectors.safetensors"
_CHUNK = 65_536  # rows widened at a time while an index is built


@dataclass(frozen=True, eq=False)
class FaissIndex:
    """Each predicted class searched on its own: small ones exactly, large ones by an inverted file of 8-bit rows.

    One index for all classes with a filter loses neighbours (an HNSW graph with a filter of 10 % of the rows finds 55 %
    of the best three); with one for each class the filter costs nothing, and "any other class" is
    the best over the others. The max(50, 10 k) rows that FAISS finds in a class are scored again exactly.

    Attributes:
        exact: the same rows, searched exactly: the small classes, and all when weighted and few enough.
        large: predicted class -> its FAISS index.
        probes: how many lists of each are looked into.
    """

    exact: ExactIndex
    large: Mapping[int, Any]
    probes: int = 16

    @classmethod
    def build(
        cls,
        vectors: Tensor,
        predicted: NDArray[np.int64],
        folder: Path | None = None,
        *,
        flat_below: int = 100_000,
        probes: int = 16,
    ) -> "FaissIndex":
        """An index of vectors (R, K) sorted by class; kept in a folder if one is named, and opened from there.

        Args:
            flat_below: classes with fewer rows are searched exactly, without FAISS.

        Raises:
            ReferencesError: FAISS is not installed. FileExistsError: the folder holds something else.
        """
        exact = ExactIndex(vectors, predicted)
        large = {
            label: _inverted(vectors[start:end])
            for label, (start, end) in exact.classes.items()
            if end - start >= flat_below
        }
        if folder is None:
            return cls(exact, large, probes)
        with replacing(Path(folder), _MANIFEST) as draft:
            _write(draft, vectors, predicted, large, probes)
        return cls.open(folder)

    @classmethod
    def open(cls, folder: Path, *, weighed_exactly: int = WEIGHED_EXACTLY) -> "FaissIndex":
        """The index that `build` kept; its files are mapped into memory, not read.

        Raises:
            ReferencesError: there is none, its files do not fit together, or FAISS is not installed.
        """
        from safetensors import SafetensorError, safe_open

        faiss = extra("faiss", "faiss")
        flags = faiss.IO_FLAG_MMAP | faiss.IO_FLAG_READ_ONLY
        try:
            manifest = json.loads((Path(folder) / _MANIFEST).read_text("utf-8"))
            with safe_open(Path(folder) / _VECTORS, "pt") as file:
                vectors, predicted = file.get_tensor("vectors"), file.get_tensor("predicted").numpy()
            large = {c: faiss.read_index(str(Path(folder) / _file(c)), flags) for c in map(int, manifest["large"])}
            exact = ExactIndex(vectors, predicted, weighed_exactly=weighed_exactly)
            _check(exact, large)
            return cls(exact, large, int(manifest["probes"]))
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
            raise ReferencesError(
                f"{str(folder)!r} holds no FAISS index that can be read ({first_line(error)})."
                " Build it again with FaissIndex.build."
            ) from error

    def __len__(self) -> int:
        return len(self.exact)

    @property
    def width(self) -> int:
        """K."""
        return self.exact.width

    def vectors(self, rows: Sequence[int] | NDArray[np.int64]) -> Tensor:
        """See `VectorIndex.vectors`."""
        return self.exact.vectors(rows)

    def search(self, queries: Tensor, k: int, where: Where = EVERYWHERE, *, weights: Tensor | None = None) -> Found:
        """See `VectorIndex.search`; the rows found in large classes are nearly always the best, their cosines exact."""
        units, weighing = checked(queries, k, weights, self.width)
        allowed = [c for c in self.exact.classes if spans({c: self.exact.classes[c]}, where)]
        places = spans(self.exact.classes, where)
        if weighing is not None and size(places) <= self.exact.weighed_exactly:
            return self.exact.search_spans(units, k, places, where.leave_out, weighing)
        small = spans({c: span for c, span in self.exact.classes.items() if c not in self.large}, where)
        found = [self.exact.search_spans(units, pool(k), small, where.leave_out, None)[0]]
        found += [self._in_class(c, units, pool(k), where) for c in allowed if c in self.large]
        rows = np.concatenate(found, axis=1)

        def best(query: int) -> Found:
            some = rows[query][rows[query] >= 0]
            return ranked(some, exact_cosines(self.exact.stored, some, units[query], weighing), k)

        return stacked(len(units), k, best)

    def _in_class(self, label: int, units: Tensor, most: int, where: Where) -> NDArray[np.int64]:
        """(Q, most) rows of one large class, -1 where there are fewer."""
        faiss = extra("faiss", "faiss")
        start, end = self.exact.classes[label]
        out = np.asarray(where.leave_out, dtype=np.int64)
        out = np.unique(out[(out >= start) & (out < end)]) - start
        there = faiss.IDSelectorBatch(out)
        chosen = faiss.SearchParametersIVF(nprobe=self.probes, sel=faiss.IDSelectorNot(there) if len(out) else None)
        _, rows = self.large[label].search(units.float().numpy(), most, params=chosen)
        if (rows < 0).any() and (rows >= 0).sum(1).min() < min(
            most, end - start - len(out)
        ):  # too few lists held too few
            return self.exact.search_spans(units, most, [(start, end)], out + start, None)[0]
        return np.where(rows < 0, -1, rows + start)


def _check(exact: ExactIndex, large: Mapping[int, Any]) -> None:
    for label, index in large.items():
        start, end = exact.classes[label]
        if (index.ntotal, index.d) != (end - start, exact.width):
            raise ValueError(f"class {label} has {end - start:,} rows, and {index.ntotal:,} in FAISS's file")


def _inverted(rows: Tensor) -> Any:
    """FAISS's index of one class: about sqrt(n) lists of rows in 8 bits a number."""
    faiss = extra("faiss", "faiss")
    lists = max(1, min(int(len(rows) ** 0.5), len(rows) // 39))  # FAISS asks for 39 rows a list to learn it from
    index = faiss.index_factory(rows.shape[1], f"IVF{lists},SQ8", faiss.METRIC_INNER_PRODUCT)
    chosen = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))[: 64 * lists].sort().values
    index.train(rows[chosen].float().numpy())
    for start in range(0, len(rows), _CHUNK):
        index.add(rows[start : start + _CHUNK].float().numpy())
    return index


def _file(label: int) -> str:
    return f"class-{label}.faiss"


def _write(folder: Path, vectors: Tensor, predicted: NDArray[np.int64], large: Mapping[int, Any], probes: int) -> None:
    from safetensors.torch import save_file

    tensors = {"vectors": vectors.contiguous(), "predicted": torch.from_numpy(np.asarray(predicted, dtype=np.int64))}
    save_file(tensors, folder / _VECTORS)
    for label, index in large.items():
        extra("faiss", "faiss").write_index(index, str(folder / _file(label)))
    manifest = {"format": 1, "rows": len(vectors), "large": sorted(large), "probes": probes}
    (folder / _MANIFEST).write_text(json.dumps(manifest), "utf-8")
