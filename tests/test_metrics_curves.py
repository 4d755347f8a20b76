"""Deletion and insertion: the published procedure in plain loops, torch-cam's implementation, and answers on paper."""

import math

import numpy as np
import pytest
import torch
from metric_networks import SIZE, lot_maps, pictures, red_sum, sharp
from torch.nn.functional import softmax

from xaihub.errors import XaihubError
from xaihub.metrics import METRICS, area, both_curves, curve
from xaihub.metrics.curves import _folded_bell, blurred, places

pytestmark = pytest.mark.agreement

TARGETS = torch.tensor([0, 1, 2])


def rise_curve(classifier, picture, heatmap, target, start, finish, step):
    """RISE's procedure (Petsiuk et al., 2018): pixels sorted by saliency, `step` of them exchanged, all scored."""
    saliency = heatmap.flatten().tolist()
    current, order = start.clone(), sorted(range(len(saliency)), key=lambda i: -saliency[i])
    scores = []
    for begin in range(0, len(order) + step, step):
        scores.append(float(softmax(classifier.module(current[None]), 1)[0, target]))
        for index in order[begin : begin + step]:
            row, column = divmod(index, heatmap.shape[1])
            current[:, row, column] = finish[:, row, column]
    return scores


def rise_auc(scores):
    return (sum(scores) - scores[0] / 2 - scores[-1] / 2) / (len(scores) - 1)


def rise_blur(picture):
    """(H, W) under RISE's `gkern(11, 5)` in plain loops: a dot blurred within 11 x 11 pixels, whose edges mirror."""
    deviation, side = 5.0, 11
    bell = [math.exp(-0.5 * (d / deviation) ** 2) for d in range(-20, 21)]
    line = [0.0] * side
    for d, weight in zip(range(-20, 21), bell, strict=True):
        place = side // 2 + d
        while not 0 <= place < side:
            place = -1 - place if place < 0 else 2 * side - 1 - place
        line[place] += weight / sum(bell)
    height, width, values = *picture.shape, picture.tolist()
    result = [[0.0] * width for _ in range(height)]
    for row in range(height):
        for column in range(width):
            for i, down in enumerate(line):
                for j, right in enumerate(line):
                    y, x = row + i - side // 2, column + j - side // 2
                    if 0 <= y < height and 0 <= x < width:
                        result[row][column] += down * right * values[y][x]
    return torch.tensor(result)


@torch.no_grad()
def test_deletion_and_insertion_equal_rises_procedure_in_plain_loops():
    classifier, pixels, maps = sharp(), pictures(), lot_maps()
    veiled = blurred(pixels)
    deleted, inserted = both_curves(classifier, pixels, maps, TARGETS)
    for i in range(3):
        picture, target = pixels[i], int(TARGETS[i])
        one = rise_curve(classifier, picture, maps[i], target, picture, torch.zeros_like(picture), SIZE[1])
        two = rise_curve(classifier, picture, maps[i], target, veiled[i], picture, SIZE[1])
        assert deleted[i].tolist() == pytest.approx(one, abs=1e-5)
        assert inserted[i].tolist() == pytest.approx(two, abs=1e-5)
        assert max(one) - min(one) > 0.1, "a curve that does not move would agree with anything"
        for name, scores in (("deletion", one), ("insertion", two)):
            value = METRICS[name].run(classifier, pixels, maps, TARGETS)[i]
            assert float(value) == pytest.approx(rise_auc(scores), abs=1e-5)


def test_the_blur_is_rises_at_224_pixels():
    picture = torch.zeros(3, 224, 224)
    picture[0, 3, 219], picture[1, 2, 200:], picture[2, 219, 3] = 1.0, -2.0, 3.0
    ours = blurred(picture[None])[0]
    for colour in (0, 1):
        corner = rise_blur(picture[colour, :16, 200:])
        torch.testing.assert_close(ours[colour, :10, 206:], corner[:10, 6:], atol=1e-6, rtol=0)
    torch.testing.assert_close(ours[2, 210:, :12], rise_blur(picture[2, 204:, :18])[6:, :12], atol=1e-6, rtol=0)
    assert float(ours[2, 219, 3]) > 0, "the dot is in the part that was compared"


def test_the_kernel_is_what_scipy_makes_of_a_dot():
    """RISE's published code builds it so."""
    filters = pytest.importorskip("scipy.ndimage")
    dot = np.zeros((11, 11))
    dot[5, 5] = 1
    line = _folded_bell(224).double()
    np.testing.assert_allclose(torch.outer(line, line), filters.gaussian_filter(dot, 5), atol=1e-8)


def test_the_blur_scales_with_the_picture():
    """A kernel as wide as at 224 would leave nothing of 24 pixels; what a flat middle was, it stays."""
    flat = torch.ones(1, 3, 48, 96)
    assert float((blurred(flat)[:, :, 8:40, 8:88] - 1).abs().max()) < 1e-5
    assert float(blurred(flat)[0, 0, 0, 48]) < 0.9, "beyond the edge there is zero"


