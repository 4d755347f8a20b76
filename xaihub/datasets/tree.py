"""The reading of a tree of images: which of its levels are splits and which are classes. A function of the paths alone.

A level whose folders are called after splits (train, test_set, val2017) holds splits, as in the datasets library; the
level below or above it holds the classes. Where two readings are possible both are named, and nobody guesses.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from xaihub.errors import DatasetError

__all__ = ["Layout", "Placed", "is_part", "layout_of", "parse_layout", "split_in_name", "split_word", "without_label"]

Dirs = tuple[str, ...]

_WORDS = {
    word: split
    for split, words in {
        "train": ("train", "training"),
        "validation": ("validation", "valid", "val", "dev"),
        "test": ("test", "testing", "eval", "evaluation"),
    }.items()
    for word in words
}  # how the datasets library calls what a folder's name says
_ALTERNATIVES = "|".join(sorted(_WORDS, key=len, reverse=True))
_SPLIT = re.compile(rf"(?:^|(?<=[-._ 0-9]))({_ALTERNATIVES})(?=(?:sets?|data|images?|imgs?)?(?:[-._ 0-9]|$))", re.I)
_NEUTRAL = re.compile(r"(sets?|data|datasets?|images?|imgs?|pictures?|photos?|files|split|[-._ 0-9()])+", re.I)
_CONTAINER = re.compile(
    r"(all[-._ ]?)?(images?|imgs?|pictures?|pics?|photos?|data|datasets?|files|jpe?gs?|pngs?|jpegimages|raw|samples?)"
    r"[-._ 0-9]*",
    re.I,
)
_UNLABELLED = re.compile(r"(un|non|not)[-._ ]?lab?ell?ed([-._ ]?(data|set|images?))?|unsup(ervised)?", re.I)
_FURTHER = re.compile(
    r"(held|hold)[-._ ]?out|extra|challenge|public|private|submission|predict(ion)?|infer(ence)?", re.I
)
_SERIAL = re.compile(r"[a-z_.\- ]*\d+[-._ 0-9]*|[0-9a-f]{8,}", re.I)
_BATCHES = re.compile(
    r".*(batch|fold|part|shard|chunk|session|run|folder|dir|vol|volume|archive|images?|imgs?|data)[-._ ]*\(?\d+\)?",
    re.I,
)


@dataclass(frozen=True)
class Layout:
    """Which level of the folders is which, counted from the outermost, 0.

    Attributes:
        split, label: the level, or None where no folder says it.
        in_name: the class is what a split's folder is called beside the split: train_cat, test_dog.
        in_file: the split is in the names of the files.
    """

    split: int | None = None
    label: int | None = None
    in_name: bool = False
    in_file: bool = False

    def __str__(self) -> str:
        depth = max(-1 if level is None else level for level in (self.split, self.label)) + 1
        levels = ["*"] * depth
        if self.label is not None:
            levels[self.label] = "{label}"
        if self.split is not None:
            levels[self.split] = "{split}_{label}" if self.in_name else "{split}"
        return "/".join(levels) or "*"

    def place(self, paths: Iterable[str]) -> "dict[str, Placed]":
        """Path -> split and label, without images that lie beside the folders of their class or split."""
        placed = {path: found for path in paths if (found := self._placed(path))}
        labels: dict[str | None, set[str]] = defaultdict(set)
        for one in placed.values():
            labels[one.split].update({one.label} if one.label is not None else ())
        all_labels = set().union(*labels.values())
        for split, names in labels.items():  # val/images beside train/cat/images has no classes
            if len(names) == 1 and len(all_labels) > 2 and _CONTAINER.fullmatch(next(iter(names))):
                labels[split] = set()
        return {
            path: one if labels[one.split] else Placed(one.split, None)
            for path, one in placed.items()
            if one.label is not None or not labels[one.split]
        }

    def _placed(self, path: str) -> "Placed | None":
        dirs, name = _dirs(path), path.rsplit("/", 1)[-1]
        if self.split is not None and len(dirs) <= self.split:
            return None
        folder = None if self.split is None else dirs[self.split]
        split = split_in_name(name) if self.in_file else None if folder is None else split_word(folder) or _own(folder)
        if self.in_name and folder is not None:
            return Placed(split, _rest(folder))
        if self.label is not None and len(dirs) > self.label:
            return Placed(split, dirs[self.label])
        return Placed(split, None) if self.label is None or self.split is not None else None


@dataclass(frozen=True)
class Placed:
    split: str | None
    label: str | None


def split_word(name: str) -> str | None:
    """The split that a folder's name says, as the datasets library finds it: "training_set", "val2017", "Test"."""
    found = _SPLIT.search(_spaced(name))
    return _WORDS[found[1].lower()] if found else None


def split_in_name(name: str) -> str | None:
    """The split that a file's name says."""
    return split_word(name.rsplit(".", 1)[0])


def is_part(name: str) -> bool:
    """Return whether a folder is called as parts of what came in several are: images_part_1, batch2, images."""
    return bool(_BATCHES.fullmatch(name) or _CONTAINER.fullmatch(name))


