"""docs/PROTOTYPES.md: the words and the figures put together."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import date
from typing import Any

import numpy as np

from benchmarks.prototypes import pets
from benchmarks.prototypes.figures import Compared, Results, compared, goals, paired, share
from benchmarks.prototypes.firing import ASKED
from benchmarks.prototypes.folds import FOLDS, METHODS
from benchmarks.prototypes.kept import CODE
from benchmarks.prototypes.tasks import Task
from benchmarks.prototypes.text import TEXT
from xaihub.prototype_firing import COMPARED, FAITHFUL
from xaihub.prototype_training import PUBLISHED, PrototypeTraining

__all__ = ["page"]

_MISSING = "*Not measured yet: `python -m benchmarks.prototypes --only {}`.*"
_REACHED = {True: "yes", False: "**no**", None: "–"}


def page(all_tasks: Sequence[Task], found: Results) -> str:
    """The whole text; what was not measured is said to be missing."""
    return TEXT.format(
        today=date.today().isoformat(),
        machines="; ".join(sorted({each["machine"] for each in found.values() if each})) or "nothing measured yet",
        older=_older(found),
        goals=_goals(all_tasks, found),
        compared="\n\n".join(_task(task, found) for task in all_tasks),
        pets=_pets(found["pets"]),
        firing=_firing(found),
        drawn=FAITHFUL,
        asked=ASKED,
        settings=_settings(),
        folds=FOLDS,
    )


def _older(found: Results) -> str:
    """What was measured before the code of prototypes was changed."""
    old = [name for name, each in found.items() if each and each.get("code") != CODE]
    names = dict.fromkeys(name.rstrip("0123456789").strip() for name in old)  # without their folds
    if not names:
        return ""
    return f"\nMeasured with an earlier state of the code, `--anew` measures again: {', '.join(names)}.\n"


def _goals(all_tasks: Sequence[Task], found: Results) -> str:
    rows = [f"| {words} | {value} | {_REACHED[reached]} |" for words, value, reached in goals(all_tasks, found)]
    return "\n".join(["| goal | measured | reached |", "|---|---|---|", *rows])


_COLUMNS: dict[str, Callable[[Compared], str]] = {
    "right": lambda line: share(line.right, line.pictures),
    "black box on the same pictures": lambda line: share(line.black_box, line.pictures),
    "says what the black box says": lambda line: share(line.agree, line.pictures),
    "different sources of a class, at least": lambda line: f"{line.distinct} of {line.per_class}",
    "prototypes that count": lambda line: f"{line.used:.0%}",
    "seconds of CPU (clock)": lambda line: f"{line.making:.1f} ({line.clock:.1f})",
}


def _task(task: Task, found: Results) -> str:
    head = f"| | {' | '.join(_COLUMNS)} |\n|---|{'---|' * len(_COLUMNS)}"
    rows, missing = [], []
    for way in task.methods:
        line = compared(task, way, found)
        if line is None or line.folds < FOLDS:
            missing.append(f"{task.key} {way}")
        if line is not None:
            some = "" if line.folds == FOLDS else f" ({line.folds} of {FOLDS} folds)"
            cells = " | ".join(words(line) for words in _COLUMNS.values())
            rows.append(f"| {METHODS[way].name}{some} | {cells} |")
    table = ["\n".join([head, *rows])] if rows else []
    notes = [_MISSING.format(" ".join(f'"{name}"' for name in missing))] if missing else []
    alarms = _alarms(task, found)
    return "\n\n".join([f"### {task.name}", f"{task.words[0].upper()}{task.words[1:]}.", *table, *alarms, *notes])


def _alarms(task: Task, found: Results) -> list[str]:
    """Which networks had collapsed when they were finished."""
    lines = []
    for way in task.methods:
        told = [found.get(f"{task.key} {way} {fold + 1}") for fold in range(FOLDS)]
        measured = [each for each in told if each]
        alarmed = [each for each in measured if each["alarms"]]
        if alarmed:
            least = {label: min(each["distinct"][label] for each in alarmed) for label in alarmed[0]["distinct"]}
            worst = ", ".join(f"{count} for {label}" for label, count in least.items())
            lines.append(
                f"The collapse alarm fires for {METHODS[way].name} in {len(alarmed)} of {len(measured)} folds; the"
                f" fewest sources there are {worst}."
            )
    return lines


def _pets(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return _MISSING.format("pets")
    used = [each for each in found["each"] if each["used"]]

    def mean(of: str, weighted: bool = False) -> float:
        weights = [each["weight"] for each in used] if weighted else None
        return float(np.average([each[of] for each in used], weights=weights))

    agree = sum(said == answer for said, answer in zip(found["black box"], found["answers"], strict=True))
    touching = sum(each["lift"] > 0 for each in used)
    near = sum(each["near"] for each in used)
    words = (
        f"{pets.EACH} pets of each of {len(found['labels'])} classes ({', '.join(found['labels'])}), the starter as"
        f" black box, {pets.EACH} others of each to look for prototypes in. The head says what the starter says of"
        f" {share(agree, len(found['answers']))} of the others. {len(used)} of {len(found['each'])} prototypes count;"
        f" {touching} of these touch a deciding part, and {near} have one within {pets.NEAR} cells: a prototype on the"
        " ground can answer to the edge of an ear.\n\nA pixel of a prototype's cell lies on a deciding part"
        f" **{mean('lift'):.1f} times** as often as a pixel of its picture ({mean('lift', True):.1f} times if each"
        f" counts by its weight); of the {pets.NEAREST} places most like it in other pets {mean('found'):.1f} times. Of"
        f" those places {mean('part purity'):.0%} lie on the same part, and {mean('class purity'):.0%} on a pet of"
        " the same class; classes share styles of ears and tails, so a good prototype of one part need not be of one"
        " class."
    )
    head = "| class | part | weight | times chance | times chance, found again | same part | same class |"
    rows = [
        f"| {each['owner']} | {each['part']} | {each['weight']:.2f} | {each['lift']:.1f} | {each['found']:.1f} |"
        f" {each['part purity']:.0%} | {'–' if each['class purity'] is None else format(each['class purity'], '.0%')} |"
        for each in found["each"]
    ]
    return "\n".join([words, "", head, "|---|---|---|---|---|---|---|", *rows])


def _firing(found: Results) -> str:
    measured = {name: each for of in ("pets", "cats") if (each := found[name := f"firing {of}"])}
    if not measured:
        return _MISSING.format("firing")
    ways = list(next(iter(measured.values()))["scores"])
    scores = [each["scores"] for each in measured.values()]
    rows = [f"| {way} | {' | '.join(f'{np.mean(each[way]):.3f}' for each in scores)} |" for way in ways]
    names = [name.removeprefix("firing ") for name in measured]
    table = "\n".join([f"| | {' | '.join(names)} |", f"|---|{'---|' * len(names)}", *rows])
    first, second = COMPARED
    gains = [
        "On {}, {} scores {:+.3f} beside {} (95 % interval {:+.3f} to {:+.3f}), of {} pictures.".format(
            name, second, *_gain(each, first, second), len(each[first])
        )
        for name, each in zip(names, scores, strict=True)
    ]
    missing = [] if len(measured) == 2 else [_MISSING.format("firing")]
    return "\n\n".join([table, " ".join(gains), *missing])


def _gain(scores: Mapping[str, Sequence[float]], first: str, second: str) -> tuple[Any, ...]:
    """What `second` scores more than `first`, picture by picture, and the words around it."""
    mean, low, high = paired(scores[second], scores[first])
    return mean, first, low, high


def _settings() -> str:
    """Ours and the published ones, where they differ."""
    usual = asdict(PrototypeTraining())
    rows = [f"| {name.replace('_', ' ')} | {usual[name]} | {value} |" for name, value in PUBLISHED.items()]
    same = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in usual.items() if name not in PUBLISHED)
    head = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in asdict(METHODS["head"].settings).items())
    table = "\n".join(["| ProtoPNet | ours | published |", "|---|---|---|", *rows])
    return f"PrototypeHead: {head}.\n\n{table}\n\nIn both: {same}."
