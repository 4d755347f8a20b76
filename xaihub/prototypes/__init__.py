"""Prototypes: real patches that a classifier's answer is made of ("this looks like that")."""

from xaihub.prototypes.convex import fit_weights
from xaihub.prototypes.fitting import FittedHead, HeadSettings, fit_head
from xaihub.prototypes.gallery import FittedTo, Kind, Prototype, Prototypes, distinct_sources
from xaihub.prototypes.layer import AddOn, PrototypeLayer, PrototypeSettings, Similarity
from xaihub.prototypes.network import PrototypeNetwork, Reading
from xaihub.prototypes.projecting import Source, project

__all__ = [
    "AddOn",
    "FittedHead",
    "FittedTo",
    "HeadSettings",
    "Kind",
    "Prototype",
    "PrototypeLayer",
    "PrototypeNetwork",
    "PrototypeSettings",
    "Prototypes",
    "Reading",
    "Similarity",
    "Source",
    "distinct_sources",
    "fit_head",
    "fit_weights",
    "project",
]