def test_deletion_and_insertion_agree_with_torch_cam():
    """Its mean over pictures, at the same steps; it inserts into zeros unless a baseline is given."""
    metrics = pytest.importorskip("torchcam.metrics")
    methods = pytest.importorskip("torchcam.methods")
    classifier, pixels = sharp(), pictures()
    with methods.GradCAM(classifier.module, target_layer="net.after") as extractor:
        logits = classifier.module(pixels)
        cam = extractor(TARGETS.tolist(), logits.softmax(-1))[0]  # what its metric asks: the probability's map
        for baseline in (None, blurred):
            peer = metrics.DeletionInsertionMetric(
                extractor, lambda logits: logits.softmax(-1), steps=16, baseline=baseline
            )
            peer.update(pixels, TARGETS.tolist())
            theirs = peer.summary()
            maps = torch.nn.functional.interpolate(cam[:, None], SIZE, mode="bilinear", align_corners=False)[:, 0]
            end = torch.zeros(1) if baseline is None else blurred(pixels)
            deleted = area(curve(classifier, pixels, maps, TARGETS, end=end, steps=16))
            inserted = area(curve(classifier, pixels, maps, TARGETS, start=end.expand_as(pixels), end=pixels, steps=16))
            assert float(deleted.mean()) == pytest.approx(theirs["deletion_auc"], abs=1e-4)
            assert float(inserted.mean()) == pytest.approx(theirs["insertion_auc"], abs=1e-4)


def test_the_shared_pass_changes_nothing():
    classifier, pixels, maps = sharp(), pictures(), lot_maps()
    deleted, inserted = both_curves(classifier, pixels, maps, TARGETS, steps=7)
    torch.testing.assert_close(deleted, curve(classifier, pixels, maps, TARGETS, end=torch.zeros(()), steps=7))
    again = curve(classifier, pixels, maps, TARGETS, start=blurred(pixels), end=pixels, steps=7)
    torch.testing.assert_close(inserted, again)


def test_a_step_moves_as_many_pixels_as_the_picture_is_wide():
    """Of a logit that is the number of white pixels, so that it counts those that are left."""
    classifier = red_sum(1.0)
    white = torch.zeros(1, 3, *SIZE)
    white[:, 0] = 1
    counted = curve(classifier, white, lot_maps(1), torch.tensor([0]), end=torch.zeros(()), logits=True)
    assert counted[0].tolist() == [SIZE[1] * (SIZE[0] - i) for i in range(SIZE[0] + 1)]
    assert METRICS["deletion"].cost(classifier) == SIZE[0] + 1


def test_of_equal_pixels_the_upper_left_goes_first():
    heat = torch.tensor([[[0.0, 0.0, 1.0], [0.0, 1.0, 0.0]]])
    assert places(heat).tolist() == [[[2, 3, 0], [4, 1, 5]]]


@pytest.mark.parametrize("name", ["deletion", "insertion", "insertion-deletion", "pixel-flipping"])
def test_the_perfect_map_beats_a_lot_which_beats_the_worst(name):
    """The red of ten pixels speaks for the class and, below zero, that of ten against it; all others say nothing."""
    classifier = red_sum(0.6)
    pixels = torch.zeros(1, 3, *SIZE)
    pixels[0, 0, 12, 3:13] = 1.0
    if name != "pixel-flipping":  # there black is the lowest value, so none may be below that of the many
        pixels[0, 0, 12, 19:29] = -1.0
    target, best = torch.tensor([0]), pixels[:, 0] + lot_maps(1) * 1e-3
    run, entry = METRICS[name].run, METRICS[name]
    perfect, lot, worst = (float(run(classifier, pixels, maps, target)[0]) for maps in (best, lot_maps(1), -best))
    sign = 1 if entry.higher_is_better else -1
    assert sign * perfect > sign * lot + 0.05
    assert sign * lot > sign * worst + 0.05


def test_deletion_of_the_perfect_map_is_known_on_paper():
    """One step removes all that counts: after it the probability is one half; the trapezoid halves the first point."""
    classifier, pixels = red_sum(0.6), torch.zeros(1, 3, *SIZE)
    pixels[0, 0, 2, 3:13] = 1.0
    value = METRICS["deletion"].run(classifier, pixels, pixels[:, 0], torch.tensor([0]))
    whole = 1 / (1 + math.exp(-6))
    assert float(value) == pytest.approx((whole / 2 + 0.5 * (SIZE[0] - 1) + 0.25) / SIZE[0], abs=1e-5)


def test_a_number_of_steps_that_cannot_be_is_refused():
    with pytest.raises(XaihubError, match="0 steps cannot be taken"):
        curve(sharp(), pictures(), lot_maps(), TARGETS, end=torch.zeros(()), steps=0)
    with pytest.raises(XaihubError, match="has 1 to 768 of them"):
        curve(sharp(), pictures(), lot_maps(), TARGETS, end=torch.zeros(()), steps=1000)


def test_maps_that_lie_elsewhere_are_refused():
    with pytest.raises(ValueError, match="do not lie on pixels"):
        METRICS["deletion"].run(sharp(), pictures(), lot_maps(size=(6, 8)), TARGETS)
    with pytest.raises(ValueError, match="3 pictures need as many targets"):
        METRICS["deletion"].run(sharp(), pictures(), lot_maps(), TARGETS[:1])


def test_progress_is_told_and_can_stop():
    class StopError(Exception):
        pass

    shares = []

    def watch(share, stage):
        shares.append(share)
        if share > 0.4:
            raise StopError

    with pytest.raises(StopError):
        both_curves(sharp(), pictures(), lot_maps(), TARGETS, progress=watch)
    assert shares == sorted(shares)
    assert 0.4 < shares[-1] < 0.6


def test_no_more_than_a_batch_is_ever_asked_about_and_all_but_the_last_are_full():
    classifier, sizes = sharp(), []
    with torch.no_grad():
        handle = classifier.module.register_forward_hook(lambda module, given, out: sizes.append(len(given[0])))
        both_curves(classifier, pictures(), lot_maps(), TARGETS, steps=5)
        handle.remove()
    assert sizes == [8, 8, 8, 8, 1], "3 pictures x 11 states"
