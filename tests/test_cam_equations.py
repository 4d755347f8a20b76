"""Every map of feature maps equals its equation, written as plain loops over pictures, channels and places."""

import math

import numpy as np
import pytest
import torch

from xaihub.cams import CAMS, fuse, smooth_gradcam_plus_plus
from xaihub.perturbations import ablationcam, scorecam

pytestmark = pytest.mark.agreement

N, K, ROWS, COLUMNS = 2, 3, 2, 4  # all different: no two axes can be exchanged unnoticed
LOOPS = {}


def loop(name):
    return lambda function: LOOPS.setdefault(name, function)


@loop("gradcam")
def slow_gradcam(a, g, i, j):
    return sum(g[k].mean() * a[k, i, j] for k in range(K))


@loop("hirescam")
def slow_hirescam(a, g, i, j):
    return sum(g[k, i, j] * a[k, i, j] for k in range(K))


@loop("layercam")
def slow_layercam(a, g, i, j):
    return sum(max(g[k, i, j], 0) * a[k, i, j] for k in range(K))


@loop("gradcam++")
def slow_gradcam_plus_plus(a, g, i, j):
    total = 0.0
    for k in range(K):
        weight = 0.0
        for y in range(ROWS):
            for x in range(COLUMNS):
                below = 2 * g[k, y, x] ** 2 + a[k].sum() * g[k, y, x] ** 3 + 1e-6
                weight += g[k, y, x] ** 2 / below * max(g[k, y, x], 0)
        total += weight * a[k, i, j]
    return total


@loop("xgradcam")
def slow_xgradcam(a, g, i, j):
    return sum((a[k] * g[k]).sum() / (a[k].sum() + 1e-7) * a[k, i, j] for k in range(K))


def first_component(maps, i, j):
    """The coordinate along the direction of largest variance, by repeated multiplication instead of a decomposition."""
    points = np.array([[maps[k, y, x] for k in range(K)] for y in range(ROWS) for x in range(COLUMNS)])
    points = points - points.mean(0)
    spread = sum(np.outer(point, point) for point in points)
    direction = np.arange(1.0, K + 1)
    for _ in range(2000):
        direction = spread @ direction
        direction /= np.linalg.norm(direction)
    return points @ direction, i * COLUMNS + j


def risen(along, size):
    """Turned so that it rises with the sizes."""
    return along if sum(along * (size - size.mean())) >= 0 else -along


@loop("eigencam")
def slow_eigencam(a, g, i, j):
    along, place = first_component(a, i, j)
    size = np.array([sum(a[k, y, x] ** 2 for k in range(K)) for y in range(ROWS) for x in range(COLUMNS)])
    return risen(along, size)[place]


@loop("eigengradcam")
def slow_eigengradcam(a, g, i, j):
    along, place = first_component(a * g, i, j)
    size = np.array([sum(a[k, y, x] * g[k, y, x] for k in range(K)) for y in range(ROWS) for x in range(COLUMNS)])
    return risen(along, size)[place]


def maps_and_gradients(*, signed, seed=3):
    generator = torch.Generator().manual_seed(seed)
    draw = torch.randn if signed else torch.rand
    return (
        draw(N, K, ROWS, COLUMNS, generator=generator) + 0.5 * signed,
        torch.randn(N, K, ROWS, COLUMNS, generator=generator),
    )


def assert_equals(fast, slow):
    assert fast.shape == (N, ROWS, COLUMNS)
    expected = [[[slow(n, i, j) for j in range(COLUMNS)] for i in range(ROWS)] for n in range(N)]
    np.testing.assert_allclose(fast.double().numpy(), expected, rtol=1e-4, atol=1e-5)


def test_every_map_has_its_loop():
    assert set(CAMS) == set(LOOPS)


@pytest.mark.parametrize("signed", [False, True], ids=["after a ReLU", "of both signs"])
@pytest.mark.parametrize("name", LOOPS)
def test_each_map_equals_its_equation_in_plain_loops(name, signed):
    activations, gradients = maps_and_gradients(signed=signed)
    a, g = activations.double().numpy(), gradients.double().numpy()
    assert_equals(CAMS[name](activations, gradients), lambda n, i, j: LOOPS[name](a[n], g[n], i, j))


@pytest.mark.parametrize("name", LOOPS)
@pytest.mark.parametrize("places", [(2, 4), (1, 2)], ids=["more places than channels", "fewer"])
def test_a_batch_of_maps_equals_its_pictures_one_by_one(name, places):
    generator = torch.Generator().manual_seed(4)
    activations, gradients = (torch.randn(5, K, *places, generator=generator) for _ in range(2))
    together = CAMS[name](activations, gradients)
    alone = torch.cat([CAMS[name](activations[n : n + 1], gradients[n : n + 1]) for n in range(5)])
    torch.testing.assert_close(together, alone)
    assert together.shape == (5, *places)


@pytest.mark.parametrize("name", LOOPS)
def test_what_is_silent_everywhere_gives_zeros_and_no_nan(name):
    activations, gradients = maps_and_gradients(signed=False)
    assert not CAMS[name](torch.zeros_like(activations), gradients).any()
    if name != "eigencam":
        assert not CAMS[name](activations, torch.zeros_like(gradients)).any()
    assert not CAMS["eigencam"](torch.full_like(activations, 2.0), gradients).any(), "alike at all places"


