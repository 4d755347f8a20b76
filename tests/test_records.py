"""What is shown can be asked, laid back on the original, saved whole, and not changed."""

import dataclasses
import json
import os

import numpy as np
import pytest
from PIL import Image

from xaihub import records
from xaihub.errors import UnknownNameError
from xaihub.images import open_picture
from xaihub.records import Evidence, Explanation, Prediction, Score

LABELS = ("cat", "dog", "Käuzchen 🦉", "dog")


def prediction(*probabilities, labels=LABELS):
    return Prediction(tuple(labels[: len(probabilities)]), np.array(probabilities, np.float32))


def noise(height, width, seed=0):
    return np.random.default_rng(seed).random((height, width), dtype=np.float32)


def explanation(crop=(8.0, 6.0, 24.0, 18.0), shape=(12, 16), original=(32, 24), **changes):
    """A crop of 16 x 12 from the middle of 32 x 24; one map, two pictures beside it, and a method that shows none."""
    image = Image.fromarray((noise(*shape, 1)[..., None] * (255, 120, 60)).astype(np.uint8))
    facts = {"layer": "stage.3", "share": np.float32(0.5), "rank": np.int64(3), "odds": float("nan"), "right": None}
    details = {
        "image": image,
        "original": Image.fromarray((noise(original[1], original[0], 2)[..., None] * (90, 255, 30)).astype(np.uint8)),
        "crop": crop,
        "prediction": prediction(0.1, 0.5, 0.3, 0.1),
        "target": 2,
        "evidence": {
            "gradcam": (
                Evidence(image, "Wo «Käuzchen» ist", heatmap=noise(*shape), raw=noise(3, 4) - 0.5, facts=facts),
            ),
            "twins": tuple(Evidence(image, f"twin {i}", score=0.9 - i / 10, boxes=((1, 2, 3.5, 4),)) for i in range(2)),
        },
        "notes": {"swaps": ("It needs references.", "None were given."), "twins": ("One was left out.",)},
        "provenance": {"model": "alice/owls", "grid": (3, 4), "revision": None},
    }
    return Explanation(**{**details, **changes})


def test_a_prediction_answers_with_its_most_probable_classes():
    said = prediction(0.1, 0.2, 0.6, 0.1)
    assert (said.index, said.label, said.runner_up) == (2, "Käuzchen 🦉", 1)
    assert said.probability == pytest.approx(0.6)
    assert [(label, round(share, 3)) for label, share in said.top(2)] == [("Käuzchen 🦉", 0.6), ("dog", 0.2)]
    assert type(said.probability) is type(said.top(1)[0][1]) is float, "not numpy's: it goes into JSON"


def test_among_equal_classes_the_first_is_named_first_everywhere():
    said = prediction(0.1, 0.4, 0.1, 0.4)
    assert (said.index, said.runner_up, [label for label, _ in said.top()]) == (1, 3, ["dog", "dog", "cat", LABELS[2]])
    level = prediction(0.25, 0.25, 0.25, 0.25)
    assert (level.index, level.runner_up, level.top(9)[0][0], len(level.top(9))) == (0, 1, "cat", 4)


def test_an_explanation_is_read_like_a_dictionary_of_methods():
    shown = explanation()
    assert shown["twins"][1].caption == "twin 1"
    assert list(shown) == ["gradcam", "twins"]
    assert ("gradcam" in shown, "swaps" in shown, "swap" in shown) == (True, False, False)
    assert shown.target_label == "Käuzchen 🦉", "the target, not the most probable class"


@pytest.mark.parametrize(
    ("method", "words"),
    [
        ("swaps", r"holds no 'swaps'. It holds: gradcam, twins. It needs references. None were given.$"),
        ("GradCam", r"holds no 'GradCam'. It holds: gradcam, twins. Did you mean 'gradcam'\?$"),
        ("zebra", r"holds no 'zebra'. It holds: gradcam, twins.$"),
    ],
)
def test_a_method_that_is_not_there_is_answered_with_the_reason_or_the_nearest_name(method, words):
    with pytest.raises(UnknownNameError, match=words):
        explanation()[method]
    with pytest.raises(UnknownNameError, match="It holds: none"):
        explanation(evidence={})[method]


