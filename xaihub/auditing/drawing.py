"""An audit as pieces of HTML: the verdict, the ranked findings, tables with intervals, the confusion matrix.

The app's page and the report that opens offline are made of the same pieces. Everything a stranger may have named is
escaped here.
"""

import base64
from collections.abc import Callable, Sequence
from html import escape

from xaihub.auditing.changes import CHANGES
from xaihub.auditing.nuisances import NUISANCES
from xaihub.auditing.records import Case, Finding, Slice, Strength, figure, rate
from xaihub.auditing.report import HOW, MISTAKES, RIGHT, AuditReport
from xaihub.auditing.scoring import SURE
from xaihub.intervals import Interval

__all__ = [
    "Shot", "changes_shown", "confusion_shown", "findings_shown", "how_shown", "nuisances_shown", "plain_shot",
    "slices_shown", "verdict_shown",
]  # fmt: skip

Shot = Callable[[AuditReport, str, str], str]  # a picture's key and the words below it -> HTML

USES = {True: "the classifier goes by it", False: "the classifier hardly goes by it", None: "not clear whether used"}
MOST_CELLS = 40
LEVELS = {"alarm": "Do not trust", "caution": "Look first", "calm": "Nothing found", "few": "Too few pictures"}


def verdict_shown(report: AuditReport) -> str:
    """The audit in one sentence, and what was audited."""
    return (
        f'<section class="xh-audited xh-is-{report.level}" aria-label="Verdict"><p class="xh-level">'
        f"{LEVELS[report.level]}</p><h2>{escape(report.verdict)}</h2><p>{escape(report.about)}</p></section>"
    )


def findings_shown(report: AuditReport, shot: Shot) -> str:
    """The findings, the worst first, each with pictures of both sides."""
    if not report.findings:
        return ""
    drawn = "".join(_finding(report, number, one, shot) for number, one in enumerate(report.findings, 1))
    return f'<section aria-label="Findings"><h3 class="xh-part">Findings, the worst first</h3>{drawn}</section>'


def nuisances_shown(report: AuditReport) -> str:
    """What each nuisance tells, with intervals."""
    columns: dict[str, list[Strength | None]] = {
        "tells the label": [link.label for link in report.links],
        "goes with mistakes": [link.mistakes for link in report.links],
        "goes with answers": [link.answers for link in report.links],
    }
    heads = [head for head, column in columns.items() if any(column)]
    rows = [
        (NUISANCES[link.nuisance].title, [_strength(columns[head][place]) for head in heads])
        for place, link in enumerate(report.links)
    ]
    why = next((link.why_not for link in report.links if link.why_not), "")
    told = (
        "AUC with its 95 % interval, from 0 to 1; the dashed line is chance. Bold: more than chance, with all nuisances"
        " counted. Mistakes and answers are compared among pictures of one label."
    )
    return _table("What each nuisance tells", f"{told} {why}", "Nuisance", heads, rows)


def changes_shown(report: AuditReport) -> str:
    """How often each intervention turns an answer; "" without a classifier."""
    if not report.turned:
        return ""
    rows = []
    for name, one in report.turned.items():
        to = f", {one.to_donor:,} of them to that label" if one.to_donor and CHANGES[name].exchanges else ""
        words, found = f"{rate(one)} of {one.count:,}{to}", report.control(name)
        more = found is not None and found[1] <= SURE
        drawn = _whisker(one.rate, one.interval, words, chance=found[0].rate if found else 0, strong=more)
        rows.append((one.title, [drawn, escape(report.control_in_words(name))]))
    says = (
        "The same pictures with one thing changed: how many answers turn, and how many turn by its control, a change"
        " that leaves that thing alone (the dashed line). Bold: surely more than its control. Where harmless changes"
        " turn many answers, the classifier is fragile, and an answer that turns is no sign of a shortcut."
    )
    heads = ["answers that turn", "its control"]
    return _table("What turns the classifier's answers", says, "A picture", heads, rows)


def slices_shown(report: AuditReport) -> str:
    """Accuracy on parts of the pictures; "" where it is not known."""
    accuracy = report.accuracy
    if not report.slices or accuracy is None:
        return ""
    hits, count, _ = accuracy
    chief = [one for one in report.slices if one.apart or one.by == "Label"]
    rest = [one for one in report.slices if one not in chief]
    apart = sum(one.apart for one in report.slices)
    told = (
        f"{apart} of {len(report.slices)} slices {'are' if apart > 1 else 'is'} apart from the rest (bold): the"
        " intervals do not meet."
        if apart
        else f"Each of the {len(report.slices)} slices has an interval that meets that of the rest: none is apart."
    )
    says = f"Accuracy with its 95 % interval; the line is all pictures together, {hits / count:.1%}. {told}"
    folded = f"<summary>{len(rest)} slices that are not apart</summary>{_sliced(rest, hits / count)}"
    more = f'<details class="xh-table">{folded}</details>'
    return _framed("Accuracy by slice", says, _sliced(chief, hits / count) + (more if rest else ""))


