"""Interventions: a picture with one nuisance changed and all else left; a table, filled by functions."""

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageStat

from xaihub.registry import Registry

__all__ = ["CHANGES", "LARGEST", "USUAL", "Apply", "Change", "change", "resaved"]

Apply = Callable[[Image.Image, Image.Image], Image.Image]

SHARE = 0.2  # of a side: how far a corner reaches
LARGEST = 2048  # pixels of the longer side: a spectrum of twenty megapixels takes half a gigabyte
USUAL = 75  # libjpeg's own quality, for data without a JPEG picture


@dataclass(frozen=True)
class Change:
    """One intervention.

    Attributes:
        apply: a picture, and a donor of another label -> the picture changed.
        tests: the nuisances that it changes.
        control: the change of the same kind that leaves these alone, by name; "" where there is none.
        exchanges: whether it puts something of the donor's in the picture's place.
        harmless: whether it takes nothing from the donor, and leaves what the picture shows as good as whole: what
            turns answers here turns them in any picture.
        alters: further nuisances that it changes a little, too little to be a test of them.
    """

    name: str
    title: str
    apply: Apply
    tests: tuple[str, ...]
    control: str
    exchanges: bool
    harmless: bool
    alters: tuple[str, ...]
    summary: str


CHANGES: Registry[Change] = Registry("intervention")


def change(
    name: str,
    *,
    title: str,
    tests: tuple[str, ...] = (),
    control: str = "",
    exchanges: bool = False,
    harmless: bool = False,
    alters: tuple[str, ...] = (),
) -> Callable[[Apply], Apply]:
    """Registers a function from a picture and a donor to the changed picture under this name."""

    def register(apply: Apply) -> Apply:
        says = (apply.__doc__ or "").strip().split("\n", 1)[0]
        CHANGES.add(name, Change(name, title, apply, tests, control, exchanges, harmless, alters, says))
        return apply

    return register


# --- the file -------------------------------------------------------------------------------------------------------


@change(
    "jpeg",
    title="saved again as JPEG",
    tests=("format", "quality", "blocking"),
    harmless=True,
    alters=("spectrum", "sharpness"),
)
def jpeg(picture: Image.Image, _donor: Image.Image) -> Image.Image:
    """Compressed as strongly as the JPEG pictures of the data usually are, so that all have the same grid of 8 x 8."""
    return resaved(picture, USUAL)  # whoever tries it on data puts their own quality in its place


def resaved(picture: Image.Image, quality: int) -> Image.Image:
    """The picture as a JPEG file of this quality, 1 to 100, has it."""
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=quality)
    return Image.open(stream).convert("RGB")


