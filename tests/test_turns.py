"""Whose turn it is on a host that many ask, and how soon Stop ends what runs there."""

import threading
import time

import pytest
import torch
from torch import nn
from toy_networks import SmallNet, classifier_of

from xaihub.errors import BusyError, CancelledError
from xaihub.hooks import between_layers
from xaihub.progress import checking, checkpoint, silent, until, waiting
from xaihub.ui import turns as turns_module
from xaihub.ui.stopping import Stops
from xaihub.ui.turns import Turns, Visitor, lane, staying

ANN, BEN, CAT = (Visitor(name, f"10.0.0.{i}") for i, name in enumerate(("ann", "ben", "cat")))


class Work:
    """A piece of work on its own thread, which runs until it is told to end."""

    def __init__(self, turns, visitor, name="", order=None, first=None):
        self.turns, self.visitor, self.name = turns, visitor, name or visitor.session
        self.began, self.finish, self.breathes, self.said, self.error = (
            threading.Event(), threading.Event(), threading.Event(), [], None,
        )  # fmt: skip
        self.order, self.first = order if order is not None else [], first
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        try:
            with self.turns.place(self.visitor, lambda share, stage: self.said.append(stage)):
                self.order.append(self.name)
                self.began.set()
                while not self.finish.wait(0.01):
                    if self.breathes.is_set():
                        self.turns.breathe(0.5)
                        self.order.append(f"{self.name} again")
                        self.breathes.clear()
        except CancelledError as error:
            self.error = error

    def join(self):
        self.thread.join(10)
        assert not self.thread.is_alive()


def end(*works):
    for work in works:
        work.finish.set()
    for work in works:
        work.join()


def eventually(true):
    end = time.monotonic() + 10
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)


def queued(turns, works):
    """The pieces of work, begun one after the other, so that their order is known."""
    made = []
    for visitor, name, order in works:
        before = turns.waiting()
        made.append(Work(turns, visitor, name, order))
        eventually(lambda before=before, work=made[-1]: turns.waiting() > before or work.error)
    return made


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(turns_module, "PATIENCE", 0.2)


def test_visitors_take_turns_however_many_questions_one_of_them_has_waiting():
    turns, order = Turns(each=3), []
    running = Work(turns, ANN, "ann 0", order)
    assert running.began.wait(10)
    asked = [
        (ANN, "ann 1", order),
        (ANN, "ann 2", order),
        (BEN, "ben 1", order),
        (ANN, "ann 3", order),
        (CAT, "cat 1", order),
    ]
    waiting_ones = queued(turns, asked)
    end(running, *waiting_ones)
    assert order == ["ann 0", "ben 1", "cat 1", "ann 1", "ann 2", "ann 3"]


def test_an_address_with_many_sessions_is_served_as_often_as_one_with_a_single_one():
    turns, order = Turns(), []
    crowd = [Visitor(f"tab {i}", "10.0.0.9") for i in range(6)]
    running = Work(turns, crowd[0], "tab 0", order)
    assert running.began.wait(10)
    ones = queued(turns, [(who, who.session, order) for who in crowd[1:5]] + [(ANN, "ann", order)])
    end(running, *ones)
    assert order == ["tab 0", "ann", "tab 1", "tab 2", "tab 3", "tab 4"]


def test_one_visitor_has_two_questions_waiting_at_most_and_is_told_so():
    turns = Turns()
    running = Work(turns, ANN)
    assert running.began.wait(10)
    first = queued(turns, [(ANN, "1", None), (ANN, "2", None), (BEN, "3", None)])
    (refused,) = queued(turns, [(ANN, "4", None)])
    assert isinstance(refused.error, BusyError)
    assert str(refused.error).startswith("You have 2 questions waiting already, and no visitor may have more.")
    assert turns.waiting(ANN) == 2
    assert turns.waiting(BEN) == 1
    end(running, *first)


