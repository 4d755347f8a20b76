"""The Quiz page without a browser: what is shown before a guess, what is stored and when, and where it is sent."""

import io
import re
from dataclasses import replace

import pytest
from loopback_hub import LoopbackHub
from tiny_folders import TOKEN
from tiny_models import TINY, build, picture, processor_of, push

from xaihub import hub as hub_room
from xaihub.errors import AccessDeniedError, ReferencesMismatchError, XaihubError
from xaihub.hub.keeping import EVERY
from xaihub.progress import silent
from xaihub.quiz import asked_about, card, read_answers
from xaihub.ui.asking import Question
from xaihub.ui.desk import Desk
from xaihub.ui.desk_quiz import QuizDesk, Round
from xaihub.ui.drawing_quiz import answer_shown, figures_shown, place_shown, question_shown
from xaihub.ui.layout_quiz import AGREE, QuizLayout
from xaihub.ui.settings import Settings

STARTER = "xaihub/paper-pets"


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """Asked by many tests, as by many visitors."""
    return QuizDesk(Desk(Settings(quiz_folder=str(tmp_path_factory.mktemp("quiz")))))


def begun(desk, methods=("gradcam", "twins"), count=8, seed="3", **changes) -> Round:
    question = Question(**{"picture": "", "model": STARTER, "references": STARTER, "limit": 50, **changes})
    return desk.begin(question, methods, count, seed, silent)


def guessed(desk, going, *, right=True, sure=2, agreed=False) -> Round:
    said = going.names[going.shown.prediction.index]
    guess = said if right else next(name for name in going.choices if name != said)
    return desk.guessed(going, guess, going.sureness[sure], agreed=agreed)


def played(desk, going, **how) -> Round:
    while not going.over:
        going = guessed(desk, desk.next(going, silent), **how)
    return going


def without_pictures(html: str) -> str:
    return re.sub(r'src="data:[^"]*"', "", html)


def test_a_question_tells_nothing_of_its_answer(shared):
    going = begun(shared, ("gradcam", "twins", "counterfactuals"), 12)
    seen = set()
    while True:
        html, said = without_pictures(question_shown(going) + place_shown(going)), going.shown.prediction
        seen.add(going.now.method)
        for name in going.names:  # also no other class: what is called something else tells, too
            assert name not in html.replace(STARTER, "").lower()
        assert f"{said.probability:.0%}" not in html
        assert going.guessed is False
        assert figures_shown(going.answers, [], over=False).count("So far you knew") == (1 if going.answers else 0)
        going = guessed(shared, going)
        if going.over:
            break
        going = shared.next(going, silent)
    assert seen == {"", "gradcam", "twins", "counterfactuals"}


def test_the_answer_says_who_was_right(shared):
    going = begun(shared)
    assert shared.next(going, silent) is going  # there is no way on without a guess
    hit, miss = guessed(shared, going), guessed(shared, going, right=False)
    assert "✓ The model says" in answer_shown(hit)
    assert "You knew." in answer_shown(hit)
    assert "✗ The model says" in answer_shown(miss)
    assert "your guess" in answer_shown(miss)
    assert shared.guessed(hit, miss.answers[0].guess, 1.0, agreed=True) is hit  # nobody guesses twice
    for guess, sure in (("cow", 1.0), (going.choices[0], 0.33), (None, None)):
        with pytest.raises(XaihubError, match="Choose what you think that the model answers"):
            shared.guessed(going, guess, sure, agreed=False)


def test_the_end_says_in_words_what_it_came_to(shared):
    going = played(shared, begun(shared))
    html = figures_shown(going.answers, [], over=True)
    assert "you guessed 2 of 2, without an explanation 4 of 4: too few to tell" in html
    assert "less sure than you could have been" in html
    assert "Over-trust: where the model was wrong, you took it to be right" in html
    assert html.count("<tr>") == 1 + 4  # the head, without, with, and two methods


def test_before_and_after_a_round_it_is_said_that_the_questions_are_chosen(shared):
    assert "up to half of them are about pictures that the classifier gets wrong" in QuizLayout.greeting
    assert "drawn small on purpose" in QuizLayout.greeting
    going = played(shared, begun(shared))
    pool = shared.kept.get(going.key).pool
    html = figures_shown(going.answers, [], over=True)
    assert f"The model was wrong in {asked_about(pool, going.asked)[2]} of these 8 questions" in html
    assert "drawn small on purpose" in html
    others = [replace(each, references="alice/cats", label=each.said) for each in going.answers]
    html = figures_shown(others, [], over=True)
    assert "The model was wrong in 0 of these 8 questions. They were chosen" in html
    assert "drawn small" not in html


def test_what_is_promised_of_storing_is_what_happens(tmp_path):
    desk = QuizDesk(Desk(Settings(quiz_folder=str(tmp_path / "quiz"))))
    guessed(desk, begun(desk), agreed=True)
    (file,) = (tmp_path / "quiz" / "data").iterdir()
    assert file.stat().st_mtime > 0
    assert "can see when it was written" in AGREE
    assert f"every {'five' if EVERY == 5 else EVERY} minutes" in AGREE