def _sliced(some: Sequence[Slice], overall: float) -> str:
    groups: dict[str, list[tuple[str, list[str]]]] = {}
    for one in some:
        low, high = one.interval
        words = f"{one.accuracy:.0%} ({low * 100:.0f} to {high * 100:.0f}) of {one.count:,}"
        drawn = _whisker(one.accuracy, one.interval, words, chance=overall, strong=one.apart)
        groups.setdefault(one.by, []).append((one.words, [drawn]))
    body = "".join(
        f'<tr class="xh-heading"><th scope="rowgroup" colspan="2">{escape(by)}</th></tr>{_rows(rows, ["accuracy"])}'
        for by, rows in groups.items()
    )
    return f'<table class="xh-measured"><tbody>{body}</tbody></table>'


def confusion_shown(report: AuditReport, shot: Shot) -> str:
    """The confusion matrix, whose cells lead to their pictures, the mistakes first; "" where mistakes are not known."""
    if not report.cases:
        return ""
    names, matrix = report.confusion
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in names)
    body = ""
    for i, label in enumerate(names):
        total = max(1, int(matrix[i].sum()))
        cells = "".join(_count(int(matrix[i, j]), total, i, j, label, answer) for j, answer in enumerate(names))
        body += f'<tr><th scope="row">{escape(label)}</th>{cells}</tr>'
    top = f"<thead><tr><td>label ↓ answer →</td>{head}</tr></thead>"
    table = f'<table class="xh-confused">{top}<tbody>{body}</tbody></table>'
    places = [(i, j) for i in range(len(names)) for j in range(len(names)) if matrix[i, j]]
    places.sort(key=lambda place: (place[0] == place[1], -int(matrix[place])))
    drawn = [(i == j, _cell(report, i, j, names[i], names[j], shot)) for i, j in places[:MOST_CELLS]]
    wrong, right = ("".join(cell for rightly, cell in drawn if rightly is which) for which in (False, True))
    more = "" if len(names) == len(report.labels) else f" The {len(names)} classes with the most mistakes are shown."
    says = (
        f"A row for each label, a column for each answer. A cell leads to its pictures, the surest answers first.{more}"
    )
    return _framed("Where it is wrong", says, f'<div class="xh-scroll">{table}</div>{wrong}{_folded(right)}')


def _folded(right: str) -> str:
    return f'<details class="xh-table" open><summary>Rightly answered</summary>{right}</details>' if right else ""


def how_shown(report: AuditReport) -> str:
    """How it was measured, and what could not be read."""
    lines = "".join(
        f"<li><strong>{escape(entry.title)}</strong>: {escape(entry.summary)}</li>" for entry in NUISANCES.values()
    )
    broken = "".join(f"<li>{escape(key)}: {escape(why)}</li>" for key, why in list(report.skipped.items())[:20])
    left = f"<h4>Could not be read</h4><ul>{broken}</ul>" if broken else ""
    return (
        f'<details class="xh-table xh-how"><summary>How it was measured</summary><p>{escape(HOW)} Seed'
        f" {report.seed}.</p><ul>{lines}</ul>{left}</details>"
    )


def plain_shot(report: AuditReport, key: str, words: str) -> str:
    """A picture with words below it."""
    return f'<figure class="xh-shot">{picture(report, key)}<figcaption>{escape(words)}</figcaption></figure>'


def picture(report: AuditReport, key: str) -> str:
    """The small picture of a key, or a sentence in its place."""
    image = report.thumbs.get(key)
    if image is None:
        return f'<span class="xh-grey">{escape(key[-60:])} is not shown</span>'
    return f'<img alt="{escape(key)}" src="{_address(image)}">'


def _address(file: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(file).decode()}"


def _finding(report: AuditReport, number: int, one: Finding, shot: Shot) -> str:
    link = next((link for link in report.links if link.nuisance == one.name), None)
    strength = link.label if link is not None and link.label.found else link.mistakes if link is not None else None
    whisker = _strength(strength) if strength is not None else ""
    has = "".join(f"<div><dt>{escape(label)}</dt><dd>{escape(words)}</dd></div>" for label, words in one.has.items())
    sides = "".join(
        f'<div class="xh-side"><p>{escape(side.words)}</p><div class="xh-shots">'
        f"{''.join(shot(report, key, '') for key in side.keys)}</div></div>"
        for side in one.examples
    )
    used = f'<p class="xh-used">{escape(one.used)}</p>' if one.used else ""
    badge = f'<span class="xh-uses xh-uses-{str(one.uses).lower()}">{USES[one.uses]}</span>' if one.used else ""
    return (
        f'<article class="xh-finding"><h4>{number}. {escape(one.title)} {badge}</h4>{whisker}'
        f"<p>{escape(one.sentence)}</p>{f'<dl>{has}</dl>' if has else ''}"
        f'<div class="xh-sides">{sides}</div>{_before_after(report, one)}{used}'
        f'<p class="xh-advice"><strong>What to do:</strong> {escape(one.advice)}</p></article>'
    )


