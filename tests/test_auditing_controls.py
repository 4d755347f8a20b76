"""What a classifier is said to go by: more than a control turns, and never where it does not know the labels."""

import io
import math

import numpy as np
import pytest
import torch
from PIL import Image
from planted_pets import taught, to_pixels
from tiny_datasets import write
from tiny_models import TINY, TOKEN, build, processor_of, push
from torch import nn

from xaihub import audit
from xaihub.auditing.controls import beyond, control_of, goes_by
from xaihub.auditing.drawing import changes_shown
from xaihub.auditing.findings import uses
from xaihub.auditing.records import Link, Strength
from xaihub.auditing.trials import Turned
from xaihub.classifier import Classifier
from xaihub.datasets import from_pairs
from xaihub.errors import DatasetError, RepoNotFoundError, XaihubError

STRENGTH = Strength(1.0, 0.9, 1.0, 0.01, 100)


def turned(to_donor: int | None = None, *, count: int = 100, **flips: int) -> dict[str, Turned]:
    """Changes that each turned the first so many of the same pictures."""
    return {
        name: Turned(name, count, frozenset(range(some)), some if to_donor is None else to_donor)
        for name, some in flips.items()
    }


def parted(more: int, fewer: int) -> float:
    one = Turned("grey", 100, frozenset(range(more)), 0)
    return beyond(one, Turned("sides", 100, frozenset(range(50, 50 + fewer)), 0))


class Fragile(nn.Module):
    """Answers that hang on the last bit of the pixels: whatever is done to a picture turns about half of them."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Conv2d(3, 2, 1)
        self.features.requires_grad_(False)

    def forward(self, pixels):
        lot = torch.sin((pixels * torch.linspace(1e4, 9e4, pixels[0].numel()).view_as(pixels[0])).sum((1, 2, 3)))
        return self.features(pixels).mean((-2, -1)) * 0 + torch.stack([lot, -lot], 1)


class Smooth(nn.Module):
    """Calls a picture "soft" that has little of the finest detail, which is what its label goes with below."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Conv2d(3, 1, (1, 2), bias=False)
        self.features.weight.data[:] = torch.tensor([1.0, -1.0])

    def forward(self, pixels):
        rough = self.features(pixels).abs().mean((-2, -1))
        return torch.cat([rough - 0.9, 0.9 - rough], 1)


def noise(seed: int, *, soft: bool) -> Image.Image:
    side = 32 if soft else 64
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((64, 64), Image.Resampling.BICUBIC)


@pytest.fixture
def folder(tmp_path):
    """Soft pictures as JPEG of quality 92, and as many as PNG."""
    files = {}
    for i in range(20):
        for label, suffix, kind in (("real", "jpg", "JPEG"), ("fake", "png", "PNG")):
            stream = io.BytesIO()
            noise(i + 100 * (label == "fake"), soft=True).save(stream, kind, quality=92)
            files[f"{label}/{i}.{suffix}"] = stream.getvalue()
    return write(tmp_path / "data", files)


def classifier(network: nn.Module, *labels: str) -> Classifier:
    return Classifier.from_module(network.eval(), labels=labels, transform=to_pixels)


@pytest.mark.parametrize(
    ("more", "fewer", "expected"), [(6, 0, 2 / 64), (8, 1, 20 / 512), (5, 0, 2 / 32), (3, 3, 1.0), (0, 9, 1.0)]
)
def test_mcnemars_test_is_that_of_a_coin(more, fewer, expected):
    assert parted(more, fewer) == pytest.approx(expected)


def test_it_looks_at_the_same_pictures_and_not_at_shares():
    """Twenty against twelve of a hundred: sure where the twelve are among the twenty, and not where they are others."""
    among = turned(grey=20, sides=12)
    assert beyond(among["grey"], among["sides"]) == pytest.approx(2 / 2**8)
    apart = Turned("sides", 100, frozenset(range(50, 62)), 0)
    assert beyond(among["grey"], apart) == pytest.approx(2 * sum(math.comb(32, each) for each in range(20, 33)) / 2**32)
    assert beyond(among["grey"], apart) > 0.05


def test_the_control_is_the_harmless_change_that_turns_most_and_touches_nothing_that_tells():
    tried = turned(jpeg=50, cropped=30, sides=10, grey=60, corners=5)
    told = [(), ("format",), ("format", "borders")]
    found = [control_of(tried["grey"], tried, "colour", telling) for telling in told]
    assert [one.name for one in found] == ["jpeg", "cropped", "sides"]
    assert control_of(tried["jpeg"], tried, "format").name == "cropped"
    assert control_of(tried["jpeg"], tried, "blocking").name == "sides"  # a crop moves the grid
    assert control_of(tried["corners"], tried, "corners").name == "sides"  # its own, whatever others turn
    assert control_of(tried["grey"], turned(grey=60), "colour") is None


