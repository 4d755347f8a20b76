"""1,000 pictures x 6 methods x the standard suite, killed three times: the same table, and memory that stays flat.

python -m benchmarks.evaluation.thousand [--pictures N]
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from tests.toy_networks import SmallNet, classifier_of
from xaihub import evaluate
from xaihub.datasets import LabelledPictures

METHODS = ("gradcam", "gradcam++", "layercam", "hirescam", "xgradcam", "input-x-gradient")
KILLS = 3


def pictures(count: int) -> LabelledPictures:
    """Noise of some size with a square in it, drawn when it is asked for."""

    def drawn(seed: int) -> Image.Image:
        generator = np.random.default_rng(seed)
        values = generator.integers(0, 256, (40, 40, 3))
        row, column = generator.integers(0, 24, 2)
        values[row : row + 12, column : column + 12] = generator.integers(0, 256, 3)
        return Image.fromarray(values.astype(np.uint8))

    return LabelledPictures("drawn", [(str(i), None, lambda i=i: drawn(i)) for i in range(count)], ())


def child(folder: Path, count: int) -> None:
    """Evaluates, says how much memory it has taken after each picture, and prints the table."""
    torch.set_num_threads(1)
    told = {"said": -1}

    def progress(share: float, _stage: str) -> None:
        if int(share * 20) > told["said"]:
            told["said"] = int(share * 20)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            print(f"{share:.3f} {peak:.0f}", flush=True)

    small = classifier_of(SmallNet(seed=1), size=(16, 16))
    scores = evaluate(small, pictures(count), METHODS, folder=folder, progress=progress)
    table = [(s.metric, s.method, s.value, s.low, s.high, s.count, dict(s.gains)) for s in scores]
    print("TABLE " + json.dumps(table), flush=True)


def run(folder: Path, count: int, seconds: float | None = None) -> tuple[str, list[tuple[float, float]], float]:
    """The table, or "" where the process was killed after so many seconds; shares with megabytes; how long it took."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.evaluation.thousand"]
    began = time.monotonic()
    process = subprocess.Popen(
        [*command, "--pictures", str(count), "--child", str(folder)], stdout=subprocess.PIPE, text=True
    )
    try:
        printed, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        printed, _ = process.communicate()
    lines = printed.splitlines()
    table = next((line.removeprefix("TABLE ") for line in lines if line.startswith("TABLE ")), "")
    memory = [(float(line.split()[0]), float(line.split()[1])) for line in lines if line[:1].isdigit()]
    return table, memory, time.monotonic() - began


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.evaluation.thousand", description=__doc__)
    parser.add_argument("--pictures", type=int, default=1000)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.child:
        child(arguments.child, arguments.pictures)
        return
    with tempfile.TemporaryDirectory() as folder:
        whole, memory, seconds = run(Path(folder) / "whole", arguments.pictures)
        print(f"whole: {seconds:.0f} s; megabytes at most, by share done: {memory}")
        for place in range(KILLS):
            table, reached, lasted = run(Path(folder) / "killed", arguments.pictures, seconds / (KILLS + 1))
            print(
                f"killed after {lasted:.0f} s at {reached[-1][0] if reached else 0:.0%}" if not table else "done", place
            )
        table, _, lasted = run(Path(folder) / "killed", arguments.pictures)
        print(f"the rest took {lasted:.0f} s; the same table, to the last digit: {table == whole}")


if __name__ == "__main__":
    main()