def test_the_map_of_a_centre_crop_is_pasted_back_exactly():
    shown = explanation()
    seen = shown.on_original(shown["gradcam"][0])
    expected = np.zeros((24, 32), np.float32)
    expected[6:18, 8:24] = shown["gradcam"][0].heatmap
    assert seen.dtype == np.float32
    np.testing.assert_allclose(seen, expected, atol=1e-6)


def test_the_map_of_a_squashed_picture_is_stretched_with_half_pixel_centres():
    shown = explanation(crop=(0.0, 0.0, 32.0, 24.0), shape=(2, 4))
    heatmap = np.array([[0, 0, 1, 0], [0, 0, 0, 0]], np.float32)
    seen = shown.on_original(Evidence(shown.image, "", heatmap=heatmap))
    down = np.interp((np.arange(24) + 0.5) / 12, [0.5, 1.5], [1, 0])  # bilinear, written another way
    across = np.interp((np.arange(32) + 0.5) / 8, [0.5, 1.5, 2.5, 3.5], heatmap[0])
    np.testing.assert_allclose(seen, down[:, None] * across, atol=1e-6)


def test_what_lies_on_the_padding_is_left_off_the_original():
    shown = explanation(crop=(0.0, -4.0, 32.0, 28.0), shape=(32, 32))  # 32 x 24 with four rows of bar at each end
    heatmap = noise(32, 32)
    np.testing.assert_allclose(shown.on_original(Evidence(shown.image, "", heatmap=heatmap)), heatmap[4:28], atol=1e-6)


def test_a_mirrored_crop_mirrors_its_map_back():
    shown = explanation(crop=(24.0, 6.0, 8.0, 18.0))
    expected = shown["gradcam"][0].heatmap[:, ::-1]
    np.testing.assert_allclose(shown.on_original(shown["gradcam"][0])[6:18, 8:24], expected, atol=1e-6)


@pytest.mark.parametrize("crop", [(3.25, 2.5, 30.75, 19.0), (-5.5, -3.25, 33.0, 30.0)])
def test_a_hot_place_stays_where_it_was_on_the_original(crop):
    shown = explanation(crop=crop, shape=(40, 40))
    heatmap = np.zeros((40, 40), np.float32)
    heatmap[25, 13] = 1
    seen = shown.on_original(Evidence(shown.image, "", heatmap=heatmap))
    left, upper, right, lower = crop
    place = upper + 25.5 / 40 * (lower - upper), left + 13.5 / 40 * (right - left)
    assert np.abs(np.add(np.unravel_index(seen.argmax(), seen.shape), 0.5) - place).max() < 1
    y, x = np.mgrid[:24, :32] + 0.5
    outside = (x < left) | (x > right) | (y < upper) | (y > lower)
    ones = shown.on_original(Evidence(shown.image, "", heatmap=np.ones((40, 40), np.float32)))
    assert np.array_equal(ones == 0, outside), "zero where the model never looked, and nowhere else"
    assert np.allclose(ones[~outside], 1)


def test_evidence_without_a_heatmap_cannot_be_laid_on_the_original():
    with pytest.raises(ValueError, match=r"This evidence has no heatmap\."):
        explanation().on_original(explanation()["twins"][0])


def test_a_saved_explanation_can_be_read_back(tmp_path):
    shown = explanation()
    folder = shown.save(tmp_path / "deep" / "why")
    assert folder == tmp_path / "deep" / "why"
    assert sorted(file.name for file in folder.iterdir()) == [
        "explanation.json", "gradcam-heatmap.npy", "gradcam-image.png", "gradcam-raw.npy", "gradcam.png", "image.png",
        "original.png", "twins-0-image.png", "twins-0.png", "twins-1-image.png", "twins-1.png",
    ]  # fmt: skip
    record = json.loads((folder / "explanation.json").read_text("utf-8"))
    assert record["target"] == {"index": 2, "label": "Käuzchen 🦉"}
    assert record["crop"] == [8, 6, 24, 18]
    assert record["notes"] == {"swaps": ["It needs references.", "None were given."], "twins": ["One was left out."]}
    assert record["provenance"] == {"model": "alice/owls", "grid": [3, 4], "revision": None}
    (gradcam,) = record["evidence"]["gradcam"]
    assert gradcam["facts"] == {"layer": "stage.3", "share": 0.5, "rank": 3, "odds": None, "right": None}
    assert gradcam["caption"] == "Wo «Käuzchen» ist"
    assert [(row["score"], row["boxes"]) for row in record["evidence"]["twins"]] == [
        (0.9, [[1, 2, 3.5, 4]]),
        (0.8, [[1, 2, 3.5, 4]]),
    ]
    for kind, values in (("heatmap", shown["gradcam"][0].heatmap), ("raw", shown["gradcam"][0].raw)):
        assert np.array_equal(np.load(folder / gradcam["files"][kind], allow_pickle=False), values)
    plain = ("image.png", "gradcam-image.png", "twins-1-image.png")
    for name, picture in (("original.png", shown.original), *((name, shown.image) for name in plain)):
        assert np.array_equal(np.asarray(open_picture(folder / name)), np.asarray(picture))


