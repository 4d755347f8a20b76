"""The quiz without a page: rounds that are balanced and tell nothing, figures known on paper, answers in parquet."""

import math
from collections import Counter
from datetime import date

import numpy as np
import pytest
from PIL import Image

from xaihub import load_classifier, load_references
from xaihub.errors import ReferencesError
from xaihub.intervals import wilson
from xaihub.quiz import (
    SHOWN,
    Answer,
    Asked,
    Pool,
    card,
    figures,
    in_words,
    pool_of,
    questions,
    read_answers,
    shown_for,
    with_small_pets,
    write_answers,
)
from xaihub.quiz.figures import difference

CLASSES = ("ant", "bee", "cow", "dog", "emu")


def pool(count=60, wrong=12, copies=0) -> Pool:
    """Pictures of five classes in turn, the first of which the classifier gives to the next class."""
    said = np.array([(i + (i < wrong)) % len(CLASSES) for i in range(count)])
    logits = np.tile(np.arange(len(CLASSES), dtype=np.float32)[::-1], (count, 1))  # the first is the likeliest, but for
    logits[np.arange(count), said] = 9  # what is said
    return Pool(
        CLASSES,
        [f"picture {i}" for i in range(count)],
        [CLASSES[i % len(CLASSES)] for i in range(count)],
        [max(0, i - copies) for i in range(count)],
        said,
        logits,
        lambda row: Image.new("RGB", (8, 8), (row, 0, 0)),
    )


def answer(method="", *, hit=True, sure=0.7, wrong=False, trusted=False, name="r") -> Answer:
    """The model says "cat"; the dataset says so too, or "dog" where it is wrong."""
    label = "dog" if wrong else "cat"
    guess = "cat" if hit else "dog" if trusted or not wrong else "fox"
    return Answer(name, "2026-11-22", 1, "m", "r", "d", "k", method, "cat", label, guess, sure, 4)


@pytest.mark.parametrize("seed", range(5))
def test_a_round_is_balanced_and_no_picture_comes_twice(seed):
    there = pool(copies=3)
    asked = questions(there, 12, ["gradcam", "twins"], seed=seed)
    wrong = there.wrong()
    assert Counter(each.method for each in asked) == {"": 6, "gradcam": 3, "twins": 3}
    assert sum(wrong[each.row] for each in asked) == 6
    for group in (True, False):  # of those that the classifier is wrong about, and of the others, half are shown one
        assert sum(bool(each.method) for each in asked if wrong[each.row] == group) == 3
    assert len({there.same[each.row] for each in asked}) == 12
    assert max(Counter(there.predicted[each.row] for each in asked).values()) <= 5
    assert asked == questions(there, 12, ["gradcam", "twins"], seed=seed)
    assert asked != questions(there, 12, ["gradcam", "twins"], seed=seed + 100)


def test_the_order_of_questions_and_choices_tells_nothing():
    there = pool()
    rounds = [questions(there, 12, ["twins"], seed=seed) for seed in range(60)]
    first = Counter(bool(there.wrong()[asked[0].row]) for asked in rounds)
    assert 15 <= first[True] <= 45
    places = Counter(each.choices.index(there.predicted[each.row]) for asked in rounds for each in asked)
    assert set(places) == {0, 1, 2, 3}
    for each in rounds[0]:
        names = [there.class_names[index] for index in each.choices]
        assert names == sorted(names)
        assert there.predicted[each.row] in each.choices
        assert there.labels[each.row] in names  # else one could tell that the model is wrong


def test_few_pictures_are_all_asked_about_and_too_few_are_refused():
    assert sorted(each.row for each in questions(pool(5, wrong=1), 12, ["twins"], seed=1)) == [0, 1, 2, 3, 4]
    assert {each.method for each in questions(pool(), 8, [], seed=1)} == {""}
    with pytest.raises(ReferencesError, match="at least two different pictures and two classes; here are 1 and 5"):
        questions(pool(4, copies=4), 12, ["twins"], seed=1)


def test_the_starter_s_pool_has_pictures_that_its_classifier_is_wrong_about():
    classifier, references = load_classifier("xaihub/paper-pets"), load_references("xaihub/paper-pets")
    there = with_small_pets(pool_of(references), classifier)
    assert len(there) == len(references) + 30
    assert there.wrong()[len(references) :].sum() >= 8
    assert there.picture(len(references)).size == references.picture(0).size


@pytest.fixture(scope="module")
def seen():
    """What each explanation shows of one reference."""
    import xaihub.explaining  # noqa: F401  every method has been registered

    classifier, references = load_classifier("xaihub/paper-pets"), load_references("xaihub/paper-pets")
    there = pool_of(references)
    row = 77
    shown = {name: shown_for(classifier, references, there, Asked(row, name, (0, 1))) for name in ("", *SHOWN)}
    return references, row, shown


def test_what_is_shown_is_of_the_picture_itself_which_is_no_twin_of_its_own(seen):
    references, row, shown = seen
    said = references.class_names[references.predicted[row]]
    for each in shown.values():
        assert each.prediction.label == said
        assert each.prediction.probability == pytest.approx(float(references.probability[row]), abs=0.02)
        assert each.image.tobytes() == references.picture(row).tobytes()
    assert shown[""].evidence == ()
    assert shown["gradcam"].evidence[0].heatmap.any()
    assert {each.facts["predicted"] for each in shown["twins"].evidence} == {said}
    assert references.keys[row] not in {each.facts["key"] for each in shown["twins"].evidence}
    assert said not in {each.facts["predicted"] for each in shown["counterfactuals"].evidence}


