"""One loader for each library that classifiers come from: a folder of files in, a Classifier out.

Nothing here reaches the network, runs code that came with a model, or opens a pickle. The only importers of
transformers, timm and torchvision, each in a module of its own; they are imported when first needed.
"""

from xaihub.families import from_protopnet, from_timm, from_torchvision, from_transformers
from xaihub.families.base import FAMILIES, Family, family, family_of, read_config
from xaihub.families.bounds import refuse_counts
from xaihub.families.staging import staged
from xaihub.families.weights import (
    ADAPTER,
    INDEX,
    adapter_of,
    refuse_adapter,
    refuse_foreign_shards,
    stored_headers,
    weight_files,
)

__all__ = [
    "ADAPTER",
    "FAMILIES",
    "INDEX",
    "Family",
    "adapter_of",
    "family",
    "family_of",
    "from_protopnet",
    "from_timm",
    "from_torchvision",
    "from_transformers",
    "read_config",
    "refuse_adapter",
    "refuse_counts",
    "refuse_foreign_shards",
    "staged",
    "stored_headers",
    "weight_files",
]
