"""The quadrant test passes maps that follow the picture, and no others."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from xaihub.quadrants import quadrant_shares, right_way_up


def pixels(height: int = 32, width: int = 48) -> Tensor:
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(0))


def pooled(given: Tensor) -> Tensor:
    return avg_pool2d(given.abs(), 4)


def upright(maps_of, given: Tensor) -> bool:
    return right_way_up(quadrant_shares(maps_of, given))


def test_each_quadrant_of_a_pooled_picture_owes_all_its_change_to_its_own():
    torch.testing.assert_close(quadrant_shares(lambda given: given, pixels()), torch.eye(4, dtype=torch.float64))
    assert upright(lambda given: avg_pool2d(given, 4) ** 3, pixels())


@pytest.mark.parametrize(
    "wrong",
    [
        lambda given: pooled(given).transpose(-2, -1),
        lambda given: pooled(given).flip(-1),
        lambda given: pooled(given).flip(-2),
        lambda given: pooled(given).flatten(2).unflatten(2, (12, 8)),  # rows and columns exchanged when folded
        lambda given: pooled(given).unflatten(3, (2, 6)).unflatten(2, (2, 4)).transpose(3, 4).reshape(2, 3, 8, 12),
        lambda given: pooled(given)[..., torch.randperm(12, generator=torch.Generator().manual_seed(1))],
        lambda given: torch.einsum("nchw,hwk->nk", pooled(given), torch.randn(8, 12, 49)).reshape(2, 1, 7, 7),
    ],
    ids=["transposed", "mirrored", "upside down", "misfolded", "windows", "shuffled", "states that are no places"],
)
def test_maps_that_do_not_follow_the_picture_fail(wrong):
    torch.manual_seed(0)
    picture = -pixels().abs() * torch.linspace(0.2, 2, 48)  # brighter to the right, and negative: |x| changes
    picture[..., ::2, :] *= -1
    assert upright(lambda given: pooled(given.relu()), picture)
    assert not upright(lambda given: wrong(given.relu()), picture)


def test_what_is_pooled_over_the_whole_picture_does_not_hide_the_places():
    assert upright(lambda given: avg_pool2d(given, 4) ** 3 + 50 * given.abs().mean((-2, -1), keepdim=True), pixels())


def test_a_quadrant_that_holds_more_and_places_that_change_more_do_not_mislead():
    loud = pixels()
    loud[..., :16, :24] *= 20
    weight = torch.ones(8, 12)
    weight[4:] = 9

    def leaking(given: Tensor) -> Tensor:
        maps = avg_pool2d(given, 4)
        return (maps + 0.2 * maps.flip(-1)) * weight

    assert upright(leaking, loud)
