"""What cards say of evaluated explanations: a section of a model's card, and the card of a results dataset."""

from collections.abc import Mapping, Sequence
from typing import Any

from xaihub.cards.model import _table, _text

__all__ = ["results_card", "with_explanations"]

_BEGIN, _END = "<!-- explanations evaluated by xaihub -->", "<!-- end of what xaihub evaluated -->"
_BASELINES = ("random", "centre", "edges")
_MOST = 200  # rows of a metric's table


def with_explanations(body: str, section: str) -> str:
    """A card's text with our section at its end, or in place of the last one; all other words stay."""
    before, _, rest = body.partition(_BEGIN)
    after = rest.partition(_END)[2]
    ours = f"{_BEGIN}\n## How far its explanations can be relied on\n\n{section}\n{_END}"
    return f"{before.rstrip()}\n\n{ours}{after.rstrip()}".lstrip() + "\n"


def results_card(
    name: str, rows: Sequence[Mapping[str, Any]], metrics: Mapping[str, tuple[str, str]]
) -> tuple[dict[str, Any], str]:
    """What `hub.card_text` takes: the head of a results dataset's card, and the text with a table for each metric.

    Args:
        rows: of all runs, one for each score.
        metrics: name -> its title, and in a sentence what it is.
    """
    known = list(dict.fromkeys(str(row["metric"]) for row in rows))
    head = {
        "pretty_name": name.rsplit("/", 1)[-1],
        "tags": ["xaihub", "explainability", "evaluation", "leaderboard"],
        "configs": [{"config_name": "default", "data_files": "data/*.parquet"}],
    }
    models = len({(row["model"], row["revision"]) for row in rows})
    parts = [
        f"# {_text(name.rsplit('/', 1)[-1])}",
        f"How far explanations of {models:,} image classifier{'s' * (models != 1)} can be relied on: {len(rows):,}"
        " scores, measured with xaihub. `report.html` is the page of the last run, where each number is explained;"
        " `scores.csv` and `scores.md` are its tables; `data/` holds the rows of all runs.",
        _columns(name),
        *(_of_metric(metric, [r for r in rows if r["metric"] == metric], metrics.get(metric)) for metric in known),
    ]
    return head, "\n\n".join(parts)


def _columns(name: str) -> str:
    return (
        f'```python\nfrom datasets import load_dataset\n\nrows = load_dataset("{name}", split="train")\n```\n\n'
        "One row a score: `model` at `revision`, `dataset`, `method`, `metric`; `value` is the mean over `n` pictures,"
        " and `low` to `high` its 95 % bootstrap interval. `value_random`, `value_centre` and `value_edges` are what"
        " maps that never looked at the network scored on the same pictures; `gain_over_random` and its like by how"
        " much the method is better than them, picture by picture (above 0 is better, whichever way the metric points),"
        " each with `_low` and `_high`. Where `gain_over_random_low` is not above 0, the method is not shown to be"
        " better than random, and few pictures show nothing: below ten the intervals are too narrow. Rows with"
        " `is_baseline` are those maps themselves. Scores of different pictures or settings do not compare."
    )


def _of_metric(metric: str, rows: Sequence[Mapping[str, Any]], told: tuple[str, str] | None) -> str:
    """The methods of all models, best first."""
    sign = -1 if rows[0]["higher_is_better"] else 1
    ordered = sorted(rows, key=lambda row: sign * row["value"])[:_MOST]
    direction = "Higher is better." if sign < 0 else "Lower is better."
    heading, summary = told or (metric, "")
    cells = [
        (
            _text(row["model"]),
            f"*{_text(row['method'])}*" if row["is_baseline"] else _text(row["method"]),
            _text(row["dataset"]),
            f"{row['value']:.3f} ({row['low']:.3f} to {row['high']:.3f})",
            f"{row['n']:,}",
            _beaten(row),
        )
        for row in ordered
    ]
    table = _table(("model", "method", "pictures", "mean (95 % interval)", "n", "not shown to be better than"), cells)
    return f"## {_text(heading)}\n\n{summary} {direction}\n\n{table}"


def _beaten(row: Mapping[str, Any]) -> str:
    """Which of the baselines a row does not beat."""
    if row["is_baseline"]:
        return "knows nothing"
    lows = {name: row.get(f"gain_over_{name}_low") for name in _BASELINES}
    return ", ".join(name for name, low in lows.items() if low is not None and low <= 0) or "–"
