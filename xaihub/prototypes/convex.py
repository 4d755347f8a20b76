"""The last layer of prototypes, which is a convex problem: a multinomial logistic regression with signs and sparsity.

Letters: N pictures, P prototypes, C classes, m the most prototypes of one class.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import one_hot
from torch.nn.utils.rnn import pad_sequence

__all__ = ["as_shares", "fit_weights"]

_ROUNDS = 5000  # of FISTA; some hundreds are enough as a rule
_SMALL = 1e-6  # the largest step left, times the curvature: how far the answer is from optimal
_RIDGE = 1e-4  # makes the answer the only one, also with more prototypes than pictures or a class without any


@dataclass(frozen=True, eq=False)
class _Problem:
    """mean cross-entropy(weights . scores + bias, shares) + sparsity |weights| + ridge |both|^2 / 2, weights >= 0.

    Attributes:
        columns: (C, m + 1, N), the centred scores of each class's own prototypes, then ones for the bias; unused rows
            are 0. `shares`: (C, N), what is wanted.
    """

    columns: Tensor
    shares: Tensor
    sparsity: float

    @property
    def curvature(self) -> float:
        """No second derivative is larger: that of a softmax is at most 1/2 (Boehning, 1992)."""
        squares = self.columns @ self.columns.transpose(1, 2) / self.columns.shape[2]
        return 0.5 * float(torch.linalg.eigvalsh(squares).max()) + _RIDGE

    def slope(self, point: Tensor) -> Tensor:
        """(C, m + 1), the gradient of all but the sparsity."""
        logits = torch.bmm(point[:, None], self.columns)[:, 0]
        residuals = (logits.softmax(0) - self.shares) / self.columns.shape[2]
        return torch.bmm(self.columns, residuals[:, :, None])[:, :, 0] + _RIDGE * point

    def stepped(self, point: Tensor, curvature: float) -> Tensor:
        """One proximal step: down the slope, less the sparsity, and back to the signs that are allowed."""
        down = point - self.slope(point) / curvature
        weights = (down[:, :-1] - self.sparsity / curvature).clamp_min(0)
        return torch.cat([weights, down[:, -1:]], 1)


@torch.no_grad()
def fit_weights(
    scores: Tensor, targets: Tensor, owners: Tensor, classes: int, sparsity: float
) -> tuple[Tensor, Tensor]:
    """The best weights (C, P), at least 0 and only for a prototype's own class, and the bias (C,).

    A picture's loss is the cross-entropy of its logits, weights . scores + bias. To the mean are added the sparsity and
    1e-4 / 2 of the squares of the weights and of the logits at the mean scores. So the problem is strictly convex, with
    one answer and no seed. It is solved in double precision by FISTA (Beck & Teboulle, 2009) with restarts
    (O'Donoghue & Candes, 2015).

    Args:
        scores: (N, P), how much of each prototype each picture has.
        targets: (N,) class indices, or (N, C) the probability of each class.
        owners: (P,), the class that each prototype speaks for.
        sparsity: the price of a weight of 1; the larger, the more weights are 0.
    """
    places = _places(owners.cpu(), classes)
    wide = scores.detach().cpu().double()
    middle = wide.mean(0)
    columns = _columns(wide - middle, places)
    problem = _Problem(columns, as_shares(targets, classes).T.contiguous(), sparsity)
    solved = _fista(problem)
    used = places >= 0
    own = torch.zeros(len(middle), dtype=torch.float64)
    own[places[used]] = solved[:, :-1][used]
    weights = one_hot(owners.cpu(), classes).T * own
    bias = solved[:, -1] - weights @ middle
    return weights.to(scores), bias.to(scores)


def as_shares(targets: Tensor, classes: int) -> Tensor:
    """(N, C), the probability of each class, of targets (N,) or (N, C)."""
    given = targets.detach().cpu()
    return one_hot(given, classes).double() if given.ndim == 1 else given.double()


def _places(owners: Tensor, classes: int) -> Tensor:
    """(C, m), which prototypes speak for each class; -1 where it has fewer than another."""
    return pad_sequence(
        [torch.nonzero(owners == label)[:, 0] for label in range(classes)], batch_first=True, padding_value=-1
    )


def _columns(scores: Tensor, places: Tensor) -> Tensor:
    """(C, m + 1, N)."""
    padded = torch.cat([scores.T, torch.zeros_like(scores.T[:1])])  # -1 is the row of zeros
    ones = torch.ones(len(places), 1, len(scores), dtype=scores.dtype)
    return torch.cat([padded[places] if len(scores.T) else ones[:, :0], ones], 1)


def _fista(problem: _Problem) -> Tensor:
    """(C, m + 1), the weights of each class's own prototypes and its bias."""
    curvature = problem.curvature
    point = ahead = torch.zeros(problem.columns.shape[:2], dtype=torch.float64)
    speed = 1.0
    for _ in range(_ROUNDS):
        new = problem.stepped(ahead, curvature)
        step = new - ahead
        if curvature * float(step.abs().max()) < _SMALL:
            return new
        if float((step * (new - point)).sum()) < 0:  # it runs past the best: without the momentum again
            speed, ahead = 1.0, point
            continue
        faster = (1 + (1 + 4 * speed * speed) ** 0.5) / 2
        ahead = new + (speed - 1) / faster * (new - point)
        point, speed = new, faster
    return point
