"""Byte strings of many lengths, one after another in a tensor: any one of them is read without the others."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Gathered", "Packed"]


@dataclass(frozen=True, eq=False)
class Packed(Sequence[bytes | None]):
    """N byte strings, some of which may be None.

    Attributes:
        data: (B,) uint8, perhaps mapped from a file.
        spans: (N, 2) int64, where each begins and ends; -1 for None.
    """

    data: Tensor
    spans: Tensor

    @classmethod
    def of(cls, values: Sequence[bytes | str | None]) -> "Packed":
        held = [value.encode() if isinstance(value, str) else value for value in values]
        lengths = np.array([0 if value is None else len(value) for value in held], dtype=np.int64)
        ends = np.cumsum(lengths)
        spans = np.stack([ends - lengths, ends], axis=1) if len(held) else np.empty((0, 2), np.int64)
        spans[[value is None for value in held]] = -1
        data = np.frombuffer(bytearray(b"".join(value for value in held if value)), np.uint8)
        return cls(torch.from_numpy(data), torch.from_numpy(spans))

    def __len__(self) -> int:
        return len(self.spans)

    def __getitem__(self, place: Any) -> Any:
        start, end = self.spans[place].tolist()
        return None if start < 0 else self.data[start:end].numpy().tobytes()


class Gathered(Sequence[Any]):
    """R values that lie in several packed columns, in an order of their own; each is read when it is asked for.

    Args:
        parts: the columns.
        part, place: (R,) of each value, in which of them it lies and where.
        read: what becomes of the bytes.
    """

    def __init__(
        self,
        parts: Sequence[Packed],
        part: NDArray[np.int32],
        place: NDArray[np.int32],
        read: Callable[[bytes], Any] = bytes,
    ) -> None:
        self._parts, self._part, self._place, self._read = parts, part, place, read

    def __len__(self) -> int:
        return len(self._part)

    def __getitem__(self, row: Any) -> Any:
        if isinstance(row, slice):
            return [self[i] for i in range(*row.indices(len(self)))]
        data = self._parts[self._part[row]][int(self._place[row])]
        return None if data is None else self._read(data)

    def __iter__(self) -> Iterator[Any]:
        return (self[row] for row in range(len(self)))

    def __repr__(self) -> str:
        return f"Gathered({len(self):,} from {len(self._parts):,} shards)"
