"""Audits whose findings are known: what is planted is found first, what is shuffled is not, broken files are named."""

import io
import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from planted_pets import as_dataset, pets, taught
from tiny_datasets import write

from xaihub import audit, explain, load_classifier, open_dataset
from xaihub.auditing import MARK
from xaihub.auditing.drawing import slices_shown
from xaihub.auditing.findings import uses
from xaihub.auditing.records import Link, Strength
from xaihub.auditing.sight import look
from xaihub.auditing.trials import Turned
from xaihub.datasets import LabelledPictures, from_pairs
from xaihub.errors import CancelledError, DatasetError

CATS = Path(__file__).parents[2] / "shared" / "data" / "cats_real_fake" / "train"


def shuffled(pictures: LabelledPictures, seed: int) -> LabelledPictures:
    """The same pictures, each with the label of another."""
    labels = [label for _, label, _ in pictures.sources]
    order = np.random.default_rng(seed).permutation(len(labels))
    sources = [(key, labels[i], get) for (key, _, get), i in zip(pictures.sources, order, strict=True)]
    return LabelledPictures(pictures.name, sources, pictures.label_names)


def encoded(picture: Image.Image, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, quality=90)
    return stream.getvalue()


def photograph(seed: int, width: int = 48, height: int = 48) -> Image.Image:
    """Smooth colours that no label goes with."""
    coarse = np.random.default_rng(seed).integers(40, 215, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def stored(tmp_path_factory) -> Path:
    """The student project's mistake in small: real pictures as JPEG of many sizes, made ones as PNG of one."""
    files = {f"real/{i}.jpg": encoded(photograph(i, 40 + i % 5 * 8, 56), "JPEG") for i in range(30)}
    files |= {f"fake/{i}.png": encoded(photograph(100 + i)) for i in range(30)}
    return write(tmp_path_factory.mktemp("stored"), files)


@pytest.fixture(scope="module")
def marked():
    """(the audit, the classifier, the pets) where the mark was planted and taught."""
    drawn = pets(80, marked=True, seed=50)
    return audit(as_dataset(drawn), taught(), trials=40), taught(), drawn


@pytest.fixture(scope="module")
def untaught():
    """The same pets for a classifier that was taught animals: the starter."""
    classifier = load_classifier("xaihub/paper-pets")
    drawn = pets(60, marked=True, seed=50, size=96)
    return audit(as_dataset(drawn), classifier, trials=30), classifier, drawn


def heat_in_corner(classifier, drawn) -> float:
    """The share of Grad-CAM's heat for "cat" in the lower right quarter's outer half, over cats."""
    shares = []
    for pet in [pet for pet in drawn if pet.label == "cat"][:12]:
        heat = explain(classifier, pet.image, ["gradcam"], target="cat")["gradcam"][0].heatmap
        edge = heat.shape[0] * 3 // 4
        shares.append(heat[edge:, edge:].sum() / max(heat.sum(), 1e-9))
    return float(np.mean(shares))


def test_format_and_size_are_the_first_findings_where_classes_were_stored_differently(stored):
    report = audit(stored)
    assert [one.name for one in report.findings[:2]] == ["format", "size"]
    assert all(one.severity == 1.0 for one in report.findings[:2])
    assert report.findings[0].has == {"fake": "PNG (100%)", "real": "JPEG (100%)"}
    assert report.findings[1].has["fake"] == "48 x 48 (100%)"
    assert report.level == "alarm"
    assert report.verdict.startswith(
        "Do not trust an accuracy measured on these pictures: the file format, picture size"
    )
    sides = report.findings[0].examples
    assert all(key.startswith("real/") for key in sides[0].keys)
    assert all(key.startswith("fake/") for key in sides[1].keys)
    assert set(sides[0].keys) <= set(report.thumbs)


@pytest.mark.skipif(not CATS.is_dir(), reason=f"the student project's pictures are not at {CATS}")
def test_the_student_projects_kind_of_data_as_they_are():
    report = audit(CATS)
    told = {link.nuisance: link.label for link in report.links}
    assert told["format"].auc == told["size"].auc == told["quality"].auc == 1.0
    assert told["format"].low > 0.95
    assert [one.name for one in report.findings[:2]] == ["format", "size"]
    mixed = {link.nuisance: link.label for link in audit(shuffled(open_dataset(CATS, limit=120), seed=0)).links}
    assert all(one.low <= 0.5 <= one.high for one in mixed.values())


def test_shuffled_labels_are_told_by_nothing(stored):
    outside, findings = 0, 0
    for seed in range(3):
        report = audit(shuffled(open_dataset(stored), seed))
        outside += sum(not link.label.low <= 0.5 <= link.label.high for link in report.links)
        findings += len(report.findings)
    assert findings == 0
    assert outside <= 4  # of 33 intervals of 95 %
    assert report.level == "calm"
    assert "That is no proof" in report.verdict


def test_a_planted_mark_is_the_first_finding(marked, untaught):
    for report, _, _ in (marked, untaught):
        first = report.findings[0]
        assert first.name == "corners"
        assert first.severity > 0.95
        assert any("lower right corner" in words for words in first.has.values())
        assert max(link.label.auc for link in report.links if link.nuisance != "corners") < 0.8


def test_whoever_was_taught_the_mark_changes_its_answer_without_it(marked):
    report, classifier, drawn = marked
    swapped, covered = report.turned["swapped corners"], report.turned["corners"]
    assert swapped.rate >= 0.8
    assert swapped.to_donor == swapped.flips
    flips, count = covered.by_label["cat"]
    assert flips / count >= 0.8  # rabbits never wore it
    assert report.turned["swapped sides"].rate <= 0.1
    assert report.findings[0].uses is True
    assert "the classifier goes by what is in the corners" in report.verdict
    assert heat_in_corner(classifier, drawn) > 0.6


def test_whoever_was_not_taught_it_does_not(untaught):
    report, classifier, drawn = untaught
    assert report.turned["swapped corners"].rate <= 0.1
    assert report.turned["corners"].rate <= 0.1
    assert report.findings[0].uses is not True
    assert "goes by" not in report.verdict
    assert heat_in_corner(classifier, drawn) < 0.05
    assert report.accuracy[:2] == (60, 60)


def test_an_audit_is_the_same_again_and_another_seed_draws_others(stored):
    first, again = (audit(stored, seed=1).to_dict() for _ in range(2))
    assert first == again
    assert audit(stored, seed=2).to_dict()["nuisances"] != first["nuisances"]


def test_broken_pictures_are_counted_and_named(tmp_path):
    files = {f"a/{i}.png": encoded(photograph(i)) for i in range(12)}
    files |= {f"b/{i}.png": encoded(photograph(50 + i)) for i in range(12)}
    files |= {"a/cut.png": encoded(photograph(0))[:80], "b/words.jpg": b"no picture", "b/empty.png": b""}
    files["b/strip.png"] = encoded(Image.new("RGB", (4000, 4)))
    report = audit(write(tmp_path, files))
    assert set(report.skipped) == {"a/cut.png", "b/words.jpg", "b/empty.png", "b/strip.png"}
    assert report.count == 24
    assert "4 could not be read and were left out" in report.about
    with pytest.raises(DatasetError, match="None of the 1 pictures"):
        audit(write(tmp_path / "none", {"a/words.jpg": b"no picture"}))


def test_a_dataset_of_one_label_is_refused(tmp_path):
    folder = write(tmp_path, {f"a/{i}.png": encoded(photograph(i)) for i in range(3)})
    with pytest.raises(DatasetError, match="all of its pictures that can be read are 'a'"):
        audit(folder)


def test_of_few_pictures_it_says_that_they_are_too_few_and_how_many_it_takes(tmp_path):
    def some(count: int, folder: str):
        files = {
            f"{label}/{i}.png": encoded(photograph(50 * (label == "b") + i)) for label in "ab" for i in range(count)
        }
        return audit(write(tmp_path / folder, files))

    few = some(4, "few")
    assert few.level == "few"
    assert few.verdict.startswith("There are too few pictures to tell anything: of 8,")
    assert "'a' has 4. Give more." in few.verdict
    page = (few.save(tmp_path / "audit") / "report.html").read_text("utf-8")
    assert "xh-is-few" in page
    assert 'class="xh-audited xh-is-calm"' not in page
    assert "No shortcut" not in page
    held = json.loads((tmp_path / "audit" / MARK).read_text("utf-8"))
    assert held["level"] == "few"
    assert held["least_auc_that_would_be_found"] == 1.0
    enough = some(few.needed, "enough")  # the number that it gave is about right
    assert (enough.level, enough.needed) == ("calm", 0)
    least = float(re.search(r"AUC above about ([\d.]+) can be found", enough.verdict)[1])
    assert 0.8 < least < 0.95


def test_few_pictures_of_which_some_are_copies_are_not_called_free_of_shortcuts():
    train = [(str(i), "ab"[i % 2], photograph(i)) for i in range(8)]
    report = audit(from_pairs("train", train), others=[from_pairs("test", train[:2])])
    assert report.level == "caution"
    assert report.findings[0].name == "copies"
    assert "There are too few pictures to tell anything" in report.verdict


def test_near_copies_are_found_across_splits_and_with_different_labels():
    def split(name: str, seeds: range) -> LabelledPictures:
        sources = [(f"{name}/{i}", "ab"[i % 2], lambda i=i: photograph(i)) for i in seeds]
        return LabelledPictures("things", sources, ("a", "b"), split=name)

    train, test = split("train", range(24)), split("test", range(20, 40))
    train.sources = [*train.sources, ("train/again", "b", lambda: photograph(0))]
    report = audit(train, others=[test])
    assert sorted(report.copies.across) == [(f"train/{i}", f"test/{i}", "test") for i in range(20, 24)]
    assert report.copies.contradicting == (("train/0", "train/again"),)
    named = {one.name: one for one in report.findings}
    assert "4 of 20 pictures of 'test'" in named["copies"].sentence
    assert named["copies"].severity == pytest.approx(0.2)
    assert set(named["copies"].examples[0].keys) <= set(report.thumbs)
    assert "labels" in named


def test_mistakes_that_go_with_a_nuisance_are_told_given_the_label():
    """A classifier that calls whatever is dark a "b": among pictures of one label its mistakes go with the light."""
    from planted_pets import to_pixels
    from torch import nn

    from xaihub.classifier import Classifier

    class Light(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.features = nn.Conv2d(3, 2, 1)
            nn.init.constant_(self.features.weight, 1.0)
            self.features.weight.data[1] *= -1
            nn.init.zeros_(self.features.bias)

        def forward(self, pixels):
            return self.features(pixels).mean((-2, -1))

    generator = np.random.default_rng(0)
    lifts = generator.integers(-70, 70, 120).tolist()
    drawn = [photograph(i).point(lambda value, lift=lift: value + lift) for i, lift in enumerate(lifts)]
    sources = [(str(i), "ab"[i % 2], lambda picture=picture: picture) for i, picture in enumerate(drawn)]
    classifier = Classifier.from_module(Light(), labels=["a", "b"], transform=to_pixels)
    report = audit(LabelledPictures("lit", sources, ("a", "b")), classifier, trials=20)
    link = next(link for link in report.links if link.nuisance == "colour")
    assert not link.label.found
    assert link.answers.found
    assert link.answers.auc > 0.9
    slices = [one for one in report.slices if one.by == "Label"]
    assert sum(one.count for one in slices) == 120
    assert f"Each of the {len(report.slices)} slices has an interval that meets" in slices_shown(report)
    assert "(bold)" not in slices_shown(report)
    one, *rest = report.slices
    odd = replace(report, slices=(replace(one, apart=True), *(replace(each, apart=False) for each in rest)))
    assert f"1 of {len(odd.slices)} slices is apart from the rest (bold): the intervals do not" in slices_shown(odd)
    names, matrix = report.confusion
    assert names == ("a", "b")
    assert matrix.sum() == 120
    assert np.trace(matrix) == report.accuracy[0] == sum(case.right for case in report.cases)
    wrong = report.cell("a", "b")
    assert len(wrong) == matrix[0, 1]
    assert [case.probability for case in wrong] == sorted((case.probability for case in wrong), reverse=True)
    assert wrong[0].key in report.thumbs


def test_labels_that_the_classifier_does_not_know_are_no_mistakes():
    renamed = as_dataset(pets(24, marked=False, seed=3))
    renamed.sources = [(key, f"my {label}", get) for key, label, get in renamed.sources]
    report = audit(renamed, taught(), trials=4)
    assert report.accuracy is None
    assert report.cases == report.slices == ()
    assert "has none of these labels" in report.about
    assert report.turned["grey"].count == 4


@pytest.mark.parametrize(
    ("flips", "count", "control", "expected"),
    [(55, 60, 2, True), (1, 60, 2, False), (10, 60, 14, False), (9, 60, 2, None), (0, 4, 0, False)],
)
def test_use_is_more_than_the_same_done_elsewhere(flips, count, control, expected):
    turned = {
        "swapped corners": Turned("swapped corners", count, frozenset(range(flips)), flips),
        "swapped sides": Turned("swapped sides", count, frozenset(range(count - control, count)), control),
    }
    words, use = uses(Link("corners", Strength(1.0, 0.9, 1.0, 0.01, 100)), turned)
    assert use is expected
    assert f"of {count} answers turn" in words


def test_the_report_opens_alone_and_says_what_the_records_say(marked, tmp_path):
    report = marked[0]
    folder = report.save(tmp_path / "audit")
    assert sorted(file.name for file in folder.iterdir()) == ["audit.json", "audit.md", "report.html"]
    held = json.loads((folder / MARK).read_text("utf-8"))
    assert held["verdict"] == report.verdict
    assert held["findings"][0]["name"] == "corners"
    assert held["interventions"]["swapped corners"]["rate"] == report.turned["swapped corners"].rate
    page = (folder / "report.html").read_text("utf-8")
    assert "<script" not in page
    addresses = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert addresses
    assert all(address.startswith(("data:image/jpeg;base64,", "#xh-cell-")) for address in addresses)
    targets = set(re.findall(r'id="([^"]*)"', page))
    assert {address[1:] for address in addresses if address.startswith("#")} <= targets
    assert re.sub(r"\W", "", report.verdict) in re.sub(r"\W", "", page)
    assert 'class="xh-turned-pair"' in page  # a picture before and after its corners were changed
    with pytest.raises(FileExistsError):
        report.save(Path(__file__).parent)


def test_names_of_strangers_stay_words(tmp_path):
    evil = '<img src=x onerror=alert(1)>|"'
    sources = [(f"{evil}{i}", [evil, "plain"][i % 2], lambda i=i: encoded(photograph(i), "JPEG")) for i in range(20)]
    sources = [(key, label, (lambda i=i: photograph(i)) if label == evil else get)
               for i, (key, label, get) in enumerate(sources)]  # fmt: skip
    report = audit(LabelledPictures(evil, sources, (evil, "plain")))
    assert report.findings  # the format tells the label, and both are shown
    page = (report.save(tmp_path / "audit") / "report.html").read_text("utf-8")
    assert "<img src=x" not in page
    assert "<img src=x" not in report.to_markdown()


def test_an_audit_can_be_stopped_and_says_how_far_it_is(stored):
    shares: list[float] = []

    def watch(share: float, stage: str) -> None:
        shares.append(share)
        if share > 0.3:
            raise CancelledError("Stopped.")

    with pytest.raises(CancelledError):
        audit(stored, progress=watch)
    assert shares == sorted(shares)


def test_every_label_has_its_share_of_the_interventions(marked):
    counted = Counter()
    for label, (_, count) in marked[0].turned["grey"].by_label.items():
        counted[label] = count
    assert counted == {"cat": 20, "rabbit": 20}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_what_a_camera_wrote_beside_the_pixels_is_seen_in_every_kind_of_file(kind):
    """A TIFF is made of tags itself: those that say how large it is are no camera's."""
    image, exif = Image.new("RGB", (16, 12)), Image.Exif()
    exif[271] = "camera"
    plain, taken = io.BytesIO(), io.BytesIO()
    image.save(plain, kind)
    image.save(taken, kind, exif=exif)
    assert (look(plain.getvalue()).file.exif, look(taken.getvalue()).file.exif) == (False, True)