def test_a_full_queue_says_so_and_a_newcomer_takes_the_last_place_of_whoever_holds_most():
    turns = Turns(most=3)
    running = Work(turns, ANN)
    assert running.began.wait(10)
    waiting_ones = queued(turns, [(ANN, "1", None), (BEN, "2", None), (ANN, "3", None)])
    newcomer = Work(turns, CAT)
    eventually(lambda: waiting_ones[2].error is not None)
    assert "The queue is full: 3 questions are waiting" in str(waiting_ones[2].error)
    eventually(lambda: turns.waiting(CAT) == 1)
    (late,) = queued(turns, [(Visitor("dan", "10.0.0.7"), "4", None)])
    assert "The queue is full: 3 questions are waiting" in str(late.error), "now each visitor has one"
    served = running, waiting_ones[0], waiting_ones[1], newcomer
    end(*served)
    assert [work.error for work in served] == [None] * 4


def test_who_asks_often_is_told_when_to_ask_again_but_only_while_others_wait():
    turns = Turns(per_minute=3)
    for _ in range(5):
        with turns.place(ANN):
            pass  # nobody else waits
    running = Work(turns, BEN)
    assert running.began.wait(10)
    other = queued(turns, [(CAT, "", None)])[0]
    with (
        pytest.raises(
            BusyError, match=r"You have asked 5 times in a minute, and others are waiting\. Ask again in 60 s"
        ),
        turns.place(ANN),
    ):
        raise AssertionError("it had no turn")
    end(running, other)


def test_long_work_gives_way_to_a_short_question_and_goes_on_beside_the_next():
    turns, order = Turns(short=0.0), []
    audit = Work(turns, ANN, "audit", order)
    assert audit.began.wait(10)
    question = queued(turns, [(BEN, "question", order)])[0]
    audit.breathes.set()
    assert question.began.wait(10)
    eventually(lambda: "audit again" in order)
    assert turns.running() == 2, "the audit in the long lane, the question in the short one"
    second = queued(turns, [(CAT, "second", order)])[0]
    audit.breathes.set()
    eventually(lambda: order.count("audit again") == 2)
    assert not second.began.is_set(), "one short question at a time"
    end(question)
    assert second.began.wait(10)
    end(second)
    end(audit)


def test_of_two_long_pieces_of_work_one_runs_and_one_that_holds_a_lock_stays_where_it_is():
    turns = Turns(short=0.0)
    audit = Work(turns, ANN, "audit")
    assert audit.began.wait(10)
    held = queued(turns, [(BEN, "", None)])[0]
    audit.breathes.set()
    assert held.began.wait(10)
    third = queued(turns, [(CAT, "", None)])[0]
    held.breathes.set()  # to the long lane, which the audit has
    assert third.began.wait(10)
    assert turns.running() == 2
    assert turns.waiting(BEN) == 1
    end(audit)
    eventually(lambda: turns.waiting(BEN) == 0)
    end(held, third)
    with turns.place(ANN), staying():
        fourth = queued(turns, [(BEN, "", None)])[0]
        turns.breathe(0.5)
        assert turns.waiting() == 1
        assert not fourth.began.is_set()
    end(fourth)


def test_a_download_leaves_its_place_to_others_and_comes_back():
    turns, order = Turns(), []
    with turns.place(ANN):
        other = queued(turns, [(BEN, "ben", order)])[0]
        with lane("fetch"):
            assert other.began.wait(10)
            order.append("fetched")
            other.finish.set()
        order.append("back")
    assert order == ["ben", "fetched", "back"]
    with lane("fetch"):
        order.append("nobody takes turns here")


def test_seconds_of_waiting_count_for_no_time_limit():
    with until(0.05, silent, "This") as limited:
        with waiting():
            time.sleep(0.1)
        limited(0.5, "it may still run")
        time.sleep(0.1)
        with pytest.raises(CancelledError, match="This took longer than the limit of 0 s"):
            checkpoint()
    checkpoint()  # nothing limits what comes after


# Stop


class Slow(nn.Module):
    """Many layers; each says that it ran, and the third calls for Stop."""

    def __init__(self, ran, stop):
        super().__init__()
        self.layers = nn.ModuleList(Step(i, ran, stop) for i in range(10))

    def forward(self, pixels):
        for layer in self.layers:
            pixels = layer(pixels)
        return pixels.sum((2, 3))


