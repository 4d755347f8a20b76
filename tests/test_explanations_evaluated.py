"""evaluate(): every method and every baseline through every metric, kept in pieces, and judged beside the baselines."""

import json
import multiprocessing
from pathlib import Path

import numpy as np
import pytest
import torch
from killing import dies, moments
from PIL import Image
from torch import nn
from toy_networks import ColourCounter, SmallNet, classifier_of

from xaihub.datasets import LabelledPictures
from xaihub.errors import CancelledError, DatasetError, UnknownNameError, XaihubError
from xaihub.evaluating import evaluate, measured, questions
from xaihub.evaluating.plans import metrics_named
from xaihub.evaluating.questions import batches, boxes_on_crop, mask_on_crop
from xaihub.evaluating.resampling import means
from xaihub.maps import map_method
from xaihub.methods import METHODS
from xaihub.metrics import BASELINES, METRICS, metric
from xaihub.records import Gain, Score

SUITE = {"deletion": {"steps": 6}, "insertion": {"steps": 6}, "insertion-deletion": {"steps": 6}, "sparseness": {}}
SPOTS = ((2, 3), (20, 4), (5, 22), (21, 20), (3, 12))


def spot(row: int, column: int, seed: int = 0) -> Image.Image:
    """Nothing but a red square, off the middle, in faint noise."""
    pixels = np.random.default_rng(seed).integers(0, 12, (32, 32, 3))
    pixels[row : row + 8, column : column + 8, 0] = 250
    return Image.fromarray(pixels.astype(np.uint8))


def spots(count: int = 5) -> list[Image.Image]:
    return [spot(*SPOTS[i % len(SPOTS)], seed=i) for i in range(count)]