def test_classes_of_one_name_and_numbers_that_are_none_are_saved_too(tmp_path):
    folder = explanation(prediction=prediction(0.1, 0.5, float("nan"), 0.4)).save(tmp_path / "why")
    text = (folder / "explanation.json").read_text("utf-8")
    assert "NaN" not in text, "that is no JSON"
    assert "Käuzchen 🦉" in text, "as it is written, not as escapes"
    classes = json.loads(text)["prediction"]["classes"]
    assert [entry["label"] for entry in classes] == list(LABELS)
    assert [entry["probability"] for entry in classes] == [pytest.approx(0.1), 0.5, None, pytest.approx(0.4)]


def test_a_method_of_any_name_overwrites_no_other_file_and_leaves_the_folder_at_no_point(tmp_path):
    image = Image.new("RGB", (2, 2), "red")
    names = ("original", "image", "a", "a-0", "../../escape", "grad/cam", "Käuze")
    shown = explanation(
        evidence={name: (Evidence(image, name), Evidence(image, name))[: 1 + (name == "a")] for name in names}
    )
    folder = shown.save(tmp_path / "deep" / "why")
    record = json.loads((folder / "explanation.json").read_text("utf-8"))
    files = [row["files"]["image"] for rows in record["evidence"].values() for row in rows]
    assert len({*files, "original.png", "image.png"}) == 10, "each has its own"
    assert all((folder / file).is_file() and "/" not in file for file in files)
    assert open_picture(folder / "original.png").size == (32, 24)
    assert [path.name for path in tmp_path.rglob("*") if path.is_dir()] == ["deep", "why"]


def test_a_folder_that_holds_an_explanation_is_replaced_whole(tmp_path):
    explanation().save(tmp_path / "why")
    (tmp_path / "why" / "left over.png").touch()
    explanation(evidence={}).save(str(tmp_path / "why"))
    assert sorted(os.listdir(tmp_path / "why")) == ["explanation.json", "image.png", "original.png"]
    assert os.listdir(tmp_path) == ["why"], "neither the draft nor the old one stays"


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("chapter one")
    with pytest.raises(FileExistsError, match=r"exists and holds something else \(no explanation.json\)"):
        explanation().save(tmp_path)
    assert os.listdir(tmp_path) == ["thesis.tex"]


def test_a_failure_while_saving_leaves_the_old_explanation_and_nothing_half_done(tmp_path, monkeypatch):
    folder = explanation().save(tmp_path / "why")
    before = {file.name: file.read_bytes() for file in folder.iterdir()}

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(records, "_write_evidence", full)
    for place in (folder, tmp_path / "new"):
        with pytest.raises(OSError, match="No space left"):
            explanation(target=0).save(place)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    assert os.listdir(tmp_path) == ["why"]


@pytest.mark.parametrize(
    "record", [prediction(0.4, 0.6), explanation(), explanation()["twins"][0], Score("a", "b", 0.5, 0.4, 0.6, 9, True)]
)
def test_records_are_frozen(record):
    for field in dataclasses.fields(record):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(record, field.name, None)


def test_records_that_hold_arrays_can_be_searched_for():
    evidence = explanation()["gradcam"][0]
    assert [explanation()["gradcam"][0], evidence].index(evidence) == 1
    assert len({prediction(0.4, 0.6), prediction(0.4, 0.6)}) == 2
