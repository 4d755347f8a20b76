"""docs/BENCHMARK.md."""

from collections.abc import Sequence
from datetime import date

import torch

from benchmarks.evaluation.settings import Setting
from xaihub.evaluating.tables import number
from xaihub.evaluating.words import HOW_INTERVALS, KNOWS_NOTHING, NO_BETTER, explained, findings, metric_title, title
from xaihub.records import Score

FIRST = "insertion-deletion"


def page(measured: Sequence[tuple[Setting, Sequence[Score]]], boxed: tuple[Setting, Sequence[Score]]) -> str:
    """The whole text."""
    metrics = list(dict.fromkeys(score.metric for _, scores in measured for score in scores))
    return TEXT.format(
        today=date.today().isoformat(),
        torch=torch.__version__.split("+")[0],
        threads=torch.get_num_threads(),
        nothing="\n".join(f"- **{title(name)}**: {words}" for name, words in KNOWS_NOTHING.items()),
        no_better=NO_BETTER,
        intervals=HOW_INTERVALS,
        first=_side_by_side(measured),
        pointing="\n\n".join([f"{boxed[0].words}.", matrix(boxed[1]), _listed(boxed[1])]),
        models="\n\n".join(_model(setting, scores) for setting, scores in measured),
        metrics="\n".join(_metric(metric, measured) for metric in metrics),
    )


def matrix(scores: Sequence[Score]) -> str:
    """Methods down, metrics across; each mean with its interval."""
    metrics = list(dict.fromkeys(score.metric for score in scores))
    methods = list(dict.fromkeys(score.method for score in scores))
    held = {(score.metric, score.method): score for score in scores}
    heads = [f"{metric_title(m)} {_arrow(next(s for s in scores if s.metric == m))}" for m in metrics]
    lines = ["| | " + " | ".join(heads) + " |", "|---|" + "---|" * len(heads)]
    for method in methods:
        name = f"*{title(method)}*" if held[next(k for k in held if k[1] == method)].baseline else title(method)
        cells = [cell(held.get((metric, method))) for metric in metrics]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def cell(score: Score | None) -> str:
    """The mean and its interval; ★ where it beats all baselines, ✗ where it is not shown to be better than random."""
    if score is None:
        return "–"
    sign = ""
    if score.gains and not score.baseline and score.category != "complexity":  # simple is not right
        sign = " ✗" if "random" in score.no_better_than else " ★" if not score.no_better_than else ""
    return f"{number(score.value)} ({number(score.low)}–{number(score.high)}){sign}"


def _arrow(score: Score) -> str:
    return "↑" if score.higher_is_better else "↓"


def _side_by_side(measured: Sequence[tuple[Setting, Sequence[Score]]]) -> str:
    held = [{s.method: s for s in scores if s.metric == FIRST} for _, scores in measured]
    methods = list(dict.fromkeys(method for each in held for method in each))
    lines = ["| | " + " | ".join(setting.name for setting, _ in measured) + " |", "|---|" + "---|" * len(measured)]
    for method in methods:
        name = f"*{title(method)}*" if any(each[method].baseline for each in held if method in each) else title(method)
        lines.append(f"| {name} | " + " | ".join(cell(each.get(method)) for each in held) + " |")
    return "\n".join(lines)


def _listed(scores: Sequence[Score]) -> str:
    return "\n".join(f"- {sentence}" for sentence in findings(scores))


def _model(setting: Setting, scores: Sequence[Score]) -> str:
    maps = [score for score in scores if score.category not in ("examples", "prototypes")]
    shown = [score for score in scores if score.category == "examples"]
    layer = setting.classifier.target_layer
    about = f"{setting.words}; layer {layer.name if layer else 'none'}, n = {max(s.count for s in maps)}."
    parts = [f"### {setting.name}\n\n{about[0].upper()}{about[1:]}", _listed(maps), matrix(maps)]
    if shown:
        rows = [f"| {metric_title(s.metric)} {_arrow(s)} | {title(s.method)} | {cell(s)} |" for s in shown]
        parts.append("What its examples are worth:\n\n| | method | mean |\n|---|---|---|\n" + "\n".join(rows))
    return "\n\n".join(parts)


def _metric(metric: str, measured: Sequence[tuple[Setting, Sequence[Score]]]) -> str:
    score = next(s for _, scores in measured for s in scores if s.metric == metric)
    settings = ", ".join(f"{name} {value}" for name, value in score.settings.items() if value is not None)
    return f"- **{metric_title(metric)}** {_arrow(score)} {explained(metric)[0]}{f' ({settings})' if settings else ''}"


TEXT = """# How far the maps can be relied on

The standard evaluation of the models and pictures at hand. Every figure here is written by one command, which goes on
where it was if it is stopped:

```bash
python -m benchmarks.evaluation --to docs/BENCHMARK.md
```

last on {today} (torch {torch}, {threads} threads). It reads models and pictures from a folder `--shared`; the starter
and its paper pets come with the package. None of these pictures is a fair sample of what a model will meet: the figures
compare maps with each other and with maps that know nothing, and no two models.

## How to read it

Every map went through every metric on the same pictures, beside three that never looked at the network:

{nothing}

Each cell is a mean with its 95 % interval. **★**: better than all three maps that know nothing. **✗**: not shown to be
better than random. ↑ higher is better, ↓ lower is better. {no_better}

{intervals}

## Insertion minus deletion, the metric to read first

{first}

## Do maps find the thing? The pointing game

{pointing}

## Each model

{models}

## The metrics

{metrics}
"""
