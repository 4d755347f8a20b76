"""How long the making of pictures will take, told after the first step, by a clock of the test's own."""

import pytest
import torch

from xaihub.errors import CancelledError
from xaihub.generation.watching import Watch, in_words


class Clock:
    """Seconds that pass only when told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def watched(rounds: int, steps: int, hours: float, told: list[str]) -> tuple[Watch, Clock]:
    clock = Clock()
    watch = Watch(
        rounds, steps, max_hours=hours, advice="Do less.", clock=clock, progress=lambda share, stage: told.append(stage)
    )
    return watch, clock


@pytest.mark.parametrize("style", ["iterable", "update"])
def test_the_time_left_is_told_after_the_first_step_for_both_kinds_of_bar(style):
    told: list[str] = []
    watch, clock = watched(4, 10, 12, told)
    watch.begin("Seed 0")

    if style == "iterable":
        for _ in watch.bar(torch.arange(10)):
            clock.now += 6
    else:
        with watch.bar(total=10) as bar:
            bar.set_description("ignored")
            for _ in range(10):
                clock.now += 6
                bar.update()
    watch.end()
    watch.begin("Seed 1")

    assert told[0] == "Seed 0, first step"
    assert told[1] == "Seed 0, step 1 of 10, 4 min left"  # 39 steps of 6 s
    assert told[-1] == "Seed 1, 3 min left"
    assert watch.share() == 0.25


def test_work_that_would_take_too_long_stops_with_the_estimate_and_what_would_help():
    watch, clock = watched(200, 50, 12, [])
    watch.begin("Seed 0")

    def run() -> None:
        for _ in watch.bar(range(50)):
            clock.now += 10

    with pytest.raises(CancelledError) as stopped:
        run()

    assert clock.now == 20  # two steps: the first also warms up
    assert str(stopped.value) == (
        "Making the pictures would take about 27 h 46 min (one step takes 10 s), longer than the 12 hours allowed."
        " Do less. Or allow more with --max-hours: it may be stopped at any time and goes on where it was."
    )


def test_a_slow_first_step_is_not_taken_for_all():
    told: list[str] = []
    watch, clock = watched(10, 100, 1, told)
    watch.begin("Seed 0")
    for step in watch.bar(range(100)):
        clock.now += 60 if step == 0 else 1

    assert told[2] == "Seed 0, step 2 of 100, 17 min left"


def test_a_pipeline_without_a_bar_is_told_by_its_rounds():
    told: list[str] = []
    watch, clock = watched(5, 50, 12, told)
    watch.begin("Seeds 0 to 1")
    clock.now += 120
    watch.end()

    assert told[-1].endswith("8 min left")
    assert watch.share() == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("seconds", "words"), [(4, "4 s"), (89, "89 s"), (150, "2 min"), (12_000, "3 h 20 min"), (400_000, "5 days")]
)
def test_a_span_of_time_in_words(seconds, words):
    assert in_words(seconds) == words
