"""What may tell the classes of a dataset apart beside what its pictures show: a table, filled by functions.

Each is a function from the sight of a picture to a few numbers. NaN is a number that this picture has not.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xaihub.auditing.sight import LITTLE, Sight
from xaihub.registry import Registry

__all__ = ["BANDS", "CORNERS", "NUISANCES", "Nuisance", "nuisance"]

Measure = Callable[[Sight], Sequence[float]]
Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Nuisance:
    """One thing that a classifier could go by instead of what the picture shows.

    Attributes:
        measure: the sight of a picture -> its numbers, one for each of `features`.
        kind: the sight of a picture -> a word, where there is no order in it; its common words are told apart as well.
        chief: the place in `features` of the number that slices are cut by; None to cut by the words.
        of_file: whether it is a trace of how the file was made, and never of what it shows.
        advice: what to do where it tells the label.
    """

    name: str
    title: str
    measure: Measure
    features: tuple[str, ...]
    kind: Callable[[Sight], str] | None
    chief: int | None
    of_file: bool
    advice: str
    summary: str


NUISANCES: Registry[Nuisance] = Registry("nuisance")


def nuisance(
    name: str,
    *,
    title: str,
    features: Sequence[str] = (),
    kind: Callable[[Sight], str] | None = None,
    chief: int | None = None,
    of_file: bool = False,
    advice: str,
) -> Callable[[Measure], Measure]:
    """Registers a function from a sight to numbers under this name; audits, slices and reports fill themselves."""

    def register(measure: Measure) -> Measure:
        says = (measure.__doc__ or "").strip().split("\n", 1)[0]
        NUISANCES.add(name, Nuisance(name, title, measure, tuple(features), kind, chief, of_file, advice, says))
        return measure

    return register


_ALIKE = (
    "Treat all classes alike before training: scripts/build_dataset.py crops, resizes and saves every picture in the"
    " same way. What the difference has left in the pixels stays, so audit again."
)
_COLLECT = (
    "If it is not part of what the classes are, collect pictures of all classes from the same sources, or vary it by"
    " augmentation while training, and audit again."
)


@nuisance(
    "format", title="File format", kind=lambda sight: sight.file.format, of_file=True,
    advice="Save the pictures of all classes in one format, in the same way. " + _ALIKE,
)  # fmt: skip
def file_format(_sight: Sight) -> tuple[float, ...]:
    """What kind of file it is: JPEG, PNG, WebP and so on."""
    return ()


@nuisance(
    "size", title="Picture size", features=("width", "height"), chief=0, of_file=True,
    kind=lambda sight: f"{sight.file.width} x {sight.file.height}",
    advice="Crop and resize the pictures of all classes to one size. " + _ALIKE,
)  # fmt: skip
def size(sight: Sight) -> tuple[float, ...]:
    """Width and height in pixels."""
    return sight.file.width, sight.file.height


@nuisance(
    "aspect", title="Aspect ratio", features=("width to height", "longer to shorter side"), chief=0, of_file=True,
    advice="Crop the pictures of all classes to one shape. " + _ALIKE,
)  # fmt: skip
def aspect(sight: Sight) -> tuple[float, ...]:
    """The ratio of width to height, and of the longer to the shorter side."""
    ratio = sight.file.width / sight.file.height
    return ratio, max(ratio, 1 / ratio)


@nuisance(
    "metadata", title="EXIF and colour profile", of_file=True,
    kind=lambda sight: " and ".join(["EXIF"] * sight.file.exif + ["a profile"] * sight.file.profile) or "neither",
    advice="Leave the metadata of all pictures behind. " + _ALIKE,
)  # fmt: skip
def metadata(_sight: Sight) -> tuple[float, ...]:
    """Whether the file has EXIF, and a colour profile."""
    return ()


@nuisance(
    "quality", title="JPEG quality", features=("JPEG quality",), chief=0, of_file=True,
    kind=lambda sight: sight.file.sampling or "not JPEG",
    advice="Start from pictures that were compressed alike, and save all of them at one quality. " + _ALIKE,
)  # fmt: skip
def quality(sight: Sight) -> tuple[float, ...]:
    """How coarsely the JPEG file was quantised, and how its colours were sampled; other files have neither."""
    return (sight.file.quality,)


@nuisance(
    "blocking", title="Compression blocking", features=("8 x 8 grid, across", "8 x 8 grid, down"), chief=0,
    of_file=True,
    advice="Pictures of one class were compressed more. Compress all classes alike, resizing them before. " + _ALIKE,
)  # fmt: skip
def blocking(sight: Sight) -> tuple[float, ...]:
    """How much larger steps between neighbouring pixels are at every eighth pixel than between: JPEG's grid.

    After Wang, Bovik & Evan (2000): mean absolute steps at each of the eight places of the grid, the largest over the
    median, as a logarithm. A picture that was cropped after compression has its grid elsewhere, so all eight are tried.
    """
    return _grid(sight.grey), _grid(sight.grey.T)


@nuisance(
    "colour", title="Colour statistics", chief=0,
    features=(
        "redness", "greenness", "blueness", "spread of red", "spread of green", "spread of blue", "saturation",
        "brightness", "darkest", "brightest",
    ),
    advice="The classes differ in light or colour. " + _COLLECT,
)  # fmt: skip
def colour(sight: Sight) -> tuple[float, ...]:
    """Means and spreads of the colours, how saturated they are, and how bright it is."""
    channels = np.ascontiguousarray(sight.little.transpose(2, 0, 1))
    means, spreads = channels.mean((1, 2)), channels.std((1, 2))
    light = channels.mean(0)
    dark, bright = np.percentile(light, [1, 99])
    saturation = float((channels.max(0) - channels.min(0)).mean())
    # each colour against the others: brightness has its own number
    return (*(means - means.mean()), *spreads, saturation, float(light.mean()), dark, bright)


@nuisance(
    "sharpness", title="Sharpness and noise", features=("sharpness", "sharpness when small", "noise"), chief=0,
    advice="One class is blurred or noisier: another camera, another scale, another compression. " + _COLLECT,
)  # fmt: skip
def sharpness(sight: Sight) -> tuple[float, ...]:
    """The logarithms of the Laplacian's variance (Pech-Pacheco et al., 2000), and of the noise (Immerkaer, 1996)."""
    grey, small = sight.grey, sight.little.mean(2) * 255
    return _log(_laplacian(grey).var()), _log(_laplacian(small).var()), _log(np.abs(_mask(grey)).mean())


