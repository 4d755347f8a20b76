"""The page of an evaluation: whole in one file, each number explained, failures said in words."""

import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser

import numpy as np
import pytest
from browser_fixture import chromium, shot
from test_explanations_evaluated import SUITE, by_name, spots, upside_down  # noqa: F401  a fixture
from toy_networks import ColourCounter, classifier_of

from xaihub.datasets import LabelledPictures
from xaihub.evaluating import measured
from xaihub.evaluating.chapters import Chapter, chapter_of
from xaihub.evaluating.plots import _Axis, intervals, ranks, ranks_of
from xaihub.evaluating.report import report
from xaihub.evaluating.tables import markdown, number, rows_of
from xaihub.evaluating.words import explained, few_pictures, findings, headline, listed, title
from xaihub.metrics import BASELINES, METRICS
from xaihub.records import Gain, Score

EVIL = '<img src=x onerror="alert(1)">'


@pytest.fixture
def chapter(upside_down):  # noqa: F811
    classifier = replace(classifier_of(ColourCounter(0.05)), repo_id=f"alice/{EVIL}")
    sources = [(f"{EVIL}{i}.png", None, lambda i=i: spots(12)[i]) for i in range(12)]
    pictures = LabelledPictures("spots", sources, (), note="the first twelve")
    suite = SUITE | {"average-drop": {}}
    found = measured(classifier, pictures, ["gradcam", upside_down], suite, targets=["red"] * 12)
    return chapter_of(found, pictures, asked="red")


@pytest.fixture
def page(chapter):
    return report([chapter], command="python scripts/evaluate.py --model 'a b' <x>")


