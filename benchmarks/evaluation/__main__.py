"""Writes docs/BENCHMARK.md: `python -m benchmarks.evaluation [--shared FOLDER] [--share X] [--to FILE]`."""

import argparse
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

from benchmarks.evaluation.page import page
from benchmarks.evaluation.settings import SETTINGS, Setting, boxes
from xaihub import evaluate
from xaihub.downloads import cache_folder
from xaihub.records import Score
from xaihub.terminal import bar

METHODS = ("gradcam", "gradcam++", "layercam", "eigencam", "input-x-gradient", "guided-gradcam")
FOUND = ("pointing-game", "energy-pointing-game", "iou")


def scores(setting: Setting, metrics: Sequence[str] | None = None) -> list[Score]:
    """The standard suite, or some metrics, for one setting; kept in the cache, so that a stopped run goes on."""
    shown = [] if setting.references is None else ["twins", "counterfactuals"]
    return evaluate(
        setting.classifier, setting.pictures, [*METHODS, *shown], metrics, targets=setting.targets,
        masks=setting.masks, references=setting.references, folder=cache_folder() / "evaluations", progress=bar(),
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.evaluation", description=__doc__)
    parser.add_argument("--shared", type=Path, default=Path("../shared"), help="holds data/ and models/ (%(default)s)")
    parser.add_argument("--share", type=float, default=1.0, help="of the pictures (%(default)s)")
    parser.add_argument("--only", nargs="+", choices=list(SETTINGS), default=list(SETTINGS), help="of the models")
    parser.add_argument("--to", type=Path, help="the file to write (default: print it)")
    arguments = parser.parse_args()
    if not (arguments.shared / "models" / "cifar10_resnet20").is_dir():
        parser.error(f"{arguments.shared} holds no models/cifar10_resnet20. Name the folder of data and models.")
    warnings.simplefilter("ignore")
    measured: list[tuple[Setting, list[Score]]] = []
    for name in arguments.only:
        make, count = SETTINGS[name]
        began = time.time()
        setting = make(arguments.shared, max(4, round(count * arguments.share)))
        measured.append((setting, scores(setting)))
        print(f"{setting.name}: {time.time() - began:.0f} s", file=sys.stderr)
    boxed = boxes(arguments.shared, 0)
    text = page(measured, (boxed, scores(boxed, FOUND)))
    if arguments.to is None:
        print(text)
    else:
        arguments.to.write_text(text, "utf-8")
        print(arguments.to)


if __name__ == "__main__":
    main()