@change(
    "halved",
    title="halved in size and enlarged again",
    tests=("format", "quality", "blocking", "spectrum", "sharpness"),
)
def halved(picture: Image.Image, _donor: Image.Image) -> Image.Image:
    """Without its finest detail, which is where compression and generators leave their traces."""
    width, height = picture.size
    less = picture.resize((max(1, width // 2), max(1, height // 2)), Image.Resampling.BOX)
    return less.resize((width, height), Image.Resampling.BICUBIC)


@change("size", title="resized to the size of another label's picture", tests=("size",), exchanges=True)
def as_large(picture: Image.Image, donor: Image.Image) -> Image.Image:
    """As large as a picture of another label, its own shape kept."""
    scale = min(min(donor.size) / min(picture.size), LARGEST / max(picture.size))
    width, height = (max(1, round(side * scale)) for side in picture.size)
    return picture.resize((width, height), Image.Resampling.LANCZOS)


@change("shape", title="cropped to the shape of another label's picture", tests=("aspect",), exchanges=True)
def as_wide(picture: Image.Image, donor: Image.Image) -> Image.Image:
    """The largest part from its middle that is as wide for its height as a picture of another label."""
    wanted, (width, height) = donor.width / donor.height, picture.size
    across, down = min(width, max(1, round(height * wanted))), min(height, max(1, round(width / wanted)))
    left, top = (width - across) // 2, (height - down) // 2
    return picture.crop((left, top, left + across, top + down))


# --- light and detail -----------------------------------------------------------------------------------------------


@change("grey", title="turned grey", tests=("colour",))
def grey(picture: Image.Image, _donor: Image.Image) -> Image.Image:
    """Without its colours."""
    return picture.convert("L").convert("RGB")


@change("colours", title="given the colours of another label's picture", tests=("colour",), exchanges=True)
def recoloured(picture: Image.Image, donor: Image.Image) -> Image.Image:
    """Each channel with the mean and the spread of a picture of another label (Reinhard et al., 2001, in RGB)."""
    own, other = ImageStat.Stat(picture), ImageStat.Stat(donor)
    table: list[int] = []
    for mean, spread, wanted, wide in zip(own.mean, own.stddev, other.mean, other.stddev, strict=True):
        gain = min(wide / max(spread, 1), 4)
        table += [round(min(255, max(0, (value - mean) * gain + wanted))) for value in range(256)]
    return picture.point(table)


@change(
    "spectrum",
    title="given the power spectrum of another label's picture",
    tests=("spectrum", "sharpness"),
    exchanges=True,
)
def reshaped_spectrum(picture: Image.Image, donor: Image.Image) -> Image.Image:
    """Each ring of its spectrum as strong as that of a picture of another label; where its edges lie stays."""
    own, theirs = _pixels(picture), _pixels(donor.resize(picture.size, Image.Resampling.BICUBIC))
    mine, other = (np.fft.rfft2(pixels, axes=(0, 1)) for pixels in (own, theirs))
    down, across = np.fft.fftfreq(own.shape[0]), np.fft.rfftfreq(own.shape[1])
    ring = np.minimum((np.hypot(down[:, None], across) * 64).astype(int), 31).ravel()
    power = [np.bincount(ring, (np.abs(each) ** 2).sum(2).ravel(), 32) for each in (mine, other)]
    gain = np.sqrt(np.clip(power[1] / np.maximum(power[0], 1e-9), 1 / 16, 16))
    gain[0] = 1  # its brightness and its largest shapes
    mine *= gain[ring].reshape(mine.shape[:2])[..., None]
    return _picture(np.fft.irfft2(mine, own.shape[:2], axes=(0, 1)))


# --- the edges ------------------------------------------------------------------------------------------------------


@change(
    "cropped",
    title="cropped by a tenth on each side",
    tests=("borders",),
    harmless=True,
    alters=("size", "blocking", "spectrum", "sharpness"),  # once it is enlarged to what the classifier takes
)
def cropped(picture: Image.Image, _donor: Image.Image) -> Image.Image:
    """Without its outer tenth, and with it frames and most marks."""
    width, height = picture.size
    return picture.crop((width // 10, height // 10, width - width // 10, height - height // 10))


@change("corners", title="its corners covered by what is beside them", tests=("corners",), control="sides")
def covered_corners(picture: Image.Image, _donor: Image.Image) -> Image.Image:
    """Each corner in place of which the part of the edge beside it stands, mirrored, so that there is no seam."""
    pixels, changed = _pixels(picture), _pixels(picture)
    down, across = _reach(pixels)
    if pixels.shape[1] < 2 * across:  # a column of pixels has nothing beside its corners
        return picture
    for top in (True, False):
        for left in (True, False):
            rows = slice(0, down) if top else slice(-down, None)
            here, beside = _first(across, left), _second(across, left)
            changed[rows, here] = pixels[rows, beside][:, ::-1]
    return _picture(changed)


@change("sides", title="the middles of its sides covered by what is beside them", harmless=True)
def covered_sides(picture: Image.Image, _donor: Image.Image) -> Image.Image:
    """A part of each side, as large as a corner: what covering as much elsewhere does."""
    pixels = _pixels(picture)
    down, across = _reach(pixels)
    for turned, wide, deep in ((pixels, across, down), (pixels.transpose(1, 0, 2), down, across)):
        middle = (turned.shape[1] - wide) // 2
        beside = slice(max(0, middle - wide), max(0, middle - wide) + wide)
        for rows in (slice(0, deep), slice(-deep, None)):
            turned[rows, middle : middle + wide] = turned[rows, beside][:, ::-1].copy()
    return _picture(pixels)


@change(
    "swapped corners",
    title="given the corners of another label's picture",
    tests=("corners",),
    control="swapped sides",
    exchanges=True,
)
def swapped_corners(picture: Image.Image, donor: Image.Image) -> Image.Image:
    """Its four corners taken from a picture of another label, with any mark that is there."""
    pixels, theirs = _pixels(picture), _pixels(donor.resize(picture.size, Image.Resampling.BICUBIC))
    down, across = _reach(pixels)
    for rows in (slice(0, down), slice(-down, None)):
        for columns in (slice(0, across), slice(-across, None)):
            pixels[rows, columns] = theirs[rows, columns]
    return _picture(pixels)


@change("swapped sides", title="given the middles of the sides of another label's picture", exchanges=True)
def swapped_sides(picture: Image.Image, donor: Image.Image) -> Image.Image:
    """Parts of its sides as large as corners, taken from a picture of another label."""
    pixels, theirs = _pixels(picture), _pixels(donor.resize(picture.size, Image.Resampling.BICUBIC))
    down, across = _reach(pixels)
    top, left = (pixels.shape[0] - down) // 2, (pixels.shape[1] - across) // 2
    for rows, columns in (
        (slice(0, down), slice(left, left + across)), (slice(-down, None), slice(left, left + across)),
        (slice(top, top + down), slice(0, across)), (slice(top, top + down), slice(-across, None)),
    ):  # fmt: skip
        pixels[rows, columns] = theirs[rows, columns]
    return _picture(pixels)


def _reach(pixels: NDArray[np.float32]) -> tuple[int, int]:
    """How many rows and columns a corner has."""
    return max(1, round(pixels.shape[0] * SHARE)), max(1, round(pixels.shape[1] * SHARE))


def _first(across: int, left: bool) -> slice:
    return slice(0, across) if left else slice(-across, None)


def _second(across: int, left: bool) -> slice:
    return slice(across, 2 * across) if left else slice(-2 * across, -across)


def _pixels(picture: Image.Image) -> NDArray[np.float32]:
    return np.array(picture, dtype=np.float32)


def _picture(pixels: NDArray[np.floating]) -> Image.Image:
    return Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))
