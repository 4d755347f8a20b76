"""Maps over the pixels themselves, from gradients all the way down to them; one pure function each.

`score` gives the target's logit (N,) of pixels (N, 3, H, W), with its graph; what comes back is (N, 3, H, W) unless
said otherwise. A map (H, W) is the sum over the three colours: signed where the sign means something, else of sizes.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from xaihub.calls import biasing, rectifying
from xaihub.cams import gradcam
from xaihub.maps import map_method
from xaihub.methods import Query
from xaihub.passes import slices
from xaihub.progress import Progress, silent

__all__ = [
    "full_gradient", "fullgrad", "guided_backprop", "guided_gradcam", "input_x_gradient", "integrated_gradients",
    "pixel_gradient", "smoothgrad",
]  # fmt: skip

Score = Callable[[Tensor], Tensor]

BATCH = 10  # noisy copies or steps at once, with their graph
STEPS = 50  # of integrated gradients
COPIES = 20  # of SmoothGrad
NOISE = 0.15  # of the pixels' range: the middle of what the authors recommend
CLIP = 0.005  # of the pixels are shown as the hottest: gradients have single wild ones

SENSITIVE = "The pixels that {label} is most sensitive to, for or against"


def pixel_gradient(score: Score, pixels: Tensor) -> Tensor:
    """The gradient of the score to the pixels (saliency: Simonyan et al., 2014, section 3)."""
    leaf = pixels.detach().clone().requires_grad_()
    with torch.enable_grad():
        total = score(leaf).sum()
    return _gradients(total, [leaf])[0]


def input_x_gradient(score: Score, pixels: Tensor) -> Tensor:
    """Input x gradient (Shrikumar et al., 2016, section 2.2): to first order, each pixel's share of the score."""
    return pixels * pixel_gradient(score, pixels)


def guided_backprop(score: Score, pixels: Tensor) -> Tensor:
    """Guided backpropagation (Springenberg et al., 2015, section 3.4): no ReLU hands down a negative gradient."""
    with rectifying(lambda gradient: gradient.clamp_min(0)):
        return pixel_gradient(score, pixels)


def guided_gradcam(guided: Tensor, coarse: Tensor) -> Tensor:
    """Guided Grad-CAM (Selvaraju et al., 2017, section 3.3): guided backpropagation where Grad-CAM's map is.

    Args:
        guided: (N, 3, H, W) of `guided_backprop`.
        coarse: (N, h, w), Grad-CAM's raw map.
    """
    large = interpolate(coarse.relu()[:, None], guided.shape[2:], mode="bilinear", align_corners=False)
    return guided * large


def integrated_gradients(
    score: Score,
    pixels: Tensor,
    steps: int = STEPS,
    baseline: float = 0.0,
    progress: Progress = silent,
    batch: int = BATCH,
) -> Tensor:
    """Integrated gradients (Sundararajan et al., 2017, eq. 1), on the straight line from a flat picture.

    The integral is a Gauss-Legendre sum, as in captum: with 50 steps what it adds up to is the score's rise.

    Args:
        pixels: (1, 3, H, W).
        baseline: the flat picture's value after preprocessing; 0 is the mean colour for most models.
        batch: steps at once, with their graph.
    """
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    places = torch.tensor((nodes + 1) / 2, dtype=pixels.dtype, device=pixels.device)
    shares = torch.tensor(weights / 2, dtype=pixels.dtype, device=pixels.device)
    total = torch.zeros_like(pixels)
    for some in slices(steps, batch):
        progress(some.start / steps, f"Integrated gradients: {some.start} of {steps} steps")
        line = baseline + places[some, None, None, None] * (pixels - baseline)
        total += (shares[some, None, None, None] * pixel_gradient(score, line)).sum(0, keepdim=True)
    return (pixels - baseline) * total


def smoothgrad(
    score: Score,
    pixels: Tensor,
    copies: int = COPIES,
    noise: float = NOISE,
    seed: int = 0,
    progress: Progress = silent,
    batch: int = BATCH,
) -> Tensor:
    """SmoothGrad (Smilkov et al., 2017, eq. 1): the gradient averaged over copies of the picture with noise.

    Args:
        pixels: (1, 3, H, W).
        noise: standard deviation, as a share of the pixels' range.
        batch: copies at once, with their graph.
    """
    generator = torch.Generator().manual_seed(seed)
    spread = noise * float(pixels.max() - pixels.min())
    total = torch.zeros_like(pixels)
    for some in slices(copies, batch):
        progress(some.start / copies, f"SmoothGrad: {some.start} of {copies} steps")
        drawn = torch.randn((some.stop - some.start, *pixels.shape[1:]), generator=generator).to(pixels)
        total += pixel_gradient(score, pixels + spread * drawn).sum(0, keepdim=True)
    return total / copies


def full_gradient(score: Score, pixels: Tensor) -> tuple[Tensor, list[Tensor]]:
    """FullGrad's terms (Srinivas & Fleuret, 2019, eq. 3): input x gradient (1, 3, H, W), and bias x gradient of each
    convolution and batch norm (1, K, h, w), in the order in which they ran.

    A batch norm's bias is all that it adds: its own, less the scaled running mean. With the biases of the linear layers
    the terms of a ReLU network add up to the score.
    """
    leaf = pixels.detach().clone().requires_grad_()
    probes: list[Tensor] = []
    biases: list[Tensor] = []

    def see(output: Tensor, bias: Tensor) -> Tensor:
        probes.append(torch.zeros_like(output).requires_grad_())
        biases.append(bias.detach().float()[:, None, None])
        return output + probes[-1]  # its gradient is the output's, whatever happens to the output in place

    with torch.enable_grad(), biasing(see):
        total = score(leaf).sum()
    by_input, *gradients = _gradients(total, [leaf, *probes])
    by_bias = [gradient.float() * bias for gradient, bias in zip(gradients, biases, strict=True)]
    return pixels * by_input, by_bias


