"""Publishing killed outright twenty times: the repository shows the old files or the new ones, never a mixture."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from loopback_hub import LoopbackHub
from safetensors.numpy import save
from tiny_folders import CARD, TOKEN, on_hub, publish, titles, write

KILLS = 20
REQUESTS = 9  # of an update, which asks for less than a first publication
PROGRAM = """
import sys
from pathlib import Path
from xaihub import hub
hub.publish(Path(sys.argv[1]), "alice/tiny", repo_type="model", token=sys.argv[2], message="Publish", owned=["part/*"])
"""


def version(number: int) -> dict[str, bytes]:
    """A folder whose every file tells which version it is of, and one that no other version has."""
    return {
        "README.md": CARD.encode() + b"%d" % number,
        "model.safetensors": save({"weight": np.full(6, float(number))}),
        "other.safetensors": save({"weight": np.full(3, float(number))}),
        f"part/{number}.json": b"%d" % number,
    }


def killed(hub: LoopbackHub, folder: Path, after: int, wait: float) -> int:
    """Ends the process once it has asked so much; its status."""
    hub.requests.clear()
    hub.fault(kind="slow", seconds=0.02, times=1000)
    publishing = subprocess.Popen([sys.executable, "-c", PROGRAM, str(folder), TOKEN], env=dict(os.environ))
    while len(hub.requests) < after and publishing.poll() is None:
        time.sleep(0.002)
    time.sleep(wait)
    publishing.kill()
    status = publishing.wait()
    hub.faults.clear()
    time.sleep(0.1)  # what was on its way is carried out
    return status


def test_twenty_kills_leave_the_old_files_or_the_new_ones(hub, tmp_path):
    hub.add_user("alice", token=TOKEN)
    chance = random.Random(0)
    before: dict[str, bytes] = {}
    statuses = []
    for number in range(KILLS):
        folder, new = write(tmp_path / str(number), version(number)), version(number)
        statuses.append(killed(hub, folder, chance.randint(1, REQUESTS), chance.uniform(0, 0.02)))
        known = ("model", "alice/tiny") in hub.repos
        assert (on_hub(hub) if known else {}) in (before, new)
        publish(folder, owned=["part/*"])
        assert on_hub(hub) == new
        before = new
    assert statuses.count(-signal.SIGKILL) >= KILLS // 2
    assert titles(hub).count("Publish") == KILLS  # each version once, however often it was begun
