"""Work in a process that dies before one of its changes to files: the moments that matter, whatever the clock says."""

import os
import random
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

KILLS = int(os.environ.get("XAIHUB_KILLS", "2"))

_CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.utime"}


def moments(context: Any, work: Callable[..., Any], arguments: tuple, below: Path, seed: int) -> Iterator[int]:
    """Does the work once in a process of its own, whole, and draws before which of its changes the others shall die."""
    count = context.Value("i", 0)
    assert _ended(context, _counting, (count, below, work, arguments)) == 0
    assert count.value > 2, "it changed no files, so there is no moment to die at"
    yield from random.Random(seed).sample(range(1, count.value), min(KILLS, count.value - 1))


def dies(context: Any, work: Callable[..., Any], arguments: tuple, below: Path, moment: int) -> bool:
    """Does the work in a process that is killed outright before that change to a file there, if it gets so far."""
    ended = _ended(context, _dying, (moment, below, work, arguments))
    assert ended in (0, -signal.SIGKILL)
    return ended != 0


def _ended(context: Any, target: Callable[..., Any], arguments: tuple) -> int:
    process = context.Process(target=target, args=arguments)
    process.start()
    process.join()
    return process.exitcode


def _counting(count: Any, below: Path, work: Callable[..., Any], arguments: tuple) -> None:
    def more() -> None:
        count.value += 1

    _watch(below, more)
    work(*arguments)


def _dying(moment: int, below: Path, work: Callable[..., Any], arguments: tuple) -> None:
    left = [moment]

    def fewer() -> None:
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)

    _watch(below, fewer)
    work(*arguments)


def _watch(below: Path, change: Callable[[], None]) -> None:
    """Calls `change` before a file below the folder is opened for writing, moved, removed or made, in this process."""
    folder = str(below)

    def see(event: str, arguments: tuple) -> None:
        if event == "open":
            path, mode, flags = arguments
            writing = flags & (os.O_WRONLY | os.O_RDWR) if mode is None else set(mode) & set("wax+")
        else:
            path, writing = arguments[0] if arguments else "", event in _CHANGES
        if writing and isinstance(path, str | os.PathLike) and os.path.abspath(path).startswith(folder):
            change()

    sys.addaudithook(see)
