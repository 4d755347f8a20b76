"""Two thousand damaged images, drawn by seed: each is opened as a sane picture or refused in words, soon."""

import io
import random
import resource
import struct
import time
import warnings
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageCms

from xaihub.errors import PictureError
from xaihub.images import MAX_ASPECT, MAX_PIXELS, READ_AS, open_picture

COUNT = 2000
Image.init()
READ = {"JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "MPO", "AVIF"} & {*Image.SAVE}
SOON = 3.0  # seconds of this process for one image
ROOM = 600 * 2**10  # KB beyond what the process held before: twenty megapixels in four channels, several times

WITH_EXIF = ("JPEG", "PNG", "WEBP", "TIFF", "AVIF", "MPO")


def _content(mode: str) -> Image.Image:
    y, x = np.mgrid[:12, :16]
    picture = Image.fromarray(np.stack([x * 15, y * 20, x * y, 255 - x * 9], -1).astype(np.uint8))
    if mode in ("I;16", "F"):
        values = np.asarray(picture.convert("L"))
        return Image.fromarray(
            values.astype(np.uint16 if mode == "I;16" else np.float32) * (257 if mode == "I;16" else 1)
        )
    return picture.convert(mode)


def _written(kind: str, mode: str, **options: object) -> bytes | None:
    stream = io.BytesIO()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _content(mode).save(stream, kind, **options)
    except (OSError, KeyError, ValueError, SystemError, TypeError, AttributeError, RuntimeError, NotImplementedError):
        return None  # it does not write that mode, or only with a program or a plugin that is not here
    return stream.getvalue()


def seeds() -> list[tuple[str, bytes]]:
    """Small images in every format that Pillow writes, in its modes; animated, with EXIF, with a profile."""
    found: list[tuple[str, bytes | None]] = []
    for kind in sorted({*Image.SAVE} - {"PDF"}):  # a PDF names the time at which it was written
        found += [
            (f"{kind} {mode}", _written(kind, mode)) for mode in ("RGB", "L", "P", "1", "RGBA", "I;16", "CMYK", "F")
        ]
    exif = Image.Exif()
    exif[0x112], exif[0x10F] = 6, "camera"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for kind in WITH_EXIF:
        found.append((f"{kind} with EXIF and a profile", _written(kind, "RGB", exif=exif, icc_profile=profile)))
    for kind in ("GIF", "PNG", "WEBP", "TIFF", "AVIF"):
        frames = [_content("RGB").rotate(90 * turn) for turn in (1, 2)]
        found.append((f"{kind} animated", _written(kind, "RGB", save_all=True, append_images=frames, duration=50)))
    for compression in ("tiff_lzw", "jpeg", "packbits", "group4", "tiff_adobe_deflate"):
        found.append(
            (
                f"TIFF {compression}",
                _written("TIFF", "1" if compression == "group4" else "RGB", compression=compression),
            )
        )
    found.append(("JPEG progressive", _written("JPEG", "RGB", progressive=True, comment=b"note")))
    return [(name, data) for name, data in found if data]


def flipped(data: bytes, chance: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 4, 16, 64))):
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def flipped_in_front(data: bytes, chance: random.Random) -> bytes:
    head = min(len(data), 64)
    return flipped(data[:head], chance) + data[head:]


def truncated(data: bytes, chance: random.Random) -> bytes:
    return data[: chance.randrange(len(data))]


def zeroed(data: bytes, chance: random.Random) -> bytes:
    start = chance.randrange(len(data))
    stop = min(len(data), start + chance.choice((1, 4, 16, 256)))
    return data[:start] + bytes([chance.choice((0, 255))]) * (stop - start) + data[stop:]


def spliced(data: bytes, chance: random.Random) -> bytes:
    start, stop = sorted(chance.randrange(len(data)) for _ in range(2))
    place = chance.randrange(len(data))
    return data[:place] + data[start:stop] * chance.choice((1, 1, 8)) + data[place:]


def cut_out(data: bytes, chance: random.Random) -> bytes:
    start = chance.randrange(len(data))
    return data[:start] + data[start + chance.choice((1, 2, 3, 12, 100)) :]


def numbers(data: bytes, chance: random.Random) -> bytes:
    """A number of two or four bytes in front becomes one of those that break programs: giant sizes and offsets."""
    value = chance.choice((0, 1, 0x7FFF, 0x8000, 0xFFFF, 100_000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF))
    kind = chance.choice("<>") + ("I" if value > 0xFFFF or chance.random() < 0.5 else "H")
    place = chance.randrange(max(1, min(len(data), 300) - 4))
    packed = struct.pack(kind, value)
    return data[:place] + packed + data[place + len(packed) :]


def sized(data: bytes, chance: random.Random) -> bytes:
    """The width or the height (16 or 12, wherever they are written) becomes another."""
    old, new = chance.choice((16, 12)), chance.choice((0, 1, 13, 4_000, 5_000, 20_000, 65_535))
    for kind in chance.sample(("<I", ">I", "<H", ">H"), 4):
        place = data.find(struct.pack(kind, old), 4)
        if place >= 0:
            size = struct.calcsize(kind)
            return _right_sums(data[:place] + struct.pack(kind, new) + data[place + size :])
    return numbers(data, chance)


def _right_sums(data: bytes) -> bytes:
    """The checksums of a PNG's chunks made right again, so that the change is not told by them."""
    if data[:8] != b"\x89PNG\r\n\x1a\n":
        return data
    place, parts = 8, [data[:8]]
    while place + 12 <= len(data):
        (length,) = struct.unpack(">I", data[place : place + 4])
        if place + 12 + length > len(data):
            break
        body = data[place + 4 : place + 8 + length]
        parts.append(data[place : place + 4] + body + struct.pack(">I", zlib.crc32(body)))
        place += 12 + length
    return b"".join(parts) + data[place:]


