"""Where prototypes start: at the patches of a head on the unchanged network, or anywhere."""

from copy import deepcopy
from dataclasses import replace

import torch
from torch import nn
from torch.nn.functional import one_hot

from xaihub.progress import Progress, silent
from xaihub.prototype_fitting import Targets, fit_prototypes
from xaihub.prototype_maps import Looked
from xaihub.prototype_training.course import Lesson
from xaihub.prototype_training.settings import PrototypeTraining
from xaihub.prototype_training.settling import weigh
from xaihub.prototype_training.watching import nearest_cells, take
from xaihub.prototypes import FittedTo, PrototypeLayer, PrototypeSettings

__all__ = ["layer_anywhere", "layer_at_patches"]

_OWN, _OTHER = 1.0, -0.5  # the published start of the last layer


def layer_at_patches(
    looked: Looked, targets: Targets, fitted_to: FittedTo, settings: PrototypeTraining, progress: Progress = silent
) -> PrototypeLayer:
    """A copy of the layer that would be put on the unchanged network: its metric, its medoids, its weights."""
    made = fit_prototypes(
        looked.classifier, looked, fitted_to=fitted_to, settings=settings.head, progress=progress
    ).prototypes
    if made is None:
        raise ValueError("A fitted classifier has its prototypes.")
    head = deepcopy(made.network.head).cpu()
    if settings.similarity == "cosine":
        return head
    layer = PrototypeLayer(replace(head.settings, similarity=settings.similarity))
    layer.add_on.load_state_dict(head.add_on.state_dict())
    take(layer, looked.maps, nearest_cells(head, looked.maps, targets.indices))
    weigh(layer, looked.maps, Lesson(targets.indices), replace(settings, last_layer="convex"))
    return layer


@torch.no_grad()
def layer_anywhere(looked: Looked, targets: Targets, settings: PrototypeTraining) -> PrototypeLayer:
    """The published start: prototypes uniform in [0, 1], weights of 1 for the own class and -0.5 for each other."""
    classes = len(targets.labels)
    owners = tuple(label for label in range(classes) for _ in range(settings.per_class))
    asked = PrototypeSettings(
        looked.maps.shape[1], settings.width, classes, owners, settings.add_on, settings.similarity, settings.pooled,
        settings.least,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(settings.seed)
    layer = PrototypeLayer(asked)
    for part in layer.add_on.modules():
        if isinstance(part, nn.Conv2d) and part.bias is not None:
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu", generator=generator)
            nn.init.zeros_(part.bias)
    nn.init.uniform_(layer.vectors, generator=generator)
    own = one_hot(layer.owners, classes).T.float()
    layer.weights.copy_(own * _OWN + (1 - own) * _OTHER)
    return layer
