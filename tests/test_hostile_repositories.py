"""One server is asked about more than a hundred hostile repositories, one after another, and answers each in words.

"Within 10 s" is read as 10 s of the server's own processor time, which a busy machine does not change; "500 MB above
the idle server" as the peak of its resident memory, which the kernel counts (VmHWM).
"""

import contextlib
import json
import os
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from hostile_repositories import KINDS, Hostile, hostile_repositories
from PIL import Image

import xaihub
from xaihub.curated import STARTER
from xaihub.ui.settings import starter_examples

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="the peak of memory is told by Linux"
)

SECONDS, MEGABYTES, PATIENCE = 10.0, 500, 60.0
REPOSITORY = "mallory/thing"


class HostileServer:
    """The process that answers, started again if it was lost."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[str] | None = None
        self.idle = 0

    def start(self) -> None:
        here = {"PYTHONPATH": str(Path(xaihub.__file__).parents[1])}  # the same sources as the test's
        environment = {**os.environ, **here, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("hostile_server.py"))], env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        assert self._line(300.0) == {"answered": "ready"}
        self.idle = psutil.Process(self.process.pid).memory_info().rss

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            for stream in (self.process.stdin, self.process.stdout):
                with contextlib.suppress(OSError):
                    stream.close()
            self.process = None

    def ask(self, **question: Any) -> tuple[dict[str, str], float, float]:
        """The answer, the seconds of processor time, and the megabytes above the idle server at the peak."""
        if self.process is None or self.process.poll() is not None:
            self.stop()
            self.start()
        (Path("/proc") / str(self.process.pid) / "clear_refs").write_text("5")  # the peak begins anew
        before = self._cpu()
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()
        try:
            answer = self._line(PATIENCE)
        except TimeoutError:
            self.stop()
            raise
        return answer, self._cpu() - before, (self._peak() - self.idle) / 2**20

    def _line(self, patience: float) -> dict[str, str]:
        ready, _, _ = select.select([self.process.stdout], [], [], patience)
        if not ready:
            raise TimeoutError(f"no answer within {patience:.0f} s")
        return json.loads(self.process.stdout.readline())

    def _cpu(self) -> float:
        times = psutil.Process(self.process.pid).cpu_times()
        return times.user + times.system

    def _peak(self) -> int:
        status = (Path("/proc") / str(self.process.pid) / "status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024


@pytest.fixture(scope="module")
def server(module_hub) -> Iterator[HostileServer]:
    running = HostileServer()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def repositories(tmp_path_factory) -> dict[str, dict[str, Hostile]]:
    return hostile_repositories(tmp_path_factory.mktemp("hostile"))


def question(made: Hostile, folder: Path) -> dict[str, str]:
    name, picture = made.name or REPOSITORY, str(starter_examples()[0])
    if made.picture is not None:
        picture = str(folder / "picture.png")
        Image.new("RGB", made.picture, "red").save(picture)
    if made.ask == "references":
        return {"ask": "explain", "model": STARTER, "references": name, "picture": picture}
    if made.ask == "audit":
        return {"ask": "audit", "references": name}
    return {"ask": made.ask, "model": name, "picture": picture}


def trouble(server: HostileServer, made: Hostile, folder: Path) -> str:
    """What is wrong with the server's answer; "" if it is what it should be."""
    began = time.monotonic()
    try:
        answer, seconds, megabytes = server.ask(**question(made, folder))
    except (TimeoutError, ValueError, OSError) as error:
        return f"the server was lost after {time.monotonic() - began:.0f} s ({error!r})"
    ((kind, words),) = answer.items()
    if kind != ("refused" if made.refused else "answered") or not re.search(made.words, words):
        return f"{kind}: {words}"
    if not 0 < len(words) < 1_000 or "Traceback" in words:
        return f"{len(words):,} letters: {words[:500]}"
    if seconds > SECONDS or megabytes > MEGABYTES:
        return f"{seconds:.1f} s, {megabytes:.0f} MB: {words[:200]}"
    return ""


def test_there_are_more_than_a_hundred_and_all_are_small(repositories):
    made = {name: each for kind in KINDS for name, each in repositories[kind].items()}

    assert len(made) == sum(map(len, repositories.values()))  # no two have one name
    assert len(made) > 100
    assert sum(sum(map(len, each.files.values())) for each in made.values()) < 150 * 2**20


@pytest.mark.parametrize("kind", KINDS)
def test_each_is_answered_in_words_in_bounded_time_and_memory(server, repositories, module_hub, tmp_path, kind):
    troubles = {}
    for name, made in repositories[kind].items():
        before = module_hub.snapshot()
        if made.files:
            what = "dataset" if made.ask in ("references", "audit") else "model"
            module_hub.add_files(made.name or REPOSITORY, made.files, repo_type=what, **made.settings)
        troubles[name] = trouble(server, made, tmp_path)
        module_hub.restore(before)
    assert {name: said for name, said in troubles.items() if said} == {}


def test_afterwards_the_server_explains_the_starter(server):
    answer, seconds, megabytes = server.ask(
        ask="explain", model=STARTER, references=STARTER, picture=str(starter_examples()[0])
    )
    assert answer["answered"].startswith("cat, 0.")
    assert seconds < SECONDS
    assert megabytes < MEGABYTES