def test_confidence_goes_from_chance_to_certainty(shared):
    going = begun(shared)
    assert (going.sureness[0], going.sureness[-1]) == (0.25, 1.0)


def test_a_round_holds_no_network_and_one_number_gives_one_round(shared):
    going, again, other = begun(shared), begun(shared), begun(shared, seed="4")
    assert going.asked == again.asked != other.asked
    assert going.name != again.name
    assert not any(type(value).__name__ in ("Classifier", "ReferenceSet", "Query") for value in vars(going).values())
    with pytest.raises(XaihubError, match="number of a round is 'x'"):
        begun(shared, seed="x")


def test_references_are_needed_and_must_be_the_model_s(shared, hub):
    with pytest.raises(XaihubError, match="A quiz needs references"):
        begun(shared, references="")
    push(hub, "alice/tiny", build(TINY["resnet"]), processor_of(TINY["resnet"]))
    with pytest.raises(ReferencesMismatchError):
        begun(shared, model="alice/tiny")


# Storing


def test_nothing_is_stored_unless_the_visitor_agrees(tmp_path):
    desk = QuizDesk(Desk(Settings(quiz_folder=str(tmp_path / "quiz"))))
    going = guessed(desk, begun(desk))
    assert not (tmp_path / "quiz").exists()
    going = guessed(desk, desk.next(going, silent), agreed=True)
    going = guessed(desk, desk.next(going, silent))
    stored = read_answers(desk.folder)
    assert stored == [going.answers[1]]
    assert (desk.folder / "README.md").read_text("utf-8") == card()
    assert desk.everybody(going) == stored
    assert desk.everybody(begun(desk)) == stored


def shapes(count=12):
    def png(image) -> bytes:
        stream = io.BytesIO()
        image.save(stream, "PNG")
        return stream.getvalue()

    return {f"train/{'cat' if i % 2 else 'dog'}/{i}.png": png(picture(80, 80, seed=i + 1)) for i in range(count)}


@pytest.fixture
def alice(hub: LoopbackHub) -> LoopbackHub:
    hub.add_user("alice", token=TOKEN)
    return hub


@pytest.mark.parametrize("private", [True, False])
def test_what_is_not_open_to_everybody_is_never_stored(alice, tmp_path, private):
    push(alice, "alice/tiny", build(TINY["resnet"]), processor_of(TINY["resnet"]))
    alice.add_files("alice/shapes", shapes(), repo_type="dataset", private=private)
    desk = QuizDesk(Desk(Settings(quiz_folder=str(tmp_path / "quiz"))))
    going = begun(desk, model="alice/tiny", references="alice/shapes", token=TOKEN)
    going = guessed(desk, going, agreed=True)
    assert len(read_answers(desk.folder)) == (0 if private else 1)
    assert ("nothing of this round is stored" in answer_shown(going)) == private
    assert "What is right is" in answer_shown(going) or "The dataset says" in answer_shown(going)


def test_answers_are_sent_to_a_private_dataset_of_the_host(alice, tmp_path):
    desk = QuizDesk(Desk(Settings(quiz_folder=str(tmp_path / "quiz"))))
    keeper = hub_room.Keeper(desk.folder, "alice/answers", token=TOKEN, every=60)
    going = guessed(desk, begun(desk), agreed=True)
    keeper.push()
    try:
        stored = alice.repo("alice/answers", "dataset")
        assert stored.private
        (file,) = (name for name in stored.head.files if name.endswith(".parquet"))
        assert set(stored.head.files) >= {"README.md", file}
        going = guessed(desk, desk.next(going, silent), right=False, agreed=True)
        commits = len(stored.commits)
        keeper.push()
        assert len(stored.commits) == commits + 1
        keeper.push()
        assert len(stored.commits) == commits + 1  # nothing is new
        (tmp_path / "read" / "data").mkdir(parents=True)
        sent = hub_room.fetch(hub_room.look("alice/answers", token=TOKEN, repo_type="dataset"), [file], token=TOKEN)
        (tmp_path / "read" / file).write_bytes((sent / file).read_bytes())
        assert tuple(read_answers(tmp_path / "read")) == going.agreed
        assert len(going.agreed) == 2
    finally:
        keeper.stop()


def test_a_hub_that_refuses_costs_no_answer(alice, tmp_path, monkeypatch, caplog):
    alice.add_user("alice", token="hf_reader", role="read")
    monkeypatch.setenv("HF_TOKEN", "hf_reader")
    desk = QuizDesk(Desk(Settings(quiz_folder=str(tmp_path / "quiz"), quiz_dataset="alice/answers")))
    going = guessed(desk, begun(desk), agreed=True)
    desk._keeper._begin()
    assert "is not sent to alice/answers for now" in caplog.text
    assert read_answers(desk.folder) == list(going.agreed)
    with pytest.raises(AccessDeniedError, match="may only read"):
        desk._keeper.push()
