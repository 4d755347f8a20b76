"""Each nuisance of a picture whose numbers are known on paper, and each intervention's pixels."""

import io
import math

import numpy as np
import pytest
from PIL import Image

from xaihub.auditing.changes import CHANGES
from xaihub.auditing.nuisances import BANDS, NUISANCES
from xaihub.auditing.sight import look
from xaihub.errors import PictureError


def encoded(picture: Image.Image, kind: str = "PNG", **options) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def noise(width=96, height=64, seed=0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def smooth(width=96, height=64) -> Image.Image:
    rows, columns = np.mgrid[:height, :width] / 9
    grey = 128 + 50 * np.sin(columns) + 40 * np.cos(rows + columns / 2)
    return Image.fromarray(np.stack([grey] * 3, 2).astype(np.uint8))


def measured(name: str, given) -> dict[str, float]:
    entry = NUISANCES[name]
    return dict(zip(entry.features, entry.measure(look(given)), strict=True))


def kind(name: str, given) -> str:
    return NUISANCES[name].kind(look(given))


@pytest.mark.parametrize("quality", [20, 50, 75, 92])
def test_the_quality_of_a_jpeg_is_read_from_its_tables(quality):
    data = encoded(noise(), "JPEG", quality=quality, subsampling=0)
    assert measured("quality", data) == {"JPEG quality": quality}
    assert kind("quality", data) == "4:4:4"


def test_a_file_tells_its_format_size_and_metadata_before_it_is_decoded():
    turned = Image.Exif()
    turned[274] = 6  # to be turned by a quarter when it is shown
    data = encoded(noise(96, 64), "JPEG", exif=turned, icc_profile=b"a profile")
    assert kind("format", data) == "JPEG"
    assert kind("size", data) == "96 x 64"  # as stored
    assert look(data).picture.size == (64, 96)
    assert kind("metadata", data) == "EXIF and a profile"
    plain = encoded(noise(96, 64))
    assert (kind("format", plain), kind("metadata", plain)) == ("PNG", "neither")
    assert math.isnan(measured("quality", plain)["JPEG quality"])
    assert measured("aspect", plain) == {"width to height": 1.5, "longer to shorter side": 1.5}
    assert kind("format", noise()) == "none"


@pytest.mark.parametrize("shift", [0, 3])
def test_compression_leaves_its_grid_also_where_the_picture_was_cropped(shift):
    squeezed = Image.open(io.BytesIO(encoded(smooth(240, 240), "JPEG", quality=8))).convert("RGB")
    cropped = squeezed.crop((shift, shift, 240, 240))
    for place in ("across", "down"):
        grid = f"8 x 8 grid, {place}"
        assert measured("blocking", cropped)[grid] > 3 * measured("blocking", smooth(240, 240))[grid] + 0.2


def test_colours_sharpness_and_noise_follow_the_pixels():
    red = Image.new("RGB", (40, 30), (200, 50, 50))
    told = measured("colour", red)
    assert told["redness"] == pytest.approx(100 / 255, abs=1e-3)
    assert told["saturation"] == pytest.approx(150 / 255, abs=1e-3)
    assert told["brightness"] == pytest.approx(100 / 255, abs=1e-3)
    assert told["spread of red"] == pytest.approx(0, abs=1e-3)
    rough, soft = measured("sharpness", noise()), measured("sharpness", smooth())
    assert rough["sharpness"] > soft["sharpness"] + 2
    assert rough["noise"] > soft["noise"] + 2


@pytest.mark.parametrize(("wavelength", "band"), [(32, 0), (8, 3), (2.4, 9)])
def test_a_wave_is_found_in_its_ring_of_the_spectrum(wavelength, band):
    wave = 128 + 100 * np.sin(2 * np.pi * np.arange(128) / wavelength)
    picture = Image.fromarray(np.stack([np.tile(wave, (128, 1))] * 3, 2).astype(np.uint8))
    bands = list(measured("spectrum", picture).values())
    assert len(bands) == BANDS
    assert int(np.argmax(bands)) == band


def test_a_frame_is_measured_from_each_side():
    framed = Image.new("RGB", (128, 128), "black")
    framed.paste(noise(96, 100), (32, 12))  # 32 on the left, 12 above, none on the right, 16 below
    told = measured("borders", framed)
    expected = {"left border": 32 / 128, "right border": 0, "upper border": 12 / 128, "lower border": 16 / 128}
    assert told == pytest.approx(expected)
    assert kind("borders", framed) == "left and above and below"
    assert kind("borders", noise()) == "no border"


@pytest.mark.parametrize("corner", ["upper left", "lower right"])
def test_a_mark_in_a_corner_sets_only_that_corner_apart(corner):
    marked = Image.new("RGB", (100, 60), (90, 120, 150))
    box = (0, 0, 20, 12) if corner == "upper left" else (80, 48, 100, 60)
    marked.paste((220, 40, 40), box)
    told = measured("corners", marked)
    assert told[f"red, {corner} corner"] > 0.4
    assert told[f"saturation, {corner} corner"] > 0.3
    others = [value for name, value in told.items() if corner not in name]
    assert np.abs(others).max() < 0.01
    plain = measured("corners", Image.new("RGB", (100, 60), (10, 20, 250)))  # a blue picture has no mark
    assert np.abs(list(plain.values())).max() < 1e-6


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (8, 8), (17, 9), (2000, 12)])
def test_every_nuisance_and_every_intervention_takes_pictures_of_any_size(size):
    picture, donor = noise(*size), noise(40, 30, seed=1)
    sight = look(picture)
    for entry in NUISANCES.values():
        values = entry.measure(sight)
        assert len(values) == len(entry.features)
        assert np.isfinite(values).all() or entry.name == "quality"
    for entry in CHANGES.values():
        for first, second in ((picture, donor), (donor, picture)):
            assert min(entry.apply(first, second).size) >= 1
            assert max(entry.apply(first, second).size) <= 2048


