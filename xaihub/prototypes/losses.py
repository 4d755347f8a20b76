"""What prototypes are pulled and pushed by while a network learns them (Chen et al., 2019, arXiv:1806.10574, eq. 1).

Distances are squared ones in the published form, and one less the cosine where cosines are compared.

Letters: N pictures, h x w cells, P prototypes, C classes.
"""

import torch
from torch import Tensor
from torch.nn.functional import log_softmax, one_hot

from xaihub.prototypes.layer import Similarity

__all__ = ["cluster_cost", "distillation", "nearest_distances", "other_class_weights", "separation_cost"]

_SMALL = 1e-4  # epsilon of the published similarity


def nearest_distances(similarities: Tensor, similarity: Similarity) -> Tensor:
    """(N, P), how far each picture's nearest cell is from each prototype, of similarities (N, P, h, w).

    The published similarity is undone: s = log((d + 1) / (d + e)) gives d = (1 - e exp(s)) / (exp(s) - 1).
    """
    most = similarities.flatten(2).max(2).values
    if similarity == "cosine":
        return 1 - most
    return ((1 - _SMALL * most.exp()) / most.expm1()).clamp_min(0)


def cluster_cost(distances: Tensor, targets: Tensor, owners: Tensor) -> Tensor:
    """The mean over pictures of the distance to the nearest prototype of their own class: small is good.

    Args:
        distances: (N, P).
        targets: (N,), class indices.
        owners: (P,), the class that each prototype speaks for.
    """
    return _mean_of_nearest(distances, owners[None] == targets[:, None])


def separation_cost(distances: Tensor, targets: Tensor, owners: Tensor) -> Tensor:
    """The mean over pictures of the distance to the nearest prototype of any other class: large is good."""
    return _mean_of_nearest(distances, owners[None] != targets[:, None])


def other_class_weights(weights: Tensor, owners: Tensor) -> Tensor:
    """The sum of what prototypes weigh, either way, for classes that they do not speak for; of weights (C, P)."""
    own = one_hot(owners, len(weights)).T.bool()
    return weights.masked_fill(own, 0).abs().sum()


def distillation(logits: Tensor, probabilities: Tensor) -> Tensor:
    """The mean cross-entropy of logits (N, C) against what another network says (N, C) (Hinton et al., 2015)."""
    return -(probabilities * log_softmax(logits, 1)).sum(1).mean()


def _mean_of_nearest(distances: Tensor, counted: Tensor) -> Tensor:
    """Pictures for which no prototype counts are passed over."""
    nearest = distances.masked_fill(~counted, torch.inf).min(1).values
    return nearest[counted.any(1)].sum() / counted.any(1).sum().clamp_min(1)
