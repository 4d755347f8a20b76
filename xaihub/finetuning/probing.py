"""The last layer of a network, fitted to what the network below it makes of each picture: a convex problem."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from xaihub.training import logits_of

__all__ = ["features_below", "fit_head"]

_ITERATIONS = 500  # of L-BFGS; some dozens are enough as a rule


@torch.no_grad()
def features_below(module: nn.Module, head: str, batches: Iterable[Tensor]) -> Tensor | None:
    """(N, K), what reaches the head, or None where the answer is not simply the head's of such a vector.

    The head is taken out for the length of the call, and what is left answers with its features. That this is so is
    checked on the first batch: head(features) must be the logits.

    Args:
        head: the name of a linear layer.
        batches: pixels (n, C, H, W), preprocessed.
    """
    linear = module.get_submodule(head)
    if not isinstance(linear, nn.Linear):
        return None
    module.eval()
    found: list[Tensor] = []
    for inputs in batches:
        expected = logits_of(module, inputs) if not found else None
        features = _without(module, head, inputs)
        if features is None or features.ndim != 2 or features.shape[1] != linear.in_features:
            return None
        # bfloat16 has three digits
        if expected is not None and not torch.allclose(linear(features).float(), expected, rtol=2e-2, atol=2e-2):
            return None
        found.append(features.cpu())
    return torch.cat(found)


def _without(module: nn.Module, head: str, inputs: Tensor) -> Tensor | None:
    linear = module.get_submodule(head)
    module.set_submodule(head, nn.Identity())
    try:
        return logits_of(module, inputs)
    except (RuntimeError, ValueError, TypeError, AttributeError):  # it asks its head for more than an answer
        return None
    finally:
        module.set_submodule(head, linear)


def fit_head(head: nn.Linear, features: Tensor, labels: Tensor, *, strength: float) -> float:
    """The mean cross-entropy of the head that is best for these features; its weights are set in place.

    Multinomial logistic regression on standardised features with a penalty |w|^2 / (2 strength N), by L-BFGS in double
    precision: one answer, which does not depend on a seed or on where it starts.

    Args:
        features: (N, K).
        labels: (N,), class indices.
        strength: how far the weights may go, the C of scikit-learn.
    """
    features = features.double()
    middle, spread = features.mean(0), features.std(0).clamp_min(1e-6)
    scaled = (features - middle) / spread
    weight = torch.zeros(head.out_features, features.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(head.out_features, dtype=torch.float64, requires_grad=True)
    solver = torch.optim.LBFGS(
        [weight, bias], max_iter=_ITERATIONS, tolerance_grad=1e-7, history_size=20, line_search_fn="strong_wolfe"
    )

    def closure() -> float:
        solver.zero_grad()
        loss = cross_entropy(scaled @ weight.T + bias, labels) + weight.square().sum() / (2 * strength * len(labels))
        loss.backward()
        return loss.item()

    solver.step(closure)
    with torch.no_grad():
        loss = float(cross_entropy(scaled @ weight.T + bias, labels))
        head.weight.copy_(weight / spread)
        if head.bias is not None:
            head.bias.copy_(bias - (weight / spread) @ middle)
    return loss
