"""Class activation maps: the Grad-CAM family, one pure function each.

Letters: N pictures, K channels, h x w places of the target layer. `activations` A and `gradients` G = d logit / d A
are (N, K, h, w); every function gives the raw, signed map (N, h, w). What is shown is its positive part, enlarged to
the picture and divided by its largest value.
"""

from collections.abc import Callable, Sequence
from functools import wraps

import torch
from torch import Tensor

from xaihub.classifier import Classifier
from xaihub.maps import CLAIM, enlarged, evidence, map_method, over_largest, shown
from xaihub.methods import Query, method
from xaihub.passes import tap
from xaihub.records import Evidence

__all__ = [
    "CAMS", "cam", "cam_exact", "eigencam", "eigengradcam", "finercam", "fuse", "gradcam", "gradcam_plus_plus",
    "heatmaps", "hirescam", "layercam", "several", "smooth_gradcam_plus_plus", "smoothed", "xgradcam",
]  # fmt: skip

Cam = Callable[[Tensor, Tensor], Tensor]

CAMS: dict[str, Cam] = {}

SMOOTHED_OVER = 8  # noisy copies: two more batches of them change the map by less than a colour step
NOISE = 0.1  # of the pixels' range, the least that SmoothGrad recommends (Smilkov et al., 2017, section 3)

_ROUNDING = 1e-5  # of the terms that a map sums: what float32, and a layer norm's eps, leave of exact cancellation
_TINY = 1e-7  # keeps 0 / 0 at 0; the size pytorch-grad-cam uses, so that maps agree
_CANCELS = (
    "what speaks for and against it cancels to rounding error, as it does before a layer norm. Another method or layer"
    " works."
)
_MORE_THAN_LINEAR = (
    "CAM is exact only where the head is a mean over places and a linear layer; the layers above this one are more than"
    " that, measured by their gradient and by switching the maps off. Grad-CAM works here."
)
_RECTIFIED = (
    "The head rectifies its scores before the mean: {share:.0%} of the places score below zero, so they count for"
    " nothing, not against the class."
)
_BESIDE = (
    "The head also reads tokens that lie at no place (a class token): {beside:.2f} of the logit {logit:.2f} comes from"
    " them and is not in the map."
)


def cam(name: str, *, title: str = "", signed: bool = False, claim: str = CLAIM) -> Callable[[Cam], Cam]:
    """Registers `name(activations, gradients) -> raw map` as a method of its own; further words as in `map_method`."""

    def register(function: Cam) -> Cam:
        CAMS[name] = function

        @wraps(function)
        def run(query: Query) -> tuple[Evidence, ...]:
            raw = function(query.activations[None], query.gradients[None])[0]
            terms = float((query.gradients * query.activations).abs().sum(0).max()) if signed else 0.0
            cancels = bool(raw.any()) and float(raw.abs().max()) < _ROUNDING * terms
            return (evidence(query, name, raw, claim=claim, void=_CANCELS if cancels else ""),)

        method(name, needs=("target layer",), title=title, signed=signed, compares="{other}" in claim)(run)
        return function

    return register


@cam("gradcam", title="Grad-CAM", signed=True)
def gradcam(activations: Tensor, gradients: Tensor) -> Tensor:
    """Grad-CAM (Selvaraju et al., 2017, eq. 1 and 2): channels weighted by their mean gradient."""
    return (gradients.mean((-2, -1), keepdim=True) * activations).sum(1)


@cam("hirescam", title="HiResCAM", signed=True)
def hirescam(activations: Tensor, gradients: Tensor) -> Tensor:
    """HiResCAM (Draelos & Carin, 2020, eq. 4): each place weighted by its own gradient."""
    return (gradients * activations).sum(1)


@cam("layercam", title="LayerCAM")
def layercam(activations: Tensor, gradients: Tensor) -> Tensor:
    """LayerCAM (Jiang et al., 2021, eq. 6): each place weighted by its own positive gradient."""
    return (gradients.relu() * activations).sum(1)


@cam("gradcam++", title="Grad-CAM++")
def gradcam_plus_plus(activations: Tensor, gradients: Tensor) -> Tensor:
    """Grad-CAM++ (Chattopadhay et al., 2018, eq. 10 and 19): positive gradients weighted by how rare they are.

    The factor exp(logit) of eq. 18 scales all weights alike, so it is left out.
    """
    return smooth_gradcam_plus_plus(activations, gradients[None])


