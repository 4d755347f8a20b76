"""Measure a classifier on labelled pictures: accuracy, precision, recall, F1, AUROC and calibration, with intervals.

    python scripts/evaluate_classifier.py --model my-classifier --data pictures/ --to metrics.json
    python scripts/evaluate_classifier.py --model OWNER/NAME --data OWNER/DATASET --split test --to OWNER/NAME

Any classifier that xaihub opens, on any dataset whose classes have the names of the classifier's. `--to` is a .json
file, a folder (metrics.json and images/confusion.png; in a classifier's folder its card is rewritten, too), or a model
on the Hub, which gets both and the updated card in one commit.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from xaihub import terminal
from xaihub.measuring import MARK, describe, evaluate_classifier, prepare, write_file


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--model", required=True, help="a classifier's folder or Hub id")
    terminal.add_pictures(made, "default: the only one, else test, else validation")
    made.add_argument("--batch-size", type=int, help="pictures at once (default: 8 on a processor, 32 elsewhere)")
    terminal.add_destination(made, "the figures (a .json file as well)")
    return made


def work(arguments: argparse.Namespace) -> None:
    source = terminal.pictures_named(arguments)
    options = {"batch_size": arguments.batch_size, "progress": terminal.bar()}
    to = Path(arguments.to) if arguments.to.endswith(".json") else terminal.destination(arguments.to)
    if isinstance(to, Path) and to.suffix == ".json":
        _, found = evaluate_classifier(arguments.model, source, **options)
        print(found.in_words)
        if not arguments.dry_run:
            write_file(to, found.metrics)
        print(to if not arguments.dry_run else f"A dry run: nothing was written to {to}.")
        return
    with terminal.delivering(arguments, kind="model", mark=MARK, message="Measured with xaihub") as draft:
        head = prepare(draft, to)
        _, found = evaluate_classifier(arguments.model, source, **options)
        print(found.in_words)
        describe(draft, terminal.name_at(arguments.to), found.metrics, head)


def main(argv: Sequence[str] | None = None) -> int:
    return terminal.run(parser(), work, argv)


if __name__ == "__main__":
    sys.exit(main())