def parse_layout(text: str) -> Layout:
    """A layout as somebody writes it, such as "{split}/{label}", "{label}/{split}", "*/{label}" or "{label}".

    Raises:
        DatasetError: it is none.
    """
    levels = [level for level in text.strip().strip("/").split("/") if level]
    if levels[-1:] in (["*.*"], ["**"]):
        levels = levels[:-1]
    counts = [levels.count("{split}"), levels.count("{label}"), levels.count("*"), levels.count("{split}_{label}")]
    if (
        not levels
        or sum(counts) != len(levels)
        or max(counts[0], counts[1], counts[3]) > 1
        or (counts[3] and counts[0])
    ):
        raise DatasetError(
            f"The layout {text[:80]!r} cannot be read. Write what each level of the folders is, such as"
            " '{split}/{label}', '{label}/{split}', '{label}' or '*/{label}'."
        )
    if counts[3]:
        return Layout(levels.index("{split}_{label}"), None, in_name=True)
    return Layout(levels.index("{split}") if counts[0] else None, levels.index("{label}") if counts[1] else None)


def without_label(paths: Sequence[str], name: str) -> Layout:
    """Only where the splits are: for trees whose labels stand in a table. Raises as `layout_of` does."""
    return replace(_split_level(paths, _folders(paths), name), label=None)


def layout_of(paths: Sequence[str], name: str) -> Layout:
    """Return how the paths of a tree's images are meant.

    Args:
        paths: of the images, relative to the folder, with "/".
        name: the folder's, for messages.

    Raises:
        DatasetError: two readings are possible; both are named.
    """
    folders = _folders(paths)
    found = _split_level(paths, folders, name)
    return found if found.in_name else _label_level(found, folders, name)


def _dirs(path: str) -> Dirs:
    return tuple(path.split("/")[:-1])


def _own(name: str) -> str:
    """A split's name for a folder that is none of the usual ones: "unlabeled", "extra"."""
    return re.sub(r"\W+", "_", name).strip("_").lower() or "other"


def _spaced(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name)


def _rest(name: str) -> str:
    """Return what a split's folder is called beside the split; "" where that is nothing, a number or "images"."""
    rest = _SPLIT.sub("", _spaced(name), count=1).strip("-._ ")
    return "" if not rest or _NEUTRAL.fullmatch(rest) else rest


def _folders(paths: Iterable[str]) -> dict[Dirs, int]:
    """Folder -> how many images lie directly in it, without those at the root if there are folders."""
    counts = Counter(map(_dirs, paths))
    return {each: count for each, count in counts.items() if each} or dict(counts)


def _prefix(folders: Mapping[Dirs, int]) -> int:
    """Return the number of outer folders that only wrap the others: neither split nor class, around all images."""
    depth = 0
    while True:
        names = {each[depth] if len(each) > depth else None for each in folders if len(each) >= depth}
        inner = {each[depth + 1] for each in folders if len(each) > depth + 1}
        if len(names - {None}) != 1 or (None in names and not depth):
            return depth
        name = next(iter(names - {None})) or ""
        beside = sum(count for each, count in folders.items() if len(each) == depth + 1)
        last = beside > (0.1 * sum(folders.values()) if len(inner) > 1 else 0)  # a few may be strays
        if (split_word(name) and not _rest(name)) or (last and not _CONTAINER.fullmatch(name)):
            return depth
        depth += 1


def _split_level(paths: Sequence[str], folders: Mapping[Dirs, int], name: str) -> Layout:
    first = _prefix(folders)
    dirs = [each for each in folders if len(each) > first]
    for level in range(first, min(map(len, dirs), default=0)):
        found = _splits_at(level, {each[level] for each in dirs}, dirs, first, name)
        if found is not None:
            return found
    _refuse_hidden_splits(dirs, first, name)
    in_files = {split_in_name(path.rsplit("/", 1)[-1]) for path in paths}
    return Layout(in_file=len(in_files) > 1 and None not in in_files)


def _splits_at(level: int, names: set[str], dirs: Sequence[Dirs], first: int, name: str) -> Layout | None:
    """The layout if the folders of this level are splits; None if they are not."""
    words = {each: split_word(each) for each in names}
    called = {each for each in names if words[each] and not _rest(each)}
    rests = {each: _rest(each) for each in names if words[each]}
    others = names - set(rests)
    kinds = {words[each] for each in rests}
    if len(rests) == len(names) and (called == names or len(kinds) > 1):
        return _all_splits(level, rests, called == names, words, dirs, name)
    if level > first or not called:
        return None
    if all(_UNLABELLED.fullmatch(each) or _FURTHER.fullmatch(each) for each in others) and others == names - called:
        return Layout(level)
    return _some_splits(level, called, names, dirs, name)


def _all_splits(
    level: int, rests: dict[str, str], pure: bool, words: dict[str, str | None], dirs: Sequence[Dirs], name: str
) -> Layout:
    deeper = any(len(each) > level + 1 for each in dirs)
    if pure or deeper:
        return Layout(level)
    by_split = defaultdict(set)
    for each, rest in rests.items():
        by_split[words[each]].add(rest)
    shared = set.intersection(*by_split.values()) - {""}
    if len(shared) > 1 or (shared and len(set(rests.values())) > 2):
        return Layout(level, in_name=True)
    raise _two(name, Layout(level, in_name=True), Layout(label=level), rests)


