"""Search: ours and its rivals against reading the needed rows once, then the approximate indexes' recall and cost."""

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import faiss
import numpy as np
import torch
from sklearn.metrics.pairwise import cosine_similarity

from benchmarks.timing import Call, interleaved, ratio, table
from xaihub.index import ExactIndex, FaissIndex, LanceIndex, VectorIndex, Where

WIDTH, CLASSES, LATENT, K = 512, 10, 32, 10
SETTLED = 30  # searches after which no block of a million rows is rounded any more
FILTERS = {"all rows": Where(), "same class": Where(predicted=3), "other class": Where(predicted_not=3)}
Spans = Sequence[tuple[int, int]]


def clustered(rows: int, clusters: int = 1000) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows (R, 512) float16 and 64 queries: clusters of 32 dimensions inside 512, as embeddings are, and some noise.

    Uniform rows have no near neighbours, so a recall on them says nothing.
    """
    generator = torch.Generator().manual_seed(0)
    centres, spread = (torch.randn(n, LATENT, generator=generator) for n in (clusters, WIDTH))

    def near(which: torch.Tensor) -> torch.Tensor:
        latent = centres[which] + 0.4 * torch.randn(len(which), LATENT, generator=generator)
        noise = 0.3 * torch.randn(len(which), WIDTH, generator=generator)
        return torch.nn.functional.normalize(latent @ spread.T + noise, dim=1)

    found = torch.empty(rows, WIDTH, dtype=torch.float16)
    for start in range(0, rows, 50_000):
        found[start : start + 50_000] = near(torch.arange(start, min(start + 50_000, rows)) * clusters // rows)
    return found, near(torch.randint(0, clusters, (64,), generator=generator))


def spans_of(where: Where, rows: int) -> Spans:
    """The needed rows: class c of ten is the c-th tenth."""
    start, end = 3 * rows // CLASSES, 4 * rows // CLASSES
    if where.predicted is not None:
        return [(start, end)]
    return [(0, rows)] if where.predicted_not is None else [(0, start), (end, rows)]


def merged(parts: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """(Q, 10) best rows of searches (values, rows) in several spans."""
    values, rows = (np.concatenate(arrays, axis=1) for arrays in zip(*parts, strict=True))
    return np.take_along_axis(rows, np.argsort(-values, axis=1)[:, :K], axis=1)


def rivals(numbers: np.ndarray, queries: np.ndarray, spans: Spans) -> dict[str, Call]:
    """Ways to search float32 rows; each gets the spans ready made, although most code would mask all rows."""

    def with_numpy(part: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        scores = queries @ part.T
        best = np.argpartition(scores, -K, axis=1)[:, -K:]
        return np.take_along_axis(scores, best, axis=1), best

    def with_sklearn(part: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        scores = cosine_similarity(queries, part)
        best = np.argsort(-scores, axis=1)[:, :K]
        return np.take_along_axis(scores, best, axis=1), best

    def with_faiss(part: np.ndarray) -> tuple[np.ndarray, np.ndarray]:  # what IndexFlatIP calls, without its copy
        return faiss.knn(queries, part, K, metric=faiss.METRIC_INNER_PRODUCT)

    def everywhere(search: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
        found = [(search(numbers[start:end]), start) for start, end in spans]
        return merged([(values, rows + start) for (values, rows), start in found])

    return {
        "numpy": lambda: everywhere(with_numpy),
        "scikit-learn, sorted": lambda: everywhere(with_sklearn),
        "FAISS flat": lambda: everywhere(with_faiss),
    }


def search_ratios(sizes: Sequence[int], rounds: int) -> None:
    """Prints the exact searches; the floor is one sum over the needed rows as they are stored, in half precision."""
    lines: list[list[str]] = []
    names: list[str] = []
    for rows in sizes:
        vectors, queries = clustered(rows)
        index, numbers = ExactIndex(vectors, np.arange(rows) * CLASSES // rows), vectors.float().numpy()
        for asked in (1, 64):
            for name, where in FILTERS.items():
                some, spans = queries[:asked], spans_of(where, rows)
                floor: Call = lambda v=vectors, s=spans: [v[a:b].view(torch.int64).sum() for a, b in s]  # noqa: E731
                ours: Call = lambda i=index, q=some, w=where: i.search(q, K, w)  # noqa: E731
                for _ in range(SETTLED if asked == 1 else 0):
                    ours()
                # each rival apart: the threads of one go on waiting busily while the next one is timed
                pairs = {"xaihub": ours, **rivals(numbers, some.numpy(), spans)}
                names, turns = ["floor", *pairs], _turns(rows, asked, rounds)
                timed = {name: interleaved({"floor": floor, name: call}, *turns) for name, call in pairs.items()}
                medians = [statistics.median(timed["xaihub"][call]) * 1e3 for call in ("floor", "xaihub")]
                ratios = [ratio(seconds, name, "floor") for name, seconds in timed.items()]
                ahead = ratios[names.index("scikit-learn, sorted") - 1] / ratios[0]
                lines.append(
                    [f"{rows:,}", str(asked), name, f"{medians[0]:.2f}", f"{medians[1]:.2f}"]
                    + [f"{value:.2f}" for value in ratios]
                    + [f"{ahead:.0f}"]
                )
        del vectors, index, numbers
    head = ["rows x 512", "queries", "searched", "floor, ms", "xaihub, ms", *names[1:], "scikit-learn / xaihub"]
    table("Exact search for 10 rows, as a ratio to reading the needed rows once in half precision", lines, head)


def _turns(rows: int, asked: int, rounds: int) -> tuple[int, int]:
    """Rounds and warm-ups: the rivals take seconds a search where rows and queries are many."""
    if rows * asked >= 10_000_000:
        return 1, 0
    return (rounds, 1) if rows >= 1_000_000 else (3 * rounds, 2)


def approximate(rows: int, flat_below: int) -> None:
    """Prints what FAISS and LanceDB find of the ten best, how fast, and what building them takes."""
    vectors, queries = clustered(rows)
    predicted = np.arange(rows) * CLASSES // rows
    exact = ExactIndex(vectors, predicted)
    truth = {name: exact.search(queries, K, where)[0] for name, where in FILTERS.items()}
    builders: dict[str, Callable[[Path], VectorIndex]] = {
        "exact": lambda _: exact,
        "FAISS": lambda folder: FaissIndex.build(vectors, predicted, folder, flat_below=flat_below),
        "LanceDB": lambda folder: LanceIndex.build(vectors, predicted, folder, flat_below=flat_below),
    }
    lines = []
    for name, build in builders.items():
        with tempfile.TemporaryDirectory() as temporary:
            start = time.perf_counter()
            index = build(Path(temporary) / "index")
            took = time.perf_counter() - start
            files = (Path(folder) / file for folder, _, names in os.walk(temporary) for file in names)
            line = [name, f"{took:.1f}", f"{sum(file.stat().st_size for file in files) / 2**20:,.0f}"]
            for there, where in FILTERS.items():
                line += [f"{_recall(index, queries, where, truth[there]):.3f}", f"{_alone(index, queries, where):.1f}"]
            lines.append(line)
            del index
    columns = [f"{there}, {what}" for there in FILTERS for what in ("recall@10", "ms")]
    title = f"Approximate search for 10 of {rows:,} rows x {WIDTH} in {CLASSES} classes, one query at a time"
    table(title, lines, ["index", "build, s", "files, MB", *columns])


def _recall(index: VectorIndex, queries: torch.Tensor, where: Where, truth: np.ndarray) -> float:
    found, _ = index.search(queries, K, where)
    return statistics.mean(len(np.intersect1d(a, b)) / K for a, b in zip(found, truth, strict=True))


def _alone(index: VectorIndex, queries: torch.Tensor, where: Where) -> float:
    """Milliseconds of a search for one query: the median."""
    calls: dict[str, Call] = {"it": lambda: index.search(queries[:1], K, where)}
    return statistics.median(interleaved(calls, 15, warm_up=SETTLED)["it"]) * 1e3
