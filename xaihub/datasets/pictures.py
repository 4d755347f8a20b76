"""What every kind of dataset becomes: keys, labels, and a way to get each picture."""

import os
import random
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from PIL import Image

from xaihub.errors import DatasetError, PictureError
from xaihub.images import open_picture
from xaihub.progress import checkpoint

__all__ = [
    "Get", "LabelledPictures", "Row", "Source", "draw", "drawn", "from_pairs", "in_order", "refuse_unknown_labels",
    "same", "tidy_split",
]  # fmt: skip

# half of the cores: the network works on all of them meanwhile, and waits for whichever is busy with a picture
_THREADS = max(1, min(8, (os.cpu_count() or 2) // 2))
_AHEAD = 64  # pictures that wait at most: 40 MB at 224 x 224

T = TypeVar("T")


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
        licence: as its card says, or None.
        notices: what a person should know of how it was read: files that were left out, a column that was chosen.
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
    licence: str | None = None
    notices: tuple[str, ...] = ()

    @property
    def about(self) -> str:
        """The note and the notices, in one text."""
        return ". ".join(part for part in (self.note, *self.notices) if part)

    def __len__(self) -> int:
        return len(self.sources)

    def __iter__(self) -> Iterator[Row]:
        """Rows in order; the next ones are opened on other threads meanwhile."""
        return (Row(key, picture, label) for key, label, picture in self.prepared(same))

    def prepared(self, prepare: Callable[[Image.Image], T]) -> Iterator[tuple[str, str | None, T]]:
        """Key, label, and what `prepare` makes of each picture, in order; it runs on other threads, a few rows ahead.

        Decoding and resizing take as long as a small network, which has the processor's other core meanwhile.
        """
        return self.worked(lambda get: prepare(open_picture(get())))

    def worked(self, work: Callable[[Get], T]) -> Iterator[tuple[str, str | None, T]]:
        """As `prepared`, for work that wants the picture's file as it was given."""
        with ThreadPoolExecutor(_THREADS) as pool:
            pending: deque[Future[T]] = deque()
            ahead = iter(self.sources)
            for key, label, _ in self.sources:
                checkpoint()
                for _, _, get in islice(ahead, _AHEAD - len(pending)):
                    pending.append(pool.submit(work, get))
                try:
                    yield key, label, pending.popleft().result()
                except PictureError as error:
                    self.skipped[key] = str(error)


def from_pairs(name: str, pairs: Sequence[tuple[str, str, Image.Image]]) -> LabelledPictures:
    """Pictures that are in memory already: (key, label, picture)."""
    labels = tuple(dict.fromkeys(label for _, label, _ in pairs))
    return LabelledPictures(name, [(key, label, partial(same, picture)) for key, label, picture in pairs], labels)


def same(value: Any) -> Any:
    """The value itself: how to get a picture that is there already."""
    return value


def draw(found: Sequence[Source], limit: int | None, seed: int) -> list[Source]:
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


def drawn(taken: int, of: int) -> str:
    """How rows were chosen, in words; nothing when all were."""
    return "" if taken == of else f"{taken:,} of {of:,} pictures, drawn evenly from the classes"


def in_order(words: Collection[str]) -> tuple[str, ...]:
    """Labels in order: 2 before 10 where all are numbers, else as the alphabet has them."""
    numbers = all(word.isdecimal() for word in words)
    return tuple(sorted(words, key=lambda word: (int(word), word) if numbers else (0, word)))


def tidy_split(names: Collection[str]) -> tuple[str, ...]:
    """Splits in order: train, validation, test, then others."""
    usual = ("train", "validation", "test")
    return tuple(sorted(names, key=lambda name: (usual.index(name) if name in usual else len(usual), name)))


def refuse_unknown_labels(name: str, wanted: Sequence[str], known: Sequence[str]) -> None:
    """Nothing, unless a label is asked for that the dataset has not.

    Raises:
        DatasetError: it is; with the labels that there are.
    """
    unknown = [label for label in wanted if label not in known]
    if unknown:
        there = ", ".join(map(repr, known[:20])) + (", ..." if len(known) > 20 else "")
        raise DatasetError(f"{name} has no pictures labelled {unknown[0]!r}. Its labels are: {there or 'none at all'}.")
