"""When prototypes have collapsed: one picture says the same again and again, or a class has nothing to say."""

from collections import Counter

import torch

from xaihub.prototypes.gallery import Prototypes, distinct_sources
from xaihub.prototypes.layer import PrototypeLayer

__all__ = ["ALIKE", "DIFFERENT", "SERVED", "collapse", "used_of"]

ALIKE = 0.95  # cosine from which two prototypes of a class are one
SERVED = 0.2  # of the prototypes may come from one picture
DIFFERENT = 0.8  # of a class's prototypes, at least, should come from pictures of their own


def collapse(made: Prototypes) -> tuple[str, ...]:
    """What of the sources and weights alone is alarming, in words; empty where nothing is.

    One picture that serves many prototypes says the same again and again; a class without any has nothing to say.
    """
    return (*_overused(made), *_without(made), *_repeated(made))


def used_of(layer: PrototypeLayer) -> list[bool]:
    """(P,), whether each prototype adds anything to its own class."""
    owners = torch.arange(len(layer.settings.owners))
    return (layer.weights[layer.owners, owners] > 0).tolist()


def _overused(made: Prototypes) -> list[str]:
    served = Counter(source.digest for source in made.gallery)
    keys = {source.digest: source.key for source in made.gallery}
    return [
        f"{count} of {len(made.gallery)} prototypes come from one picture ({keys[digest]}): they say the same again."
        " Fit them anew, with more pictures or fewer prototypes of each class."
        for digest, count in served.most_common()
        if count > max(1, SERVED * len(made.gallery))
    ]


def _without(made: Prototypes) -> list[str]:
    used, said = used_of(made.network.head), []
    for index, label in enumerate(made.labels):
        own = made.of_class(index)
        if not any(used[place] for place in own):
            none = f"none of its {len(own)} prototypes counts" if own else "it has no prototype"
            said.append(f"Nothing can be recognised of class {label!r}: {none}. Give more pictures of it.")
    return said


def _repeated(made: Prototypes) -> list[str]:
    sources = distinct_sources(made.gallery, made.labels)
    counts = {label: len(made.of_class(index)) for index, label in enumerate(made.labels)}
    return [
        f"The {counts[label]} prototypes of class {label!r} come from {sources[label]}"
        f" picture{'s' * (sources[label] > 1)} only. Give more pictures of it, or ask for fewer prototypes."
        for label in made.labels
        if sources[label] < DIFFERENT * counts[label]
    ]