class Step(nn.Module):
    def __init__(self, place, ran, stop):
        super().__init__()
        self.place, self.ran, self.stop = place, ran, stop
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, pixels):
        self.ran.append(self.place)
        if self.place == 3:
            self.stop()
        return Echo.apply(pixels * self.weight, self.place, self.ran)


class Echo(torch.autograd.Function):
    @staticmethod
    def forward(ctx, value, place, ran):
        ctx.place, ctx.ran = place, ran
        return value.clone()

    @staticmethod
    def backward(ctx, gradient):
        ctx.ran.append(f"back {ctx.place}")
        return gradient, None, None


def test_stop_ends_a_running_pass_before_the_next_layer_and_the_place_is_free_only_then():
    ran, stops = [], Stops(Turns())
    network = Slow(ran, lambda: (stops.stop(ANN), seen.append(stops.turns.running())))
    seen = []

    def work(report):
        yield network(torch.ones(1, 3, 4, 4))

    with pytest.raises(CancelledError):
        list(stops.run(ANN, work, silent))
    eventually(lambda: stops.turns.running() == 0)
    assert ran == [0, 1, 2, 3]
    assert seen == [1], "while the layer runs, its place is taken"
    network(torch.ones(1, 3, 4, 4))
    assert ran[4:] == list(range(10)), "what nobody stops runs to its end, and no hook is left"
    assert not torch.nn.modules.module._global_forward_pre_hooks
    assert not torch.nn.modules.module._global_forward_hooks


def test_stop_ends_a_backward_pass_before_the_next_layer():
    ran, ends = [], [False]
    network = Slow(ran, lambda: None)

    def check():
        if ends[0] and len(ran) >= 13:
            raise CancelledError("Stopped.")

    pixels = torch.ones(1, 3, 4, 4, requires_grad=True)
    with checking(check), between_layers():
        score = network(pixels).sum()
        ends[0] = True
        with pytest.raises(CancelledError):
            score.backward(retain_graph=True)
    assert ran == [*range(10), "back 9", "back 8", "back 7"]
    score.backward()  # the graph outlives who was stopped, and whoever uses it next is not
    assert ran[13:] == [f"back {i}" for i in range(9, -1, -1)]


def test_stop_ends_a_long_row_of_passes_that_reports_no_progress():
    classifier, passes, stops = classifier_of(SmallNet()), [0], Stops(Turns())

    def work(report):
        for _ in range(1000):
            passes[0] += 1
            if passes[0] == 5:
                stops.stop(ANN)
            classifier.logits(torch.zeros(1, 3, 32, 32))
        yield "never"

    with pytest.raises(CancelledError):
        list(stops.run(ANN, work, silent))
    eventually(lambda: stops.turns.running() == 0)
    assert passes == [5]


def test_ten_questions_that_are_stopped_at_once_never_run_side_by_side():
    stops, together, most, go = Stops(Turns()), [0], [0], threading.Event()
    lock = threading.Lock()

    def work(report):
        with lock:
            together[0] += 1
            most[0] = max(most[0], together[0])
        go.wait(0.03)  # silent work, which cannot hear Stop
        with lock:
            together[0] -= 1
        yield "done"

    for _ in range(10):
        asking = threading.Thread(target=lambda: _ended(stops, work))
        asking.start()
        eventually(lambda: stops.stop(ANN))
        asking.join(10)
    eventually(lambda: not stops.turns.running() and not stops.turns.waiting())
    assert most == [1]


def _ended(stops, work):
    with pytest.raises(CancelledError):
        list(stops.run(ANN, work, silent))


def test_a_question_that_waits_says_how_many_come_before_it():
    turns = Turns()
    running = Work(turns, ANN)
    assert running.began.wait(10)
    ones = queued(turns, [(BEN, "1", None), (CAT, "2", None)])
    eventually(lambda: len(ones[1].said) > 2)
    assert set(ones[0].said) == {"Waiting: this question is the next"}
    assert set(ones[1].said) == {"Waiting: 2 before this question"}
    end(running, *ones)
