"""A million references on two cores: built in shards by a process that is killed twice, merged, opened, searched.

The embedder is a stand-in that draws vectors, and there are no pictures; all else is what build_references uses.
"""

import itertools
import multiprocessing
import random
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.timing import table
from xaihub.reference_files import Stored, write
from xaihub.references import ReferenceSet
from xaihub.shards import Embedded, Packed, Work, key_of, merged
from xaihub.spaces import Space

CLASSES, FOUND = 10, 10
_MADE = {
    "classifier": "none", "classifier_revision": None, "target_layer": "none", "embedder": "drawn",
    "preprocessing": "none", "dataset": "drawn",
}  # fmt: skip


@dataclass(frozen=True)
class Measured:
    """What came of it: seconds and peak MB of each stage, and whether it was right.

    Attributes:
        shards_kept: whether no shard that was finished before a kill was written again.
        same_neighbours: whether searches found what going through all vectors finds.
    """

    kills: int
    shards_kept: bool
    same_neighbours: bool
    stages: dict[str, tuple[float, float]]
    bytes: int


def million(rows: int = 10**6, width: int = 512) -> None:
    """Builds, kills, merges and searches in a temporary folder, and prints a table."""
    with tempfile.TemporaryDirectory(prefix="million-") as folder:
        found = measure(Path(folder), rows, width)
    lines = [[stage, f"{seconds:.3g}", f"{peak:,.0f}"] for stage, (seconds, peak) in found.stages.items()]
    table(f"{rows:,} references of {width} dimensions, built in shards", lines, ["stage", "seconds", "peak MB"])
    print(
        f"killed {found.kills} times; finished shards kept: {found.shards_kept}; {found.bytes / 2**30:.2f} GB on disk;"
    )
    print(f"neighbours as found by going through all vectors: {found.same_neighbours}")


