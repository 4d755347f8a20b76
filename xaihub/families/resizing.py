"""The size of an image on its way to the network, told from the preprocessing's own numbers before any resize."""

from collections.abc import Callable, Iterable
from typing import Any

from xaihub.errors import PictureError, TooLargeError

__all__ = ["MOST_RESIZED", "resize_check", "steps_check"]

Size = tuple[float, float]  # (width, height)
Check = Callable[[tuple[int, int]], None]

MOST_RESIZED = 2**24  # pixels before the crop: 50 MB in bytes, and some times that while it is resized


def resize_check(size: Any, crop_pct: float | None = None) -> Check:
    """A function that refuses images of (width, height) which would become too large.

    Args:
        size: as transformers names it: `shortest_edge`, `longest_edge`, `height`, `width`, `max_height`, `max_width`,
            `max_pixels`, as attributes or keys; an image keeps its proportions unless both `height` and `width` are
            given.
        crop_pct: the share of the resized image that is kept: it is resized to so much more.
    """

    def number(name: str) -> float:
        value = size.get(name) if isinstance(size, dict) else getattr(size, name, None)
        return float(value or 0)

    larger = 1 / crop_pct if crop_pct and 0 < crop_pct < 1 else 1.0
    width, height, short = number("width") * larger, number("height") * larger, number("shortest_edge") * larger
    longest = number("longest_edge") or max(number("max_width"), number("max_height"))

    def check(given: tuple[int, int]) -> None:
        resized = (width, height) if width and height else _in_proportion(given, short, longest, number("max_pixels"))
        _refuse(given, resized)

    return check


def steps_check(steps: Iterable[Any]) -> Check:
    """The same of a row of torchvision's or timm's transforms, each of whose resizes has a `size`."""
    checks = []
    for step in steps:
        size = getattr(step, "size", None)
        if "Resize" not in type(step).__name__ or size is None:
            continue
        sides = [size] if isinstance(size, int) else list(size)
        if len(sides) == 2 and "Keep" not in type(step).__name__:
            checks.append(resize_check({"height": sides[0], "width": sides[1]}))
        else:
            checks.append(resize_check({"shortest_edge": max(sides), "longest_edge": getattr(step, "max_size", None)}))

    def check(given: tuple[int, int]) -> None:
        for each in checks:
            each(given)

    return check


def _in_proportion(given: tuple[int, int], short: float, longest: float, most: float) -> Size:
    scale = short / min(given) if short else 1.0
    if longest:
        scale = min(scale, longest / max(given)) if short else longest / max(given)
    if most:
        scale = min(scale, (most / (given[0] * given[1])) ** 0.5)
    return given[0] * scale, given[1] * scale


def _refuse(given: tuple[int, int], resized: Size) -> None:
    """Raise if there would be too many pixels."""
    pixels = resized[0] * resized[1]
    if pixels <= MOST_RESIZED:
        return
    what = (
        f"An image of {given[0]:,} x {given[1]:,} pixels would become {resized[0]:,.0f} x {resized[1]:,.0f} for this"
        f" model, {pixels / 1e6:,.0f} million pixels; at most {MOST_RESIZED / 1e6:,.0f} million are made here."
    )
    if given[0] == given[1]:
        raise TooLargeError(f"{what} A model that reads smaller images works.")
    raise PictureError(f"{what} Crop it to a shape nearer to a square.")
