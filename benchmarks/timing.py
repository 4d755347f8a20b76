"""Interleaved timing: rivals take turns, so that a busy minute hurts all of them alike."""

import gc
import platform
import statistics
import time
from collections.abc import Callable, Mapping

import torch

Call = Callable[[], object]


def machine() -> str:
    """One line on what the figures were taken with."""
    return (
        f"{platform.machine()}, {torch.get_num_threads()} threads, Python {platform.python_version()},"
        f" torch {torch.__version__}, float32, random weights"
    )


def interleaved(calls: Mapping[str, Call], rounds: int, warm_up: int = 2) -> dict[str, list[float]]:
    """Seconds of each call in each round; every round runs all of them once, in turn."""
    for call in calls.values():
        for _ in range(warm_up):
            call()
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    gc.collect()
    for turn in range(rounds):
        names = list(calls)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:  # no rival always follows the same one
            start = time.perf_counter()
            calls[name]()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def ratio(seconds: Mapping[str, list[float]], name: str, floor: str) -> float:
    """The median of the rounds' own ratios: noise that lasts longer than a round cancels."""
    return statistics.median(a / b for a, b in zip(seconds[name], seconds[floor], strict=True))


def table(title: str, rows: list[list[str]], head: list[str]) -> None:
    """Prints a Markdown table."""
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    print(f"\n### {title}\n")
    for row in [head, ["-" * width for width in widths], *rows]:
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |")
