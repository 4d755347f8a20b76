"""Paper pets: drawn animals told apart by known parts, the ground truth for explanations and the app's first pictures."""

from xaihub.synthetic.dataset import (
    MARKS,
    PARTS,
    PETS,
    Nuisance,
    PaperPet,
    deciding_parts,
    draw_pet,
    paper_pets,
    write_folder,
)

__all__ = [
    "MARKS",
    "PARTS",
    "PETS",
    "Nuisance",
    "PaperPet",
    "deciding_parts",
    "draw_pet",
    "paper_pets",
    "write_folder",
]