def measure(folder: Path, rows: int, width: int, size: int = 4096, kills: int = 2) -> Measured:
    """All stages, each in a process of its own, so that each has its own peak."""
    work = Work(folder / "work", key_of(["million", rows, width]), rows, size)
    chance, kept, stages = random.Random(0), [], {}
    begun = time.perf_counter()
    for kill in range(kills):
        with _process(build, work, width) as process:
            _wait_for(work, len(work) * (kill + 1) // (kills + 1), process)
            time.sleep(chance.uniform(0, 0.05))  # anywhere within a shard
            process.kill()
        kept += [(file, file.stat().st_mtime_ns) for file in work.folder.glob("shard-*")]
    _, peak = _result_of(build, work, width)
    stages["build, with the kills"] = (time.perf_counter() - begun, peak)
    shards_kept = all(file.stat().st_mtime_ns == when for file, when in kept)
    stages["merge and write"] = _result_of(merge, work, folder / "references")
    searches, _ = _result_of(search, work, folder / "references", width)
    stages |= searches["stages"]
    size_on_disk = sum(path.stat().st_size for path in (folder / "references").iterdir())
    return Measured(kills, shards_kept, searches["same"], stages, size_on_disk)


def drawn(work: Work, number: int, width: int) -> Embedded:
    """The rows of a shard; the same each time they are drawn."""
    span = work.span(number)
    rows = np.arange(span.start, span.stop, dtype=np.int64)
    generator = np.random.default_rng(number)
    vectors = torch.from_numpy(generator.standard_normal((len(rows), width), dtype=np.float32))
    logits = torch.from_numpy(generator.standard_normal((len(rows), CLASSES), dtype=np.float32))
    best = logits.softmax(1).max(1)
    columns = {
        "key": [f"row {row}" for row in rows],
        "label": [f"class {row % CLASSES}" for row in rows],
        "source": [None] * len(rows),
        "digest": [generator.bytes(32) for _ in rows],
        "picture": [None] * len(rows),
    }
    return Embedded(
        rows,
        {name: Packed.of(values) for name, values in columns.items()},
        generator.integers(0, 2**63, len(rows)).astype(np.uint64),
        logits,
        best.indices.numpy(),
        best.values.numpy(),
        {"drawn": torch.nn.functional.normalize(vectors, dim=1).half()},
        {"drawn": vectors.norm(dim=1)},
    )


def build(work: Work, width: int) -> None:
    for number in work.missing():
        work.write(number, drawn(work, number, width))


def merge(work: Work, folder: Path) -> None:
    found = merged(work, work.folder.parent)
    space = Space("drawn", "decided", "they were drawn alike", found.vectors["drawn"], found.lengths["drawn"])
    columns = {
        "key": found.columns["key"], "label": found.columns["label"], "predicted_index": found.predicted,
        "probability": found.probability, "pixels_sha256": found.columns["digest"], "perceptual_hash": found.hashes,
        "source": found.columns["source"], "image": found.columns["picture"],
    }  # fmt: skip
    folder.mkdir()
    write(Stored(_MADE, [f"class {i}" for i in range(CLASSES)], {"drawn": space}, found.logits, columns), folder)


def search(work: Work, folder: Path, width: int) -> dict[str, Any]:
    """Seconds of each search and the peak until then, and whether what they found is right."""
    stages: dict[str, tuple[float, float]] = {}

    def timed(name: str, call: Callable[[], Any], times: int = 1) -> Any:
        taken = []
        for _ in range(times):
            begun = time.perf_counter()
            answer = call()
            taken.append(time.perf_counter() - begun)
        stages[name] = sorted(taken)[times // 2], _peak()
        return answer

    references = timed("open, with checksums", lambda: ReferenceSet.load(folder, "million"))
    query, label = torch.randn(width, generator=torch.Generator().manual_seed(0)), 3
    in_class = timed("search a class, first", lambda: references.nearest(query, FOUND, predicted=label))
    timed("search a class, again", lambda: references.nearest(query, FOUND, predicted=label), 5)
    anywhere = timed("search all, first", lambda: references.nearest(query, FOUND))
    timed("search all, again", lambda: references.nearest(query, FOUND), 5)
    timed("find copies", lambda: references.duplicates(query, references.digests[7], int(references.hashes[7])), 3)
    expected = _by_going_through(work, query, label, width)
    given = [[references.keys[neighbour.row] for neighbour in found] for found in (in_class, anywhere)]
    return {"stages": stages, "same": given == expected}


def _by_going_through(work: Work, query: torch.Tensor, label: int, width: int) -> list[list[str]]:
    """The keys of the nearest rows in a class and in all, from vectors that are drawn once more."""
    unit, found = torch.nn.functional.normalize(query, dim=0), []
    for number in range(len(work)):
        shard = drawn(work, number, width)
        cosines = (torch.nn.functional.normalize(shard.vectors["drawn"].float(), dim=1) @ unit).tolist()
        found += list(zip(cosines, shard.rows.tolist(), shard.predicted.tolist(), strict=True))
    found.sort(reverse=True)
    in_class = (row for _, row, predicted in found if predicted == label)
    return [
        [f"row {row}" for row in itertools.islice(rows, FOUND)] for rows in (in_class, (row for _, row, _ in found))
    ]


@contextmanager
def _process(call: Callable[..., Any], *arguments: Any) -> Iterator[Any]:
    context = multiprocessing.get_context("forkserver")  # its children begin with torch imported, but never used
    context.set_forkserver_preload(["benchmarks.million"])
    process = context.Process(target=call, args=arguments)
    process.start()
    try:
        yield process
    finally:
        process.join()
        process.close()


def _wait_for(work: Work, shards: int, process: Any) -> None:
    while process.is_alive() and len(list(work.folder.glob("shard-*"))) < shards:
        time.sleep(0.01)


def _result_of(call: Callable[..., Any], *arguments: Any) -> Any:
    """What a call in a process of its own gave (its seconds if nothing), and that process's peak in MB."""
    ours, theirs = multiprocessing.get_context("forkserver").Pipe(duplex=False)
    begun = time.perf_counter()
    with _process(_reported, theirs, call, arguments):
        theirs.close()
        answer, peak = ours.recv()
    return (time.perf_counter() - begun if answer is None else answer), peak


def _reported(pipe: Any, call: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    answer = call(*arguments)
    pipe.send((answer, _peak()))
    pipe.close()


def _peak() -> float:
    """MB that this process held at most, pages of mapped files among them."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
