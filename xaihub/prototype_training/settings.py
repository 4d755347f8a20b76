"""How a network and its prototypes are trained together: our way, and the published one."""

from dataclasses import dataclass
from typing import Any, Literal

from xaihub.errors import DatasetError
from xaihub.prototypes import AddOn, HeadSettings, Similarity

__all__ = ["PUBLISHED", "PrototypeTraining"]


@dataclass(frozen=True)
class PrototypeTraining:
    """How prototypes, and the network below them, are trained.

    The published way (Chen et al., 2019, and the settings in their code) is `PrototypeTraining(**PUBLISHED)`.
    """

    seed: int = 0  # of the prototypes' start, the pictures' order and how they are varied
    per_class: int = 10  # prototypes of each class
    width: int = 128  # of the vectors that are compared, at most
    similarity: Similarity = "cosine"  # needs no tuning (Willard et al., 2024); log-distance is flat far from a patch
    add_on: AddOn = "linear"
    pooled: int = 5  # cells a picture's similarity is the mean of; published: 1
    least: float = 0.1  # a similarity below it counts for nothing; published: 0
    start: Literal["head", "random"] = "head"  # at real patches chosen on the unchanged network, or anywhere
    warm_up: int = 5  # epochs of the prototypes and their add-on alone, on the unchanged network's maps
    epochs: int = 3  # of everything together: with more, prototypes drift to the same few pictures
    batch_size: int = 16  # small: a few hundred pictures are still some dozens of steps
    balanced: bool = True  # each batch has as many pictures of each class
    rate: float = 1e-3  # of the prototypes and their add-on
    backbone_rate: float = 2e-5  # low: it is to see better what it sees, and to stay the network that is explained
    trained_share: float = 0.5  # of the network's weights, the last ones: early layers serve any picture
    weight_decay: float = 1e-3
    schedule: Literal["cosine", "steps"] = "cosine"  # steps: a tenth after every five epochs together
    batch_norm: Literal["frozen", "trained"] = "frozen"  # small batches have poor statistics
    cluster: float = 0.8  # each picture near a prototype of its class
    separation: float = 0.08  # and far from those of others
    distilled: float = 1.0  # how much what the black box says counts beside the labels
    other_weights: float = 0.0  # the price of weights for other classes, where they are allowed
    project_every: int = 0  # epochs after which prototypes become real patches on the way; 0: only in the end
    distinct: bool = True  # no two prototypes of a class from one picture, while there are enough
    last_layer: Literal["convex", "gradient"] = "convex"
    last_epochs: int = 20  # of a last layer that is trained by gradient
    sparsity: float = 1e-4  # the price of a weight of a convex last layer
    patience: int = 3  # epochs without a lower validation loss before it ends
    shift: float = 0.04  # pictures move by up to this share of their size
    light: float = 0.1  # and get brighter or darker, more or less contrasty by up to this share

    def __post_init__(self) -> None:
        for name, least in (("per_class", 1), ("width", 1), ("pooled", 1), ("warm_up", 0), ("epochs", 0),
                            ("batch_size", 1), ("last_epochs", 0), ("project_every", 0)):  # fmt: skip
            if getattr(self, name) < least:
                raise DatasetError(f"{name} is {getattr(self, name)}; it must be {least} or more.")
        for name in ("rate", "backbone_rate"):
            if not 0 <= getattr(self, name) < 1:
                raise DatasetError(f"A {name.replace('_', ' ')} of {getattr(self, name)} trains nothing. Give 1e-4.")
        if not 0 < self.trained_share <= 1:
            raise DatasetError(f"A trained share of {self.trained_share} is none. Give one above 0, up to 1 for all.")
        if self.start == "head" and self.add_on == "published":
            raise DatasetError(
                "The published add-on has layers that patches of the unchanged network do not go through, so it cannot"
                " start from them. Let it start at random (--start random)."
            )

    @property
    def head(self) -> HeadSettings:
        """How the patches are chosen that it starts from."""
        return HeadSettings(
            per_class=self.per_class, width=self.width, pooled=self.pooled, least=self.least, seed=self.seed,
            refit_sparsity=self.sparsity,
        )  # fmt: skip


PUBLISHED: dict[str, Any] = {
    "similarity": "log-distance", "add_on": "published", "pooled": 1, "least": 0.0, "start": "random", "epochs": 15,
    "batch_size": 80, "balanced": False, "rate": 3e-3, "backbone_rate": 1e-4, "trained_share": 1.0, "schedule": "steps",
    "batch_norm": "trained", "distilled": 0.0, "other_weights": 1e-4, "project_every": 10, "distinct": False,
    "last_layer": "gradient",
}  # fmt: skip
"""Five epochs of warm-up and fifteen together, after which the published rates have fallen to a thousandth."""