# Figures


def test_figures_are_those_of_paper():
    answers = [answer(), answer(hit=False), answer(hit=False, wrong=True, trusted=True, sure=1.0), answer(wrong=True)]
    one = figures(answers)["without"]
    assert (one.count, one.hits, one.share) == (4, 2, 0.5)
    assert one.accuracy == wilson(2, 4)
    assert one.confidence == pytest.approx(0.775)
    assert one.over[0] == pytest.approx(0.775 - 0.5)
    assert one.brier[0] == pytest.approx((0.3**2 + 0.7**2 + 1 + 0.3**2) / 4)
    assert (one.wrong, one.trusted) == (2, 1)
    assert one.overtrust == wilson(1, 2)
    assert one.over[1] <= one.over[0] <= one.over[2]
    assert math.isnan(figures(answers[:1])["without"].over[1])


def test_groups_are_with_without_and_each_method():
    known = figures([answer(), answer("twins"), answer("gradcam", hit=False), answer("twins", hit=False)])
    assert {name: (one.hits, one.count) for name, one in known.items()} == {
        "without": (1, 1), "with": (1, 3), "twins": (1, 2), "gradcam": (0, 1),
    }  # fmt: skip
    assert figures([]) == {}


def test_a_difference_has_newcombe_s_interval():
    answers = [answer("twins")] * 9 + [answer("twins", hit=False)] + [answer()] * 3 + [answer(hit=False)] * 7
    value, low, high = difference(answers)
    (la, ua), (lb, ub) = wilson(9, 10), wilson(3, 10)
    assert value == pytest.approx(0.6)
    assert low == pytest.approx(0.6 - math.hypot(0.9 - la, ub - 0.3))
    assert high == pytest.approx(0.6 + math.hypot(ua - 0.9, 0.3 - lb))
    assert all(math.isnan(number) for number in difference([answer()]))


def test_words_say_that_few_answers_tell_nothing_and_many_do():
    titles = {"twins": "twins"}
    few = in_words([answer("twins")] * 3 + [answer()] * 2 + [answer(hit=False)], titles)
    assert few[0].startswith("With twins you guessed 3 of 3, without an explanation 2 of 3: too few to tell")
    assert "nothing can be said of over-trust" in few[-1]
    many = [answer("twins", name=str(i)) for i in range(40)] + [answer(hit=False, name=str(i)) for i in range(40)]
    assert "it helped, by 100%" in in_words(many, titles)[0]
    assert (
        "it misled" in in_words([*many[40:], *(answer("twins", hit=False) for _ in range(40)), *[answer()] * 40], {})[0]
    )
    sure = in_words([answer(hit=False, sure=1.0)] * 20, titles)
    assert "too sure" in " ".join(sure)
    wrong = [answer("twins", hit=False, wrong=True, trusted=True), answer(wrong=True)]
    assert "with an explanation in 1 of 1 questions and without an explanation in 0 of 1" in in_words(wrong, titles)[-1]


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ([answer(sure=0.77)] * 4 + [answer(hit=False, sure=0.77)] * 4, "right 50% of the time: too few to tell (the"),
        ([answer(sure=0.9)] * 4, "right 100% of the time: too few to tell"),  # all alike: the bootstrap has no width
        ([answer()], "right 100% of the time: too few to tell"),
        ([answer(sure=0.7)] * 140 + [answer(hit=False, sure=0.7)] * 60, "right 70% of the time: about as sure as"),
        ([answer(hit=False, sure=0.9)] * 8, "too sure"),
        ([answer(sure=0.55)] * 8, "less sure than you could have been"),
    ],
)
def test_calibration_is_claimed_only_where_enough_answers_show_it(answers, said):
    assert said in " ".join(in_words(answers, {}))


# Storing


def test_answers_are_one_file_a_round_and_come_back(tmp_path):
    answers = [answer(), answer("twins", hit=False)]
    file = write_answers(tmp_path, answers[:1])
    assert write_answers(tmp_path, answers) == file
    write_answers(tmp_path, [answer(name="other")])
    (tmp_path / "data" / "torn.parquet").write_bytes(b"PAR1")
    assert sorted(read_answers(tmp_path), key=lambda each: each.round) == [answer(name="other"), *answers]
    assert read_answers(tmp_path / "nowhere") == []
    with pytest.raises(ValueError, match="one round, not of 2"):
        write_answers(tmp_path, [answer(), answer(name="other")])


def test_nothing_of_a_person_is_stored(tmp_path):
    import pyarrow.parquet as pq

    table = pq.read_table(write_answers(tmp_path, [answer()]))
    assert set(table.column_names) == {
        "round", "day", "place", "model", "revision", "references", "picture", "method", "said", "label", "guess",
        "confidence", "choices",
    }  # fmt: skip
    date.fromisoformat(table["day"][0].as_py())
    assert all(f"| `{name}` |" in card() for name in table.column_names)
    assert "can see when it was written" in card(), "a file has a time, though its rows have none"
