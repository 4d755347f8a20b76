"""Open, check and normalise a picture that a stranger sent; draw heatmaps over pictures.

Pictures are RGB `PIL.Image`s, upright, eight bits a channel; heatmaps are float arrays (H, W).
"""

import hashlib
import io
import re
import struct
import warnings
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageDraw, ImageOps, UnidentifiedImageError

from xaihub.errors import PictureError
from xaihub.levels import levels_of, significant_bits, stated_levels, to_eight_bits

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "MAX_PIXELS",
    "READ_AS",
    "blend",
    "colourise",
    "drawn_over",
    "heat_in_words",
    "open_picture",
    "perceptual_hash",
    "pixel_digest",
    "resize_heatmap",
    "thumbnail",
]

Heatmap: TypeAlias = NDArray[np.float32]
PictureLike: TypeAlias = "str | Path | bytes | Image.Image | NDArray[Any] | Tensor"

READ_AS = "read as"  # where an opened image keeps how its values were read, if something had to be assumed

MAX_PIXELS = 20_000_000  # read from the header, before anything is decoded
MAX_BYTES = 64 * 2**20
# No EPS or PDF: they run programs. No ICO: it hides a picture larger than its header says. No PPM: a minute of Python.
FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF")
MAX_ASPECT = 200  # beyond this a resize to the model's input leaves nothing to see

# Pillow's plugins raise whatever a broken file leads them to.
_BROKEN = (
    ArithmeticError, AssertionError, AttributeError, EOFError, LookupError, MemoryError, OSError, RuntimeError,
    SyntaxError, TypeError, ValueError, struct.error, zlib.error,
)  # fmt: skip
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip

# Viridis (van der Walt & Smith, 2015), every 32nd colour: perceptually even, readable in grey and to the colour-blind.
_VIRIDIS = np.array(
    [
        (68, 1, 84), (71, 44, 122), (59, 81, 139), (44, 113, 142), (33, 144, 141),
        (39, 173, 129), (92, 200, 99), (170, 220, 50), (253, 231, 37),
    ],
    dtype=np.float32,
)  # fmt: skip
_REGIONS = ("#f0e442", "#56b4e9", "#f07030")  # of Okabe & Ito (2008): told apart by the colour-blind, too
_SIGNED = np.array([(5, 48, 97), (67, 147, 195), (247, 247, 247), (214, 96, 77), (103, 0, 31)], dtype=np.float32)


def open_picture(
    source: PictureLike, *, max_pixels: int = MAX_PIXELS, levels: tuple[float, float] | None = None
) -> Image.Image:
    """An upright eight-bit RGB picture of a file, its bytes, an array (H, W, 3), a tensor (3, H, W) or a PIL image.

    Animations give their first frame, transparency goes on white, CMYK and palettes are converted. Values that are
    not 0 to 255 (16-bit, signed, floating point) are read as `levels_of` says, and where that had to be measured,
    `info["read as"]` has the sentence; give `levels` to read all images of a dataset alike. The size is checked
    before anything is decoded. Metadata stays behind: it may say where the visitor lives.

    Args:
        source: arrays are (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), tensors (H, W), (1, H, W), (3, H, W) or
            (4, H, W), of any type of real numbers.
        levels: the values that become black and white, of images that do not hold 0 to 255.

    Raises:
        PictureError: it is no picture, a broken one, or beyond the limits.
        ValueError: the levels are no numbers, or not the smaller one first.
    """
    if levels is not None and not (np.isfinite(levels).all() and levels[0] < levels[1]):
        raise ValueError(f"levels are (black, white), two numbers of which the second is larger, not {levels}.")
    name, data = _contents(source) if isinstance(source, str | Path | bytes) else ("This picture", b"")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of odd metadata and of sizes that we check ourselves
            if isinstance(source, Image.Image) or data:
                picture = source if isinstance(source, Image.Image) else _identify(data)
                return _normalise(picture, name, max_pixels, levels, data)
            return _of_values(_as_array(source, max_pixels), levels)
    except UnidentifiedImageError:
        raise PictureError(f"{name} is not a picture that can be read. Send a JPEG, PNG, WebP, GIF or BMP.") from None
    except Image.DecompressionBombError:
        raise PictureError(_too_large(name, "more pixels than the reader allows", max_pixels)) from None
    except _BROKEN as error:
        raise PictureError(f"{name} is broken and could not be decoded ({error}). Save it again and retry.") from error


