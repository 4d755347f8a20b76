"""Writes docs/EXAMPLES.md: `python -m benchmarks.examples [--shared FOLDER] [--every N] [--to FILE]`."""

import argparse
import json
import sys
import time
import warnings
from pathlib import Path
from typing import Any

from benchmarks.examples import counterfactuals, pets, settings, twins
from benchmarks.examples.page import page


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.examples", description=__doc__)
    parser.add_argument("--shared", type=Path, default=Path("../shared"), help="holds data/ and models/ (%(default)s)")
    parser.add_argument("--every", type=int, default=1, help="ask for the swap of every so manieth picture only")
    parser.add_argument("--to", type=Path, help="the file to write (default: print it)")
    arguments = parser.parse_args()
    if not (arguments.shared / "models" / "cifar10_resnet20").is_dir():
        parser.error(f"{arguments.shared} holds no models/cifar10_resnet20. Name the folder of data and models.")
    warnings.simplefilter("ignore")
    measured: list[tuple[settings.Setting, dict[str, Any], dict[str, Any]]] = []
    for make in (settings.cifar, settings.cats):
        began = time.time()
        setting = make(arguments.shared)
        measured.append((setting, twins.figures(setting), counterfactuals.figures(setting, arguments.every)))
        print(f"{setting.name}: {time.time() - began:.0f} s\n{json.dumps(measured[-1][2])}", file=sys.stderr)
    text = page(measured, pets.figures(), arguments.every)
    if arguments.to is None:
        print(text)
    else:
        arguments.to.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
