"""Images of few things on a plain ground, others with structure everywhere, and what makes copies of them."""

import io

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

RESAVES = ("jpeg30", "jpeg60", "jpeg95", "half", "three quarters")


def dot(seed: int, size: int = 64) -> Image.Image:
    """One dot at a random place on grey: red of an even seed, blue of an odd one."""
    x, y = np.random.default_rng(seed).integers(5, size - 5, 2).tolist()
    image = Image.new("RGB", (size, size), (128, 128, 128))
    ImageDraw.Draw(image).ellipse((x - 5, y - 5, x + 5, y + 5), fill=("red", "blue")[seed % 2])
    return image


def cells(seed: int, size: int = 128) -> Image.Image:
    """Many small dark discs on a light ground, at random places."""
    generator = np.random.default_rng(seed)
    image = Image.new("RGB", (size, size), (236, 230, 222))
    draw = ImageDraw.Draw(image)
    for x, y, radius in zip(*generator.integers(0, size, (2, 30)), generator.integers(2, 6, 30), strict=True):
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=(90, 80, 110))
    return image


def digit(seed: int, size: int = 56) -> Image.Image:
    """A white stroke of a few bends on black."""
    points = np.random.default_rng(seed).integers(8, size - 8, (5, 2))
    image = Image.new("RGB", (size, size))
    ImageDraw.Draw(image).line([tuple(point) for point in points.tolist()], fill="white", width=6, joint="curve")
    return image.filter(ImageFilter.GaussianBlur(0.7))


def product(seed: int, size: int = 160) -> Image.Image:
    """A thing of a random colour and shape in the middle of white, with a label of another colour on it."""
    generator = np.random.default_rng(seed)
    image = Image.new("RGB", (size, size), "white")
    width, height = generator.integers(50, 130, 2).tolist()
    box = [(size - width) // 2, (size - height) // 2, (size + width) // 2, (size + height) // 2]
    draw = ImageDraw.Draw(image)
    (draw.rectangle, draw.ellipse)[seed % 2](box, fill=tuple(generator.integers(20, 220, 3).tolist()))
    x, y = generator.integers(0, 30, 2).tolist()
    draw.rectangle((60 + x, 60 + y, 80 + x, 70 + y), fill=tuple(generator.integers(0, 255, 3).tolist()))
    return image


def radiograph(seed: int, size: int = 160) -> Image.Image:
    """Two dark lungs in a smooth grey body: of all people alike, and of each a little different."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[0 : 1 : size * 1j, 0 : 1 : size * 1j]
    grey = 190 - 120 * np.abs(x - 0.5)
    for side in (-1, 1):
        middle, wide = 0.5 + side * (0.22 + generator.normal(0, 0.012)), 0.15 + generator.normal(0, 0.01)
        high, deep = 0.3 + generator.normal(0, 0.015), 95 + generator.normal(0, 8)
        inside = ((x - middle) / wide) ** 2 + ((y - 0.5 - generator.normal(0, 0.015)) / high) ** 2
        grey -= deep / (1 + np.exp((inside - 1) * 6))
    return Image.fromarray((grey + generator.normal(0, 2, grey.shape)).clip(0, 255).astype(np.uint8)).convert("RGB")


def scene(seed: int, size: int = 120) -> Image.Image:
    """Coarse shapes in random colours everywhere, as a photograph has."""
    generator = np.random.default_rng(seed)
    image = Image.new("RGB", (size, size), tuple(generator.integers(0, 255, 3).tolist()))
    draw = ImageDraw.Draw(image)
    for _ in range(12):
        x, y, wide = generator.integers(0, size - 10, 3).tolist()
        colour = tuple(generator.integers(0, 255, 3).tolist())
        draw.ellipse((x, y, x + wide // 2 + 8, y + wide // 2 + 8), fill=colour)
    return image


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return Image.open(stream).convert("RGB")


def scaled(image: Image.Image, share: float) -> Image.Image:
    return image.resize([max(1, round(edge * share)) for edge in image.size], Image.Resampling.LANCZOS)


def cropped(image: Image.Image, share: float = 0.05, corner: bool = False) -> Image.Image:
    """Without a share of each edge: evenly from both sides, or all of it at the right and below."""
    wide, high = (max(1, round(edge * share)) for edge in image.size)
    left, top = (0, 0) if corner else (wide // 2, high // 2)
    return image.crop((left, top, image.width - wide + left, image.height - high + top))


def mirrored(image: Image.Image, share: float = 0.03) -> Image.Image:
    """With a border that mirrors what it borders on."""
    edge = max(1, round(share * min(image.size)))
    return Image.fromarray(np.pad(np.asarray(image), ((edge, edge), (edge, edge), (0, 0)), mode="reflect"))


def brighter(image: Image.Image, factor: float = 1.05) -> Image.Image:
    return Image.fromarray((np.asarray(image) * factor).clip(0, 255).astype(np.uint8))


EDITS = {
    "jpeg30": lambda image: jpeg(image, 30), "jpeg60": lambda image: jpeg(image, 60),
    "jpeg95": lambda image: jpeg(image, 95), "half": lambda image: scaled(image, 0.5),
    "three quarters": lambda image: scaled(image, 0.75), "crop": cropped,
    "corner": lambda image: cropped(image, corner=True), "mirrored": mirrored, "brighter": brighter,
    "darker": lambda image: brighter(image, 0.92),
}  # fmt: skip
