"""Open, check and normalise a picture that a stranger sent; draw heatmaps over pictures.

Pictures are RGB `PIL.Image`s, upright, eight bits a channel; heatmaps are float arrays (H, W).
"""

import hashlib
import io
import warnings
from pathlib import Path
from typing import IO, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from xaihub.errors import PictureError

__all__ = [
    "MAX_PIXELS",
    "blend",
    "colourise",
    "heat_in_words",
    "open_picture",
    "perceptual_hash",
    "pixel_digest",
    "resize_heatmap",
    "thumbnail",
]

Heatmap: TypeAlias = NDArray[np.float32]
PictureLike: TypeAlias = str | Path | bytes | Image.Image | NDArray[np.uint8]

MAX_PIXELS = 20_000_000  # read from the header, before anything is decoded
MAX_BYTES = 64 * 2**20
FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF", "PPM", "ICO")  # no EPS or PDF: they run programs
MAX_ASPECT = 200  # beyond this a resize to the model's input leaves nothing to see

# Viridis (van der Walt & Smith, 2015), every 32nd colour: perceptually even, readable in grey and to the colour-blind.
_VIRIDIS = np.array(
    [
        (68, 1, 84), (71, 44, 122), (59, 81, 139), (44, 113, 142), (33, 144, 141),
        (39, 173, 129), (92, 200, 99), (170, 220, 50), (253, 231, 37),
    ],
    dtype=np.float32,
)  # fmt: skip
_SIGNED = np.array([(5, 48, 97), (67, 147, 195), (247, 247, 247), (214, 96, 77), (103, 0, 31)], dtype=np.float32)


