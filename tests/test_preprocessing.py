"""What the network saw, and where it lies on the picture, measured for transforms of every library and by hand."""

import json
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torchvision import transforms as v1
from torchvision.transforms import v2

from xaihub.preprocessing import Transform

torch.set_num_threads(1)

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
BILINEAR, BICUBIC = Image.Resampling.BILINEAR, Image.Resampling.BICUBIC
SIZES = [(640, 480), (333, 1000), (4000, 3000), (57, 91)]


def processor(kind, **settings):
    """A function of transformers' own image processor, read from a file as a repository holds it."""
    from transformers import AutoImageProcessor

    settings = {"image_processor_type": kind, "image_mean": MEAN, "image_std": STD, **settings}
    with TemporaryDirectory() as folder:
        (Path(folder) / "preprocessor_config.json").write_text(json.dumps(settings))
        loaded = AutoImageProcessor.from_pretrained(folder, backend="pil", local_files_only=True)
    return lambda picture: loaded(images=picture, return_tensors="pt")["pixel_values"][0]


def of_timm(**settings):
    from timm.data import create_transform

    return create_transform(mean=MEAN, std=STD, **settings)


def letterboxed(edge, fill, corner=False):
    """The whole picture in a square, with bars of one grey on two sides, or below or to the right of it."""

    def function(picture):
        small = ImageOps.contain(picture, (edge, edge), BILINEAR)
        square = Image.new("RGB", (edge, edge), (fill,) * 3)
        square.paste(small, (0, 0) if corner else ((edge - small.width) // 2, (edge - small.height) // 2))
        return v1.functional.to_tensor(square)

    return function


def shortest(edge, crop, method=BILINEAR):
    """By hand: the shorter side to `edge`, then the middle `crop` x `crop`."""

    def view(picture):
        width, height = picture.size
        small = (edge, int(edge * height / width)) if width <= height else (int(edge * width / height), edge)
        left, upper = round((small[0] - crop) / 2), round((small[1] - crop) / 2)
        frame = (left, upper, left + crop, upper + crop)
        across, down = width / small[0], height / small[1]
        return picture.resize(small, method).crop(frame), tuple(np.multiply(frame, (across, down, across, down)))

    return view


def squashed(width, height, method=BILINEAR):
    """By hand: the whole picture, whatever its proportions."""
    return lambda picture: (picture.resize((width, height), method), (0, 0, *picture.size))


def in_square(edge, fill, corner=False):
    """By hand: the whole picture in a square, so the box reaches beyond the picture's edges."""

    def view(picture):
        width, height = picture.size
        small = ImageOps.contain(picture, (edge, edge), BILINEAR)
        left, upper = (0, 0) if corner else ((edge - small.width) // 2, (edge - small.height) // 2)
        square = Image.new("RGB", (edge, edge), (fill,) * 3)
        square.paste(small, (left, upper))
        across, down = width / small.width, height / small.height
        return square, (-left * across, -upper * down, (edge - left) * across, (edge - upper) * down)

    return view


NORMAL = [v1.ToTensor(), v1.Normalize(MEAN, STD)]
NORMAL2 = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
CASES = {  # name: the transform, and what a person would do with PIL
    "torchvision v1": (lambda: v1.Compose([v1.Resize(256), v1.CenterCrop(224), *NORMAL]), shortest(256, 224)),
    "torchvision v2": (lambda: v2.Compose([v2.Resize(256), v2.CenterCrop(224), *NORMAL2]), shortest(256, 224)),
    "v2 on tensors": (
        lambda: v2.Compose([v2.ToImage(), v2.Resize(256), v2.CenterCrop(224), *NORMAL2[1:]]),
        shortest(256, 224),
    ),
    "not square": (lambda: v1.Compose([v1.Resize((96, 160)), *NORMAL]), squashed(160, 96)),
    "ViT": (lambda: processor("ViTImageProcessor", size={"height": 224, "width": 224}), squashed(224, 224)),
    "ConvNeXt": (
        lambda: processor("ConvNextImageProcessor", size={"shortest_edge": 224}, crop_pct=0.875),
        shortest(256, 224),
    ),
    "MobileNet": (
        lambda: processor(
            "MobileNetV2ImageProcessor", size={"shortest_edge": 256}, crop_size={"height": 224, "width": 224}
        ),
        shortest(256, 224),
    ),
    "MobileViT": (
        lambda: processor(
            "MobileViTImageProcessor", size={"shortest_edge": 256}, crop_size={"height": 224, "width": 224}
        ),
        shortest(256, 224),
    ),
    "CLIP": (
        lambda: processor("CLIPImageProcessor", size={"shortest_edge": 224}, crop_size={"height": 224, "width": 224}),
        shortest(224, 224, BICUBIC),
    ),
    "timm": (
        lambda: of_timm(input_size=(3, 224, 224), crop_pct=0.95, interpolation="bicubic"),
        shortest(235, 224, BICUBIC),
    ),
    "timm squash": (
        lambda: of_timm(input_size=(3, 256, 192), crop_pct=1.0, crop_mode="squash", interpolation="bilinear"),
        squashed(192, 256),
    ),
    "black bars": (lambda: letterboxed(224, 0), in_square(224, 0)),
    "grey bars": (lambda: letterboxed(224, 127), in_square(224, 127)),
    "bars at the end": (lambda: letterboxed(224, 114, corner=True), in_square(224, 114, corner=True)),
    "one line": (
        lambda: lambda picture: v2.functional.pil_to_tensor(picture.resize((60, 80))),
        squashed(60, 80, BICUBIC),
    ),
}


@cache
def measured(name):
    return Transform(CASES[name][0]())


def scene(width, height):
    """Colourful, smooth and nowhere symmetric."""
    y, x = np.mgrid[:height, :width]
    x, y = x / width, y / height
    waves = [np.sin(7 * x + 2 * y), np.cos(5 * y - 3 * x), np.sin(9 * x * y + 1)]
    return Image.fromarray((np.stack(waves, -1) * 127 + 128).astype(np.uint8))


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("size", [(640, 480), (57, 91)])
def test_the_view_is_the_crop_that_a_person_would_make(name, size):
    picture = scene(*size)
    view, (crop, _) = measured(name).view(picture), CASES[name][1](picture)
    assert view.image.size == crop.size == (view.pixels.shape[3], view.pixels.shape[2])
    apart = np.abs(np.asarray(view.image).astype(int) - np.asarray(crop).astype(int))
    assert apart.max() <= 2
    assert apart.mean() < 0.5


LARGE = ("torchvision v1", "v2 on tensors", "not square", "ViT", "timm", "grey bars")  # the others would be as slow


@pytest.mark.parametrize(("name", "size"), [(n, s) for n in CASES for s in SIZES if max(s) < 4000 or n in LARGE])
def test_the_box_lies_where_the_crop_was_cut(name, size):
    expected = CASES[name][1](Image.new("RGB", size))[1]
    np.testing.assert_allclose(measured(name)._box(size), expected, atol=0.75)


@pytest.mark.parametrize("name", CASES)
def test_pixels_and_pictures_turn_into_each_other(name):
    transform, picture = measured(name), scene(90, 70)
    pixels = transform(picture)
    levels = 2.5 / 255 * transform.span.abs().max()  # rounded once by the library's resize, once by ours
    assert (transform.pixels_of(transform.picture_of(pixels)) - pixels).abs().max() <= levels
    crop = CASES[name][1](picture)[0]
    again = np.asarray(transform.picture_of(transform.pixels_of(crop))).astype(int)
    assert np.abs(again - np.asarray(crop).astype(int)).max() <= 1


def test_a_padding_processor_of_transformers_shows_the_whole_picture_between_bars():
    transform = Transform(processor("DonutImageProcessor", size={"height": 224, "width": 224}))
    left, upper, right, lower = transform.view(scene(640, 480)).crop
    assert (left, right) == pytest.approx((0, 640), abs=0.75)
    assert (upper, lower) == pytest.approx((-80, 560), abs=0.75), "28 of 224 rows of bar at each end, 20/7 pixels each"


def test_a_crop_wider_than_the_picture_reaches_beyond_it():
    view = Transform(v2.Compose([v2.CenterCrop(200), *NORMAL2])).view(scene(100, 150))
    assert view.crop == pytest.approx((-50, -25, 150, 175), abs=0.1)
    seen = np.asarray(view.image)
    assert np.abs(seen[25:175, 50:150].astype(int) - np.asarray(scene(100, 150))).max() <= 1
    assert seen[:, :50].max() == seen[:25].max() == 0


def test_normalisation_and_the_order_of_channels_are_measured():
    transform = measured("MobileViT")
    assert torch.equal(transform.mixing, torch.eye(3).flip(0)), "it takes blue first"
    red = transform(Image.new("RGB", (300, 300), (255, 0, 0)))
    assert red.mean((1, 2)).tolist() == [0, 0, 1]
    assert transform.picture_of(red).getpixel((9, 9)) == (255, 0, 0)
    torch.testing.assert_close(measured("timm").low, -torch.tensor(MEAN) / torch.tensor(STD))
    torch.testing.assert_close(measured("timm").span, 1 / torch.tensor(STD))
    negative = Transform(lambda picture: 1 - v1.functional.to_tensor(picture))
    assert (negative.low.tolist(), negative.span.tolist()) == ([1, 1, 1], [-1, -1, -1])


@pytest.mark.parametrize("channels", [1, 3])
def test_a_transform_that_takes_colours_out_shows_a_grey_picture(channels):
    normal = v1.Normalize(MEAN[:channels], STD[:channels])
    transform = Transform(v1.Compose([v1.Grayscale(channels), v1.Resize((64, 96)), v1.ToTensor(), normal]))
    picture = scene(300, 200)
    grey = picture.convert("L").resize((96, 64), BILINEAR).convert("RGB")
    view = transform.view(picture)
    assert transform.channels == channels
    assert np.abs(np.asarray(view.image).astype(int) - np.asarray(grey)).max() <= 1
    assert (transform.pixels_of(view.image) - view.pixels[0]).abs().max() <= 0.03
    assert view.crop == pytest.approx((0, 0, 300, 200), abs=0.75)


def test_padding_on_one_side_without_a_resize_is_told_from_the_picture():
    def padded(picture):
        return v1.functional.pad(picture, [0, 0, 700 - picture.width, 700 - picture.height], fill=90)

    transform = Transform(lambda picture: v1.functional.to_tensor(padded(picture)))
    view = transform.view(scene(200, 150))
    assert view.crop == pytest.approx((0, 0, 700, 700), abs=0.75)
    assert view.image.getpixel((20, 30)) == scene(200, 150).getpixel((20, 30))
    assert view.image.getpixel((600, 600)) == (90, 90, 90)


def test_a_mirroring_transform_gives_a_box_from_right_to_left():
    transform = Transform(lambda picture: v1.functional.to_tensor(ImageOps.mirror(picture.resize((64, 64)))))
    assert transform.view(scene(300, 200)).crop == pytest.approx((300, 0, 0, 200), abs=0.75)


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (3, 5)])
def test_a_picture_of_a_few_pixels_is_seen_whole(size):
    box = measured("not square").view(scene(*size)).crop
    assert box == pytest.approx((0, 0, *size), abs=0.05)


def test_each_size_is_measured_once():
    calls = []
    transform = Transform(lambda picture: (calls.append(1), v1.functional.to_tensor(picture.resize((32, 32))))[1])
    begun = len(calls)
    for _ in range(3):
        transform.view(scene(80, 60))
    assert len(calls) - begun == 3 + 2, "three pictures and two ramps"


def test_a_transform_says_what_it_is_and_what_size_it_makes():
    assert (measured("timm squash").input_size, measured("timm squash").channels) == ((256, 192), 3)
    assert Transform(v1.ToTensor(), "as it is").description == "as it is"
    assert Transform(v1.ToTensor()).description == "ToTensor"


def test_pixels_are_plain_float32_out_of_the_graph():
    weight = torch.ones(1, requires_grad=True)
    pixels = Transform(lambda picture: v2.functional.to_image(picture).double() * weight)(scene(9, 9))
    assert (type(pixels), pixels.dtype, pixels.requires_grad, pixels.device.type) == (
        torch.Tensor,
        torch.float32,
        False,
        "cpu",
    )
    assert type(Transform(v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32)]))(scene(9, 9))) is torch.Tensor


@pytest.mark.parametrize(
    ("answer", "given"),
    [
        (torch.zeros(1, 3, 8, 8), r"\(1, 3, 8, 8\)"),
        (torch.zeros(4, 8, 8), r"\(4, 8, 8\)"),
        (torch.zeros(8, 8), r"\(8, 8\)"),
        (np.zeros((3, 8, 8)), "ndarray"),
        (None, "NoneType"),
        ({"pixel_values": torch.zeros(1, 3, 8, 8)}, "dict"),
    ],
)
def test_a_transform_that_gives_something_else_is_told_what_it_gave(answer, given):
    with pytest.raises(ValueError, match=rf"The transform must give a tensor \(3, H, W\) .*, but gave {given}\."):
        Transform(lambda picture: answer)
