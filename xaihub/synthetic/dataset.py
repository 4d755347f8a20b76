"""Paper pets: drawn pictures whose class is decided by known parts, with a mask for each part."""

import io
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.random import Generator, SeedSequence, default_rng
from PIL import Image

from xaihub.folders import replacing
from xaihub.synthetic.anatomy import LOOKS, Look, assemble, imagine
from xaihub.synthetic.grounds import ground, noise
from xaihub.synthetic.paper import UNITS, Piece, oval, paste, place, scalloped

PETS: tuple[str, ...] = tuple(LOOKS)
"""The classes."""
PARTS: tuple[str, ...] = ("ears", "tail", "whiskers", "head", "body", "scarf")
"""What a pet is made of; only ears and tail tell a class, and whiskers and scarf are worn or not, by lot."""
MARKS: tuple[str, ...] = ("dot", "ring", "flower")
"""The marks that can be planted in the lower right corner."""
MASKS_FILE = "masks.npz"

# How far a pet's pieces can reach in its own coordinates, ears and tail swung out: kept inside the picture.
_REACH = np.array([(-40, -82), (0, -84), (40, -82), (-50, -10), (50, -10), (66, 14), (60, 40), (-28, 65), (28, 65)])
_SEEN = 0.1  # a pixel shows a part when this share of it does: low, so that no thin tip or whisker is left out


@dataclass(frozen=True)
class Nuisance:
    """What can be planted on purpose beside the pet; the defaults plant nothing."""

    corner_mark: str | None = None  # one of MARKS, a red sticker in the lower right corner
    tint: tuple[float, float, float] | None = None  # coloured light: each channel times its factor, (1, 1, 1) is white
    jpeg_quality: int | None = None  # 1 to 95, the picture compressed and read back
    pet_scale: float = 1.0  # times the pet's own random size
    size: int | None = None  # the picture's side in pixels, instead of what the caller asked for


@dataclass(frozen=True)
class PaperPet:
    """One picture, its class, and where its parts are."""

    image: Image.Image
    label: str
    masks: Mapping[str, np.ndarray]  # boolean (H, W) for each of PARTS, "pet" (their union), and a planted mark
    seed: int
    nuisance: Nuisance

    @property
    def deciding_mask(self) -> np.ndarray:
        """(H, W), true on the parts that tell this class from the others."""
        return np.logical_or.reduce([self.masks[part] for part in deciding_parts(self.label)])


def deciding_parts(label: str, against: str | None = None) -> tuple[str, ...]:
    """The parts whose style tells the class from another, or from at least one other when none is named."""
    others = [LOOKS[name] for name in ([against] if against else PETS)]
    return tuple(part for part in Look._fields if any(getattr(LOOKS[label], part) != getattr(o, part) for o in others))


def draw_pet(label: str, seed: int, *, size: int = 160, nuisance: Nuisance = Nuisance()) -> PaperPet:
    """One pet. Ground, coat, pose and place depend on the seed alone, so two labels differ by their parts alone."""
    if label not in PETS:
        raise ValueError(f"{label!r} is not a paper pet; draw one of {', '.join(PETS)}.")
    size = nuisance.size or size
    animal = imagine(default_rng((seed, 0)))
    sheet = ground(default_rng((seed, 1)), size, apart_from=animal.coat)
    where = _placing(default_rng((seed, 2)), nuisance.pet_scale)
    pieces = [piece.moved(where) for piece in assemble(label, animal)] + _mark(nuisance.corner_mark)
    shares = dict.fromkeys(
        (*PARTS, *(["corner_mark"] if nuisance.corner_mark else [])), np.zeros((size, size), np.float32)
    )
    for piece in pieces:
        sheet, alpha = paste(sheet, piece)
        shares = {part: share * (1 - alpha) for part, share in shares.items()}  # what it covers is no longer seen
        shares[piece.part] = shares[piece.part] + alpha
    masks = {part: share > _SEEN for part, share in shares.items()}
    masks["pet"] = np.logical_or.reduce([masks[part] for part in PARTS])
    image = _photograph(sheet, default_rng((seed, 3)), nuisance)
    return PaperPet(image, label, masks, seed, nuisance)


