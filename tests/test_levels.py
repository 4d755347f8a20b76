"""Values that are not 0 to 255 are read as their file says, else as measured, and it is said how."""

import io
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, TiffImagePlugin
from toy_networks import SmallNet, classifier_of

from xaihub import explain
from xaihub.images import READ_AS, open_picture

CONTENT = (np.arange(24 * 36) * 7 % 180).reshape(24, 36).astype(np.uint8)  # 0 to 179, the largest far below white


def encoded(picture: Image.Image, kind: str = "TIFF", **options) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def tiff(values: np.ndarray, **tags: float) -> bytes:
    """A grey TIFF of any type of number, as Pillow writes it, with further tags by their names."""
    info = TiffImagePlugin.ImageFileDirectory_v2()
    for name, value in tags.items():
        number, kind = {"low": (340, 12), "high": (341, 12), "white_is_zero": (262, 3)}[name]
        info.tagtype[number] = kind
        info[number] = value
    data = encoded(Image.fromarray(values), tiffinfo=info)
    return data if "white_is_zero" not in tags else data.replace(_tag(262, 3, 1), _tag(262, 3, 0))


def _tag(number: int, kind: int, value: int) -> bytes:
    return struct.pack("<HHIHH", number, kind, 1, value, 0)


def png_rgb16(values: np.ndarray, sbit: int = 0, colours: int = 2) -> bytes:
    """A PNG of 16 bits a channel, which Pillow does not write."""
    height, width = values.shape[:2]

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colours, 0, 0, 0))
    bits = chunk(b"sBIT", bytes([sbit])) if sbit else b""
    return b"\x89PNG\r\n\x1a\n" + head + bits + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def grey(source, **options) -> np.ndarray:
    array = np.asarray(open_picture(source, **options))
    assert (array[..., 0] == array[..., 1]).all()
    assert (array[..., 0] == array[..., 2]).all()
    return array[..., 0]


THREE = np.stack([CONTENT, CONTENT.T.reshape(24, 36), CONTENT[::-1]], -1)
SAME = {
    "8-bit PNG": encoded(Image.fromarray(CONTENT), "PNG"),
    "float TIFF, 0 to 179": tiff(CONTENT.astype(np.float32)),
    "float TIFF, in [0, 1]": tiff((CONTENT / 255).astype(np.float32)),
    "float TIFF, in [-1, 1]": tiff((CONTENT / 127.5 - 1).astype(np.float32)),
    "float TIFF that states 0 to 510": tiff(2 * CONTENT.astype(np.float32), low=0.0, high=510.0),
    "float TIFF that states -1000 to 1550": tiff(10 * CONTENT.astype(np.float32) - 1000, low=-1000.0, high=1550.0),
    "16-bit TIFF": tiff(CONTENT.astype(np.uint16) * 257),
    "16-bit TIFF of 8-bit values": tiff(CONTENT.astype(np.uint16)),
    "16-bit PNG": encoded(Image.fromarray(CONTENT.astype(np.uint16) * 257), "PNG"),
    "32-bit TIFF of 8-bit values": tiff(CONTENT.astype(np.int32)),
    "white is zero": tiff(65535 - CONTENT.astype(np.uint16) * 257, white_is_zero=0),
    "numpy uint8": CONTENT,
    "numpy uint16": CONTENT.astype(np.uint16) * 257,
    "numpy uint16 of 8-bit values": CONTENT.astype(np.uint16),
    "numpy int64": CONTENT.astype(np.int64),
    "numpy float64, 0 to 179": CONTENT.astype(float),
    "numpy float16 in [0, 1]": (CONTENT / 255).astype(np.float16),
    "numpy (H, W, 1)": CONTENT[..., None] / 255,
    "torch (1, H, W) in [0, 1]": torch.from_numpy(CONTENT)[None] / 255,
    "torch (H, W) uint8": torch.from_numpy(CONTENT),
    "torch with a gradient": (torch.from_numpy(CONTENT)[None].float() / 255).requires_grad_(),
}


@pytest.mark.parametrize("name", SAME)
def test_the_same_content_gives_the_same_pixels_however_it_is_saved(name):
    apart = np.abs(grey(SAME[name]).astype(int) - CONTENT)
    assert apart.max() <= ("float16" in name), "half precision holds eleven bits"


@pytest.mark.parametrize(
    "source",
    [THREE, THREE / 255.0, THREE.astype(np.uint16) * 257, torch.from_numpy(THREE).permute(2, 0, 1) / 255],
    ids=["uint8", "float", "uint16", "torch (3, H, W)"],
)
def test_colours_of_arrays_and_tensors_keep_their_channels(source):
    assert np.array_equal(np.asarray(open_picture(source)), THREE)


TWELVE = np.linspace(0, 4095, 24 * 36).round().astype(np.uint16).reshape(24, 36)
LOW = 25 * np.arange(24 * 36, dtype=np.uint16).reshape(24, 36) % 900  # a dark 12-bit image


@pytest.mark.parametrize(
    "source",
    [
        tiff(TWELVE),
        encoded(Image.fromarray(TWELVE), "PNG"),
        TWELVE,
        tiff(TWELVE.astype(np.int32)),
        TWELVE.astype(float),
    ],
    ids=["TIFF", "PNG", "numpy", "32-bit TIFF", "numpy float"],
)
def test_twelve_bits_in_sixteen_are_read_as_twelve_and_it_is_said(source):
    picture = open_picture(source)
    assert np.array_equal(np.asarray(picture)[..., 0], np.rint(TWELVE / 4095 * 255).astype(np.uint8))
    assert "has 4095 as its largest value: it is read as 12-bit" in picture.info[READ_AS]


