"""Pictures from strangers become upright RGB, or one sentence that says why not."""

import io
import random
import struct
import subprocess
import sys
import time
import zlib

import numpy as np
import pytest
from PIL import Image

from xaihub import images
from xaihub.errors import PictureError
from xaihub.images import MAX_BYTES, open_picture

TOLERANCE = {"PNG": 0, "BMP": 0, "TIFF": 0, "WEBP": 24, "JPEG": 12, "AVIF": 12, "GIF": 24}
Image.init()
if "AVIF" not in Image.SAVE:  # some builds of Pillow come without it
    del TOLERANCE["AVIF"]
RED, GREEN, BLUE = (250, 20, 30), (10, 240, 20), (20, 30, 230)
ORIENTATION = 0x112


def slopes(width=40, height=24):
    """Red grows to the right and green downwards, so a turned, mirrored or recoloured copy is another picture."""
    y, x = np.mgrid[:height, :width]
    return Image.fromarray(np.stack([x * 255 // width, y * 255 // height, x * 0 + 60], -1).astype(np.uint8))


def encoded(picture, kind="PNG", **options):
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def pixels(picture):
    assert (type(picture), picture.mode) == (Image.Image, "RGB")
    return np.asarray(picture).astype(int)


def row(picture):
    return [tuple(map(int, colour)) for colour in pixels(picture)[0]]


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width, height, *extra, rows=b"", depth=8, colours=2):
    header = struct.pack(">IIBBBBB", width, height, depth, colours, 0, 0, 0)
    body = b"".join([chunk(b"IHDR", header), *extra, chunk(b"IDAT", rows), chunk(b"IEND", b"")])
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize("kind", TOLERANCE)
def test_a_picture_of_every_format_keeps_its_pixels(kind):
    seen = open_picture(encoded(slopes(), kind))
    assert np.abs(pixels(seen) - pixels(slopes())).max() <= TOLERANCE[kind]


def test_a_path_bytes_an_array_and_a_pil_image_give_the_same_pixels(tmp_path):
    file = tmp_path / "slopes.png"
    slopes().save(file)
    for source in (file, str(file), file.read_bytes(), np.asarray(slopes()), slopes(), Image.open(file)):
        assert np.array_equal(pixels(open_picture(source)), pixels(slopes()))


def test_what_came_out_does_not_depend_on_what_went_in(tmp_path):
    file, array, picture = tmp_path / "slopes.png", np.asarray(slopes()).copy(), slopes()
    picture.save(file)
    lazy = Image.open(file)
    results = [open_picture(source) for source in (file, array, picture, lazy)]
    file.unlink()
    lazy.close()
    array[:] = 0
    picture.paste("black", (0, 0, 40, 24))
    assert all(np.array_equal(pixels(result), pixels(slopes())) for result in results)


def test_a_cmyk_jpeg_keeps_its_colours():
    cmyk = Image.new("CMYK", (32, 16), (0, 255, 255, 0))  # no cyan, so red
    cmyk.paste((255, 0, 255, 0), (16, 0, 32, 16))
    seen = pixels(open_picture(encoded(cmyk, "JPEG", quality=95)))
    assert np.abs(seen[8, 4] - (255, 0, 0)).max() < 6
    assert np.abs(seen[8, 28] - (0, 255, 0)).max() < 6


def palette():
    picture = Image.new("P", (3, 2))
    picture.putpalette([*RED, *GREEN, *BLUE])
    picture.putdata([0, 1, 2, 2, 1, 0])
    return picture


def painted(mode, *colours):
    picture = Image.new(mode, (len(colours), 1))
    picture.putdata(colours)
    return picture


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (palette(), [RED, GREEN, BLUE]),
        (encoded(palette(), transparency=1), [RED, (255, 255, 255), BLUE]),
        (encoded(palette(), transparency=bytes([255, 0, 51])), [RED, (255, 255, 255), (208, 210, 250)]),
        (encoded(painted("RGBA", (*RED, 0), (*GREEN, 255), (0, 0, 0, 51))), [(255,) * 3, GREEN, (204,) * 3]),
        (encoded(painted("RGBA", (*RED, 0), (*GREEN, 255)), "WEBP", lossless=True, exact=True), [(255,) * 3, GREEN]),
        (encoded(painted("LA", (0, 0), (90, 255))), [(255,) * 3, (90,) * 3]),
        (encoded(painted("RGB", RED, GREEN), transparency=RED), [(255,) * 3, GREEN]),
        (encoded(painted("1", 0, 255)), [(0,) * 3, (255,) * 3]),
        (encoded(painted("I;16", 0, 1000, 65535), transparency=1000), [(0,) * 3, (255,) * 3, (255,) * 3]),
        (np.array([[[7], [9]]], np.uint8), [(7,) * 3, (9,) * 3]),
        (np.array([[7, 9]], np.uint8), [(7,) * 3, (9,) * 3]),
        (np.array([[[*RED, 255], [*RED, 0]]], np.uint8), [RED, (255,) * 3]),
    ],
)
def test_palettes_and_greys_become_rgb_and_what_is_transparent_becomes_white(source, expected):
    assert row(open_picture(source)) == expected


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_an_animation_is_its_first_frame(kind):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    moving = encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=100)
    assert np.abs(pixels(open_picture(moving)) - (255, 0, 0)).max() < 3
    opened = Image.open(io.BytesIO(moving))
    opened.seek(2)
    assert np.abs(pixels(open_picture(opened)) - (255, 0, 0)).max() < 3


