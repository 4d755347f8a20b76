"""Paper pets: drawn animals told apart by known parts, the truth that explanations are checked against."""

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
