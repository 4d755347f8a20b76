"""Class activation maps: the Grad-CAM family, one pure function each.

Letters: N pictures, K channels, h x w places of the target layer. `activations` A and `gradients` G = d logit / d A
are (N, K, h, w); every function gives the raw, signed map (N, h, w). What is shown is its positive part, enlarged to
the picture and divided by its largest value.
"""

from collections.abc import Callable, Sequence
from functools import wraps

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from xaihub.classifier import Classifier, Pass, tap
from xaihub.methods import Query, method
from xaihub.records import Evidence, Heatmap

__all__ = ["CAMS", "cam", "gradcam", "gradcam_plus_plus", "heatmaps", "hirescam", "layercam", "shown", "xgradcam"]

Cam = Callable[[Tensor, Tensor], Tensor]

CAMS: dict[str, Cam] = {}

_ROUNDING = 1e-5  # of the terms that a map sums: what float32, and a layer norm's eps, leave of exact cancellation
_TINY = 1e-7  # keeps 0 / 0 at 0; the size pytorch-grad-cam uses, so that maps agree


def cam(name: str) -> Callable[[Cam], Cam]:
    """Registers `name(activations, gradients) -> raw map` as a method of its own."""

    def register(function: Cam) -> Cam:
        CAMS[name] = function

        @wraps(function)
        def run(query: Query) -> tuple[Evidence, ...]:
            raw = function(query.activations[None], query.gradients[None])[0]
            return (_evidence(query, name, raw),)

        method(name, needs=("target layer",))(run)
        return function

    return register


@cam("gradcam")
def gradcam(activations: Tensor, gradients: Tensor) -> Tensor:
    """Grad-CAM (Selvaraju et al., 2017, eq. 1 and 2): channels weighted by their mean gradient."""
    return (gradients.mean((-2, -1), keepdim=True) * activations).sum(1)


@cam("hirescam")
def hirescam(activations: Tensor, gradients: Tensor) -> Tensor:
    """HiResCAM (Draelos & Carin, 2020, eq. 4): each place weighted by its own gradient."""
    return (gradients * activations).sum(1)


@cam("layercam")
def layercam(activations: Tensor, gradients: Tensor) -> Tensor:
    """LayerCAM (Jiang et al., 2021, eq. 6): each place weighted by its own positive gradient."""
    return (gradients.relu() * activations).sum(1)


@cam("gradcam++")
def gradcam_plus_plus(activations: Tensor, gradients: Tensor) -> Tensor:
    """Grad-CAM++ (Chattopadhay et al., 2018, eq. 10 and 19): positive gradients weighted by how rare they are.

    The factor exp(logit) of eq. 18 scales all weights alike, so it is left out.
    """
    squares = gradients**2
    places = 2 * squares + activations.sum((-2, -1), keepdim=True) * gradients**3
    alpha = torch.where(gradients != 0, squares / (places + 1e-6), 0)
    return ((alpha * gradients.relu()).sum((-2, -1), keepdim=True) * activations).sum(1)


@cam("xgradcam")
def xgradcam(activations: Tensor, gradients: Tensor) -> Tensor:
    """XGrad-CAM (Fu et al., 2020, eq. 8): channels weighted by their gradient where they are active."""
    share = activations / (activations.sum((-2, -1), keepdim=True) + _TINY)
    return ((share * gradients).sum((-2, -1), keepdim=True) * activations).sum(1)


def shown(raw: Tensor, size: tuple[int, int]) -> Tensor:
    """(N, H, W) in [0, 1] of raw maps (N, h, w): the positive part, enlarged, over its largest value; zeros stay."""
    positive = interpolate(raw.nan_to_num().relu()[:, None].float(), size, mode="bilinear", align_corners=False)[:, 0]
    largest = positive.amax((-2, -1), keepdim=True)
    return torch.where(largest > 0, positive / largest.clamp_min(torch.finfo(torch.float32).tiny), 0)


def heatmaps(classifier: Classifier, pixels: Tensor, targets: Sequence[int] | Tensor, name: str = "gradcam") -> Tensor:
    """(N, h, w), the raw maps of N pictures for a target each, from one forward pass."""
    with tap(classifier) as run:
        passed: Pass = run(pixels)
        return CAMS[name](passed.activations, passed.gradients(targets))


def _evidence(query: Query, name: str, raw: Tensor) -> Evidence:
    label = query.classifier.labels[query.target]
    layer = query.classifier.target_layer
    where = f"{name} at {layer.name if layer else 'no layer'}"
    noise = float(raw.abs().max()) < _ROUNDING * float((query.gradients * query.activations).abs().sum(0).max())
    if noise and bool(raw.any()):
        caption = (
            f"No map for {label!r} ({where}): what speaks for and against it cancels to rounding error, as it does"
            " before a layer norm. Another method or layer works."
        )
    elif not bool((raw > 0).any()):
        caption = f"No positive evidence for {label!r} at this layer ({where}): nothing there speaks for it."
    else:
        caption = f"Where {label!r} comes from: {where}."
    height, width = query.view.pixels.shape[2:]
    heatmap = shown(raw[None] * (not noise), (height, width))[0].cpu().numpy()
    return Evidence(
        query.view.image,
        caption,
        heatmap=heatmap,
        raw=_to_numpy(raw),
        facts={
            "method": name,
            "label": label,
            "layer": layer.name if layer else None,
            "positive": bool(heatmap.any()),
        },
    )


def _to_numpy(raw: Tensor) -> Heatmap:
    return raw.detach().float().cpu().numpy().astype(np.float32)