STORED = {  # how an upright array lies in the file, by the EXIF standard's words for each orientation
    1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1), 6: np.rot90, 7: lambda a: a[::-1, ::-1].swapaxes(0, 1), 8: lambda a: np.rot90(a, -1),
}  # fmt: skip


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", STORED)
def test_a_picture_that_a_camera_held_sideways_stands_upright(kind, orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](np.asarray(slopes()))))
    seen = open_picture(encoded(stored, kind, exif=exif))
    assert seen.size == (40, 24)
    assert np.abs(pixels(seen) - pixels(slopes())).max() <= TOLERANCE[kind]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("broken", [b"", b"I am no EXIF", b"II*\0\xff\xff\xff\xff", b"II*\0\x08\0\0\0\x05\0\x12\x01"])
def test_broken_exif_does_not_cost_the_picture(kind, broken):
    seen = open_picture(encoded(slopes(), kind, exif=b"Exif\0\0" + broken))
    assert np.abs(pixels(seen) - pixels(slopes())).max() <= TOLERANCE[kind]


def test_the_layers_that_a_photo_editor_leaves_in_a_tiff_do_not_cost_the_picture():
    layers = {37724: bytes(9 * 2**20)}  # more than a header may hold, so it is passed over
    assert np.array_equal(pixels(open_picture(encoded(slopes(), "TIFF", tiffinfo=layers))), pixels(slopes()))


def test_metadata_stays_behind_for_it_may_say_where_the_visitor_lives():
    exif = Image.Exif()
    exif[0x010F] = "Camera of Alice"
    seen = open_picture(encoded(slopes(), "JPEG", exif=exif, icc_profile=b"profile", comment=b"Alice"))
    again = encoded(seen)
    assert seen.info == {}
    assert b"Alice" not in again
    assert b"iCCP" not in again


def test_sixteen_bit_greys_are_scaled_not_cut():
    ramp = Image.fromarray(np.arange(65536, dtype=np.uint16).reshape(256, 256))
    for data in (encoded(ramp, "PNG"), encoded(ramp, "TIFF")):
        seen = pixels(open_picture(data))[..., 0].ravel()
        assert (seen[0], seen[-1], len(np.unique(seen))) == (0, 255, 256)
        assert np.all(np.diff(seen) >= 0)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[0, 100, 255]], np.int32), [0, 100, 255]),
        (np.array([[-5, 0, 2**30, 2**31 - 1]], np.int32), [0, 0, 128, 255]),
        (np.array([[0, 0.5, 1, np.nan, np.inf]], np.float32), [0, 128, 255, 0, 0]),
        (np.array([[-3e38, 0, 3e38, np.nan]], np.float32), [0, 128, 255, 128]),
    ],
)
def test_deep_greys_keep_their_order_and_survive_what_is_no_number(values, expected):
    assert [red for red, _, _ in row(open_picture(Image.fromarray(values)))] == expected


def test_one_pixel_is_a_picture():
    assert row(open_picture(encoded(painted("RGB", RED)))) == [RED]