@pytest.mark.parametrize("channels", [3, 50])
def test_eigen_cam_is_the_same_through_either_gram_matrix(channels):
    """Of 12 places and 50 channels the small one is 12 x 12, of 3 channels 3 x 3: both give the SVD's projection."""
    maps = torch.rand(2, channels, 3, 4, generator=torch.Generator().manual_seed(6))
    points = maps.flatten(2).transpose(1, 2).double()
    points = points - points.mean(1, keepdim=True)
    left, values, _ = torch.linalg.svd(points)
    expected = (left[:, :, 0] * values[:, :1]).view(2, 3, 4).abs()
    torch.testing.assert_close(CAMS["eigencam"](maps, maps).abs().double(), expected, atol=1e-5, rtol=1e-4)


def test_eigen_cam_does_not_ask_for_the_class_and_rises_with_the_activations():
    activations, gradients = maps_and_gradients(signed=False)
    raw = CAMS["eigencam"](activations, gradients)
    assert torch.equal(raw, CAMS["eigencam"](activations, -gradients))
    bright = torch.zeros(1, K, ROWS, COLUMNS)
    bright[0, :, 1, 2] = -5.0  # by size, not by value
    assert int(CAMS["eigencam"](bright, bright).argmax()) == 1 * COLUMNS + 2


def test_smooth_grad_cam_plus_plus_equals_its_equations_in_plain_loops():
    activations, _ = maps_and_gradients(signed=False)
    noisy = torch.randn(5, N, K, ROWS, COLUMNS, generator=torch.Generator().manual_seed(5))
    a, d = activations.double().numpy(), noisy.double().numpy()

    def slow(n, i, j):
        total = 0.0
        for k in range(K):
            weight = 0.0
            for y in range(ROWS):
                for x in range(COLUMNS):
                    first, second, third = (sum(d[s, n, k, y, x] ** p for s in range(5)) / 5 for p in (1, 2, 3))
                    weight += second / (2 * second + a[n, k].sum() * third + 1e-6) * max(first, 0)
            total += weight * a[n, k, i, j]
        return total

    assert_equals(smooth_gradcam_plus_plus(activations, noisy), slow)


def test_score_cam_equals_its_equation_in_plain_loops():
    activations, _ = maps_and_gradients(signed=True)
    scores = torch.tensor([[1.0, -2.0, 0.5], [3.0, 3.5, -1.0]])

    def slow(n, i, j):
        total = sum(math.exp(scores[n, k]) for k in range(K))
        return sum(math.exp(scores[n, k]) / total * float(activations[n, k, i, j]) for k in range(K))

    assert_equals(torch.stack([scorecam(a, s) for a, s in zip(activations, scores, strict=True)]), slow)


@pytest.mark.parametrize("score", [4.0, -4.0])
def test_ablation_cam_equals_its_equation_in_plain_loops_also_for_a_negative_score(score):
    activations, _ = maps_and_gradients(signed=True)
    without = torch.tensor([[1.0, -2.0, 0.5], [3.0, 5.0, -1.0]])

    def slow(n, i, j):
        return sum((score - float(without[n, k])) / abs(score) * float(activations[n, k, i, j]) for k in range(K))

    assert_equals(
        torch.stack([ablationcam(a, w, torch.tensor(score)) for a, w in zip(activations, without, strict=True)]), slow
    )


def bilinear(values, rows, columns):
    """Enlarged with half-pixel centres, place by place."""
    height, width = len(values), len(values[0])
    large = np.zeros((rows, columns))
    for i in range(rows):
        for j in range(columns):
            y = min(max((i + 0.5) * height / rows - 0.5, 0), height - 1)
            x = min(max((j + 0.5) * width / columns - 0.5, 0), width - 1)
            top, left = int(y), int(x)
            below, right = min(top + 1, height - 1), min(left + 1, width - 1)
            above = values[top][left] * (1 - x + left) + values[top][right] * (x - left)
            under = values[below][left] * (1 - x + left) + values[below][right] * (x - left)
            large[i, j] = above * (1 - y + top) + under * (y - top)
    return large


def test_fused_maps_equal_the_mean_of_the_layers_in_plain_loops():
    generator = torch.Generator().manual_seed(8)
    maps = [torch.randn(N, 2, 4, generator=generator) * 100, torch.randn(N, 4, 6, generator=generator)]
    fast = fuse(maps, (8, 12))
    for n in range(N):
        sizes = [np.abs(each[n].numpy()).max() for each in maps]
        positive, negative = (
            sum(
                bilinear(np.maximum(sign * each[n].numpy(), 0) / size, 8, 12)
                for each, size in zip(maps, sizes, strict=True)
            )
            / 2
            for sign in (1, -1)
        )
        expected = positive / max(positive.max(), negative.max())
        np.testing.assert_allclose(fast[n].numpy(), expected, atol=1e-5)


def test_a_layer_without_positive_evidence_dims_what_the_others_show():
    some, none = torch.tensor([[[0.0, 2.0], [1.0, -1.0]]]), -torch.ones(1, 4, 4)
    torch.testing.assert_close(  # for: 0, 1/2, 1/4, 0; against: 1/2, 1/2, 1/2, 3/4
        fuse([some, none], (2, 2)), torch.tensor([[[0, 2 / 3], [1 / 3, 0]]])
    )
    assert not fuse([none, none], (2, 2)).any()
    unsigned = fuse([some, none], (2, 2), signed=False)
    torch.testing.assert_close(unsigned, torch.tensor([[[0, 1], [0.5, 0]]]))