class Reader(HTMLParser):
    """Tags that are open, and everything that a browser would fetch."""

    void = frozenset({"meta", "img", "br", "link", "path", "circle", "rect", "polygon", "polyline"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.fetched: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.fetched += [value for name, value in attributes if name in ("src", "href", "srcset", "data")]
        assert not [name for name, _ in attributes if name.startswith("on")], "nothing runs"
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert tag in self.void or self.open.pop() == tag


def words_of(page: str) -> str:
    return " ".join(unescape(re.sub(r"<style>.*?</style>|<[^>]*>", " ", page, flags=re.S)).split())


def test_it_is_whole_and_fetches_nothing(page):
    reader = Reader()
    reader.feed(page)

    assert not reader.open, "each tag is closed"
    assert reader.fetched
    assert all(address.startswith("data:image/jpeg;base64,") for address in reader.fetched)
    assert not reader.tags & {"script", "iframe", "link", "form"}
    assert "url(" not in page
    for drawing in re.findall(r"<svg.*?</svg>", page, re.S):
        ET.fromstring(drawing)


def test_each_number_is_there_with_what_it_means(chapter, page):
    text = words_of(page)

    for score in chapter.scores:
        assert f"{number(score.value)} ({number(score.low)} to {number(score.high)})" in text
        for sentence in explained(score.metric)[:2]:
            assert sentence in text
    for said in (
        "Lower is better.", "Higher is better.", "n = 12; settings: steps 6.", "random map", "centre blob", "edge map",
        "“No better than random” means", "95 % bootstrap intervals", "12 of spots; the first twelve",
        "target layer features", "seed 0", "python scripts/evaluate.py --model 'a b' <x>", "torch ",
    ):  # fmt: skip
        assert said in text, said


def test_a_method_that_fails_is_said_to_fail_and_drawn_hollow(chapter, page):
    text = words_of(page)
    wrong = by_name(chapter.scores)["deletion", "upside-down"]

    assert (
        "Upside down is no better than random, a blob in the centre or the picture's edges by Insertion minus deletion:"
        " it fails here."
    ) in text
    assert "Grad-CAM is better than random, a blob in the centre and the picture's edges by Insertion minus" in text
    assert "Upside down is no better than random by Deletion, Insertion and Average drop." in text
    drawn = ET.fromstring(intervals([score for score in chapter.scores if score.metric == "deletion"]))
    kinds = {group.find("text").text: group.get("class") for group in drawn.iter("g")}
    assert kinds == {
        "Grad-CAM": "method", "Upside down": "fails", **{title(name): "baseline" for name in BASELINES},
    }  # fmt: skip
    assert f"{number(wrong.value)} ({number(wrong.low)} to {number(wrong.high)}), no better than random" in text


def test_what_a_stranger_named_stays_words(page):
    assert EVIL not in page
    assert EVIL in unescape(page)


def test_the_best_pictures_come_first_and_the_worst_last(chapter):
    means = [np.mean(list(example.values.values())) for example in (*chapter.best, *chapter.worst[::-1])]

    assert len(chapter.best) == len(chapter.worst) == 3
    assert means == sorted(means, reverse=True)
    assert set(chapter.best[0].maps) == {"gradcam", "upside-down"}
    differ = [np.asarray(chapter.best[0].maps[name], int) for name in ("gradcam", "upside-down")]
    assert np.abs(differ[0] - differ[1]).mean() > 5, "each with its own map"


def test_curves_begin_and_end_where_the_network_says(chapter):
    deleted = chapter.curves["deletion", "gradcam"]

    assert deleted.shape == (3, 7)
    assert (deleted[1] <= deleted[0] + 1e-9).all()
    assert (deleted[0] <= deleted[2] + 1e-9).all()
    assert deleted[0, -1] == pytest.approx(1 / 3, abs=1e-4), "an empty picture is any of three colours"
    assert chapter.curves["insertion", "gradcam"][0, -1] == pytest.approx(deleted[0, 0], abs=1e-6)


def test_several_models_stand_side_by_side(chapter):
    other = replace(chapter, model="bob/other")
    page = report([chapter, other])
    text = words_of(page)

    assert "All models: Insertion minus deletion" in text
    assert page.count("<article") == 2
    assert text.count("In short") == 2


def scored(method: str, value: float, metric: str = "deletion", *, count: int = 20, **gains: float) -> Score:
    told = {name: Gain(low + 0.1, low, low + 0.2) for name, low in gains.items()}
    entry = METRICS[metric]
    return Score(
        method, metric, value, value - 0.1, value + 0.1, count, entry.higher_is_better, dict.fromkeys(gains, 0.5), told,
        entry.category, baseline=method in BASELINES,
    )  # fmt: skip


def test_places_are_by_the_better_side_and_equals_share_the_better_place():
    scores = [
        *(scored(name, value, random=0.1) for name, value in (("gradcam", 0.1), ("layercam", 0.3), ("cam", 0.1))),
        *(scored(name, value, "insertion", random=0.1) for name, value in (("gradcam", 0.1), ("layercam", 0.3))),
    ]  # fmt: skip

    assert ranks_of(scores) == {
        "deletion": {"gradcam": 1, "cam": 1, "layercam": 3}, "insertion": {"layercam": 1, "gradcam": 2},
    }  # fmt: skip
    drawn = [text.text for text in ET.fromstring(ranks(scores)).iter("text") if text.get("class") == "mean"]
    assert drawn == ["1.0", "1.5", "2.0"], "mean places of cam, gradcam and layercam"


def test_findings_follow_from_the_intervals():
    scores = [
        scored("gradcam", 0.1, random=0.2, centre=0.1, edges=0.1), scored("layercam", 0.2, random=0.1, centre=-0.1),
        scored("eigencam", 0.3, random=-0.2), scored("cam", 0.3, random=-0.05),
        scored("gradcam", 0.4, "insertion", random=-0.05), scored("gradcam", 0.4, "road", random=-0.3),
        scored("layercam", 0.4, "insertion", random=-0.3, count=9), scored("gradcam", 0.4, "sparseness", random=-0.3),
    ]  # fmt: skip

    assert headline(scores) == "deletion"
    assert findings(scores) == [
        "Grad-CAM is better than random, a blob in the centre and the picture's edges by Deletion; over random it gains"
        " 0.300 on average (95 % interval 0.200 to 0.400, 20 pictures).",
        "LayerCAM is not shown to be better than a blob in the centre by Deletion, although better than random.",
        "Eigen-CAM is no better than random by Deletion: it fails here.",
        "CAM is not shown to be better than random by Deletion; over random it gains 0.050 on average (95 % interval"
        " -0.050 to 0.150, 20 pictures).",
        "Grad-CAM is no better than random by ROAD.",
        "Grad-CAM is not shown to be better than random by Insertion.",
    ]
    assert (listed("a"), listed("ab"), listed("abc", "or"), listed([])) == ("a", "a and b", "a, b or c", "")


@pytest.mark.parametrize(
    ("count", "low", "said", "short"),
    [
        (10, 0.1, "is better than random by Deletion", ""),
        (9, 0.1, "9 pictures are too few to tell whether it is better than random by Deletion", "too few pictures to"),
        (1, 0.1, "1 picture is too few to tell whether it is better than random by Deletion", "too few pictures to"),
        (9, -0.9, "9 pictures are too few to tell", "too few pictures to tell"),
        (10, -0.05, "is not shown to be better than random by Deletion", "not shown to be better"),
        (10, -0.25, "is no better than random by Deletion: it fails here", "no better"),
    ],
)
def test_all_places_say_the_same_of_a_gain(count, low, said, short):
    score = scored("gradcam", 0.1, count=count, random=low)
    beside = scored("random", 0.2, count=count)
    (sentence,) = findings([score, beside])
    table, plot = markdown([score, beside]), intervals([score, beside])

    assert said in sentence
    assert ("fails" in sentence) == (low == -0.25)
    assert short in table
    assert short in plot
    assert ("**" in table) == ('class="fails"' not in plot) == (short == "")
    assert (few_pictures([score]) == "") == (count >= 10)


def test_few_pictures_are_said_near_the_top_and_win_no_star(chapter):
    few = replace(chapter, scores=tuple(replace(score, count=4) for score in chapter.scores))
    text, plenty = words_of(report([few, few])), words_of(report([chapter, chapter]))

    assert text.index("fewer than 10 pictures, the fewest of 4") < text.index("All models")
    assert "are too narrow" in text
    assert "fewer than 10 pictures, the fewest" not in plenty
    assert "★" in plenty
    assert "★" not in text


def test_complexity_says_nothing_of_reliance():
    simple = [scored("gradcam", 0.9, "sparseness", random=0.3), scored("random", 0.2, "sparseness")]
    both = [*simple, scored("gradcam", 0.1, random=0.2)]

    assert headline(simple) is None
    assert findings(simple) == [
        "Only complexity was measured (Sparseness): how much a map marks, not whether it is right. So nothing here"
        " tells how far these explanations can be relied on. Measure a metric of faithfulness, too, such as"
        " insertion-deletion."
    ]
    assert headline(both) == "deletion"
    assert [sentence for sentence in findings(both) if "Sparseness" in sentence] == []
    page = report([Chapter("a model", tuple(simple), {}, {}, {})])
    assert "In short Only complexity was measured (Sparseness)" in words_of(page)
    assert "is better than random" not in words_of(page)
    assert "**" not in markdown(simple)


def test_tables_have_the_best_first_and_bold_what_is_better(chapter):
    text = markdown(chapter.scores)
    lines = next(part for part in text.split("\n\n") if part.startswith("| method")).splitlines()

    assert text.startswith("### Deletion\n\nArea under the target's probability")
    assert [line.split("|")[1].strip() for line in lines[2:4]] == ["gradcam", "upside-down"]
    assert "**" in lines[2]
    assert lines[3].count("no better") == 3
    assert {row["value_edges"] for row in rows_of(chapter.scores, {}) if row["method"] == "edges"} == {None}


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.31, 0.33), (-2.5, 7), (9.0, 9.0), (0, 1e-7)])
def test_ticks_are_round_and_reach_over_the_values(low, high):
    axis = _Axis(low, high, 100, 500)

    assert axis.ticks[0] <= low
    assert axis.ticks[-1] >= high - 1e-12
    assert 3 <= len(axis.ticks) <= 9
    assert axis(axis.low) == 100
    assert axis(axis.high) == pytest.approx(500)
    assert f"{axis.step:.0e}"[0] in "1252"


