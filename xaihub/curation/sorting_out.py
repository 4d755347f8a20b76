"""Which pictures are left out because they are there twice, and which must stay together because they nearly are."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from xaihub import hub
from xaihub.curation.treating import Looked, Picture, look_at
from xaihub.datasets import LabelledPictures, is_dataset_folder, open_flat_folder, open_splits
from xaihub.duplicates import groups
from xaihub.errors import DatasetError
from xaihub.folders import folder_named
from xaihub.progress import Progress
from xaihub.same_content import same_content

__all__ = ["elsewhere", "exact", "near"]

Dropped = dict[int, str]  # place of a picture -> why it is left out


def exact(pictures: Sequence[Picture]) -> Dropped:
    """Pictures that are there already, pixel for pixel; of two that are in different classes, both.

    Args:
        pictures: treated, so that copies in files of other formats are found in the fair pipeline too.
    """
    same: dict[str, list[int]] = defaultdict(list)
    for place, picture in enumerate(pictures):
        same[picture.row["pixels_sha256"]].append(place)
    dropped: Dropped = {}
    for places in same.values():
        labels = list(dict.fromkeys(pictures[place].label for place in places))
        first = pictures[places[0]].key
        if len(labels) > 1:
            keys = ", ".join(pictures[place].key for place in places)
            dropped |= {
                place: f"The same picture is both {' and '.join(labels)} ({keys}): nobody can tell which."
                for place in places
            }
        else:
            dropped |= dict.fromkeys(places[1:], f"The same picture, pixel for pixel, as {first}.")
    return dropped


def near(pictures: Sequence[Picture]) -> list[list[int]]:
    """All places in groups; pictures of one group are near copies of each other, most groups have one."""
    return groups(len(pictures), same_content(np.stack([picture.middle.small for picture in pictures])))


def elsewhere(
    pictures: Sequence[Picture], sources: Sequence[str], *, token: hub.Token, progress: Progress
) -> tuple[Dropped, list[str]]:
    """Pictures that are near copies of some of other datasets, and what those are, in words."""
    dropped: Dropped = {}
    told = []
    for source in sources:
        theirs, keys = _looked(source, token, progress)
        together = np.stack([one.small for one in [*(picture.middle for picture in pictures), *theirs]])
        for mine, other in same_content(together, len(pictures)):
            key = keys[other - len(pictures)]
            dropped.setdefault(int(mine), f"A copy, or nearly, of {key} in {name_of(source)}.")
        told.append(f"{len(theirs):,} pictures of {name_of(source)}")
    return dropped, told


def name_of(source: str) -> str:
    """A dataset's id, or the name of a folder without the way to it."""
    folder = folder_named(source)
    return folder.resolve().name if folder else source


def _looked(source: str, token: hub.Token, progress: Progress) -> tuple[list[Looked], list[str]]:
    found: list[Looked] = []
    keys: list[str] = []
    for pictures in _all_of(source, token, progress):
        for key, _, looked in pictures.prepared(look_at):
            progress(len(found) / max(1, len(pictures) + len(found)), f"Comparing with {name_of(source)}")
            found.append(looked)
            keys.append(key)
    if not found:
        raise DatasetError(f"None of the pictures of {name_of(source)} can be read, so none can be kept out.")
    return found, keys


def _all_of(source: str, token: hub.Token, progress: Progress) -> list[LabelledPictures]:
    """Every split of a dataset; or a folder of pictures, whatever folders are in it."""
    folder = folder_named(source)
    if folder and not is_dataset_folder(folder):
        return [open_flat_folder(folder)]
    return open_splits(source, token=token, progress=progress)
