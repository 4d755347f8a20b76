"""Images that a network is asked about when it is loaded, to measure how it answers."""

from collections.abc import Iterator

import numpy as np
from PIL import Image
from torch import Tensor

from xaihub.preprocessing import Transform

__all__ = ["probe_pixels", "textured_picture"]

CONTRASTS = (-1e2, 1e4, -1e6)  # of pixels: random weights can keep logits in [0, 1] for any image, but not for these


def probe_pixels(transform: Transform) -> Iterator[Tensor]:
    """(1, C, H, W) of a textured image, of noise twice, black and white, and of noise with contrasts no image has."""
    generator = np.random.default_rng(1)
    images = [Image.fromarray(generator.integers(0, 256, (64, 64, 3), dtype=np.uint8)) for _ in range(2)]
    yield transform(textured_picture())[None]
    noise = transform(images[0])[None]
    yield noise
    yield transform(images[1])[None]
    yield from (transform(Image.new("RGB", (64, 64), colour))[None] for colour in ("black", "white"))
    yield from (noise * contrast for contrast in CONTRASTS)


def textured_picture() -> Image.Image:
    """A fixed picture with structure at every scale: a flat one would leave half of a network silent."""
    generator = np.random.default_rng(0)
    layers = [
        np.asarray(
            Image.fromarray(generator.integers(0, 256, (n, n, 3), dtype=np.uint8)).resize((256, 256)), dtype=np.float32
        )
        for n in (3, 8, 24, 64, 128)
    ]
    return Image.fromarray(np.clip((np.mean(layers, axis=0) - 128) * 2 + 128, 0, 255).astype(np.uint8))