@pytest.mark.parametrize(
    ("value", "words"), [(0.5, "0.500"), (-0.25, "−0.250"), (12.34, "12.3"), (1234.5, "1,234"), (float("nan"), "–")]
)
def test_numbers_have_the_digits_that_say_something(value, words):
    assert number(value) == words


def test_in_a_browser_without_a_network_it_is_whole_also_on_a_phone_and_on_paper(page, tmp_path):
    (tmp_path / "report.html").write_text(page, "utf-8")
    with chromium() as browser:
        context = browser.new_context(viewport={"width": 390, "height": 800}, offline=True)
        opened, broken = context.new_page(), []
        opened.on("pageerror", lambda error: broken.append(str(error)))
        opened.on("requestfailed", lambda request: broken.append(request.url))
        opened.goto(f"file://{tmp_path}/report.html")
        assert opened.evaluate("document.documentElement.scrollWidth") <= 390, "nothing to scroll sideways"
        assert opened.evaluate("[...document.images].every((image) => image.naturalWidth > 0)")
        opened.set_viewport_size({"width": 360, "height": 740})
        broken_words = "[...document.querySelectorAll('.facts td')].map((cell) => cell.clientWidth)"
        assert min(opened.evaluate(broken_words)) > 280, "beside its name a long word would be broken"
        assert opened.evaluate("document.documentElement.scrollWidth") <= 360
        ground = "getComputedStyle(document.body).backgroundColor"
        opened.emulate_media(color_scheme="dark")
        assert opened.evaluate(ground) == "rgb(24, 24, 27)"
        shot(opened, "evaluation-report-dark")
        opened.emulate_media(color_scheme="dark", media="print")
        assert opened.evaluate(ground) == "rgb(255, 255, 255)", "paper stays white"
        opened.emulate_media(color_scheme="light", media="screen")
        opened.set_viewport_size({"width": 980, "height": 900})
        cut = "[...document.querySelectorAll('svg')].filter((svg) => [...svg.querySelectorAll('text')].some((text) =>"
        cut += " text.getBoundingClientRect().right > svg.getBoundingClientRect().right + 1)).length"
        assert opened.evaluate(cut) == 0, "no words are cut off at a plot's edge"
        shot(opened, "evaluation-report")
        pages = opened.pdf(path=tmp_path / "report.pdf", format="A4").count(b"/Type /Page\n")
        assert not broken
    assert 2 <= pages <= 12