@pytest.mark.parametrize(
    ("flips", "crop", "sides", "expected"),
    [(20, 30, 70, None), (60, 5, 8, True), (20, 5, 15, None), (4, 30, 70, False), (4, 0, 0, False)],
)
def test_of_a_fragile_network_nothing_is_said_that_a_harmless_change_does_as_well(flips, crop, sides, expected):
    tried = turned(jpeg=flips, cropped=crop, sides=sides)
    words, use = uses(Link("format", STRENGTH), tried, {"format"})
    assert use is expected
    assert "(control: " in words


def test_what_comes_from_another_label_must_turn_answers_to_that_label():
    for to_donor, expected in ((50, True), (31, True), (30, None), (5, None)):
        tried = turned(to_donor, colours=60, sides=2)
        assert goes_by(tried["colours"], tried["sides"]) is expected
    assert goes_by(turned(grey=60)["grey"], None) is None  # without a control nothing is sure


def test_two_changes_of_one_nuisance_are_counted():
    tried = turned(grey=6, sides=0, count=40)
    assert goes_by(tried["grey"], tried["sides"]) is True
    assert goes_by(tried["grey"], tried["sides"], tried=2) is None


def test_whoever_has_none_of_the_labels_is_never_said_to_go_by_anything():
    for flips, says in ((90, "answers turn when"), (1, "answers hardly turn when")):
        words, use = uses(Link("format", STRENGTH), turned(jpeg=flips, sides=2, cropped=0), {"format"}, knows=False)
        assert use is None
        assert says in words
        assert "does not have two of these labels" in words
        assert "goes by" not in words
        assert "depend" not in words


def test_a_fragile_network_is_not_accused_and_the_jpeg_is_of_the_datas_quality(folder):
    for labels in (("real", "fake"), ("lorry", "teapot")):
        report = audit(folder, classifier(Fragile(), *labels), trials=40)
        assert report.findings[0].name == "format"
        assert report.turned["jpeg"].rate > 0.3
        assert report.turned["sides"].rate > 0.3
        assert [one.name for one in report.findings if one.uses] == []
        assert "goes by" not in report.verdict
        assert report.turned["jpeg"].title == "saved again as JPEG of quality 92"
        assert "saved again as JPEG of quality 92" in changes_shown(report)
        assert report.to_dict()["interventions"]["jpeg"]["control"] in ("sides", "cropped")


def test_who_goes_by_fine_detail_is_found_out_and_the_harmless_changes_show_that_it_is_not_fragile():
    drawn = [(str(i), ("rough", "soft")[i % 2], noise(i, soft=bool(i % 2))) for i in range(80)]
    report = audit(from_pairs("detail", drawn), classifier(Smooth(), "rough", "soft"), trials=40)
    assert report.accuracy[:2] == (80, 80)
    found = {one.name: one for one in report.findings}
    assert found["sharpness"].uses is True
    assert report.turned["sides"].flips == 0
    assert report.turned["spectrum"].to_donor == report.turned["spectrum"].flips >= 20
    assert "the classifier goes by" in report.verdict
    held = report.to_dict()["interventions"]
    assert held["spectrum"]["p_of_more_than_control"] < 0.001
    assert (held["sides"]["control"], held["sides"]["p_of_more_than_control"]) == (None, None)
    renamed = classifier(Smooth(), "lorry", "teapot")
    other = audit(from_pairs("detail", drawn), renamed, trials=40)
    assert other.turned["spectrum"].flips == report.turned["spectrum"].flips
    assert "goes by" not in other.verdict
    assert not any(one.uses for one in other.findings)


def test_numbers_that_no_audit_can_be_made_with_are_refused_in_words(folder):
    with pytest.raises(DatasetError, match=r"there are 3 \(.*too few to learn from"):
        audit(folder, limit=3)
    with pytest.raises(XaihubError, match="A seed of -1 cannot be used"):
        audit(folder, seed=-1)
    with pytest.raises(XaihubError, match="-2 pictures cannot be changed"):
        audit(folder, taught(), trials=-2)
    for count in (4, 6, 7):  # few, but no fewer than can be tried
        assert audit(folder, limit=2 * count).level in ("few", "alarm", "caution")


def test_no_trials_leave_the_section_out_and_say_so(folder):
    report = audit(folder, taught(), trials=0)
    assert report.turned == {}
    assert "No picture was changed, so it is not known what turns its answers." in report.about
    assert "whether its answers turn is" not in report.about
    assert all(one.uses is None and one.used == "" for one in report.findings)
    assert "What turns the classifier's answers" not in report.to_markdown()
    assert changes_shown(report) == ""


def test_a_classifier_may_be_named(folder):
    report = audit(folder, "xaihub/paper-pets", trials=2)
    assert report.classifier.startswith("xaihub/paper-pets")
    assert report.turned["grey"].count == 2


def test_a_classifier_that_is_named_is_fetched_with_the_same_token(folder, hub):
    push(hub, "alice/mine", build(TINY["resnet"]), processor_of(TINY["resnet"]), private=True)
    with pytest.raises(RepoNotFoundError):
        audit(folder, "alice/mine", trials=0)
    assert audit(folder, "alice/mine", trials=0, token=TOKEN).classifier.startswith("alice/mine@")
