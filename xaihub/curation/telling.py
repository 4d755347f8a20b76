"""What tells the classes of a dataset apart beside what the pictures show, in sentences for its card."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from xaihub.curation.treating import Picture

__all__ = ["leaks"]

_NOTABLE = 0.6  # of pictures told apart right; a rule found on a hundred pictures of each class reaches 0.57 by chance
_WORDS = {
    "format": "the format of the file", "width": "the width", "height": "the height",
    "aspect": "the ratio of width to height", "bytes": "the size of the file",
}  # fmt: skip


class _Recipe(Protocol):
    @property
    def fair(self) -> bool: ...

    @property
    def size(self) -> int: ...


def leaks(
    pictures: Sequence[Picture], classes: Sequence[str], telling: Mapping[str, float], recipe: _Recipe
) -> list[str]:
    """Sentences on what a classifier could go by instead of by what the pictures show; none if nothing is known.

    Args:
        telling: how well each fact about the stored files tells the classes apart, by `fairness.shortcuts`.
    """
    of_class = {label: [picture for picture in pictures if picture.label == label] for label in classes}
    sentences = [
        f"{_WORDS[name].capitalize()} alone tells {' from '.join(classes)} for {share:.0%} of the pictures"
        f" (chance is 50%){_because(name, of_class, recipe.fair)}."
        for name, share in telling.items()
        if share >= _NOTABLE
    ]
    if recipe.fair:
        sentences += _of_resizing(of_class, recipe.size) + _of_encoding(of_class)
    return sentences


def _because(name: str, of_class: Mapping[str, Sequence[Picture]], fair: bool) -> str:
    """What the classes have, so that the figure can be believed."""
    if name == "bytes" and fair:
        return ": smoother pictures need fewer bytes. Once decoded the number is gone, the smoothness is not"
    if name == "aspect":
        return ""
    has = [f"{label} has {_usual([one.file[name] for one in many])}" for label, many in of_class.items()]
    return f": {', '.join(has)}"


def _usual(values: Sequence[Any]) -> str:
    if isinstance(values[0], str):
        return " and ".join(f"{value} ({count})" for value, count in Counter(values).most_common(3))
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}, {int(np.median(values)):,} in the middle"


def _of_resizing(of_class: Mapping[str, Sequence[Picture]], size: int) -> list[str]:
    sides = {label: np.array([_side(one) for one in many]) for label, many in of_class.items()}
    sentences = [
        f"{(side < size).sum():,} of {len(side):,} {label} pictures were smaller than {size} pixels and had to be"
        " enlarged, which blurs them."
        for label, side in sides.items()
        if (side < size).any()
    ]
    scales = {label: float(np.median(side)) / size for label, side in sides.items()}
    if max(scales.values()) > 1.1 * min(scales.values()):
        had = ", ".join(f"{label} {_scaled(scale)}" for label, scale in scales.items())
        sentences.append(
            f"The classes were resized by different factors ({had} in the middle), which leaves different amounts of"
            " fine detail: a classifier that sees nothing but a power spectrum can use that."
        )
    return sentences


def _side(picture: Picture) -> int:
    return min(picture.row["original_width"], picture.row["original_height"])


def _scaled(scale: float) -> str:
    return "not at all" if scale == 1 else f"{'shrunk' if scale > 1 else 'enlarged'} by {max(scale, 1 / scale):.1f}"


def _of_encoding(of_class: Mapping[str, Sequence[Picture]]) -> list[str]:
    formats = {label: Counter(one.row["original_format"] for one in many) for label, many in of_class.items()}
    lossy = {label: (many["JPEG"] + many["WEBP"]) / many.total() for label, many in formats.items()}
    if max(lossy.values()) - min(lossy.values()) < 0.1:
        return []
    had = ", ".join(f"{label} {share:.0%}" for label, share in lossy.items())
    return [
        f"Before they came here, some had been compressed with loss already ({had}); traces of that may be left under"
        " the compression that all went through here."
    ]
