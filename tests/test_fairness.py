"""What files give away of their classes, and the treatment that takes it from them."""

import io

import numpy as np
import pytest
from PIL import Image

from xaihub.fairness import encoded, shortcuts, tells_apart


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["JPEG", "JPEG", "PNG", "PNG"], 1.0), (["PNG"] * 4, 0.5), (["A", "B", "A", "C"], 0.75),
        ([500, 400, 256, 256], 1.0), ([200, 400, 256, 256], 1.0),  # one number against the others
        ([1, 2, 1, 2], 0.5), ([1, 2, 2, 3], 0.75),
    ],
)  # fmt: skip
def test_a_fact_tells_apart_as_often_as_its_best_simple_rule(values, expected):
    assert tells_apart(values, [False, False, True, True]) == expected


def test_classes_of_different_sizes_count_the_same():
    assert tells_apart(["x"] * 9 + ["x"], [False] * 9 + [True]) == 0.5


def test_the_aspect_is_a_fact_of_its_own():
    facts = [
        {"format": "PNG", "width": w, "height": h, "bytes": 1} for w, h in ((20, 10), (40, 20), (10, 20), (20, 40))
    ]

    assert shortcuts(facts, [False, False, True, True])["aspect"] == 1.0


def test_the_middle_square_is_taken_and_averaged_over():
    stripes = Image.fromarray(np.tile(np.array([0, 255], dtype=np.uint8), (64, 64)))  # 128 x 64, finer than can be kept
    stripes.paste(0, (0, 0, 32, 64))

    small = Image.open(io.BytesIO(encoded(stripes.convert("RGB"), 16)))

    assert small.size == (16, 16)
    assert np.asarray(small.convert("L")).astype(int).ravel() == pytest.approx(
        127, abs=12
    )  # no aliasing, nothing black
