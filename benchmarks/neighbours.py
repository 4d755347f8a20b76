"""Exact search within a predicted class, against reading that class's rows once."""

import numpy as np
import torch

from benchmarks.timing import interleaved, ratio, table
from xaihub.references import Made, ReferenceSet


def references(rows: int, width: int, classes: int) -> ReferenceSet:
    """Random references, without pictures."""
    generator = torch.Generator().manual_seed(0)
    embeddings = torch.nn.functional.normalize(torch.randn(rows, width, generator=generator), dim=1)
    predicted = np.sort(np.random.default_rng(0).integers(0, classes, rows))
    made = Made("none", None, "none", "target-layer", "none", "random")
    names = tuple(f"class {i}" for i in range(classes))
    return ReferenceSet(
        made, names, embeddings, torch.zeros(rows, 1), predicted, np.ones(rows, np.float32), (None,) * rows,
        ("",) * rows, ("",) * rows, np.zeros(rows, np.uint64), (b"",) * rows,
    )  # fmt: skip


def search_ratios(rows: int = 100_000, width: int = 512, rounds: int = 60) -> None:
    lines = []
    for classes in (1, 2, 10):
        found = references(rows, width, classes)
        query = torch.randn(width, generator=torch.Generator().manual_seed(1))
        part = found.embeddings[found.slices[0]]
        numbers = part.numpy()

        def sklearn_way(numbers: np.ndarray = numbers, query: torch.Tensor = query) -> np.ndarray:
            from sklearn.metrics.pairwise import cosine_similarity

            return np.argsort(-cosine_similarity(query.numpy()[None], numbers)[0])[:3]

        calls = {
            "reading the rows once": lambda part=part: part.sum(),
            "xaihub": lambda found=found, query=query: found.nearest(query, 3, predicted=0),
            "scikit-learn, sorted": sklearn_way,
        }
        seconds = interleaved(calls, rounds)
        floor = sorted(seconds["reading the rows once"])[rounds // 2] * 1e3
        lines.append(
            [f"{len(part):,} of {rows:,} x {width}", f"{floor:.2f}"]
            + [f"{ratio(seconds, name, 'reading the rows once'):.2f}" for name in calls]
        )
    table("Exact search in one class, as a ratio to reading its rows once", lines, ["rows", "floor, ms", *calls])