def _before_after(report: AuditReport, one: Finding) -> str:
    """One answer that an intervention turned, the picture before and after."""
    for name in one.changes if one.uses else ():
        for key, before, after, changed in report.turned[name].examples[:1]:
            if key in report.thumbs:
                return (
                    f'<div class="xh-turned-pair"><figure class="xh-shot">{picture(report, key)}<figcaption>'
                    f'{escape(before)}</figcaption></figure><span aria-hidden="true">→</span><figure class="xh-shot">'
                    f'<img alt="{escape(report.turned[name].title)}" src="{_address(changed)}"><figcaption>'
                    f"{escape(after)}: {escape(report.turned[name].title)}</figcaption></figure></div>"
                )
    return ""


def _strength(one: Strength | None) -> str:
    if one is None or not one.varies:
        return "" if one is None else '<span class="xh-same-for-all">the same for all pictures</span>'
    words = f"{figure(one.auc)} ({figure(one.low)} to {figure(one.high)})"
    return _whisker(one.auc, (one.low, one.high), words, chance=0.5, strong=one.found)


def _whisker(value: float, ends: Interval, words: str, *, chance: float, strong: bool = False) -> str:
    """A share of 0 to 1 as a dot on a line, its interval, and the figure in words."""
    low, high = (max(0.0, min(1.0, end)) * 100 for end in ends)
    return (
        f'<span class="xh-whisker{" xh-strong" * strong}"><span class="xh-rail" aria-hidden="true">'
        f'<i class="xh-by-chance" style="left:{chance * 100:.1f}%"></i>'
        f'<i class="xh-span" style="left:{low:.1f}%;width:{max(high - low, 0.5):.1f}%"></i>'
        f'<i class="xh-point" style="left:{value * 100:.1f}%"></i></span><span>{escape(words)}</span></span>'
    )


def _table(title: str, says: str, first: str, heads: Sequence[str], rows: Sequence[tuple[str, list[str]]]) -> str:
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in [first, *heads])
    body = f'<table class="xh-measured"><thead><tr>{head}</tr></thead><tbody>{_rows(rows, heads)}</tbody></table>'
    return _framed(title, says, body)


def _rows(rows: Sequence[tuple[str, list[str]]], heads: Sequence[str]) -> str:
    drawn = []
    for name, cells in rows:
        told = [
            f"<td{_head(head) * (len(heads) > 1)}>{cell}</td>" if cell else "<td></td>"
            for head, cell in zip(heads, cells, strict=True)
        ]
        drawn.append(f'<tr><th scope="row">{escape(name)}</th>{"".join(told)}</tr>')
    return "".join(drawn)


def _head(head: str) -> str:
    """What a telephone shows above a cell, where the table has no head."""
    return f' data-head="{escape(head)}"'


def _framed(title: str, says: str, body: str) -> str:
    return (
        f'<section class="xh-report-part" aria-label="{escape(title)}"><h3 class="xh-part">{escape(title)}</h3>'
        f'<p class="xh-sub">{escape(says)}</p>{body}</section>'
    )


def _count(count: int, total: int, i: int, j: int, label: str, answer: str) -> str:
    if not count:
        return '<td class="xh-empty">0</td>'
    said = f"{count} pictures of {label} called {answer}"
    kind = "xh-rightly" if i == j else "xh-wrongly"
    return (
        f'<td class="{kind}" style="--shade:{20 + 60 * count / total:.0f}%">'
        f'<a href="#xh-cell-{i}-{j}" aria-label="{escape(said)}">{count:,}</a></td>'
    )


def _cell(report: AuditReport, i: int, j: int, label: str, answer: str, shot: Shot) -> str:
    found = report.cell(label, answer)
    shown = [case for case in found[: RIGHT if i == j else MISTAKES] if case.key in report.thumbs]
    of = "" if len(shown) == len(found) else f"The {len(shown)} surest are shown." if shown else "Not shown."
    title = f"{len(found):,} of {label} called {answer}" if i != j else f"{len(found):,} of {label}, rightly"
    return (
        f'<section class="xh-cell" id="xh-cell-{i}-{j}" tabindex="-1"><h4>{escape(title)}</h4>'
        f'<p class="xh-sub">{of}</p><div class="xh-shots">'
        f"{''.join(shot(report, case.key, _sure(case)) for case in shown)}</div></section>"
    )


def _sure(case: Case) -> str:
    return f"{case.answer} {case.probability:.0%}"