class Counting(nn.Module):
    """How many pictures a network was asked about."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.asked = inner, 0

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        self.asked += len(pixels)
        return self.inner(pixels)


@pytest.fixture
def classifier():
    return classifier_of(Counting(ColourCounter(0.05)))


@pytest.fixture
def upside_down():
    """A method that is wrong on purpose: it marks everything but what Grad-CAM marks."""

    @map_method("upside-down", needs=("target layer",))
    def upside_down(query):
        """The opposite of what made the score."""
        return -(query.activations * query.gradients).sum(0)

    yield "upside-down"
    METHODS._entries.pop("upside-down")


def by_name(scores: list[Score]) -> dict[tuple[str, str], Score]:
    return {(score.metric, score.method): score for score in scores}


def test_where_the_answer_is_known_the_right_map_wins_and_the_wrong_one_is_said_to_fail(classifier, upside_down):
    found = by_name(evaluate(classifier, spots(), ["gradcam", upside_down], SUITE, targets=["red"] * 5))

    right, wrong = found["deletion", "gradcam"], found["deletion", upside_down]
    assert {method for _, method in found} == {"gradcam", upside_down, *BASELINES}
    assert right.count == 5
    assert right.low <= right.value <= right.high < found["deletion", "random"].value
    assert right.no_better_than == ()
    assert wrong.no_better_than == tuple(BASELINES)
    assert wrong.gains["random"].value < 0 < right.gains["random"].value, "lower is better: the gain is turned"
    assert right.gains["random"].value == pytest.approx(right.baselines["random"] - right.value)
    assert right.baselines["centre"] == found["deletion", "centre"].value
    assert (right.category, right.higher_is_better, right.settings["steps"]) == ("faithfulness", False, 6)
    assert found["deletion", "random"].baseline
    assert not right.baseline


def test_a_metric_that_follows_from_others_is_what_it_would_be_by_itself(classifier):
    together = by_name(evaluate(classifier, spots(), ["gradcam"], SUITE))
    alone = by_name(evaluate(classifier, spots(), ["gradcam"], {"insertion-deletion": {"steps": 6}}))

    for method in ("gradcam", *BASELINES):
        difference = together["insertion", method].value - together["deletion", method].value
        assert together["insertion-deletion", method].value == pytest.approx(difference, abs=1e-6)
        assert alone["insertion-deletion", method].value == pytest.approx(difference, abs=1e-6)


def test_what_was_measured_is_not_measured_again_and_a_changed_setting_reuses_nothing(classifier, tmp_path):
    asked = lambda: classifier.module.asked  # noqa: E731
    first = evaluate(classifier, spots(), ["gradcam"], SUITE, folder=tmp_path)
    before = asked()

    assert evaluate(classifier, spots(), ["gradcam"], SUITE, folder=tmp_path) == first
    assert asked() == before, "all of it was kept"

    finer = {name: {"steps": 12} if settings else {} for name, settings in SUITE.items()}
    again = evaluate(classifier, spots(), ["gradcam"], finer, folder=tmp_path)
    assert asked() - before >= 5 * 4 * 24, "each of four maps of five pictures, 24 steps"
    assert by_name(again)["deletion", "gradcam"].value != by_name(first)["deletion", "gradcam"].value

    before = asked()
    evaluate(classifier, spots(), ["gradcam", "layercam"], SUITE, folder=tmp_path)
    assert 0 < asked() - before <= 5 * (13 + 1), "of the new method alone"

    before = asked()
    evaluate(classifier, spots()[:4], ["gradcam"], SUITE, folder=tmp_path)
    assert asked() > before, "other pictures"


def test_a_method_whose_code_changed_is_measured_anew(classifier, tmp_path):
    def registered(sign: int):
        if sign > 0:

            @map_method("mine", needs=("target layer",))
            def mine(query):
                """One way."""
                return (query.activations * query.gradients).sum(0)

        else:

            @map_method("mine", needs=("target layer",))
            def mine(query):
                """Another way."""
                return -(query.activations * query.gradients).sum(0)

    try:
        values = []
        for sign in (1, -1):
            registered(sign)
            scores = evaluate(classifier, spots(), ["mine"], {"deletion": {"steps": 6}}, folder=tmp_path)
            values.append(by_name(scores)["deletion", "mine"].value)
    finally:
        METHODS._entries.pop("mine")
    assert values[0] < values[1]


def test_curves_are_kept_also_where_one_of_two_was_measured_before(classifier, tmp_path):
    evaluate(classifier, spots(), ["gradcam"], {"deletion": {"steps": 6}}, folder=tmp_path)
    found = measured(classifier, spots(7), ["gradcam"], SUITE, folder=tmp_path)

    assert found.curves["deletion", "gradcam"].shape == found.curves["insertion", "gradcam"].shape == (7, 7)
    areas = (found.curves["deletion", "gradcam"][:, 1:] + found.curves["deletion", "gradcam"][:, :-1]).mean(1) / 2
    np.testing.assert_allclose(areas, found.values["deletion", "gradcam"], atol=1e-6)


def test_a_torn_piece_is_measured_again(classifier, tmp_path):
    first = evaluate(classifier, spots(), ["gradcam"], SUITE, folder=tmp_path)
    for i, file in enumerate(sorted(tmp_path.rglob("*.json"))):
        held = json.loads(file.read_text())
        if i % 3 == 0:
            file.write_text(file.read_text()[:40])
        elif i % 3 == 1:  # a value that somebody changed
            held["values"] = {key: values[::-1] for key, values in held["values"].items()}
            file.write_text(json.dumps(held))
        else:
            file.unlink()

    assert evaluate(classifier, spots(), ["gradcam"], SUITE, folder=tmp_path) == first


def test_a_pictures_values_do_not_depend_on_which_pictures_stand_beside_it(monkeypatch):
    small, pictures = classifier_of(SmallNet(seed=3)), spots(5)
    methods = ["gradcam", "input-x-gradient"]
    whole = measured(small, pictures, methods, SUITE)
    turned = measured(small, pictures[::-1], methods, SUITE)
    monkeypatch.setattr(questions.batches, "__kwdefaults__", {**questions.batches.__kwdefaults__, "size": 2})
    parts = measured(small, pictures, methods, SUITE)

    for key, values in whole.values.items():
        np.testing.assert_allclose(parts.values[key], values, atol=1e-6)
        np.testing.assert_allclose(turned.values[key][::-1], values, atol=1e-6)


def test_stopping_keeps_what_is_finished_and_tells_share_and_time(classifier, tmp_path):
    told: list[tuple[float, str]] = []

    def stop(share: float, stage: str) -> None:
        told.append((share, stage))
        if len(told) == 4:
            raise CancelledError("stopped")

    with pytest.raises(CancelledError):
        evaluate(classifier, spots(), ["gradcam", "layercam"], SUITE, folder=tmp_path, progress=stop)
    before = classifier.module.asked
    evaluate(classifier, spots(), ["gradcam", "layercam"], SUITE, folder=tmp_path)

    assert [share for share, _ in told] == pytest.approx([0, 0.2, 0.4, 0.6])
    assert told[1][1].startswith("Picture 1 of 5, LayerCAM: ")
    assert told[1][1].endswith(" left")
    assert classifier.module.asked - before <= 5 * 2 * 13, "two of five maps were left to judge"


def _evaluated(folder: Path) -> None:
    torch.set_num_threads(1)
    evaluate(classifier_of(SmallNet(seed=1)), spots(3), ["gradcam"], SUITE, folder=folder)


def test_killed_at_any_moment_it_goes_on_to_the_same_table(tmp_path):
    fork = multiprocessing.get_context("fork")
    small = classifier_of(SmallNet(seed=1))
    expected = evaluate(small, spots(3), ["gradcam"], SUITE)
    for moment in moments(fork, _evaluated, (tmp_path / "whole",), tmp_path, seed=0):
        folder = tmp_path / str(moment)
        assert dies(fork, _evaluated, (folder,), tmp_path, moment)
        assert evaluate(small, spots(3), ["gradcam"], SUITE, folder=folder) == expected


def test_broken_pictures_are_left_out_and_named(classifier):
    sources = [("a", None, lambda: spot(2, 3)), ("b", None, lambda: b"no picture"), ("c", None, lambda: spot(9, 9))]
    pictures = LabelledPictures("three", sources, ())

    found = measured(classifier, pictures, ["gradcam"], {"sparseness": {}})

    assert found.keys == ("a", "c")
    assert list(found.skipped) == ["b"]
    with pytest.raises(DatasetError, match="Of 1 picture in one none could be read, so nothing can be measured"):
        measured(classifier, LabelledPictures("one", sources[1:2], ()), ["gradcam"])


def test_broken_pictures_among_others_are_told_once(classifier):
    with pytest.warns(UserWarning, match=r"could not be read: 2, the first: .* is not a picture") as told:
        scores = evaluate(classifier, [spot(2, 3), b"no picture", spot(9, 9), b"none"], ["gradcam"], ["sparseness"])
    assert len(told) == 1
    assert {score.count for score in scores} == {2}


def png(folder: Path, count: int = 2) -> Path:
    folder.mkdir(parents=True)
    for i, image in enumerate(spots(count)):
        image.save(folder / f"{i}.png")
    return folder


def test_a_folder_is_taken_as_it_is_or_by_its_class_folders(classifier, tmp_path):
    flat, classes = png(tmp_path / "flat"), tmp_path / "classes"
    png(classes / "red", 3)
    spot(2, 3).save(classes / "stray.png")
    for images, keys in (
        (str(flat), ("0.png", "1.png")),
        (classes, ("red/0.png", "red/1.png", "red/2.png")),
    ):
        assert measured(classifier, images, ["gradcam"], ["sparseness"]).keys == keys
    splits = tmp_path / "splits"
    png(splits / "train" / "red", 3)
    png(splits / "test" / "red", 1)
    assert len(measured(classifier, splits, ["gradcam"], ["sparseness"]).keys) == 1, "the split to measure on"


def test_a_dataset_may_be_named_by_its_id(classifier, monkeypatch):
    def to_measure(source):
        assert source.data == "alice/spots"
        return "test"

    def opened(_source, split, _progress):
        return LabelledPictures("alice/spots", [(split, None, lambda: spot(2, 3))], ())

    monkeypatch.setattr(questions.Source, "to_measure", to_measure)
    monkeypatch.setattr(questions.Source, "open", opened)
    assert measured(classifier, "alice/spots", ["gradcam"], ["sparseness"]).keys == ("test",)


@pytest.mark.parametrize(
    ("images", "words"),
    [
        ([], "There are no pictures in the list given"),
        (spot(2, 3), "Pictures cannot be taken from a single Image. Give a list of pictures, a folder, a"),
        (b"x", "cannot be taken from a single bytes"),
        (None, "cannot be taken from a single NoneType"),
        (Path("nowhere"), "There is no folder 'nowhere'"),
        (__file__, r"is one file\. Give a list, such as \["),
        ("a b", "'a b' is not the id of a repository"),
    ],
)
def test_what_is_no_pictures_is_refused_in_words(classifier, images, words):
    with pytest.raises(XaihubError, match=words):
        evaluate(classifier, images, ["gradcam"], ["sparseness"])


def test_of_several_classes_the_most_probable_is_explained_and_of_none_the_predicted(classifier):
    found = measured(classifier, spots(3), ["gradcam"], {"sparseness": {}}, targets=[None, "blue", ("red", "green")])

    assert found.targets.tolist() == [0, 2, 0]
    assert found.predicted.tolist() == [0, 0, 0]
    with pytest.raises(ValueError, match="3 pictures need as many targets, but 1"):
        measured(classifier, spots(3), ["gradcam"], targets=["red"])
    with pytest.raises(UnknownNameError, match=r"no class 'rde'\. Did you mean 'red'"):
        measured(classifier, spots(1), ["gradcam"], targets=["rde"])


def test_masks_and_boxes_of_the_original_lie_on_the_crop():
    """A crop of 4 x 4 pixels that shows columns 10 to 18 and rows 20 to 24 of a picture of 40 x 30."""
    crop = (10.0, 20.0, 18.0, 24.0)
    expected = torch.zeros(4, 4, dtype=torch.bool)
    expected[1:3, 0] = True  # rows 21 and 22, columns 10 and 11
    mask = np.zeros((30, 40), dtype=bool)
    mask[21:23, 8:12] = True

    assert torch.equal(boxes_on_crop([(8, 21, 12, 23)], crop, (4, 4)), expected)
    assert torch.equal(mask_on_crop(mask, crop, (4, 4)), expected)
    assert not mask_on_crop(np.ones((30, 40), bool), (-8.0, 0.0, 0.0, 4.0), (4, 4)).any(), "beyond the picture's edge"


def test_the_pointing_game_is_played_on_what_the_classifier_saw(classifier):
    wide = Image.new("RGB", (64, 32))
    wide.paste(spot(4, 20), (0, 0))  # twice as wide as what it is squashed to: the square is at columns 10 to 14
    batch = next(iter(batches(classifier, questions.named_pictures([wide]), masks=[[(20, 4, 28, 12)]])))
    asked = {"pointing-game": {}, "energy-pointing-game": {}}
    found = by_name(evaluate(classifier, [wide], ["gradcam"], asked, masks=[[(20, 4, 28, 12)]], targets=["red"]))

    assert batch.masks[0].nonzero().amin(0).tolist() == [4, 10]
    assert batch.masks[0].sum() == 8 * 4
    assert found["pointing-game", "gradcam"].value == 1
    assert found["energy-pointing-game", "gradcam"].value > 0.6 > found["energy-pointing-game", "edges"].value
    with pytest.raises(XaihubError, match="pointing-game asks whether a map finds a thing"):
        evaluate(classifier, [wide], ["gradcam"], ["pointing-game"])


def test_a_metric_from_a_notebook_is_asked_like_any_other(classifier):
    @metric("first-row", higher_is_better=True, category="complexity")
    def first_row(classifier, pixels, heatmaps, targets):
        """Share of the heat in the first row."""
        return heatmaps.relu()[:, 0].sum(1) / heatmaps.relu().sum((1, 2))

    try:
        found = by_name(
            evaluate(classifier, [spot(0, 8), spot(24, 8)], ["gradcam"], ["first-row"], targets=["red"] * 2)
        )
    finally:
        METRICS._entries.pop("first-row")
    assert found["first-row", "gradcam"].value == pytest.approx(1 / 16, abs=0.02), (
        "an eighth of one, nothing of the other"
    )


def test_settings_are_typed_beside_the_name():
    assert metrics_named(["deletion", "insertion:steps=224", "sparseness"]) == {
        "deletion": {"steps": 28}, "insertion": {"steps": 224}, "sparseness": {},
    }  # fmt: skip
    assert metrics_named(["random-logit:likeness=ssim"]) == {"random-logit": {"likeness": "ssim"}}
    assert metrics_named(None) is None
    with pytest.raises(UnknownNameError, match=r"deletion has no setting 'step'\. Did you mean 'steps'"):
        metrics_named(["deletion:step=3"])
    with pytest.raises(XaihubError, match="'many' is no number"):
        metrics_named(["deletion:steps=many"])
    with pytest.raises(UnknownNameError, match="no metric called 'deltion'"):
        metrics_named(["deltion"])


def test_settings_may_be_typed_in_python_too(classifier):
    typed = evaluate(classifier, spots(), ["gradcam"], ["deletion:steps=6"])

    assert typed == evaluate(classifier, spots(), ["gradcam"], {"deletion": {"steps": 6}})
    assert typed[0].settings["steps"] == 6


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"metrics": ["deletion:steps=-3"]}, "deletion cannot be measured with steps=-3: steps must be a whole number"),
        ({"metrics": {"insertion": {"steps": 2.5}}}, "with steps=2.5: steps must be a whole number of 1 or more"),
        ({"metrics": {"deletion": {"step": 3}}}, r"deletion has no setting 'step'\. Did you mean 'steps'"),
        ({"metrics": ["region-perturbation:side=none"]}, "side must be a whole number of 1 or more"),
        ({"metrics": ["max-sensitivity:seed=-1"]}, r"seed must be a whole number of 0 or more, below 2\^63"),
        ({"metrics": ["random-logit:likeness=mse"]}, "likeness must be one of: spearman, ssim"),
        ({"metrics": ["road:shares=0.5"]}, "shares must be more than one number"),
        ({"metrics": ["faithfulness-correlation:logits=3"]}, "logits must be 0 or 1"),
        ({"metrics": ["pointing-game:tolerance=inf"], "masks": [[(0, 0, 9, 9)]]}, "tolerance must be a number"),
        ({"seed": -1}, "No random numbers start from the seed -1"),
        ({"seed": 2**63}, "No random numbers start from the seed 9223372036854775808"),
        ({"seed": "1"}, "No random numbers start from the seed '1'"),
    ],
)
def test_what_cannot_be_is_said_before_any_picture_is_read(classifier, given, words):
    pictures = LabelledPictures("one", [("a", None, lambda: pytest.fail("a picture was read"))], ())

    with pytest.raises(XaihubError, match=words):
        evaluate(classifier, pictures, ["gradcam"], **given)


def test_more_steps_than_pixels_are_refused_in_words(classifier):
    with pytest.raises(XaihubError, match="2000 steps cannot be taken: a picture of 1024 pixels has 1 to 1024"):
        evaluate(classifier, spots(1), ["gradcam"], ["deletion:steps=2000"])


def test_a_metric_of_ones_own_may_count_from_anywhere(classifier):
    @metric("shifted", higher_is_better=True, category="complexity")
    def shifted(classifier, pixels, heatmaps, targets, *, by: int = 5, unsaid=None):
        """What was given."""
        return torch.full((len(pixels),), float(by + (unsaid or 0)))

    try:
        found = evaluate(classifier, spots(1), ["gradcam"], {"shifted": {"by": -2, "unsaid": 7}})
    finally:
        METRICS._entries.pop("shifted")
    assert found[0].value == 5


def test_a_default_evaluation_costs_what_the_readme_says(classifier):
    pictures = spots(2)
    costs = []
    for methods in (["gradcam"], ["gradcam", "layercam"]):
        before = classifier.module.asked
        evaluate(classifier, pictures, methods)
        costs.append((classifier.module.asked - before) / len(pictures))

    readme = (Path(__file__).parents[1] / "README.md").read_text("utf-8")
    assert f"{costs[1] - costs[0]:.0f} passes of each picture" in readme
    assert f"{2 * costs[0] - costs[1]:.0f} more" in readme


def test_a_mean_and_its_interval_are_those_of_resampled_pictures():
    values = np.array([[0.0, 1.0], [1.0, np.nan], [2.0, 3.0], [3.0, np.nan]])
    value, low, high = means(values, "abcd")

    assert value.tolist() == [1.5, 2.0]
    draws = np.random.default_rng(0).multinomial(4, [0.25] * 4, size=100) @ values[:, 0] / 4
    assert abs(low[0] - np.percentile(draws, 2.5)) < 0.3
    assert 0 <= low[0] < 1.5 < high[0] <= 3
    assert (low[1], high[1]) == (1.0, 3.0), "of two known values some resamples hold one alone"
    assert np.isnan(means(np.full((3, 1), np.nan), "abc")).all()


def test_two_questions_about_one_photograph_are_no_two_pictures():
    values = np.repeat(np.array([[0.0], [1.0], [2.0], [3.0]]), 5, axis=0)
    apart, together = (means(values, keys)[:, 0] for keys in (range(20), [i // 5 for i in range(20)]))

    assert apart[0] == together[0] == 1.5
    assert together[2] - together[1] > 1.8 * (apart[2] - apart[1]), "four pictures, not twenty"


@pytest.mark.parametrize(("low", "beats"), [(0.01, True), (0.0, False), (-0.1, False)])
def test_no_better_than_random_is_said_where_the_interval_reaches_zero(low, beats):
    score = Score("a", "b", 0.5, 0.4, 0.6, 9, True, {"random": 0.4}, {"random": Gain(0.1, low, 0.2)})

    assert score.beats("random") is beats
    assert score.no_better_than == (() if beats else ("random",))
