"""Whether a map depends on what the network has learned, and on the class that is asked about.

Letters: N pictures, L stages of a network that loses its weights.
"""

import copy
from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn

from xaihub.classifier import Classifier
from xaihub.errors import XaihubError
from xaihub.metrics.answering import checked, seed_of
from xaihub.metrics.likeness import Likeness, comparing
from xaihub.metrics.table import Count, Explainer, metric

__all__ = [
    "STAGES", "cascading_randomisation", "independent_randomisation", "layers_with_weights", "other_classes",
    "random_logit", "randomised", "similarities",
]  # fmt: skip

Order = Literal["cascading", "independent"]

STAGES = 8  # of the layers, evenly spaced from the top down: a network has up to hundreds


@metric(
    "cascading-randomisation",
    higher_is_better=False,
    category="randomisation",
    title="Cascading randomisation",
    needs=("explainer",),
)
def cascading_randomisation(
    classifier: Classifier,
    pixels: Tensor,
    heatmaps: Tensor,
    targets: Tensor,
    *,
    explainer: Explainer,
    stages: Count | None = STAGES,
    likeness: Likeness = "spearman",
    seed: int = 0,
) -> Tensor:
    """Mean likeness of the raw map to that of the network without its weights, lost from the top down.

    Averaged over the stages (Adebayo et al., 2018, arXiv:1810.03292, section 3.1). Near 0 is good: a map that stays
    although the network knows nothing any more does not show what it knew. `heatmaps` are asked of the explainer again,
    raw and signed.

    Args:
        explainer: what made the maps.
        stages: how many states of the network are asked about; None for one after each layer.
        likeness: "spearman", the rank correlation, or "ssim", the structural similarity of the maps as large as the
            pixels: the paper's two.

    Returns:
        (N,), each in [-1, 1]; not a number where the raw map is flat.
    """
    checked(pixels, heatmaps, targets)
    return similarities(classifier, pixels, targets, explainer, "cascading", stages, likeness, seed).mean(1)


@metric(
    "independent-randomisation",
    higher_is_better=False,
    category="randomisation",
    title="Independent randomisation",
    needs=("explainer",),
)
def independent_randomisation(
    classifier: Classifier,
    pixels: Tensor,
    heatmaps: Tensor,
    targets: Tensor,
    *,
    explainer: Explainer,
    stages: Count | None = STAGES,
    likeness: Likeness = "spearman",
    seed: int = 0,
) -> Tensor:
    """Mean likeness of the raw map to that of the network of which one layer at a time lost its weights.

    Averaged over the layers (Adebayo et al., 2018, arXiv:1810.03292, section 3.2).

    Args:
        explainer, stages, likeness: as in `cascading_randomisation`; here each stage is one layer, evenly spaced.

    Returns:
        (N,), each in [-1, 1]; not a number where the raw map is flat.
    """
    checked(pixels, heatmaps, targets)
    return similarities(classifier, pixels, targets, explainer, "independent", stages, likeness, seed).mean(1)


@metric("random-logit", higher_is_better=False, category="randomisation", title="Random logit", needs=("explainer",))
def random_logit(
    classifier: Classifier,
    pixels: Tensor,
    heatmaps: Tensor,
    targets: Tensor,
    *,
    explainer: Explainer,
    likeness: Likeness = "spearman",
    seed: int = 0,
) -> Tensor:
    """Likeness of the raw map to that of another class, drawn by lot.

    (Sixt et al., 2020, arXiv:1912.09818, section 4; the paper has SSIM.) Low is good: a map that is the same for every
    class does not say why this one. `heatmaps` are asked of the explainer again, raw.

    Args:
        explainer, likeness: as in `cascading_randomisation`.

    Returns:
        (N,), each in [-1, 1]; not a number where the raw map is flat.
    """
    checked(pixels, heatmaps, targets)
    others = other_classes(pixels, targets, len(classifier.labels), seed)
    both = explainer(classifier, torch.cat([pixels, pixels]), torch.cat([targets, others]))
    return comparing(likeness, pixels)(*both.cpu().chunk(2))


def similarities(
    classifier: Classifier,
    pixels: Tensor,
    targets: Tensor,
    explainer: Explainer,
    order: Order = "cascading",
    stages: int | None = STAGES,
    likeness: Likeness = "spearman",
    seed: int = 0,
) -> Tensor:
    """(N, L), how alike each picture's raw map stays as the network loses its weights, stage by stage."""
    alike = comparing(likeness, pixels)
    first = explainer(classifier, pixels, targets).cpu()
    states = randomised(classifier, order, stages, seed)
    found = [alike(first, explainer(state, pixels, targets).cpu()) for _, state in states]
    if not found:
        raise XaihubError(
            f"{classifier.repo_id} has no layer whose weights can be drawn anew (`reset_parameters`). Leave the metrics"
            " of randomisation out."
        )
    return torch.stack(found, dim=1)


def randomised(
    classifier: Classifier, order: Order, stages: int | None = STAGES, seed: int = 0
) -> Iterator[tuple[str, Classifier]]:
    """The layer that lost its weights last, and the classifier as it then is, from the top layer down.

    Weights are drawn as the layer draws its own before training. The classifier that is given stays as it was; what is
    yielded changes with the next step.
    """
    module = copy.deepcopy(classifier.module)
    layers = layers_with_weights(module)
    shown = set(_spaced(len(layers), stages))
    state = replace(classifier, module=module)
    for number, (name, layer) in enumerate(layers):
        if order == "independent" and number not in shown:
            continue
        before = copy.deepcopy(layer.state_dict()) if order == "independent" else None
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed + 1)  # for each layer, as Quantus does
            layer.reset_parameters()  # type: ignore[operator]
        if number in shown:
            yield name, state
        if before is not None:
            layer.load_state_dict(before)


def layers_with_weights(module: nn.Module) -> list[tuple[str, nn.Module]]:
    """Names and layers that can draw their weights anew, in the order of definition from the last to the first."""
    return [(name, part) for name, part in module.named_modules() if hasattr(part, "reset_parameters")][::-1]


def other_classes(pixels: Tensor, targets: Tensor, classes: int, seed: int = 0) -> Tensor:
    """(N,), another class than the target for each picture, drawn from its own pixels."""
    if classes < 2:
        raise XaihubError("A classifier of one class has no other class to ask about. Leave random-logit out.")
    drawn = [
        torch.randint(classes - 1, (), generator=torch.Generator().manual_seed(seed_of(one, seed))) for one in pixels
    ]
    others = torch.stack(drawn).to(targets)
    return others + (others >= targets)


def _spaced(count: int, stages: int | None) -> list[int]:
    """So many numbers below `count`, evenly spaced, the last among them."""
    stages = count if stages is None else min(stages, count)
    return [(i + 1) * count // stages - 1 for i in range(stages)]