@cam("xgradcam", title="XGrad-CAM", signed=True)
def xgradcam(activations: Tensor, gradients: Tensor) -> Tensor:
    """XGrad-CAM (Fu et al., 2020, eq. 8): channels weighted by their gradient where they are active."""
    share = activations / (activations.sum((-2, -1), keepdim=True) + _TINY)
    return ((share * gradients).sum((-2, -1), keepdim=True) * activations).sum(1)


@cam("eigencam", title="Eigen-CAM", claim="What the layer answers to most, whatever the class")
def eigencam(activations: Tensor, gradients: Tensor) -> Tensor:  # noqa: ARG001  every cam is given both
    """Eigen-CAM (Muhammad & Yeasin, 2020, section 3): the activations along their first principal component.

    Centred, as pytorch-grad-cam does: otherwise the first component is the mean. Its sign, which no decomposition
    fixes, is the one that makes it rise with the activations' size. No class enters.
    """
    return _first_component(activations, activations.square().sum(1))


@cam("eigengradcam", title="EigenGrad-CAM")
def eigengradcam(activations: Tensor, gradients: Tensor) -> Tensor:
    """EigenGrad-CAM (after Muhammad & Yeasin, 2020; named by pytorch-grad-cam): Eigen-CAM of gradient x activation.

    The sign is the one that makes it rise with HiResCAM's map.
    """
    terms = gradients * activations
    return _first_component(terms, terms.sum(1))


def smooth_gradcam_plus_plus(activations: Tensor, gradients: Tensor) -> Tensor:
    """Smooth Grad-CAM++ (Omeiza et al., 2019, eq. 7 to 10): Grad-CAM++ with its derivatives averaged over noisy copies.

    The second derivative stands above the line, as in Grad-CAM++; the paper prints the first there. torch-cam takes
    the ReLU of the last copy's gradient and weighs the last copy's activations, not the picture's.

    Args:
        gradients: (S, N, K, h, w), of S noisy copies of each picture.
    """
    first, second, third = gradients.mean(0), gradients.square().mean(0), (gradients**3).mean(0)
    places = 2 * second + activations.sum((-2, -1), keepdim=True) * third
    alpha = torch.where(second != 0, second / (places + 1e-6), 0)
    return ((alpha * first.relu()).sum((-2, -1), keepdim=True) * activations).sum(1)


def _first_component(maps: Tensor, rising_with: Tensor) -> Tensor:
    """(N, h, w), the projection of each place's K channels on their first principal direction.

    It comes from the smaller of the two Gram matrices: of 49 places there is one of 49 x 49, whatever K is.
    """
    count, channels, rows, columns = maps.shape
    places = maps.flatten(2).transpose(1, 2)  # (N, hw, K)
    centred = places - places.mean(1, keepdim=True)
    if rows * columns <= channels:
        values, vectors = torch.linalg.eigh(centred @ centred.transpose(1, 2))
        projection = vectors[:, :, -1] * values[:, -1:].clamp_min(0).sqrt()
    else:
        projection = (centred @ torch.linalg.eigh(centred.transpose(1, 2) @ centred)[1][:, :, -1:])[:, :, 0]
    rising = rising_with.flatten(1)
    agrees = (projection * (rising - rising.mean(1, keepdim=True))).sum(1, keepdim=True)
    return torch.where(agrees < 0, -projection, projection).view(count, rows, columns)


@method("cam", needs=("target layer",), title="CAM", passes=1, signed=True)
def cam_exact(query: Query) -> tuple[Evidence, ...]:
    """CAM (Zhou et al., 2016, eq. 2): channels weighted as the linear head weighs them; exact, or not shown at all.

    The weights are read from the gradient: it is the same at every place (that the head's own ReLU lets pass) where the
    head is a mean and a linear layer. That the logit is the mean of the map, plus what the head gives without any maps,
    is checked by one more pass.
    """
    by_layer = [(maps[0], gradients[0]) for maps, gradients in query.passed.by_layer([query.target])]
    heads = [_head_weights(gradients) for _, gradients in by_layer]
    at_zero = query.logits_at_zero[query.target]
    explained = sum(float((maps * gradients).sum()) for maps, gradients in by_layer)
    told = float(query.logits[query.target] - at_zero)
    if not all(equal for _, equal in heads) or abs(told - explained) > 0.02 * max(abs(told), abs(explained)):
        query.note("cam", _MORE_THAN_LINEAR)
        return ()
    stopped = float(torch.cat([~gradients.any(0).flatten() for _, gradients in by_layer]).float().mean())
    if 0 < stopped < 1:
        query.note("cam", _RECTIFIED.format(share=stopped))
    beside = float(query.passed.beside([query.target]))
    if abs(beside) > _ROUNDING * abs(explained):
        query.note("cam", _BESIDE.format(beside=beside, logit=float(query.logits[query.target])))
    weights = torch.cat([weights for weights, _ in heads])
    return (evidence(query, "cam", (weights[:, None, None] * query.activations).sum(0)),)