SLOPES = encoded(slopes(200, 150))
REFUSED = {
    "nothing": (b"", r"This picture is empty \(0 bytes\). Send another file."),
    "text": (b"Dear all,\nnot a picture", "This picture is not a picture that can be read. Send a JPEG"),
    "a program": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nquit\n", "not a picture"),
    "a document": (b"%PDF-1.7\n", "not a picture"),
    "a drawing": (b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>', "not a picture"),
    "ico": (encoded(slopes(), "ICO"), "not a picture"),
    "ppm": (b"P6 5000 4000 254\n" + bytes(60_000), "not a picture"),  # whole, it takes Pillow more than a minute
    "half a jpeg": (encoded(slopes(), "JPEG")[:-200], "is broken and could not be decoded .* Save it again"),
    "half a png": (SLOPES[: len(SLOPES) // 2], "is broken and could not be decoded .* Save it again"),
    "a strip": (encoded(Image.new("L", (1, 5000))), "1 x 5000 pixels: a strip that thin .* Crop it first"),
    "an empty array": (np.zeros((0, 5, 3), np.uint8), "5 x 0 pixels: a strip that thin"),
    "a large picture": (png(10_000, 10_000), "has 10000 x 10000 pixels; the limit is 20 megapixels. Make it smaller"),
    "a bomb": (png(30_000, 30_000), "more pixels than the reader allows; the limit is 20 megapixels. Make it smaller"),
    "complex": (np.zeros((4, 4), complex), r"This array is complex128 of shape \(4, 4\); a picture is of real numbers"),
    "no numbers": (np.full((4, 4), np.nan), "holds no finite value"),
    "a wrong axis": (np.zeros((3, 4, 4, 3), np.uint8), r"uint8 of shape \(3, 4, 4, 3\)"),
    "two channels": (np.zeros((4, 4, 2), np.uint8), r"uint8 of shape \(4, 4, 2\)"),
    "text chunk": (png(4, 4, chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(50_000_000)))), "is broken"),
    "profile": (png(4, 4, chunk(b"iCCP", b"k\0\0" + zlib.compress(bytes(50_000_000)))), "is broken"),
    "huge webp": (b"RIFF\x1e\0\0\0WEBPVP8X\x0a\0\0\0\x12\0\0\0" + b"\xfe\x3f\0" * 2, "is broken|not a picture"),
    "exif": (b"\xff\xd8" + (b"\xff\xe1\xff\xffExif\0\0" + bytes(65527)) * 900, "too much beside its pixels"),
    "filling": (b"\xff\xd8\xff" + b"\xff" * 30_000_000, "consists of too many pieces"),
    "extensions": (b"GIF89a\x08\0\x08\0\0\0\0" + b"\x21\x00\0" * 500_000, "consists of too many pieces"),
    "comment": (b"GIF89a\x08\0\x08\0\0\0\0\x21\xfe" + (b"\xff" + b"c" * 255) * 100_000, "consists of too many pieces"),
}


@pytest.mark.parametrize("source", REFUSED)
def test_what_is_no_picture_is_refused_soon_and_in_words(source):
    given, words = REFUSED[source]
    begun = time.monotonic()
    with pytest.raises(PictureError, match=words):
        open_picture(given)
    assert time.monotonic() - begun < 10, "the comment alone took 212 s before reads were rationed"


def test_a_bomb_is_refused_from_its_header_and_takes_no_memory(tmp_path):
    file, pack = tmp_path / "bomb.png", zlib.compressobj(9)
    rows = b"".join(pack.compress(bytes(3751 * 1000)) for _ in range(30)) + pack.flush()
    file.write_bytes(png(30_000, 30_000, rows=rows, depth=1, colours=0))
    assert file.stat().st_size < 200_000
    code = (
        "import resource, sys\nfrom xaihub.images import open_picture\nfrom xaihub.errors import PictureError\n"
        "import PIL.PngImagePlugin\n"
        "held = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\nbefore = held()\n"
        "try:\n    open_picture(sys.argv[1])\nexcept PictureError as error:\n    print(held() - before, error)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(file)], capture_output=True, text=True, check=True)
    kilobytes, words = done.stdout.split(" ", 1)
    assert "'bomb.png' has more pixels than the reader allows" in words
    assert int(kilobytes) < 10_000


def test_limits_are_the_callers_to_lower(tmp_path):
    assert open_picture(slopes(), max_pixels=960).size == (40, 24)
    for source in (slopes(), encoded(slopes()), np.asarray(slopes())):
        with pytest.raises(PictureError, match=r"40 x 24 pixels; the limit is 0.000959 megapixels"):
            open_picture(source, max_pixels=959)


def test_a_file_is_refused_by_what_is_wrong_with_it(tmp_path, monkeypatch):
    huge = tmp_path / "huge.png"
    with huge.open("wb") as stream:
        stream.truncate(MAX_BYTES + 2**20)  # a hole: it takes no room on the disk
    with pytest.raises(PictureError, match=r"'huge.png' has 65 MB, more than 64 MB. Send another file."):
        open_picture(huge)
    for missing in (tmp_path / "cat.jpg", tmp_path, "http://example.com/cat.jpg", "", "x" * 5000, "a\0b"):
        with pytest.raises(PictureError, match=r"There is no file .* Give the path of a picture."):
            open_picture(missing)
    slopes().save(tmp_path / "mine.png")
    monkeypatch.setattr(images.Path, "read_bytes", lambda path: (_ for _ in ()).throw(PermissionError(13, "Denied")))
    with pytest.raises(PictureError, match=r"'mine.png' cannot be read \(Denied\). Send another file."):
        open_picture(tmp_path / "mine.png")


TURNED = b"Exif\0\0II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\6\0\0\0\0\0\0\0"


def damaged(sound, chance):
    """A copy with one to four other bytes, which in three cases of ten ends too early."""
    data = bytearray(sound)
    for _ in range(chance.choice((1, 1, 2, 4))):
        data[chance.randrange(len(data))] = chance.randrange(256)
    return bytes(data[: chance.randrange(len(data))] if chance.random() < 0.3 else data)


@pytest.mark.parametrize("kind", TOLERANCE)
def test_flipped_bytes_give_a_picture_or_a_sentence_and_nothing_else(kind):
    chance, sound, opened = random.Random(0), encoded(slopes(), kind, exif=TURNED), 0
    for _ in range(300):
        try:
            opened += pixels(open_picture(damaged(sound, chance))).size > 0
        except PictureError as error:
            assert str(error).endswith(("and retry.", "GIF or BMP.", "Send another file.", "Crop it first."))  # noqa: PT017
    assert 0 < opened < 300, "some flips do no harm, and some do"
