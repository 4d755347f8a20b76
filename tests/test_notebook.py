"""What a notebook shows: whole without anything from outside, safe with strangers' names, and small."""

import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image
from toy_networks import ColourCounter, SmallNet, classifier_of

from xaihub import build_references, explain
from xaihub.records import Evidence, Explanation, Prediction

EVIL = '<img src=x onerror="alert(1)"><script>alert(1)</script>"\' & more'


class Page(HTMLParser):
    """Every tag with its attributes, and the text between them; complains of a tag that is never closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text, self.open = "", []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag != "img":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    @property
    def pictures(self) -> list[Image.Image]:
        found = [attributes["src"] for tag, attributes in self.tags if tag == "img"]
        assert all(address.startswith("data:image/jpeg;base64,") for address in found)
        return [Image.open(io.BytesIO(base64.b64decode(address.split(",")[1]))) for address in found]


def shown(record) -> Page:
    """The record's HTML, read; whatever it is, it has no script, no handler, no address and no style sheet."""
    page = Page(record._repr_html_())
    assert {tag for tag, _ in page.tags} <= {
        "div", "table", "tbody", "tr", "td", "img", "b", "ul", "li", "details", "summary"
    }  # fmt: skip
    names = {name for _, attributes in page.tags for name in attributes}
    assert names <= {"style", "src", "alt", "width", "height"}
    assert "url(" not in record._repr_html_()
    return page


def predicted(*probabilities: float, **options) -> Prediction:
    labels = tuple(f"class {i}" for i in range(len(probabilities)))
    return Prediction(options.pop("labels", labels), np.array(probabilities, np.float32), **options)


def test_a_prediction_is_its_five_best_classes_as_bars():
    page = shown(predicted(0.1, 0.5, 0.06, 0.04, 0.2, 0.07, 0.03))

    assert re.findall(r"class \d\D*?[\d.]+%", page.text)[1:] == [
        "class 150.0%", "class 420.0%", "class 010.0%", "class 57.0%", "class 26.0%"
    ]  # fmt: skip
    assert "and 2 more classes." in page.text
    widths = re.findall(r"width:([\d.]+)%;min-width", predicted(0.25, 0.75)._repr_html_())
    assert widths == ["75.0", "25.0"]


def test_classes_that_do_not_exclude_each_other_are_said_not_to():
    assert "Each class has a probability of its own." in shown(predicted(0.9, 0.8, activation="sigmoid")).text
    assert "of its own" not in shown(predicted(0.9, 0.1)).text


def red_dot() -> Image.Image:
    picture = Image.new("RGB", (32, 32))
    picture.paste((255, 0, 0), (4, 20, 12, 28))
    return picture


def test_an_explanation_shows_the_picture_each_map_over_it_and_who_made_it():
    classifier = replace(classifier_of(ColourCounter()), repo_id="alice/counter", revision="0123456789abcdef" * 2)
    explanation = explain(classifier, red_dot(), ["gradcam", "layercam"])

    page = shown(explanation)

    assert "Why red?" in page.text
    assert "gradcam" in page.text
    assert explanation["layercam"][0].caption in page.text
    assert "alice/counter at 0123456789ab, layer features" in page.text
    assert "preprocessing" in page.text
    crop, *maps = (np.asarray(picture).astype(int) for picture in page.pictures)
    assert crop.shape == (224, 224, 3), "a small network's crop is enlarged"
    assert len(maps) == 2
    for drawn in maps:
        dot, nothing = drawn[24 * 144 // 32, 8 * 144 // 32], drawn[8 * 144 // 32, 24 * 144 // 32]
        assert (dot - nothing).sum() > 100, "bright where the dot is, dark where nothing is"


def test_a_target_that_is_not_the_answer_is_named_beside_the_answer():
    page = shown(explain(classifier_of(ColourCounter()), red_dot(), ["gradcam"], target="blue"))

    assert "Why blue? (The classifier says red.)" in page.text


def test_a_target_beyond_the_five_best_has_its_bar_as_well():
    prediction = predicted(*np.linspace(0.3, 0.02, 8))

    assert "class 7" in prediction.bars(7)
    assert "class 7" not in prediction.bars()


def test_several_pieces_of_evidence_stand_in_a_row_and_notes_below():
    picture = Image.new("RGB", (40, 20), "white")
    many = tuple(Evidence(picture, f"twin number {i}") for i in range(14))
    explanation = Explanation(
        picture, picture, (0, 0, 40, 20), predicted(0.6, 0.4), 0, {"twins": many}, {"cam": ("It has no linear head.",)}
    )

    page = shown(explanation)

    assert "twin number 11" in page.text
    assert "twin number 12" not in page.text
    assert "and 2 more" in page.text
    assert "cam: It has no linear head." in page.text


def test_boxes_are_drawn_where_they_lie():
    picture = Image.new("RGB", (400, 200), "white")
    (drawn,) = shown(Evidence(picture, "here", boxes=((200, 50, 300, 150),))).pictures

    pixels = np.asarray(drawn).astype(int)
    assert drawn.size == (224, 112)
    assert pixels[56, 112].sum() < 600, "the box's left edge"
    assert pixels[56, 80].sum() > 740, "left of it"


def test_nothing_a_stranger_named_becomes_markup():
    picture = red_dot()
    prediction = predicted(0.6, 0.4, labels=(EVIL, "b"))
    explanation = Explanation(
        picture, picture, (0, 0, 32, 32), prediction, 0, {EVIL: (Evidence(picture, EVIL),)}, {EVIL: (EVIL,)},
        {"model": EVIL, EVIL: EVIL, "notices": [EVIL], "revision": EVIL},
    )  # fmt: skip

    for record in (prediction, explanation, explanation.evidence[EVIL][0]):
        assert "alert(1)" in shown(record).text


def test_what_is_shown_stays_small_whatever_there_is():
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (1500, 2000, 3), dtype=np.uint8))
    heat = np.zeros((1500, 2000), np.float32)
    evidence = {f"method {i}": (Evidence(picture, "x" * 100_000, heatmap=heat),) for i in range(24)}
    prediction = predicted(*np.full(1000, 0.001), labels=tuple("y" * 10_000 for _ in range(1000)))
    explanation = Explanation(
        picture, picture, (0, 0, 2000, 1500), prediction, 0, evidence, {}, {"model": "z" * 10_000}
    )

    html = explanation._repr_html_()

    assert len(html) < 1_000_000
    assert all(max(drawn.size) <= 224 for drawn in shown(explanation).pictures)


@pytest.fixture
def references(tmp_path):
    classifier = classifier_of(SmallNet())
    for name, colour in (("warm", (250, 60, 30)), ("cold", (20, 40, 240))):
        (tmp_path / name).mkdir()
        for i in range(3):
            Image.new("RGB", (32, 32), tuple(max(0, c - 9 * i) for c in colour)).save(tmp_path / name / f"{i}.png")
    return build_references(classifier, tmp_path)


def test_references_show_how_many_of_each_class_and_who_made_them(references):
    page = shown(references)

    assert "6 references" in page.text
    counts = {references.class_names[c]: rows.stop - rows.start for c, rows in references.slices.items()}
    for name, count in counts.items():
        assert f"{name}{count}" in page.text
    assert "embedded by your own network (layer after" in page.text
    assert len(page.pictures) == len(counts)


def test_references_whose_pictures_are_broken_show_the_rest(references):
    broken = replace(references, pictures=[b"no picture"] * 6, class_names=(EVIL, EVIL, EVIL))

    page = shown(broken)

    assert page.pictures == []
    assert "6 references" in page.text