def _head_weights(gradients: Tensor) -> tuple[Tensor, bool]:
    """(K,) what a linear head gives each channel's mean, of its gradient (K, h, w); and whether that is one weight.

    A place that the head's own ReLU stops has no gradient; where it stops all of them, nothing speaks for the class.
    """
    places = gradients.flatten(1)
    active = places.abs().amax(0) > 0
    if not bool(active.any()):
        return places.sum(1), True
    weights = places[:, active].mean(1)
    spread = float((places[:, active] - weights[:, None]).abs().max())
    return weights * places.shape[1], spread <= 1e-4 * float(weights.abs().max())  # the mean over places undone


@map_method(
    "finercam",
    needs=("target layer",),
    title="Finer-CAM",
    signed=True,
    claim="What speaks for {label} rather than {other}",
)
def finercam(query: Query) -> Tensor:
    """Finer-CAM (Zhang et al., 2025, eq. 5 with alpha = 1): Grad-CAM of the target's logit minus the other class's.

    The other class is the one that is asked for, else the most probable one besides the target.
    """
    contrast = query.passed.score([query.target]) - query.passed.score([query.other])
    return gradcam(query.activations[None], query.passed.gradients_of(contrast))[0]


@map_method("smooth-gradcam++", needs=("target layer",), title="Smooth Grad-CAM++", passes=SMOOTHED_OVER)
def smoothed(query: Query) -> Tensor:
    """Smooth Grad-CAM++ (Omeiza et al., 2019): Grad-CAM++ averaged over copies of the picture with noise.

    The noise is seeded: the same picture always gives the same map.
    """
    passed = query.once("smooth-gradcam++", lambda: _noisy_pass(query))
    gradients = passed.gradients([query.target] * SMOOTHED_OVER)[:, None]
    return smooth_gradcam_plus_plus(query.activations[None], gradients)[0]


def _noisy_pass(query: Query) -> object:
    pixels = query.view.pixels
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn((SMOOTHED_OVER, *pixels.shape[1:]), generator=generator).to(pixels.device)
    with tap(query.classifier) as run:
        return run(pixels + noise * NOISE * (pixels.max() - pixels.min()))


def several(
    classifier: Classifier, pixels: Tensor, targets: Sequence[int] | Tensor, names: Sequence[str]
) -> dict[str, Tensor]:
    """The raw maps (N, h, w) of N pictures by several methods, from one forward and one backward pass."""
    with tap(classifier) as run:
        passed = run(pixels)
        activations, gradients = passed.activations, passed.gradients(targets)
        return {name: CAMS[name](activations, gradients) for name in names}


def heatmaps(classifier: Classifier, pixels: Tensor, targets: Sequence[int] | Tensor, name: str = "gradcam") -> Tensor:
    """(N, h, w), the raw maps of N pictures for a target each, from one forward pass."""
    return several(classifier, pixels, targets, [name])[name]


def fuse(maps: Sequence[Tensor], size: tuple[int, int], *, signed: bool = True) -> Tensor:
    """(N, H, W) in [0, 1], one map of several layers': the mean of their maps, each over its largest absolute value.

    So every layer counts alike, as in pytorch-grad-cam, which also takes each map's smallest value away; here zero
    stays zero. The mean is shown over the largest value of what speaks for or against the class on the whole.

    Args:
        maps: raw, (N, h, w) each, on any grids.
        signed: as in `maps.shown`.
    """
    parts = [raw if signed else raw.relu() for raw in maps]
    positive, negative = (
        torch.stack([enlarged(shown(sign * raw, (raw.shape[1], raw.shape[2])), size) for raw in parts]).mean(0)
        for sign in (1, -1)
    )
    return over_largest(positive, negative)