def with_right_sums(data: bytes, chance: random.Random) -> bytes:
    return _right_sums(numbers(flipped_in_front(data, chance), chance))


def chunks(data: bytes, chance: random.Random) -> bytes:
    """Junk where formats keep metadata: a PNG chunk, a JPEG segment, a RIFF chunk; else bytes in the middle."""
    junk = chance.randbytes(chance.choice((0, 1, 30, 3000)))
    if data[:4] == b"\x89PNG":
        kind = chance.choice((b"iCCP", b"eXIf", b"tRNS", b"PLTE", b"acTL", b"fcTL", b"zTXt", b"sBIT", b"IHDR", b"gAMA"))
        chunk = struct.pack(">I", len(junk)) + kind + junk + struct.pack(">I", zlib.crc32(kind + junk))
        place = chance.choice((8, 33, len(data) - 12))
        return data[:place] + chunk + data[place:]
    if data[:2] == b"\xff\xd8":
        marker = bytes([0xFF, chance.choice((0xE0, 0xE1, 0xE2, 0xED, 0xEE, 0xDB, 0xC4, 0xC0, 0xDD, 0xFE))])
        named = chance.choice((b"", b"Exif\0\0", b"ICC_PROFILE\0", b"MPF\0", b"Photoshop 3.0\0")) + junk
        return data[:2] + marker + struct.pack(">H", (len(named) + 2) & 0xFFFF) + named + data[2:]
    if data[:4] == b"RIFF":
        kind = chance.choice((b"EXIF", b"ICCP", b"ANIM", b"ANMF", b"VP8X", b"ALPH"))
        place = chance.choice((12, len(data)))
        return data[:place] + kind + struct.pack("<I", len(junk)) + junk + data[place:]
    return data[: len(data) // 2] + junk + data[len(data) // 2 :]


def entries(data: bytes, chance: random.Random) -> bytes:
    """A TIFF directory (also in EXIF) with one entry of nonsense: any tag, type, count and offset."""
    place = max(data.find(b"II*\0"), data.find(b"MM\0*"))
    if place < 0 or place + 8 > len(data):
        return spliced(data, chance)
    order = "<" if data[place : place + 1] == b"I" else ">"
    (start,) = struct.unpack(order + "I", data[place + 4 : place + 8])
    start += place + 2 + 12 * chance.randrange(12)
    tag = chance.choice(
        (256, 257, 258, 259, 262, 273, 277, 278, 279, 284, 317, 320, 322, 324, 339, 340, 341, 34665, 34853)
    )
    count = chance.choice((0, 1, 3, 1000, 0x7FFFFFFF, 0xFFFFFFFF))
    entry = struct.pack(order + "HHII", tag, chance.randrange(20), count, chance.choice((0, 8, 1, start, 0xFFFFFFF0)))
    return data[:start] + entry + data[start + 12 :]


MUTATIONS: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    flipped, flipped_in_front, truncated, zeroed, spliced, cut_out, numbers, sized, with_right_sums, chunks, entries,
)  # fmt: skip


def mutated(index: int, among: list[tuple[str, bytes]]) -> tuple[str, bytes]:
    """The same for the same index: a seed, of formats that are read three times in four, and mutations of it."""
    chance = random.Random(index)
    read = [seed for seed in among if seed[0].split()[0] in READ]
    name, data = chance.choice(read if chance.random() < 0.75 else among)
    for _ in range(chance.choice((1, 1, 2, 3))):
        mutation = chance.choice(MUTATIONS)
        data, name = mutation(data, chance) or b"\0", f"{name}, {mutation.__name__}"
    return name, data


def answer(data: bytes) -> Image.Image | PictureError:
    try:
        return open_picture(data)
    except PictureError as error:
        return error


def test_the_undamaged_seeds_are_opened_or_of_a_format_that_is_refused():
    """Else the mutations would only show that nothing is opened."""
    among = seeds()
    opened = {name.split()[0] for name, data in among if isinstance(answer(data), Image.Image)}
    assert opened >= READ
    assert len({name.split()[0] for name, _ in among}) >= 20
    refused = {name.split()[0] for name, data in among if isinstance(answer(data), PictureError)}
    assert not refused & opened, "a format is read in all of its modes, or not at all"


@pytest.mark.parametrize("part", range(10))
def test_a_damaged_image_is_a_sane_picture_or_is_refused_in_words(part, recwarn):
    among = seeds()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    opened = 0
    for index in range(part, COUNT, 10):
        name, data = mutated(index, among)
        begun = time.process_time()
        found = answer(data)
        assert time.process_time() - begun < SOON, f"{index}: {name}"
        if isinstance(found, PictureError):
            assert 20 < len(str(found)) < 500, f"{index}: {name}: {found}"
            assert str(found).endswith("."), f"{index}: {name}: {found}"
            continue
        opened += 1
        width, height = found.size
        assert (type(found), found.mode) == (Image.Image, "RGB"), f"{index}: {name}"
        assert width * height <= MAX_PIXELS
        assert max(width, height) <= MAX_ASPECT * min(width, height)
        assert found.info.keys() <= {READ_AS}
        found.load()
    assert 20 < opened < 180, "mutations that break all or nothing show nothing"
    assert not recwarn.list
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < ROOM
