"""What was found, in words, the worst first: what it is, what each label has, whether the classifier goes by it."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from xaihub.auditing.controls import HARDLY, by_nuisance, control_of, goes_by
from xaihub.auditing.looking import Looked
from xaihub.auditing.nuisances import NUISANCES, Nuisance
from xaihub.auditing.records import Copies, Examples, Finding, Link, figure, rate
from xaihub.auditing.scoring import Told
from xaihub.auditing.trials import Turned
from xaihub.auditing.using import Said, Telling

__all__ = ["findings", "has", "uses", "verdict"]

SHOWN = 4  # pictures of each side
STRONG = 0.8  # severity of an area of 0.9
NAMED = 6  # labels
_HOW = (
    (0.995, "always"),
    (0.95, "almost always"),
    (0.85, "mostly"),
    (0.7, "often"),
    (0.0, "a little more than by chance"),
)
_NEVER = (
    "It never reaches a classifier, which is given pixels only; a person, or a program that reads files, can use it."
)
_TRACES = " The file itself never reaches a classifier, but what it was saved as leaves traces in the pixels."


def findings(
    looked: Looked, said: Said | None, telling: Telling, turned: Mapping[str, Turned], copies: Copies
) -> tuple[Finding, ...]:
    """Everything that is more than chance, by severity; of equally severe ones the simpler first.

    The severity of an area under the curve is 2 AUC - 1 (Somers' D), to two digits; of near copies, their share.
    """
    found = [_of_copies(copies), _of_contradictions(copies, len(looked))]
    tells = {link.nuisance for link in telling.links if link.label.found}
    knows = said is not None and said.compares
    for link in telling.links:
        used = uses(link, turned, tells, knows=knows)
        if link.label.found:
            found.append(_of_label(looked, link, telling.by_label[link.nuisance], turned, used))
        elif link.mistakes is not None and link.mistakes.found and said is not None:
            found.append(_of_mistakes(looked, said, link, telling.by_mistake[link.nuisance], turned, used))
    order = ["copies", *NUISANCES, "labels"]
    there = [one for one in found if one is not None]
    return tuple(sorted(there, key=lambda one: (-round(one.severity, 2), order.index(one.name))))


def verdict(found: Sequence[Finding]) -> tuple[str, str]:
    """How alarming it is ("alarm", "caution" or "calm"), and the whole audit in one sentence."""
    shortcuts = [one for one in found if one.name in NUISANCES and "label" in one.title]
    strong = [one for one in shortcuts if one.severity >= STRONG]
    used = [one for one in shortcuts if one.uses]
    if strong:
        told = f"{_listed([_name(one) for one in strong])} alone {'tells' if len(strong) == 1 else 'tell'} the label"
        goes = f", and the classifier goes by {_listed([_name(one) for one in used])}" if used else ""
        return "alarm", (
            f"Do not trust an accuracy measured on these pictures: {told}{goes}. A classifier can be right here without"
            " seeing what the pictures show."
        )
    if found:
        first, count = found[0], len(found)
        more = (
            f" There {'is' if count == 2 else 'are'} {count - 1} more finding{'s' * (count > 2)}." if count > 1 else ""
        )
        return "caution", f"Look before you trust. {first.sentence}{more}"
    return "calm", (
        f"No shortcut was found: none of the {len(NUISANCES)} nuisances tells the label better than chance does in 95"
        " of 100 such datasets. That is no proof."
    )


def has(looked: Looked, entry: Nuisance, found: Told) -> dict[str, str]:
    """What pictures of each label have; of many labels, those that are told best."""
    labels = np.array(looked.labels)
    names = list(looked.names)
    if len(names) > NAMED:
        best = np.argsort(-np.nan_to_num(found.by_target), kind="stable")[:NAMED]
        names = [looked.names[i] for i in best]
    told_by = _telling_number(looked, entry, found)
    return {name: _has(looked, entry, labels == name, told_by) for name in names}


def _has(looked: Looked, entry: Nuisance, rows: NDArray[np.bool_], number: int | None) -> str:
    told = []
    if entry.name in looked.kinds:
        words = [word for word, here in zip(looked.kinds[entry.name], rows, strict=True) if here]
        common = Counter(words).most_common(3)
        told.append(", ".join(f"{word} ({count / len(words):.0%})" for word, count in common))
    if number is not None and entry.name != "size":  # whose words have both numbers
        values = looked.features[entry.name][rows, number]
        there = values[~np.isnan(values)]
        if len(there):
            low, middle, high = np.percentile(there, [10, 50, 90])
            told.append(f"{entry.features[number]} {_short(middle)} ({_short(low)} to {_short(high)})")
    return "; ".join(told)


def _telling_number(looked: Looked, entry: Nuisance, found: Told) -> int | None:
    """The one number by which the best told label lies furthest from the others."""
    if not entry.features:
        return None
    values, truth = looked.features[entry.name], looked.truth
    mine = truth == (int(np.nanargmax(found.by_target)) if len(found.by_target) > 1 else 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        gap = np.abs(_mean(values[mine]) - _mean(values[~mine])) / np.maximum(np.nan_to_num(_spread(values)), 1e-9)
    return int(np.argmax(np.nan_to_num(gap)))


def _mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    there = ~np.isnan(values)
    return np.where(there, values, 0).sum(0) / np.maximum(there.sum(0), 1)


def _spread(values: NDArray[np.float64]) -> NDArray[np.float64]:
    middle = _mean(values)
    return np.sqrt(_mean((values - middle) ** 2))


def _of_label(
    looked: Looked, link: Link, found: Told, turned: Mapping[str, Turned], used: tuple[str, bool | None]
) -> Finding:
    entry, strength = NUISANCES[link.nuisance], link.label
    best = int(np.nanargmax(found.by_target))
    two = len(looked.names) == 2
    label = looked.names[1 if two else best]
    mine = np.array([each == label for each in looked.labels])
    scores = found.scores[:, 0 if two else best]
    other = looked.names[0] if two else "any other label"
    how = next(words for least, words in _HOW if strength.auc >= least)
    of = "" if two else f" Best told is {label!r}, at {figure(float(found.by_target[best]))}."
    sentence = (
        f"From {_in_sentence(entry)} alone the label can be told {how}: {strength.in_words}, on {strength.count:,}"
        f" pictures that took no part in the fit.{of}"
    )
    return Finding(
        link.nuisance, f"{entry.title}: tells the label", sentence, 2 * strength.auc - 1, entry.advice,
        has(looked, entry, found),
        (
            Examples(f"{label!r}, most clearly by it", _extreme(looked, scores, mine, highest=True)),
            Examples(f"{other!r}, most clearly by it" * two or other, _extreme(looked, scores, ~mine, highest=False)),
        ),
        *used, tuple(one.name for one in by_nuisance(turned, link.nuisance)),
    )  # fmt: skip


def _of_mistakes(
    looked: Looked, said: Said, link: Link, found: Told, turned: Mapping[str, Turned], used: tuple[str, bool | None]
) -> Finding:
    entry, strength = NUISANCES[link.nuisance], link.mistakes
    assert strength is not None  # noqa: S101  who calls this has looked
    sentence = (
        f"Among pictures of one label, the classifier's mistakes go with {_in_sentence(entry)}: {strength.in_words}, on"
        f" {strength.count:,} pictures that took no part in the fit."
    )
    scores, wrong = found.scores[:, 0], said.wrong
    return Finding(
        link.nuisance, f"{entry.title}: goes with mistakes", sentence, 2 * strength.auc - 1,
        "Have pictures like those on which it is wrong among the training pictures of every label, or say in the"
        " model's card that it does worse there.", {},
        (
            Examples("wrong, as is most to be expected by it", _extreme(looked, scores, wrong, highest=True)),
            Examples("right", _extreme(looked, scores, said.known & ~wrong, highest=False)),
        ),
        *used, tuple(one.name for one in by_nuisance(turned, link.nuisance)),
    )  # fmt: skip


def uses(
    link: Link, turned: Mapping[str, Turned], telling: Collection[str] = (), *, knows: bool = True
) -> tuple[str, bool | None]:
    """Whether the classifier goes by a nuisance, in words and in a word; ("", None) where nothing was tried.

    Args:
        telling: the nuisances that tell the labels.
        knows: whether the classifier has two of the labels; an answer that turns from one class to another that is
            none of them says nothing of a shortcut.
    """
    if not turned:
        return "", None
    if link.nuisance == "metadata":
        return _NEVER, False
    tried = by_nuisance(turned, link.nuisance)
    if not tried:
        return "", None
    controls = [control_of(one, turned, link.nuisance, telling) for one in tried]
    told = []
    for one, control in zip(tried, controls, strict=True):
        beside = f" (control: {control.title}, {rate(control)})" if control is not None else ""
        told.append(f"{one.title}, {rate(one)} of {one.count:,} answers turn{beside}")
    if knows:
        verdicts = [goes_by(one, control, tried=len(tried)) for one, control in zip(tried, controls, strict=True)]
        use = True if True in verdicts else False if all(each is False for each in verdicts) else None
        says = {
            True: "The classifier's answers depend on it", False: "The classifier hardly goes by it",
            None: "Whether the classifier goes by it is not clear",
        }[use]  # fmt: skip
    else:
        use, hardly = None, all(one.interval[1] < HARDLY for one in tried)
        says = (
            f"The classifier's answers {'hardly turn' if hardly else 'turn'} when it is changed, but it does not have"
            " two of these labels among its classes, so that is no sign of a shortcut"
        )
    traces = _TRACES if link.nuisance in ("format", "quality") else ""
    within = ""
    if link.answers is not None and link.answers.found:
        within = f" Among pictures of one label it goes with what the classifier says, too: {link.answers.in_words}."
    return f"{says}: {'; '.join(told)}.{traces}{within}", use


def _of_copies(copies: Copies) -> Finding | None:
    if not copies.across:
        return None
    told, most = [], 0.0
    for split, count in copies.others.items():
        copied = len({there for _, there, name in copies.across if name == split})
        if copied:
            told.append(f"{copied:,} of {count:,} pictures of {split!r}")
            most = max(most, copied / max(1, count))
    pairs = copies.across[:SHOWN]
    return Finding(
        "copies", "Near copies across splits",
        f"{_listed(told)} are, or nearly are, pictures of this split: an accuracy on them measures memory.",
        most, "Take the copies out of the split that is measured on (build_dataset.py --not-in); measure again.",
        {}, (Examples("pairs: here, and in the other split", tuple(key for pair in pairs for key in pair[:2])),),
    )  # fmt: skip


def _of_contradictions(copies: Copies, count: int) -> Finding | None:
    if not copies.contradicting:
        return None
    pictures = sum(map(len, copies.contradicting))
    return Finding(
        "labels", "Near copies with different labels",
        f"{len(copies.contradicting):,} groups of near copies ({pictures:,} pictures) carry different labels: at least"
        " one in each group is wrong.",
        pictures / count, "Look at them and correct the labels, or leave the group out.", {},
        tuple(Examples("the same picture", group[:SHOWN]) for group in copies.contradicting[:3]),
    )  # fmt: skip


def _extreme(looked: Looked, scores: NDArray[np.float64], rows: NDArray[np.bool_], *, highest: bool) -> tuple[str, ...]:
    places = np.flatnonzero(rows)
    order = places[np.argsort(-scores[places] if highest else scores[places], kind="stable")]
    return tuple(looked.keys[i] for i in order[:SHOWN])


def _in_sentence(entry: Nuisance) -> str:
    title = entry.title if entry.title[:2].isupper() else entry.title[:1].lower() + entry.title[1:]
    return {"Marks in the corners": "what is in the corners", "File format": "the file format"}.get(entry.title, title)


def _name(one: Finding) -> str:
    if one.name in NUISANCES:
        return _in_sentence(NUISANCES[one.name])
    return one.title[:1].lower() + one.title[1:]


def _listed(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else "".join(words)


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.2g}"
