"""One loader for each library that classifiers come from: a folder of files in, a Classifier out.

Nothing here reaches the network, runs code that came with a model, or opens a pickle. The only importers of
transformers, timm and torchvision, each in a module of its own; they are imported when first needed.
"""

from xaihub.families import from_timm, from_torchvision, from_transformers
from xaihub.families.base import FAMILIES, Family, family, family_of, read_config, weight_files

__all__ = [
    "FAMILIES",
    "Family",
    "family",
    "family_of",
    "from_timm",
    "from_torchvision",
    "from_transformers",
    "read_config",
    "weight_files",
]
