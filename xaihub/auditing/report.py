"""The whole audit: as records, as JSON, as Markdown, and as a page that opens offline."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xaihub.auditing.changes import CHANGES
from xaihub.auditing.controls import beyond, control_of
from xaihub.auditing.findings import verdict
from xaihub.auditing.nuisances import NUISANCES
from xaihub.auditing.records import Case, Copies, Finding, Link, Slice, Strength, figure, rate
from xaihub.auditing.scoring import SURE
from xaihub.auditing.trials import Turned
from xaihub.figures import most_confused
from xaihub.folders import replacing
from xaihub.intervals import Interval, wilson

__all__ = ["MARK", "AuditReport"]

MARK = "audit.json"  # a folder of a report has this file
MISTAKES, RIGHT = 12, 4  # pictures of a cell of the confusion matrix that are shown


@dataclass(frozen=True, eq=False)
class AuditReport:
    """What an audit of a labelled dataset, and of a classifier on it, found.

    Attributes:
        dataset, revision, split, note: which pictures, and how they were chosen if not all were taken.
        labels: how many pictures each label has.
        skipped: key -> why a picture could not be read.
        unlabelled: pictures without a label, which were passed over.
        classifier: its name, or "".
        links: what each nuisance tells, in the order of the table.
        findings: ranked; `findings[0]` is the first to look at.
        turned: by intervention, how often it turned the classifier's answer; empty where nothing was tried.
        slices: the classifier's accuracy on parts of the pictures.
        cases: what the classifier says of each picture; empty where no label is one of its classes.
        copies: near copies, within and across splits.
        thumbs: small JPEG files of the keys that are shown.
        seed: of folds, permutations and trials.
        least: the least AUC, 1 at most, that would be a finding.
        needed: where there are too few pictures to tell anything, about how many each label needs; else 0.
    """

    dataset: str
    revision: str | None
    split: str | None
    note: str
    labels: Mapping[str, int]
    skipped: Mapping[str, str]
    unlabelled: int
    classifier: str
    links: tuple[Link, ...]
    findings: tuple[Finding, ...]
    turned: Mapping[str, Turned]
    slices: tuple[Slice, ...]
    cases: tuple[Case, ...]
    copies: Copies
    seed: int
    least: float
    needed: int
    thumbs: Mapping[str, bytes] = field(default_factory=dict, repr=False)

    @property
    def count(self) -> int:
        """Pictures that were audited."""
        return sum(self.labels.values())

    @cached_property
    def level(self) -> str:
        """How alarming it is: "alarm", "caution" or "calm"; "few" where the pictures are too few to be calm."""
        level = verdict(self.findings)[0]
        return "few" if level == "calm" and self.needed else level

    @cached_property
    def verdict(self) -> str:
        """The whole audit in a sentence or two."""
        said = verdict(self.findings)[1]
        if self.level == "few":
            return self._too_few()
        if self.level == "caution" and self.needed:
            return f"{said} Of shortcuts it knows nothing. {self._too_few()}"
        return said if self.level != "calm" else f"{said} {self._could_be_seen()}"

    @property
    def telling(self) -> frozenset[str]:
        """The nuisances that tell the labels."""
        return frozenset(link.nuisance for link in self.links if link.label.found)

    def control(self, name: str) -> tuple[Turned, float] | None:
        """What an intervention is compared with, and how often chance parts the two so far; None of a control.

        Of a nuisance that it tests and that tells the labels, if there is one.
        """
        tests = sorted(CHANGES[name].tests, key=lambda nuisance: nuisance not in self.telling)
        control = control_of(self.turned[name], self.turned, tests[0], self.telling) if tests else None
        return None if control is None else (control, beyond(self.turned[name], control))

    @property
    def accuracy(self) -> tuple[int, int, Interval] | None:
        """How many answers are right, of how many, and the 95 % interval of the share."""
        hits = sum(case.right for case in self.cases)
        return (hits, len(self.cases), wilson(hits, len(self.cases))) if self.cases else None

    @cached_property
    def confusion(self) -> tuple[tuple[str, ...], NDArray[np.int64]]:
        """The names and the counts, a row for each label and a column for each answer; those with most mistakes."""
        names = sorted({case.label for case in self.cases} | {case.answer for case in self.cases})
        place = {name: i for i, name in enumerate(names)}
        matrix = np.zeros((len(names), len(names)), dtype=np.int64)
        for case in self.cases:
            matrix[place[case.label], place[case.answer]] += 1
        kept = most_confused(matrix)
        return tuple(names[i] for i in kept), matrix[np.ix_(kept, kept)]

    def cell(self, label: str, answer: str) -> list[Case]:
        """The pictures of one cell of the confusion matrix, the most confident first."""
        found = [case for case in self.cases if (case.label, case.answer) == (label, answer)]
        return sorted(found, key=lambda case: -case.probability)

    def to_dict(self) -> dict[str, Any]:
        """Everything but the pictures, ready for JSON."""
        accuracy = self.accuracy
        names, matrix = self.confusion
        return {
            "format": 1,
            "dataset": {
                "name": self.dataset, "revision": self.revision, "split": self.split, "note": self.note,
                "pictures": self.count, "labels": dict(self.labels), "unlabelled": self.unlabelled,
                "unreadable": dict(self.skipped),
            },
            "classifier": self.classifier or None,
            "accuracy": None if accuracy is None else accuracy[0] / accuracy[1],
            "accuracy_interval": None if accuracy is None else list(accuracy[2]),
            "level": self.level,
            "verdict": self.verdict,
            "findings": [_finding(one) for one in self.findings],
            "nuisances": {link.nuisance: _link(link) for link in self.links},
            "least_auc_that_would_be_found": self.least,
            "interventions": {name: _turned(one) | self._controlled(name) for name, one in self.turned.items()},
            "slices": [
                {"by": one.by, "slice": one.words, "n": one.count, "accuracy": one.accuracy,
                 "interval": list(one.interval), "apart": one.apart}
                for one in self.slices
            ],
            "confusion": {"labels": list(names), "rows_are": "label", "matrix": matrix.tolist()},
            "mistakes": [
                {"key": one.key, "label": one.label, "answer": one.answer, "probability": one.probability}
                for one in sorted(self.cases, key=lambda case: -case.probability) if not one.right
            ],
            "near_copies": {
                "across_splits": [list(pair) for pair in self.copies.across], "other_splits": dict(self.copies.others),
                "within": [list(group) for group in self.copies.inside],
                "with_different_labels": [list(group) for group in self.copies.contradicting],
            },
            "seed": self.seed,
            "how": HOW,
        }  # fmt: skip

    def to_markdown(self) -> str:
        """The audit as a page of Markdown, without pictures."""
        parts = [f"# Audit of {self.dataset}", "", f"**{self.verdict}**", "", self.about, ""]
        for number, one in enumerate(self.findings, 1):
            parts += [f"## {number}. {one.title}", "", one.sentence, ""]
            parts += [*(f"- {_cell(label)}: {_cell(words)}" for label, words in one.has.items()), ""] if one.has else []
            parts += [one.used, ""] if one.used else []
            parts += [f"What to do: {one.advice}", ""]
        parts += ["## What each nuisance tells", "", *_table(self._nuisance_rows()), ""]
        if self.turned:
            parts += ["## What turns the classifier's answers", "", *_table(self._change_rows()), ""]
        if self.slices:
            parts += ["## Accuracy by slice", "", *_table(self._slice_rows()), ""]
        parts += ["## How it was measured", "", HOW, ""]
        return "\n".join(parts).replace("<", "&lt;")  # a stranger's name must not begin a tag

    @property
    def about(self) -> str:
        """What was audited, in a few sentences."""
        labels = ", ".join(f"{name!r} {count:,}" for name, count in list(self.labels.items())[:8])
        more = f" and {len(self.labels) - 8:,} more labels" if len(self.labels) > 8 else ""
        split = f", split {self.split!r}" if self.split else ""
        told = [f"{self.count:,} pictures of {self.dataset}{split}: {labels}{more}."]
        if self.note:
            told.append(f"{self.note[:1].upper()}{self.note[1:]}.")
        if self.unlabelled:
            told.append(f"{self.unlabelled:,} more have no label and were passed over.")
        if self.skipped:
            named = ", ".join(list(self.skipped)[:3])
            told.append(f"{len(self.skipped):,} could not be read and were left out ({named}).")
        if self.classifier:
            told.append(self._about_classifier())
        return " ".join(told)

    def _could_be_seen(self) -> str:
        """What would have been found, so that nobody takes few pictures for a clean dataset."""
        return f"Of {self.count:,} pictures only what tells them with an AUC above about {self.least:.2f} can be found."

    def _too_few(self) -> str:
        rarest = min(self.labels, key=lambda label: self.labels[label])
        return (
            f"There are too few pictures to tell anything: of {self.count:,}, even what tells the labels nearly always"
            f" may be chance. About {self.needed:,} pictures of each label are needed, and {rarest!r} has"
            f" {self.labels[rarest]:,}. Give more."
        )

    def _about_classifier(self) -> str:
        accuracy = self.accuracy
        tried = "" if self.turned else " No picture was changed, so it is not known what turns its answers."
        if accuracy is None:
            turns = "; whether its answers turn is" * bool(self.turned)
            return (
                f"{self.classifier} has none of these labels among its classes, so it is not known where it is"
                f" wrong{turns}.{tried}"
            )
        hits, count, (low, high) = accuracy
        return f"{self.classifier} is right on {hits / count:.1%} ({low:.1%} to {high:.1%}) of {count:,}.{tried}"

    def _nuisance_rows(self) -> list[list[str]]:
        rows = [["Nuisance", "tells the label", "goes with mistakes", "goes with answers"]]
        for link in self.links:
            told = [_told(one) for one in (link.label, link.mistakes, link.answers)]
            rows.append([NUISANCES[link.nuisance].title, *told])
        return rows

    def _change_rows(self) -> list[list[str]]:
        rows = [["A picture", "answers that turn", "n", "its control"]]
        for name, one in self.turned.items():
            rows.append([one.title, rate(one), f"{one.count:,}", self.control_in_words(name)])
        return rows

    def control_in_words(self, name: str) -> str:
        """What an intervention is compared with, how often that turns, and by how much they differ; "–" of none."""
        found = self.control(name)
        if found is None:
            return "–"
        control, chance = found
        return f"{control.title}: {rate(control)}; {'more than it' if chance <= SURE else 'not surely more'}"

    def _controlled(self, name: str) -> dict[str, Any]:
        found = self.control(name)
        return {"control": found and found[0].name, "p_of_more_than_control": found and found[1]}

    def _slice_rows(self) -> list[list[str]]:
        rows = [["By", "slice", "n", "accuracy"]]
        for one in self.slices:
            low, high = one.interval
            share = f"{one.accuracy:.0%} ({low * 100:.0f} to {high * 100:.0f}){' apart' * one.apart}"
            rows.append([one.by, one.words, f"{one.count:,}", share])
        return rows

    def save(self, folder: str | Path) -> Path:
        """The folder, with `report.html`, `audit.json` and `audit.md`; it appears whole or not at all.

        Raises:
            FileExistsError: the folder holds something else than an earlier audit.
        """
        from xaihub.auditing.page import page

        folder = Path(folder)
        with replacing(folder, MARK) as draft:
            text = json.dumps(self.to_dict(), indent=1, ensure_ascii=False, allow_nan=False)
            (draft / MARK).write_text(text + "\n", "utf-8")
            (draft / "audit.md").write_text(self.to_markdown(), "utf-8")
            (draft / "report.html").write_text(page(self), "utf-8")
        return folder


HOW = (
    "Each nuisance is a few numbers of a picture. A ridge regression on them is fitted to four fifths of the"
    " pictures and tried on the rest, five times (near copies stay together); the area under its ROC curve (AUC) is"
    " averaged, over labels as well where there are more than two. 0.5 is what guessing gives, 1 tells every pair of"
    " pictures apart. The figures in brackets are 95 % intervals of the area: Newcombe's score interval, as wide at"
    " least as DeLong's and as what shuffled labels give. A nuisance becomes a finding only where its interval lies"
    " above 0.5 and shuffling the labels 200 times shows that chance gives any of all nuisances so much in at most 5"
    " of 100 datasets (Westfall and Young's max-T). Mistakes and answers are compared among pictures of one label"
    " only, so that the label itself is not told. Interventions are tried on pictures drawn evenly from the labels;"
    " the intervals of shares are Wilson's. Each has a control, tried on the same pictures: for corners as much done to"
    " the middles of the sides; for the others, of the harmless changes (saved again at the data's usual JPEG quality,"
    " cropped by a tenth, the middles of the sides covered) that leave it alone and test nothing that tells the"
    " labels, the one that turns most answers. A classifier is said to go by a nuisance only where it has two of the"
    " labels among its classes, and changing it turns more than one answer in twenty, more than the control does"
    " (McNemar's exact test, 5 %, divided by the changes that are tried of that nuisance) and, where something of"
    " another label is put in, most of them to that label. A slice is apart where its interval and that of all other"
    " pictures do not meet. Findings are ordered by 2 AUC - 1."
)


def _told(one: Strength | None) -> str:
    if one is None or not one.varies:
        return "–" if one is None else "the same for all pictures"
    return f"{figure(one.auc)} ({figure(one.low)} to {figure(one.high)}){' *' * one.found}"


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [f"| {' | '.join(_cell(cell) for cell in row)} |" for row in rows]
    return [lines[0], "|" + "---|" * len(rows[0]), *lines[1:]]


def _cell(text: str) -> str:
    """A stranger's name must not end the cell."""
    return text.replace("|", "\\|").replace("\n", " ")


def _finding(one: Finding) -> dict[str, Any]:
    return {
        "name": one.name, "title": one.title, "sentence": one.sentence, "severity": one.severity,
        "what_each_label_has": dict(one.has), "used_by_the_classifier": one.uses, "used_in_words": one.used,
        "interventions": list(one.changes), "advice": one.advice,
        "examples": [{"of": side.words, "keys": list(side.keys)} for side in one.examples],
    }  # fmt: skip


def _link(link: Link) -> dict[str, Any]:
    return {
        "tells_label": _strength(link.label), "goes_with_mistakes": _strength(link.mistakes),
        "goes_with_answers": _strength(link.answers), "why_not": link.why_not or None,
    }  # fmt: skip


def _strength(one: Strength | None) -> dict[str, Any] | None:
    if one is None:
        return None
    return {"auc": one.auc, "interval": [one.low, one.high], "p_of_any": one.chance, "n": one.count, "found": one.found}


def _turned(one: Turned) -> dict[str, Any]:
    return {
        "what": one.title, "n": one.count, "flips": one.flips, "rate": one.rate, "interval": list(one.interval),
        "flips_to_the_donors_label": one.to_donor,
    }  # fmt: skip