def fullgrad(by_input: Tensor, by_bias: list[Tensor]) -> Tensor:
    """(N, H, W), FullGrad's map (Srinivas & Fleuret, 2019, eq. 5): sizes of all terms, each scaled to [0, 1] and added.

    A bias's channels are scaled one by one, as the authors do, and the input's as well, as pytorch-grad-cam does.
    """
    size = (by_input.shape[2], by_input.shape[3])
    return sum((_scaled(terms.abs(), size) for terms in by_bias), _scaled(by_input.abs(), size))


def _scaled(terms: Tensor, size: tuple[int, int]) -> Tensor:
    """(N, H, W): each channel from 0 to 1, added, enlarged: enlarging first would cost K times as much for the same."""
    low, high = terms.amin((2, 3), keepdim=True), terms.amax((2, 3), keepdim=True)
    scaled = ((terms - low) / (high - low + 1e-7)).sum(1, keepdim=True)
    return interpolate(scaled, size, mode="bilinear", align_corners=False)[:, 0]


def _gradients(total: Tensor, tensors: list[Tensor]) -> list[Tensor]:
    """The gradient to each of them; zeros where the total does not depend on it."""
    found: tuple[Tensor | None, ...] = (None,) * len(tensors)
    if total.requires_grad:
        found = torch.autograd.grad(total, tensors, allow_unused=True)
    return [torch.zeros_like(t) if gradient is None else gradient for t, gradient in zip(tensors, found, strict=True)]


# As methods


@map_method("input-x-gradient", needs=("gradient",), title="Input x gradient", passes=3, signed=True, clip=CLIP)
def _input_x_gradient(query: Query) -> Tensor:
    """Input x gradient (Shrikumar et al., 2016): each pixel's share of the score, to first order."""
    return input_x_gradient(_score(query), query.view.pixels)[0].sum(0)


@map_method(
    "guided-backprop", needs=("gradient",), title="Guided backpropagation", passes=3, clip=CLIP, claim=SENSITIVE
)
def _guided_backprop(query: Query) -> Tensor:
    """Guided backpropagation (Springenberg et al., 2015): the gradient, with negative parts stopped at every ReLU.

    It sharpens edges and hardly depends on the class (Adebayo et al., 2018): do not read it alone.
    """
    return _guided(query, "guided-backprop")[0].abs().sum(0)


@map_method(
    "guided-gradcam", needs=("target layer", "gradient"), title="Guided Grad-CAM", passes=3, clip=CLIP, claim=SENSITIVE
)
def _guided_gradcam(query: Query) -> Tensor:
    """Guided Grad-CAM (Selvaraju et al., 2017): guided backpropagation, only where Grad-CAM's map is positive."""
    coarse = gradcam(query.activations[None], query.gradients[None])
    return guided_gradcam(_guided(query, "guided-gradcam"), coarse)[0].abs().sum(0)


@map_method(
    "integrated-gradients",
    needs=("gradient",),
    title="Integrated gradients",
    passes=3 * STEPS + 1,
    signed=True,
    clip=CLIP,
)
def _integrated_gradients(query: Query) -> Tensor:
    """Integrated gradients (Sundararajan et al., 2017): each pixel's share of the score's rise from a flat picture.

    The flat picture is zero after preprocessing: the mean colour, for most models.
    """
    pixels = query.view.pixels
    terms = integrated_gradients(_score(query), pixels, progress=query.progress, batch=query.at_once(BATCH, graph=True))
    rise = float(query.logits[query.target] - query.classifier.logits(torch.zeros_like(pixels))[0, query.target])
    query.note(
        "integrated-gradients",
        f"The map adds up to {float(terms.sum()):.2f}; from the flat picture to this one the logit rises by"
        f" {rise:.2f}. The nearer the two, the more exact the map.",
    )
    return terms[0].sum(0)


@map_method("smoothgrad", needs=("gradient",), title="SmoothGrad", passes=3 * COPIES, clip=CLIP, claim=SENSITIVE)
def _smoothgrad(query: Query) -> Tensor:
    """SmoothGrad (Smilkov et al., 2017): the gradient averaged over copies of the picture with noise, in size."""
    batch = query.at_once(BATCH, graph=True)
    return smoothgrad(_score(query), query.view.pixels, progress=query.progress, batch=batch)[0].abs().sum(0)


@map_method("fullgrad", needs=("gradient",), title="FullGrad", passes=3, claim=SENSITIVE)
def _fullgrad(query: Query) -> Tensor:
    """FullGrad (Srinivas & Fleuret, 2019): gradients to the pixels and to the biases of all layers, added in size."""
    by_input, by_bias = full_gradient(_score(query), query.view.pixels)
    if not by_bias:
        query.note(
            "fullgrad",
            "No convolution or batch norm of this network has a bias on a map, so only input x gradient is left.",
        )
    raw = fullgrad(by_input, by_bias)[0]
    return raw - raw.min()


def _score(query: Query) -> Score:
    return lambda pixels: query.classifier.score(pixels, [query.target] * len(pixels))


def _guided(query: Query, name: str) -> Tensor:
    def make() -> tuple[Tensor, int]:
        with rectifying(lambda gradient: gradient.clamp_min(0)) as ran:
            return pixel_gradient(_score(query), query.view.pixels), len(ran)

    guided, relus = query.once(("guided", query.target), make)
    if not relus:
        query.note(name, "This network has no ReLU, so there is nothing to guide: this is the plain gradient.")
    return guided
