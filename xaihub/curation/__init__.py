"""A dataset of two kinds of pictures that differ in nothing else: read, treated alike, sorted out, split, written."""

from xaihub.curation.building import Recipe, build_dataset
from xaihub.curation.sources import Origin, generated_source, real_source

__all__ = ["Origin", "Recipe", "build_dataset", "generated_source", "real_source"]
