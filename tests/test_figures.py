"""The confusion picture and the sheet of examples, read back from their pixels."""

import numpy as np
import pytest
from PIL import Image

from xaihub.figures import Example, confusion_picture, examples_sheet, most_confused

FULL, LINE = (20, 60, 140), (222, 222, 228)


def cells(picture, classes):
    """(C, C) the ground of each cell, beside its number: found by the lines between them."""
    pixels = np.asarray(picture.convert("RGB")).astype(int)
    lines = (pixels == LINE).all(2)
    across, down = np.flatnonzero(lines.sum(0) > 30), np.flatnonzero(lines.sum(1) > 30)
    left, upper = across.min(), down.min()
    width, height = (across.max() - left + 2) / classes, (down.max() - upper + 2) / classes
    return [
        [tuple(pixels[int(upper + height * r) + 6, int(left + width * c) + 6]) for c in range(classes)]
        for r in range(classes)
    ]


def test_rows_are_true_classes_and_columns_are_answers():
    grounds = cells(confusion_picture([[0, 4], [0, 3]], ["real", "fake"]), 2)

    assert grounds == [[(255, 255, 255), FULL], [(255, 255, 255), FULL]]


def test_a_cell_is_as_dark_as_its_share_of_the_row():
    grounds = cells(confusion_picture([[1, 3, 0], [0, 8, 0], [0, 0, 0]], ["a", "b", "c"]), 3)

    assert grounds[0][0] == tuple(round(255 + (full - 255) * 0.25) for full in FULL)
    assert grounds[1][1] == FULL
    assert grounds[2] == [(255, 255, 255)] * 3


def test_of_many_classes_the_most_confused_are_shown():
    matrix = np.diag(np.full(40, 5))
    matrix[3, 17], matrix[30, 2] = 4, 2

    shown = most_confused(matrix)

    assert len(shown) == 20
    assert {2, 3, 17, 30} <= set(shown)
    assert shown == sorted(shown)
    small = confusion_picture(matrix, [f"class number {i}" for i in range(40)], title="200 pictures")
    assert max(small.size) < 1400


@pytest.mark.parametrize(
    "names", [["a", "b"], ["a name of far too many letters to be drawn as it is", "b"], ["é", "猫"]]
)
def test_any_name_can_be_drawn(names):
    assert confusion_picture([[1, 2], [3, 4]], names).width < 1000


def test_examples_lie_side_by_side_and_a_wrong_answer_is_red():
    right = Example(Image.new("RGB", (50, 40), (0, 200, 0)), Image.new("RGB", (50, 40), (0, 0, 200)), "cat", "cat")
    wrong = Example(Image.new("RGB", (40, 50), (200, 200, 0)), None, "cat", "dog")

    sheet = np.asarray(examples_sheet([right, wrong, right], edge=100)).astype(int)

    assert tuple(sheet[16 + 50, 16 + 50]) == (0, 200, 0)
    assert tuple(sheet[16 + 50, 16 + 152]) == (0, 0, 200)
    red = (sheet[..., 0] > 150) & (sheet[..., 1] < 80) & (sheet[..., 2] < 80)
    assert red.any()
    assert red[:, : sheet.shape[1] // 2].sum() == 0  # the wrong one is in the right half
    with pytest.raises(ValueError, match="no examples"):
        examples_sheet([])