def _contents(source: str | Path | bytes) -> tuple[str, bytes]:
    """What to call it, and its bytes; empty, missing and oversized files are refused here."""
    if isinstance(source, bytes):
        name, size = "This picture", len(source)
    else:
        name, size = repr(Path(source).name), _file_size(Path(source))
    if size == 0 or size > MAX_BYTES:
        why = "is empty (0 bytes)" if size == 0 else f"has {size / 2**20:.0f} MB, more than {MAX_BYTES / 2**20:.0f} MB"
        raise PictureError(f"{name} {why}. Send another file.")
    try:
        return name, source if isinstance(source, bytes) else Path(source).read_bytes()
    except OSError as error:
        raise PictureError(f"{name} cannot be read ({error.strerror}). Send another file.") from error


def _file_size(path: Path) -> int:
    try:
        if path.is_file():
            return path.stat().st_size
    except OSError:  # a "path" longer than paths can be
        pass
    given = str(path) if len(str(path)) < 200 else f"{str(path)[:200]}..."
    raise PictureError(f"There is no file {given!r}. Give the path of a picture.")


class _Rationed(io.BytesIO):
    """Bytes of which only so many can be asked for: Pillow spends minutes on a header of a million tiny blocks."""

    reads, room = 5_000, 8 * 2**20  # what a header may take; real ones take hundreds, and kilobytes

    def read(self, size: int | None = -1, /) -> bytes:
        self.reads -= 1
        asked = max(size or 0, 0)  # asked for whole, it is held once; piece by piece, many times
        if self.reads < 0 or asked > self.room:
            raise OSError("it consists of too many pieces" if self.reads < 0 else "it holds too much beside its pixels")
        self.room -= asked
        return super().read(size)


def _identify(data: bytes) -> Image.Image:
    """A picture whose header was read; nothing is decoded yet."""
    Image.init()  # else Pillow does not know the rarer formats by name yet
    stream = _Rationed(data)
    picture = Image.open(stream, formats=[name for name in FORMATS if name in Image.OPEN])
    stream.reads, stream.room = 1_000_000, 100 * MAX_BYTES  # a read for each strip or run of pixels
    return picture


def _normalise(
    picture: Image.Image, name: str, max_pixels: int, levels: tuple[float, float] | None, data: bytes
) -> Image.Image:
    _check_size(picture.size, name, max_pixels)
    picture.seek(0)  # an animation is its first frame
    told, depth = picture.info.get(READ_AS), _stored_depth(picture)
    picture.load()
    values = _low_values(picture, data) if depth == 16 and data else None
    if picture.mode.startswith("I") or picture.mode == "F":
        normal = _deep_grey(_upright(picture), levels, data)
    elif values is not None:
        normal = _of_values(values, levels, "16-bit image", 16)
    else:
        normal = _to_rgb(_upright(picture))
        normal.info = {READ_AS: told} if isinstance(told, str) else {}  # it may have been opened before
    return normal


