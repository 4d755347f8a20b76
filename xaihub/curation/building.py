"""A dataset folder, from the pictures of two classes: treated, sorted out, split, and what was done written down."""

import json
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from xaihub import hub
from xaihub.curation.sorting_out import elsewhere, exact, near
from xaihub.curation.sources import Origin
from xaihub.curation.telling import leaks
from xaihub.curation.treating import Picture, Spool, treated
from xaihub.datasets import MARK, write_split
from xaihub.errors import DatasetError
from xaihub.fairness import AS_IS_STEPS, fair_steps, shortcuts
from xaihub.progress import Progress, part, silent
from xaihub.splitting import assign, shuffled

__all__ = ["Recipe", "build_dataset"]

FORMAT = 1


@dataclass(frozen=True)
class Recipe:
    """How a dataset is made of its sources.

    Attributes:
        shares: split -> its share of every class.
        fair: whether all pictures are cropped, resized and encoded alike; else their files stay as they are.
        size: pixels, of the square that each becomes.
        smallest: pixels; pictures with a shorter side are left out.
        not_in: datasets of whose pictures none, nor a near copy, may be in this one.
        seed: of the split and of the order within it.
    """

    shares: Mapping[str, float] = field(default_factory=lambda: {"train": 0.8, "validation": 0.1, "test": 0.1})
    fair: bool = True
    size: int = 256
    smallest: int = 32
    not_in: Sequence[str] = ()
    seed: int = 0


def build_dataset(
    origins: Sequence[Origin],
    folder: Path,
    recipe: Recipe | None = None,
    *,
    command: str = "",
    token: hub.Token = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """The report on the dataset that now lies in the folder: its splits as parquet files, and the report as JSON.

    The same sources and recipe give the same bytes.

    Args:
        origins: one for each class; labels are numbered in their order.
        folder: there already, and empty.
        command: how somebody else would make it, for the card.

    Raises:
        DatasetError: a class is left without pictures, or a split without one of some class.
    """
    recipe = recipe or Recipe()
    with tempfile.TemporaryFile(dir=folder) as stream:
        spool = Spool(stream)
        pictures = _treated(origins, spool, recipe, part(progress, 0, 0.8))
        kept, dropped, notes = _sorted_out(origins, pictures, recipe, token, part(progress, 0.8, 0.9))
        together = near(kept)
        order = shuffled([picture.row["pixels_sha256"] for picture in kept], recipe.seed)
        splits = assign([picture.label for picture in kept], together, order, recipe.shares)
        classes = [origin.label for origin in origins]
        for split in recipe.shares:
            progress(0.9, f"Writing the split {split}")
            rows = [kept[place] for place in order if splits[place] == split]
            write_split(folder, split, _rows(rows, spool, classes), classes)
    report = _report(origins, kept, splits, dropped, together, recipe, notes) | {"command": command}
    text = json.dumps(report, indent=1, ensure_ascii=False)
    (folder / MARK).write_text(f"{text}\n", "utf-8")
    return report


def _treated(origins: Sequence[Origin], spool: Spool, recipe: Recipe, progress: Progress) -> list[Picture]:
    size, share = recipe.size if recipe.fair else None, 1 / len(origins)
    return [
        picture
        for place, origin in enumerate(origins)
        for picture in treated(
            place, origin, spool, size=size, smallest=recipe.smallest,
            progress=part(progress, place * share, (place + 1) * share),
        )
    ]  # fmt: skip


def _sorted_out(
    origins: Sequence[Origin], pictures: Sequence[Picture], recipe: Recipe, token: hub.Token, progress: Progress
) -> tuple[list[Picture], list[dict[str, str]], list[str]]:
    """The pictures that stay; what is left out and why; which other datasets were looked through."""
    _refuse_empty(origins, pictures, "")
    foreign, notes = elsewhere(pictures, recipe.not_in, token=token, progress=progress)
    why = exact(pictures) | foreign
    kept = [picture for place, picture in enumerate(pictures) if place not in why]
    dropped = [
        {"label": origin.label, "key": key, "why": reason}
        for origin in origins
        for key, reason in sorted(origin.pictures.skipped.items())
    ]
    dropped += [
        {"label": pictures[place].label, "key": pictures[place].row["source_key"], "why": reason}
        for place, reason in sorted(why.items())
    ]
    _refuse_empty(origins, kept, next(iter(why.values()), ""))
    return kept, dropped, notes


def _refuse_empty(origins: Sequence[Origin], pictures: Sequence[Picture], why: str) -> None:
    there = {picture.label for picture in pictures}
    for origin in origins:
        if origin.label not in there:
            reason = why or next(iter(origin.pictures.skipped.values()), "")
            raise DatasetError(
                f"None of the {len(origin.pictures)} pictures of {origin.name!r} can be used, so there would be no"
                f" {origin.label!r}; a dataset needs pictures of each class. {reason}".rstrip()
            )


def _under_two_labels(kept: Sequence[Picture], together: Sequence[Sequence[int]]) -> list[list[str]]:
    """The groups of near copies whose labels differ: at least one in each is wrong."""
    return [[kept[place].key for place in group] for group in together if len({kept[i].label for i in group}) > 1]


def _rows(pictures: Sequence[Picture], spool: Spool, classes: Sequence[str]) -> Iterator[dict[str, Any]]:
    for picture in pictures:
        yield {"image": spool.read(picture.place), "label": classes.index(picture.label), **picture.row}


def _report(
    origins: Sequence[Origin],
    kept: Sequence[Picture],
    splits: Sequence[str],
    dropped: Sequence[Mapping[str, str]],
    together: Sequence[Sequence[int]],
    recipe: Recipe,
    notes: Sequence[str],
) -> dict[str, Any]:
    counts = Counter((split, picture.label) for split, picture in zip(splits, kept, strict=True))
    of_class = Counter(picture.label for picture in kept)
    second = [picture.label != origins[0].label for picture in kept]
    telling = shortcuts([picture.file for picture in kept], second)
    return {
        "format": FORMAT,
        "classes": [origin.label for origin in origins],
        "splits": {split: {origin.label: counts[split, origin.label] for origin in origins} for split in recipe.shares},
        "fair": recipe.fair,
        "size": recipe.size if recipe.fair else None,
        "steps": fair_steps(recipe.size) if recipe.fair else AS_IS_STEPS,
        "sources": [origin.record(of_class[origin.label]) for origin in origins],
        "dropped": list(dropped),
        "duplicates": [[kept[place].key for place in group] for group in together if len(group) > 1],
        "two_labels": _under_two_labels(kept, together),
        "not_in": list(notes),
        "shortcuts": telling,
        "leaks": leaks(kept, [origin.label for origin in origins], telling, recipe),
        "seed": recipe.seed,
        "versions": {name: version(name) for name in ("xaihub", "pillow", "pyarrow", "numpy")},
    }
