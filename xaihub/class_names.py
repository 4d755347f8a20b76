"""Which output has which name: the one reading of `id2label`, `label2id` and lists of names, for every loader."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

__all__ = ["class_names", "fitting_widths", "index_of", "labelled"]

_FEW = 3  # names that a notice shows
_LONGEST = 40  # letters of each


def class_names(
    given: Mapping[Any, Any] | Sequence[Any], classes: int, notices: list[str], label2id: Any = None
) -> tuple[list[str], bool]:
    """The names of outputs 0 to C - 1, and whether a person gave any; what is not plain to read becomes a notice.

    A key is an output's index. Names that count from 1 to C are moved by one, which is said; an output without a name
    is called by its number, never by its neighbour's name.

    Args:
        given: index (a number or its digits) -> name, or the names in order.
        classes: C, how many numbers the network answers with. One answers for two classes, where two are named.
        notices: sentences are appended.
        label2id: the reverse, where a config has it: taken where `given` is empty, and compared with it otherwise.
    """
    pairs = list(given.items()) if isinstance(given, Mapping) else list(enumerate(given))
    reverse = list(label2id.items()) if isinstance(label2id, Mapping) else []
    if pairs and all(index_of(key) is None and index_of(value) is not None for key, value in pairs):
        notices.append("Its id2label leads from names to numbers, so it is read the other way round.")
        pairs = [(value, key) for key, value in pairs]
    named = _by_index(pairs or [(value, key) for key, value in reverse], notices)
    if not named:
        notices.append("It does not name its classes, so they are called by their numbers.")
        return [f"class {index}" for index in range(classes)], False
    classes = 2 if classes == 1 and len(named) == 2 else classes
    _tell_contradiction(named, reverse, notices)
    named = _from_zero(named, classes, notices)
    labels = [named.get(index, f"class {index}") for index in range(classes)]
    _tell_misfit(named, classes, notices)
    if all(re.fullmatch(r"LABEL_\d+", label) for label in labels):
        notices.append("Its authors did not name its classes (LABEL_0, LABEL_1, ...).")
        return labels, False
    if twice := [name for name, count in Counter(labels).items() if count > 1]:
        notices.append(f"Several of its classes have the same name ({_shown(twice)}): choose those by their numbers.")
    return labels, True


def index_of(key: Any) -> int | None:
    """The whole number that a key is or writes, or None."""
    if isinstance(key, bool):
        return None
    if isinstance(key, int) or (isinstance(key, float) and key.is_integer()):
        return int(key)
    return int(key) if isinstance(key, str) and re.fullmatch(r"\s*-?\d{1,9}\s*", key) else None


def _by_index(pairs: Iterable[tuple[Any, Any]], notices: list[str]) -> dict[int, str]:
    """Index -> name; empty names, keys that are no indices and second names of an index are left out, and said."""
    named: dict[int, str] = {}
    left: list[str] = []
    for key, value in pairs:
        index = index_of(key)
        if value is None or not str(value).strip():
            continue
        if index is None or named.get(index, value) != value:
            left.append(f"{str(key)[:_LONGEST]}: {value}")
            continue
        named[index] = str(value)
    if left:
        notices.append(
            f"{len(left)} entries of its id2label are left out, because their keys are no whole numbers or stand there"
            f" twice ({_shown(left)})."
        )
    return named


def _from_zero(named: dict[int, str], classes: int, notices: list[str]) -> dict[int, str]:
    """The names counted from zero. They count from one where the last of C is C: there is no output of that number."""
    if 0 in named or max(named) != classes or min(named) < 1:
        return named
    notices.append(
        f"Its id2label counts its classes from 1 to {classes}, but outputs are counted from 0, so each name is taken"
        f" one lower: output 0 is {_shown([named.get(1, 'class 0')])}. If its author meant otherwise, every name is"
        " wrong by one."
    )
    return {index - 1: name for index, name in named.items()}


def _tell_misfit(named: Mapping[int, str], classes: int, notices: list[str]) -> None:
    missing = [index for index in range(classes) if index not in named]
    beyond = [f"{index}: {name}" for index, name in named.items() if not 0 <= index < classes]
    if missing:
        numbers = ", ".join(map(str, missing[:_FEW])) + (", ..." if len(missing) > _FEW else "")
        notices.append(
            f"Its id2label does not name {len(missing)} of its {classes} classes ({numbers}): they are called by their"
            " numbers."
        )
    if beyond:
        notices.append(
            f"Its id2label names {len(beyond)} classes that its {classes} outputs do not have ({_shown(beyond)}): those"
            " names are left out."
        )


def _tell_contradiction(named: Mapping[int, str], reverse: Iterable[tuple[Any, Any]], notices: list[str]) -> None:
    where: dict[str, set[int]] = {}
    for index, name in named.items():
        where.setdefault(name, set()).add(index)
    wrong = [
        f"{name}: {value}, not {min(where[str(name)])}"
        for name, value in reverse
        if str(name) in where and index_of(value) not in where[str(name)]
    ]
    if wrong:
        notices.append(f"Its label2id contradicts its id2label ({_shown(wrong)}): id2label is taken.")


def _shown(texts: Sequence[str]) -> str:
    """The first few, quoted and shortened: they are a stranger's."""
    few = ", ".join(repr(text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "...") for text in texts[:_FEW])
    return few + (", ..." if len(texts) > _FEW else "")


def fitting_widths(labels: Sequence[str] | Mapping[int, str]) -> tuple[int, ...]:
    """Return the output widths that would fit the labels, the best first; one number answers for two classes."""
    last = max(filter(None, map(index_of, labels)), default=0) if isinstance(labels, Mapping) else 0
    counts = [len(labels), *([last + 1, last] if last else []), *([1] if len(labels) == 2 else [])]
    return tuple(dict.fromkeys(counts))


def labelled(labels: Sequence[str] | Mapping[int, str], width: int, notices: list[str]) -> tuple[str, ...]:
    """A name for each class. One output speaks for the second of two classes, or for the only one that is named."""
    names = tuple(map(str, class_names(labels, width, notices)[0] if isinstance(labels, Mapping) else labels))
    if width == 1 and len(names) == 1:
        return f"not {names[0]}", names[0]
    if len(names) != (classes := max(width, 2)):
        raise ValueError(f"The network answers with {classes} classes, but {len(names)} labels were given.")
    return names