def paper_pets(
    count: int, *, seed: int = 0, size: int = 160, plant: Callable[[str, Generator], Nuisance] | None = None
) -> Iterator[PaperPet]:
    """Pets of every class in turn; the i-th depends on the seed and on i alone.

    Args:
        count: how many.
        seed: of the whole set.
        size: the pictures' side in pixels.
        plant: the nuisance for a class, for instance a mark on nine cats in ten.
    """
    for index in range(count):
        label = PETS[index % len(PETS)]
        own_seed = int(SeedSequence((seed, index)).generate_state(1)[0])
        nuisance = plant(label, default_rng((own_seed, 4))) if plant else Nuisance()
        yield draw_pet(label, own_seed, size=size, nuisance=nuisance)


def write_folder(pets: Iterable[PaperPet], folder: str | Path) -> Path:
    """The folder, with `<label>/<index>.png` and `masks.npz` whose keys are `<label>/<index>/<part>`.

    It appears whole or not at all; a folder made here before is replaced, and any other is left alone.
    """
    folder = Path(folder)
    with replacing(folder, MASKS_FILE) as draft:
        _write(pets, draft)
    return folder


def _write(pets: Iterable[PaperPet], folder: Path) -> None:
    with zipfile.ZipFile(folder / MASKS_FILE, "w", zipfile.ZIP_DEFLATED) as archive:  # one by one: np.savez keeps all
        for index, pet in enumerate(pets):
            (folder / pet.label).mkdir(exist_ok=True)
            pet.image.save(folder / pet.label / f"{index:05d}.png")
            for part, mask in pet.masks.items():
                with archive.open(f"{pet.label}/{index:05d}/{part}.npy", "w") as entry:
                    np.lib.format.write_array(entry, mask)


def _placing(random: Generator, pet_scale: float) -> np.ndarray:
    """The map from the pet's coordinates to the picture's, `(2, 3)`, with every part inside when it can be."""
    scale = pet_scale * random.uniform(0.8, 1.0)
    turned = place(0, 0, scale, random.uniform(-9, 9), mirror=bool(random.random() < 0.5))
    reach = _REACH @ turned[:, :2].T
    lowest, highest = 3 - reach.min(0), UNITS - 3 - reach.max(0)
    turned[:, 2] = lowest + random.random(2) * (highest - lowest)
    return turned


def _mark(name: str | None) -> list[Piece]:
    """A red sticker in the lower right corner, or nothing."""
    if name is None:
        return []
    if name not in MARKS:
        raise ValueError(f"{name!r} is not a corner mark; plant one of {', '.join(MARKS)}.")
    x, y, red, white = UNITS - 13, UNITS - 13, (0.86, 0.16, 0.18), (1.0, 0.97, 0.93)
    outline = scalloped(x, y, 9.5, 6, 0.35) if name == "flower" else oval(x, y, 8.5, 8.5)
    middle = [] if name == "dot" else [Piece(oval(x, y, 4, 4), white, "corner_mark")]
    return [Piece(outline, red, "corner_mark", lift=0.6), *middle]


def _photograph(sheet: np.ndarray, random: Generator, nuisance: Nuisance) -> Image.Image:
    """The sheet under a lamp: the paper's fibres, uneven light, then what is planted in the taking."""
    size = len(sheet)
    light = 1.0 + 0.14 * (noise(random, size, 3) - 0.5)
    fibres = 0.05 * (noise(random, size, 60) - 0.5)
    fibres = fibres + 0.013 * random.standard_normal((size, size))  # last: how much is drawn depends on the size
    lit = sheet * (light * (1 + fibres))[..., None] * np.asarray(nuisance.tint or (1, 1, 1))
    image = Image.fromarray((255 * np.clip(lit, 0, 1) + 0.5).astype(np.uint8))
    if nuisance.jpeg_quality is None:
        return image
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=nuisance.jpeg_quality)
    return Image.open(buffer).convert("RGB")