def open_picture(source: PictureLike, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """An upright eight-bit RGB picture of a file, its bytes, an array (H, W, 3), or a PIL image.

    Animations give their first frame, transparency goes on white, 16-bit greys are scaled rather than cut,
    CMYK and palettes are converted. The size is checked before anything is decoded.

    Raises:
        PictureError: it is no picture, a broken one, or beyond the limits.
    """
    if isinstance(source, np.ndarray):
        return open_picture(_from_array(source), max_pixels=max_pixels)
    if isinstance(source, Image.Image):
        return _normalise(source, "this picture", max_pixels)
    name, stream = _stream(source)
    Image.init()  # else Pillow does not know the rarer formats by name yet
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of odd metadata and of sizes that we check ourselves
            with Image.open(stream, formats=[name for name in FORMATS if name in Image.OPEN]) as picture:
                return _normalise(picture, name, max_pixels)
    except UnidentifiedImageError:
        raise PictureError(f"{name} is not a picture that can be read. Send a JPEG, PNG, WebP, GIF or BMP.") from None
    except Image.DecompressionBombError:
        raise PictureError(_too_large(name, "more than the reader allows", max_pixels)) from None
    finally:
        stream.close()


def _stream(source: str | Path | bytes) -> tuple[str, IO[bytes]]:
    """What to call it, and its bytes as a file; empty, missing and oversized files are refused here."""
    if isinstance(source, bytes):
        stream: IO[bytes] = io.BytesIO(source)
        name, size = "This picture", len(source)
    else:
        path = Path(source)
        name = repr(path.name)
        if not path.is_file():
            raise PictureError(f"There is no file {str(source)!r}. Give the path of a picture.")
        size, stream = path.stat().st_size, path.open("rb")
    if size == 0 or size > MAX_BYTES:
        stream.close()
        why = "is empty (0 bytes)" if size == 0 else f"has {size / 2**20:.0f} MB, more than {MAX_BYTES / 2**20:.0f} MB"
        raise PictureError(f"{name} {why}. Send another file.")
    return name, stream


def _normalise(picture: Image.Image, name: str, max_pixels: int) -> Image.Image:
    width, height = picture.size
    if width * height > max_pixels:
        raise PictureError(_too_large(name, f"{width} x {height} pixels", max_pixels))
    if min(width, height) < 1 or max(width, height) > MAX_ASPECT * min(width, height):
        raise PictureError(
            f"{name} is {width} x {height} pixels: a strip that thin leaves the model nothing to see. Crop it first."
        )
    try:
        picture.seek(0)  # an animation is its first frame
        picture.load()
        picture = ImageOps.exif_transpose(picture)
        return _to_rgb(picture)
    except (OSError, SyntaxError, ValueError, EOFError, MemoryError, TypeError, KeyError) as error:
        raise PictureError(f"{name} is broken and could not be decoded ({error}). Save it again and retry.") from error


def _too_large(name: str, size: str, max_pixels: int) -> str:
    return f"{name} has {size}; the limit is {max_pixels / 1e6:.0f} megapixels. Make it smaller and retry."


def _to_rgb(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I") or picture.mode == "F":
        return _scale_deep_grey(picture)
    if picture.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        ground = Image.new("RGBA", picture.size, "white")  # transparent pixels keep hidden colours: cover them
        return Image.alpha_composite(ground, picture).convert("RGB")
    return picture.convert("RGB") if picture.mode != "RGB" else picture.copy()


def _scale_deep_grey(picture: Image.Image) -> Image.Image:
    """Eight bits of a 16- or 32-bit grey; `convert("RGB")` would clip everything above 255 to white."""
    grey = np.asarray(picture).astype(np.float64)
    grey = np.nan_to_num(grey, nan=0.0, posinf=0.0, neginf=0.0)
    if picture.mode == "F":
        low, high = min(0.0, grey.min()), max(grey.max(), 1.0)
    else:
        eight_bit = picture.mode == "I" and grey.max() <= 255  # 32-bit mode says nothing of the depth used
        low, high = 0.0, 255.0 if eight_bit else max(65535.0, grey.max())
    eight = np.clip(np.rint((grey - low) * (255 / (high - low))), 0, 255).astype(np.uint8)
    return Image.fromarray(eight, "L").convert("RGB")


def _from_array(array: NDArray[np.uint8]) -> Image.Image:
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise PictureError(
            f"This array is {array.dtype} of shape {array.shape}; a picture is uint8 of shape (H, W), (H, W, 3) or"
            " (H, W, 4)."
        )
    return Image.fromarray(array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array)


def thumbnail(picture: Image.Image, edge: int) -> Image.Image:
    """A copy whose longer edge is at most `edge` pixels."""
    picture = picture.copy()
    picture.thumbnail((edge, edge), Image.Resampling.LANCZOS)
    return picture


def perceptual_hash(picture: Image.Image) -> int:
    """64 bits, whether each of 8 x 8 cells is brighter than its left neighbour (dHash, Krawetz 2013)."""
    grey = np.asarray(picture.convert("L").resize((9, 8), Image.Resampling.BOX), dtype=np.int16)
    return int.from_bytes(np.packbits(grey[:, 1:] > grey[:, :-1]).tobytes(), "big")


def pixel_digest(picture: Image.Image) -> str:
    """sha256 of a picture's pixels, in hex: equal for equal pictures, whatever file they came in."""
    return hashlib.sha256(picture.convert("RGB").tobytes()).hexdigest()


def resize_heatmap(heatmap: NDArray[np.floating], size: tuple[int, int]) -> Heatmap:
    """The heatmap at (width, height), bilinear with half-pixel centres."""
    image = Image.fromarray(np.ascontiguousarray(heatmap, dtype=np.float32), mode=None)
    return np.asarray(image.resize(size, Image.Resampling.BILINEAR), dtype=np.float32)


def colourise(heatmap: NDArray[np.floating], *, signed: bool = False) -> NDArray[np.uint8]:
    """(H, W, 3) colours of a heatmap in [0, 1] (viridis), or in [-1, 1] (blue against, white none, red for)."""
    stops = _SIGNED if signed else _VIRIDIS
    scale = (np.nan_to_num(heatmap) + 1) / 2 if signed else np.nan_to_num(heatmap)
    place = np.clip(scale, 0, 1) * (len(stops) - 1)
    low = np.minimum(place.astype(np.int64), len(stops) - 2)
    share = (place - low)[..., None]
    return np.rint(stops[low] * (1 - share) + stops[low + 1] * share).astype(np.uint8)


def blend(picture: Image.Image, heatmap: NDArray[np.floating], *, opacity: float = 0.6) -> Image.Image:
    """The picture with the coloured heatmap over it; both must have the same size."""
    if heatmap.shape != (picture.height, picture.width):
        raise ValueError(f"A heatmap of shape {heatmap.shape} does not lie on a picture of {picture.size}.")
    over = Image.fromarray(colourise(heatmap))
    return Image.blend(picture.convert("RGB"), over, opacity)


def heat_in_words(heatmap: NDArray[np.floating]) -> str:
    """Where the heat is, for whoever cannot see it: "62% of the heat is in the upper left"."""
    positive = np.clip(np.nan_to_num(heatmap), 0, None)
    total = float(positive.sum())
    if total <= 0:
        return "there is no heat anywhere"
    rows = np.array_split(positive, 3, axis=0)
    cells = np.array([[float(cell.sum()) for cell in np.array_split(row, 3, axis=1)] for row in rows]) / total
    names = [
        ["upper left", "upper middle", "upper right"],
        ["middle left", "centre", "middle right"],
        ["lower left", "lower middle", "lower right"],
    ]
    first, second = np.argsort(cells, axis=None)[::-1][:2]
    name = [names[i // 3][i % 3] for i in (first, second)]
    share = cells.flat[first], cells.flat[second]
    return f"{share[0]:.0%} of the heat is in the {name[0]}, {share[1]:.0%} in the {name[1]}"