@pytest.mark.parametrize("data", [b"", b"no picture", encoded(noise())[:60], encoded(noise(), "JPEG")[:200]])
def test_a_broken_picture_is_refused_in_words(data):
    with pytest.raises(PictureError):
        look(data)


def test_corners_are_covered_by_what_is_beside_them_and_nothing_else_changes():
    picture = smooth(100, 60)
    picture.paste((255, 0, 0), (82, 50, 100, 60))
    before, after = np.asarray(picture), np.asarray(CHANGES["corners"].apply(picture, noise()))
    assert (after[50:, 82:] != (255, 0, 0)).any(2).all()
    np.testing.assert_array_equal(after[48:, 80:], before[48:, 60:80][:, ::-1])
    np.testing.assert_array_equal(after[12:48], before[12:48])
    np.testing.assert_array_equal(after[:, 20:80], before[:, 20:80])


def test_other_corners_and_colours_come_from_the_donor():
    picture, donor = smooth(100, 60), Image.new("RGB", (50, 30), (250, 10, 10))
    swapped = np.asarray(CHANGES["swapped corners"].apply(picture, donor))
    assert (swapped[:12, :20] == (250, 10, 10)).all()
    assert (swapped[-12:, -20:] == (250, 10, 10)).all()
    np.testing.assert_array_equal(swapped[12:-12], np.asarray(picture)[12:-12])
    control = np.asarray(CHANGES["swapped sides"].apply(picture, donor))
    np.testing.assert_array_equal(control[:12, :20], np.asarray(picture)[:12, :20])
    assert (control == (250, 10, 10)).all(2).sum() == pytest.approx((swapped == (250, 10, 10)).all(2).sum(), rel=0.05)
    dyed = np.asarray(CHANGES["colours"].apply(noise(), donor), dtype=float)
    assert dyed.reshape(-1, 3).mean(0) == pytest.approx([250, 10, 10], abs=1)


def test_sizes_shapes_and_spectra_become_the_donors():
    picture, donor = noise(96, 64), smooth(30, 60)
    assert CHANGES["size"].apply(picture, donor).size == (45, 30)
    assert CHANGES["shape"].apply(picture, donor).size == (32, 64)
    softer = CHANGES["spectrum"].apply(picture, donor)
    assert measured("spectrum", softer)["power in band 12 of 12, from coarse to fine"] < 0
    assert measured("sharpness", softer)["sharpness"] < measured("sharpness", picture)["sharpness"] - 1
    halved = CHANGES["halved"].apply(picture, donor)
    assert halved.size == picture.size
    assert measured("sharpness", halved)["noise"] < measured("sharpness", picture)["noise"] - 0.5