BANDS = 12


@nuisance(
    "spectrum", title="Power spectrum", chief=BANDS - 1,
    features=tuple(f"power in band {i + 1} of {BANDS}, from coarse to fine" for i in range(BANDS)),
    advice="One class has more or less fine detail: resizing, upsampling by a generator, or compression. " + _ALIKE,
)  # fmt: skip
def spectrum(sight: Sight) -> tuple[float, ...]:
    """Power in rings of the spectrum from coarse to fine, each against their mean, as logarithms.

    What is left of a generator's upsampling is seen there (Durall et al., 2020, arXiv:2003.01826).
    """
    side = max(4 * BANDS, min(256, *sight.grey.shape) // 2 * 2)  # no ring without a number
    power = np.abs(np.fft.rfft2(_windowed(sight.grey, side))) ** 2
    down, across = np.fft.fftfreq(side), np.fft.rfftfreq(side)
    ring = np.minimum((np.hypot(down[:, None], across) * 2 * BANDS).astype(int), BANDS - 1)
    ring[0, 0] = -1  # its brightness is no detail
    bands = np.array([_log(power[ring == i].mean()) for i in range(BANDS)])
    return tuple(bands - bands.mean())


@nuisance(
    "borders", title="Borders", features=("left border", "right border", "upper border", "lower border"),
    kind=lambda sight: _edges_in_words(_borders(sight)),
    advice="Crop the frames away, from the pictures of all classes.",
)  # fmt: skip
def borders(sight: Sight) -> tuple[float, ...]:
    """How deep a flat frame reaches from each side, as a share of the picture."""
    return _borders(sight)


CORNERS = ("upper left", "upper right", "lower left", "lower right")
_STATISTICS = ("red", "green", "blue", "saturation", "contrast", "edges")


@nuisance(
    "corners", title="Marks in the corners",
    features=tuple(f"{what}, {where} corner" for where in CORNERS for what in _STATISTICS),
    advice=(
        "Look for a logo, a date, a sticker or a watermark there. Crop or cover it in the pictures of all classes, or"
        " take other pictures."
    ),
)  # fmt: skip
def corners(sight: Sight) -> tuple[float, ...]:
    """What sets each corner apart from the rest of the edge: colour, saturation, contrast and edges.

    Each is compared with the median of the four corners and the four middles of the sides, so that a picture that is
    dark or blue as a whole has no mark.
    """
    side, middle = LITTLE // 5, (LITTLE - LITTLE // 5) // 2
    ends = 0, LITTLE - side
    places = [(top, left) for top in ends for left in ends]
    places += [(0, middle), (LITTLE - side, middle), (middle, 0), (middle, LITTLE - side)]
    told = np.array([_patch(sight.little[top : top + side, left : left + side]) for top, left in places])
    return tuple((told[:4] - np.median(told, axis=0)).ravel())


def _patch(pixels: Floats) -> tuple[float, ...]:
    light = pixels.mean(2)
    steps = np.abs(np.diff(light, axis=0)).mean() + np.abs(np.diff(light, axis=1)).mean()
    return (*pixels.mean((0, 1)), float(np.ptp(pixels, axis=2).mean()), float(light.std()), float(steps))


def _borders(sight: Sight) -> tuple[float, float, float, float]:
    """Left, right, upper, lower."""
    pixels = sight.little
    turned = pixels.transpose(1, 0, 2)
    return _depth(turned), _depth(turned[::-1]), _depth(pixels), _depth(pixels[::-1])


def _depth(rows: Floats) -> float:
    """The share of rows from the first that have its one colour; at most a half."""
    half = rows[: len(rows) // 2]
    flat = (np.abs(half - np.median(half[0], axis=0)) < 0.02).mean((1, 2)) > 0.98
    return float(np.argmin(flat) if not flat.all() else len(flat)) / len(rows)


def _edges_in_words(depths: Sequence[float]) -> str:
    framed = [name for name, depth in zip(("left", "right", "above", "below"), depths, strict=True) if depth]
    return "all around" if len(framed) == 4 else " and ".join(framed) or "no border"


def _grid(grey: Floats) -> float:
    steps = np.abs(np.diff(grey, axis=1)).mean(0)
    if len(steps) < 16:
        return 0.0
    places = np.sort([steps[place::8].mean() for place in range(8)])
    return float(np.log((places[-1] + 0.1) / ((places[3] + places[4]) / 2 + 0.1)))


def _laplacian(grey: Floats) -> Floats:
    inner = grey[1:-1, 1:-1]
    return grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * inner if inner.size else grey


def _mask(grey: Floats) -> Floats:
    """Immerkaer's: the Laplacian of a Laplacian, which leaves neither edges nor slopes, only noise."""
    if min(grey.shape) < 3:
        return grey * 0
    rows = grey[:-2] - 2 * grey[1:-1] + grey[2:]
    return rows[:, :-2] - 2 * rows[:, 1:-1] + rows[:, 2:]


def _windowed(grey: Floats, side: int) -> Floats:
    """(side, side) from the middle, faded out to its edges, so that these are no detail of their own."""
    tall, wide = grey.shape
    grey = np.pad(grey, [(0, max(0, side - tall)), (0, max(0, side - wide))], mode="edge")
    top, left = ((edge - side) // 2 for edge in grey.shape)
    part = grey[top : top + side, left : left + side]
    return (part - part.mean()) * np.outer(np.hanning(side), np.hanning(side))


def _log(value: float) -> float:
    return float(np.log(value + 1e-3))