def _some_splits(level: int, called: set[str], names: set[str], dirs: Sequence[Dirs], name: str) -> Layout | None:
    """Some folders are called after splits, others are not: classes where nothing but a name speaks for splits."""
    within: dict[str, set[str]] = {each: set() for each in names}
    direct: set[str] = set()
    for each in dirs:
        if len(each) > level + 1:
            within[each[level]].add(each[level + 1])
        else:
            direct.add(each[level])
    kinds = {split_word(each) for each in called}
    classes = set().union(*(within[each] for each in called))
    alike = all(within[each] and within[each] <= classes and each not in direct for each in names - called)
    nested = [each for each in called if len(within[each]) > 1 and each not in direct]
    if len(kinds) > 1 and nested and alike:
        return Layout(level)
    if len(kinds) < 2 and not nested:
        return None
    raise _two(name, Layout(level, level + 1 if nested else None), Layout(label=level), names)


def _refuse_hidden_splits(dirs: Sequence[Dirs], first: int, name: str) -> None:
    """Raise if folders called after two splits lie side by side somewhere and were not taken for splits."""
    beside: dict[Dirs, set[str]] = defaultdict(set)
    for each in set(dirs):
        for level in range(first, len(each)):
            if not _rest(each[level]) and split_word(each[level]):
                beside[each[:level]].add(each[level])
    for parent, names in sorted(beside.items()):
        if len({split_word(each) for each in names}) > 1:
            level = len(parent)
            raise _two(name, Layout(level, first if level > first else None), Layout(label=first), names)


def _label_level(found: Layout, folders: Mapping[Dirs, int], name: str) -> Layout:
    """The layout with the level of the classes, among those that are no splits."""
    at, first = found.split, _prefix(folders)
    start = first if at is None else at + 1
    below = _chosen(found, [each for each in folders if len(each) > start], start, None, name)
    if at is None or at == first:
        return below
    above = _chosen(found, [each for each in folders if len(each) > at], first, at, name)  # cat/train, cat/test
    if above.label is None or below.label is None or all(_BATCHES.fullmatch(each[above.label]) for each in folders):
        return below if below.label is not None else above
    if all(_is_detail(each[below.label]) for each in folders if len(each) > below.label):
        return above
    raise _two(name, above, below, {each[above.label] for each in folders})


def _chosen(found: Layout, dirs: Sequence[Dirs], start: int, end: int | None, name: str) -> Layout:
    """The outermost level from `start` on that tells classes apart."""
    level = start
    while dirs:
        names = {each[level] for each in dirs}
        deeper = [each for each in dirs if len(each) > level + 1 and (end is None or level + 1 < end)]
        inner = {each[level + 1] for each in deeper}
        whole = len(deeper) == len(dirs)
        if _says_nothing(names, inner, whole, found, dirs, level):
            dirs, level = deeper, level + 1
        elif not whole or len(names) == len(inner) == 1 or all(map(_is_detail, inner)) or len(inner) == 1:
            return replace(found, label=level)
        else:
            raise _two(name, replace(found, label=level), replace(found, label=level + 1), names)
    return found


def _says_nothing(
    names: set[str], inner: set[str], whole: bool, found: Layout, dirs: Sequence[Dirs], level: int
) -> bool:
    """Return whether a level only wraps, says the split once more, or numbers the parts of what came in several."""
    if len(names) == 1 and (whole or _CONTAINER.fullmatch(next(iter(names)))):
        return True
    if _same_splits_again(found, dirs, level):
        return True
    return whole and len(inner) > 1 and all(_BATCHES.fullmatch(each) for each in names)


def _is_detail(name: str) -> bool:
    """Return whether a folder within a class's own says nothing of the class: a number, "images"."""
    return bool(_SERIAL.fullmatch(name) or _CONTAINER.fullmatch(name))


def _same_splits_again(found: Layout, dirs: Sequence[Dirs], level: int) -> bool:
    """Return whether a level only says the split once more: train/train/cat, test/test_images/cat."""
    at = found.split
    if at is None or level <= at:
        return False
    return all(split_word(each[level]) == split_word(each[at]) is not None and not _rest(each[level]) for each in dirs)


def _two(name: str, one: Layout, other: Layout, names: Iterable[str]) -> DatasetError:
    some = ", ".join(repr(each[:60]) for each in sorted(set(names))[:6])
    return DatasetError(
        f"{name} can be read in two ways: its folders ({some}{', ...' if len(set(names)) > 6 else ''}) are"
        f" {_meaning(one)} or {_meaning(other)}. Say which it is: layout={str(one)!r} or layout={str(other)!r}"
        " (--layout on the command line)."
    )


def _meaning(layout: Layout) -> str:
    said = [
        *([f"splits at level {layout.split + 1}"] if layout.split is not None else []),
        *([f"classes at level {layout.label + 1}"] if layout.label is not None else []),
    ]
    return " with ".join(said) + (" with the class in the same name" if layout.in_name else "") or "neither"