def test_colours_of_twelve_bits_in_a_sixteen_bit_png_are_read_as_twelve():
    values = np.stack([TWELVE, TWELVE[::-1], TWELVE[:, ::-1]], -1)
    picture = open_picture(png_rgb16(values))
    assert np.array_equal(np.asarray(picture), np.rint(values / 4095 * 255).astype(np.uint8))
    assert "read as 12-bit" in picture.info[READ_AS]


def test_opacity_of_sixteen_bits_stays_opacity_beside_colours_of_twelve():
    values = np.stack([TWELVE, TWELVE, TWELVE, np.where(TWELVE > 2000, 65535, 0).astype(np.uint16)], -1)
    seen = np.asarray(open_picture(png_rgb16(values, colours=6)))[..., 0]
    expected = np.where(TWELVE > 2000, np.rint(TWELVE / 4095 * 255), 255)
    assert np.array_equal(seen, expected.astype(np.uint8))


def test_what_a_png_says_of_its_bits_counts_before_its_largest_value():
    expected = np.rint(LOW / 4095 * 255).astype(np.uint8)
    picture = open_picture(png_rgb16(LOW, sbit=12, colours=0))
    assert np.array_equal(np.asarray(picture)[..., 0], expected)
    assert picture.info == {}, "nothing was assumed"
    assert "875 as its largest value: it is read as 10-bit" in open_picture(png_rgb16(LOW, colours=0)).info[READ_AS]


def test_levels_read_a_whole_dataset_alike():
    dark, bright = LOW, TWELVE
    for values in (dark, bright):
        assert np.array_equal(grey(tiff(values), levels=(0, 4095)), np.rint(values / 4095 * 255).astype(np.uint8))
    with pytest.raises(ValueError, match="the second is larger"):
        open_picture(tiff(dark), levels=(5, 5))


CT = np.linspace(-1024, 3071, 24 * 36).round().astype(np.int16).reshape(24, 36)


@pytest.mark.parametrize(
    "source", [tiff(CT.astype(np.int32)), CT, torch.from_numpy(CT), CT + 0.0], ids=["TIFF", "int16", "torch", "float"]
)
def test_hounsfield_units_go_from_the_smallest_to_the_largest_and_it_is_said(source):
    picture = open_picture(source)
    assert np.array_equal(np.asarray(picture)[..., 0], np.rint((CT + 1024.0) / 4095 * 255).astype(np.uint8))
    assert "has values from -1024 to 3071: the smallest becomes black, the largest white" in picture.info[READ_AS]


def test_signed_sixteen_bits_of_a_tiff_are_signed():
    signed = _with_sample_format(tiff(CT.view(np.uint16)))
    assert "values from -1024 to 3071" in open_picture(signed).info[READ_AS]


def _with_sample_format(data: bytes) -> bytes:
    """The same TIFF, its samples declared signed: one more entry at the end of a new directory."""
    (start,) = struct.unpack("<I", data[4:8])
    (count,) = struct.unpack("<H", data[start : start + 2])
    entries = [data[start + 2 + 12 * i : start + 14 + 12 * i] for i in range(count)]
    entries = [entry for entry in entries if entry[:2] != struct.pack("<H", 339)] + [_tag(339, 3, 2)]
    entries.sort(key=lambda entry: struct.unpack("<H", entry[:2]))
    directory = struct.pack("<H", len(entries)) + b"".join(entries) + struct.pack("<I", 0)
    return data[:4] + struct.pack("<I", len(data)) + data[8:] + directory


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.array([[0.5, 3.25, 9.75]], np.float32), "from 0.5 to 9.75: the smallest becomes black"),
        (np.array([[280.5, 301.0, np.nan]], np.float32), "has 301 as its largest value: it is read as 10-bit"),
        (np.array([[0, 70000, 140000]], np.int32), "from 0 to 140000: the smallest becomes black"),
    ],
)
def test_how_values_in_a_unit_of_their_own_were_read_is_said(values, words):
    assert words in open_picture(tiff(values)).info[READ_AS]


def test_an_ordinary_image_says_nothing_of_its_values():
    for source in (SAME["8-bit PNG"], CONTENT, THREE, SAME["16-bit PNG"], SAME["16-bit TIFF"]):
        assert open_picture(source).info == {}


def test_the_sentence_stays_with_an_image_that_is_opened_again():
    once = open_picture(tiff(TWELVE))
    assert open_picture(once).info == once.info != {}


def test_how_an_image_was_read_reaches_the_explanation_its_card_and_the_page():
    from xaihub.ui.words import cautions

    classifier = classifier_of(SmallNet())
    explanation = explain(classifier, TWELVE, ["gradcam"])
    sentence = "it is read as 12-bit"
    assert any(sentence in notice for notice in explanation.provenance["notices"])
    assert sentence in explanation._repr_html_()
    assert sentence in cautions(explanation, "gradcam")
    plain = explain(classifier, CONTENT, ["gradcam"])
    assert plain.provenance["notices"] == list(classifier.notices)
    assert "read as" not in cautions(plain, "gradcam")
