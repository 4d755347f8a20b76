"""Scores as a table: CSV and parquet for programs, one row a score, and Markdown for people."""

import csv
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from xaihub.evaluating.words import standing, standing_in_words
from xaihub.metrics import BASELINES, METRICS
from xaihub.records import Gain, Score

__all__ = [
    "COLUMNS", "best_first", "gain_in_words", "markdown", "number", "read_rows", "rows_of", "with_interval",
    "write_csv", "write_parquet",
]  # fmt: skip

_GAINS = {
    f"{kind}_{baseline}{end}": "float64"
    for baseline in BASELINES
    for kind, ends in (("value", ("",)), ("gain_over", ("", "_low", "_high")))
    for end in ends
}
COLUMNS: Mapping[str, str] = {
    "model": "string", "revision": "string", "dataset": "string", "dataset_revision": "string", "split": "string",
    "method": "string", "is_baseline": "bool", "metric": "string", "category": "string", "higher_is_better": "bool",
    "value": "float64", "low": "float64", "high": "float64", "n": "int64", **_GAINS, "settings": "string",
    "layer": "string", "preprocessing": "string", "seed": "int64", "made": "string", "versions": "string",
}  # fmt: skip
"""Name -> kind. `value_random` is what the random map scored on the same pictures, `gain_over_random` by how much the
method is better than it (above 0 is better, whichever way the metric points). Settings and versions are JSON."""


def rows_of(scores: Iterable[Score], facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row for each score, with `COLUMNS`.

    Args:
        facts: of the run, under names of columns: the dataset, the layer, the date.
    """
    return [dict.fromkeys(COLUMNS) | dict(facts) | _row(score) for score in scores]


def _row(score: Score) -> dict[str, Any]:
    row: dict[str, Any] = {
        "model": score.model,
        "revision": score.revision,
        "method": score.method,
        "is_baseline": score.baseline,
        "metric": score.metric,
        "category": score.category,
        "higher_is_better": score.higher_is_better,
        "value": score.value,
        "low": score.low,
        "high": score.high,
        "n": score.count,
        "settings": json.dumps(dict(score.settings), sort_keys=True, default=str),
    }
    for name, gain in score.gains.items():
        ends = {"": gain.value, "_low": gain.low, "_high": gain.high}
        row[f"value_{name}"] = score.baselines[name]
        row |= {f"gain_over_{name}{end}": value for end, value in ends.items()}
    return {name: value for name, value in row.items() if name in COLUMNS}


def write_csv(file: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes rows with `COLUMNS` as CSV."""
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(COLUMNS), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def write_parquet(file: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes rows with `COLUMNS` as parquet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {"string": pa.string(), "bool": pa.bool_(), "float64": pa.float64(), "int64": pa.int64()}
    schema = pa.schema([(name, kinds[kind]) for name, kind in COLUMNS.items()])
    pq.write_table(pa.Table.from_pylist([dict(row) for row in rows], schema=schema), file)


def read_rows(file: Path) -> list[dict[str, Any]]:
    """The rows of a parquet file that `write_parquet` wrote; of columns that are not known, none."""
    import pyarrow.parquet as pq

    held = pq.read_schema(file).names
    return list(pq.read_table(file, columns=[name for name in COLUMNS if name in held]).to_pylist())


def markdown(scores: Sequence[Score]) -> str:
    """A table for each metric: the methods, best first, then the baselines, with the gains over them."""
    return "\n\n".join(_of_metric(name, [s for s in scores if s.metric == name]) for name in _metrics_of(scores))


def _metrics_of(scores: Sequence[Score]) -> list[str]:
    return list(dict.fromkeys(score.metric for score in scores))


def _of_metric(name: str, scores: Sequence[Score]) -> str:
    better = "higher is better" if scores[0].higher_is_better else "lower is better"
    beside = [each.method for each in scores if each.baseline]
    head = ["method", f"value, {better} (95 % interval)", "n", *(f"better than {each} by" for each in beside)]
    lines = [head, ["---"] * len(head)]
    for score in best_first(scores):
        method = f"*{score.method}*" if score.baseline else score.method
        gains = [gain_in_words(score, each, "**{}**") for each in beside]
        lines.append([method, with_interval(score), f"{score.count:,}", *gains])
    title = METRICS[name].title if name in METRICS else name
    summary = METRICS[name].summary if name in METRICS else ""
    return f"### {title}\n\n{summary}\n\n" + "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def best_first(scores: Iterable[Score]) -> list[Score]:
    """Scores of one metric, the best first, and the baselines after the methods."""
    return sorted(scores, key=lambda s: (s.baseline, -s.value if s.higher_is_better else s.value))


def gain_in_words(score: Score, baseline: str, bold: str) -> str:
    """The gain over a baseline with its interval; bold where that shows that the method is better, else what it shows.

    Args:
        bold: how it is written, around `{}`.
    """
    gain = score.gains.get(baseline)
    if gain is None or score.baseline:
        return ""
    told, lacks = with_interval(gain), standing_in_words(score, baseline)
    if lacks:
        return f"{told}: {lacks}"
    return bold.format(told) if standing(score, baseline) == "better" else told


def with_interval(told: Score | Gain) -> str:
    """A value and its interval."""
    return f"{number(told.value)} ({number(told.low)} to {number(told.high)})"


def number(value: float) -> str:
    """Three digits that say something; a minus sign that is one."""
    if not math.isfinite(value):
        return "–"
    size = abs(value)
    digits = 3 if size < 10 else 1 if size < 1000 else 0
    return f"{value:,.{digits}f}".replace("-", "−")