def _check_size(size: tuple[int, int], name: str, max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        raise PictureError(_too_large(name, f"{width} x {height} pixels", max_pixels))
    if min(width, height) < 1 or max(width, height) > MAX_ASPECT * min(width, height):
        raise PictureError(
            f"{name} is {width} x {height} pixels: a strip that thin leaves the model nothing to see. Crop it first."
        )


def _too_large(name: str, size: str, max_pixels: int) -> str:
    return f"{name} has {size}; the limit is {max_pixels / 1e6:g} megapixels. Make it smaller and retry."


def _upright(picture: Image.Image) -> Image.Image:
    """The picture turned as its EXIF says; broken EXIF says nothing, and the pixels beside it may be sound."""
    try:
        turn = _TURNS.get(picture.getexif().get(ExifTags.Base.Orientation, 1))
    except _BROKEN:
        return picture
    return picture if turn is None else picture.transpose(turn)


def _to_rgb(picture: Image.Image) -> Image.Image:
    return _on_white(picture.convert("RGBA")) if picture.has_transparency_data else picture.convert("RGB")


def _on_white(picture: Image.Image) -> Image.Image:
    ground = Image.new("RGBA", picture.size, "white")  # transparent pixels keep hidden colours: cover them
    return Image.alpha_composite(ground, picture).convert("RGB")


def _stored_depth(picture: Image.Image) -> int:
    """Bits a sample of colours that Pillow cuts to the upper eight, 16, or 0 where it cuts none."""
    modes = [str(tile.args if isinstance(tile.args, str) else (tile.args or ("",))[0]) for tile in _tiles(picture)]
    return 16 if modes and all(re.fullmatch("RGBA?;16[BL]", mode) for mode in modes) else 0


def _tiles(picture: Image.Image) -> list[Any]:
    return list(getattr(picture, "tile", ()))


def _low_values(picture: Image.Image, data: bytes) -> NDArray[np.uint16] | None:
    """(H, W, 3 or 4), all sixteen bits of colours that use few of them; None where the upper eight bits are enough."""
    high = np.asarray(_upright(picture))
    if high[..., :3].max() >= 2**6:
        return None
    again: Any = _identify(data)  # once more, in the other order of bytes: then the lower ones come as the upper ones
    again.tile = [tile._replace(args=_other_order(tile.args)) for tile in _tiles(again)]
    again.load()
    return high.astype(np.uint16) << 8 | np.asarray(_upright(again))


def _other_order(args: Any) -> Any:
    if not isinstance(args, str):
        return (_other_order(args[0]), *args[1:])
    return args[:-1] + {"B": "L", "L": "B"}[args[-1]]


def _deep_grey(picture: Image.Image, levels: tuple[float, float] | None, data: bytes) -> Image.Image:
    """Eight bits of a 16- or 32-bit grey; `convert("RGB")` would clip everything above 255 to white."""
    tags: Mapping[int, Any] = getattr(picture, "tag_v2", {})
    what = {"F": "floating-point image", "I": "32-bit image"}.get(picture.mode, "16-bit image")
    depth = significant_bits(data) or int(next(iter(np.ravel(tags.get(258, 16))), 16))
    depth = (depth if 8 <= depth <= 16 else 16) if picture.mode.startswith("I;16") else 0
    values = np.asarray(picture)
    normal = _of_values(values, levels or stated_levels(tags), what, depth)
    if tags.get(262) == 0:  # white is zero, which Pillow undoes only in eight bits
        normal, info = ImageOps.invert(normal), normal.info
        normal.info = info
    clear = picture.info.get("transparency")  # the one grey that a PNG may declare transparent
    if isinstance(clear, int):
        normal.paste("white", mask=Image.fromarray(values == clear))
    return normal


def _as_array(source: Any, max_pixels: int) -> NDArray[Any]:
    """(H, W) or (H, W, 1, 3 or 4) of an array or of a tensor with its channels first, checked."""
    array = source if isinstance(source, np.ndarray) else _of_tensor(source)
    if (
        array.ndim not in (2, 3)
        or array.dtype.kind not in "biuf"
        or (array.ndim == 3 and array.shape[2] not in (1, 3, 4))
    ):
        what = "array" if isinstance(source, np.ndarray) else "tensor"
        raise PictureError(
            f"This {what} is {source.dtype} of shape {tuple(source.shape)}; a picture is of real numbers, an array of"
            " shape (H, W), (H, W, 3) or (H, W, 4), or a tensor of shape (H, W), (3, H, W) or (4, H, W)."
        )
    _check_size((array.shape[1], array.shape[0]), f"This picture of shape {tuple(source.shape)}", max_pixels)
    return array


def _of_tensor(tensor: "Tensor") -> NDArray[Any]:
    plain = tensor.detach().cpu()
    plain = plain.float() if str(plain.dtype) == "torch.bfloat16" else plain
    return plain.permute(1, 2, 0).numpy() if plain.ndim == 3 else plain.numpy()


def _of_values(values: NDArray[Any], levels: tuple[float, float] | None, what: str = "", depth: int = 0) -> Image.Image:
    """An RGB picture of (H, W) or (H, W, 1, 3 or 4) values, the fourth channel being opacity."""
    grey = values[..., 0] if values.ndim == 3 and values.shape[2] == 1 else values
    if grey.dtype == np.bool_:
        grey = grey.astype(np.uint8) * 255
    if grey.dtype == np.uint8:
        return _to_rgb(Image.fromarray(np.ascontiguousarray(grey)))
    what = what or f"image of type {values.dtype}"
    depth = depth or (16 if values.dtype == np.uint16 else 0)
    colours, opacity = (grey[..., :3], grey[..., 3:]) if grey.ndim == 3 else (grey, grey[..., :0])
    finite = colours if colours.dtype.kind != "f" else colours[np.isfinite(colours)]
    if not finite.size:
        raise PictureError(f"This {what} holds no finite value. Send another.")
    read = levels_of(finite, what, levels, depth)
    eight = to_eight_bits(colours, read)
    if grey.ndim == 3 and grey.shape[2] == 4:
        opaque = to_eight_bits(opacity, levels_of(opacity[np.isfinite(opacity)], what, None, depth))
        normal = _on_white(Image.fromarray(np.concatenate([eight, opaque], axis=2)))
    else:
        normal = Image.fromarray(eight).convert("RGB")
    normal.info = {READ_AS: read.notice} if read.notice else {}
    return normal


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
    image = Image.fromarray(np.ascontiguousarray(heatmap, dtype=np.float32))
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


def drawn_over(
    picture: Image.Image,
    heatmap: NDArray[np.floating] | None = None,
    boxes: Sequence[tuple[float, float, float, float]] = (),
    *,
    numbered: bool = False,
) -> Image.Image:
    """The picture as a page shows it: the heatmap over it, if there is one, and boxes with a dark edge over that.

    Args:
        heatmap: (H, W) in [0, 1] of the picture's size.
        boxes: left, upper, right, lower in the picture's pixels.
        numbered: whether each has a colour of its own and, where there is room, a number: its partner lies elsewhere.
    """
    shown = picture.convert("RGB") if heatmap is None else blend(picture, heatmap)
    draw, width, font = ImageDraw.Draw(shown), max(1, round(min(shown.size) / 112)), max(8.0, min(shown.size) / 16)
    for number, box in enumerate(boxes, 1):
        colour = _REGIONS[(number - 1) % len(_REGIONS)] if numbered else "#ffffff"
        draw.rectangle(box, outline="#000000", width=2 * width)
        draw.rectangle(box, outline=colour, width=width)
        if numbered and min(box[2] - box[0], box[3] - box[1]) > 1.5 * font:  # else it would hide what is marked
            place = box[0] + 3 * width, box[1] + 2 * width
            draw.text(place, str(number), fill=colour, stroke_width=width, stroke_fill="#000000", font_size=font)
    return shown


def heat_in_words(heatmap: NDArray[np.floating]) -> str:
    """Where the heat is, for whoever cannot see it: "62% of the heat is in the upper left"."""
    positive = np.clip(np.nan_to_num(heatmap, posinf=0.0), 0, None).astype(np.float64)
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
    first, second = np.argsort(-cells, axis=None, kind="stable")[:2]
    lead = f"{cells.flat[first]:.0%} of the heat is in the {names[first // 3][first % 3]}"
    rest = f", {cells.flat[second]:.0%} in the {names[second // 3][second % 3]}"
    return lead + rest if cells.flat[second] >= 0.005 else lead
