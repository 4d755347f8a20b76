"""Audit a labelled image dataset for shortcuts, and a classifier for going by them.

    python scripts/audit_dataset.py --data pictures/ --to audit
    python scripts/audit_dataset.py --data OWNER/DATASET --model OWNER/NAME --to audit

What tells the labels apart beside what the pictures show (file format, size, compression, colours, sharpness, spectrum,
borders, marks in the corners, near copies between splits); with a model also whether its mistakes and answers go with
it, how many answers turn when it is changed, and its accuracy by slice. `--to` is a folder: report.html opens offline,
audit.json has every figure, audit.md the text.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from xaihub import load_classifier, terminal
from xaihub.auditing import MARK, AuditReport, audit, refuse_numbers
from xaihub.folders import refuse_taken


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    terminal.add_pictures(made, "the split to audit (default: train); the others are searched for near copies of it")
    made.add_argument("--model", help="a classifier's folder or Hub id, asked about every picture")
    made.add_argument("--trials", type=int, default=100, help="pictures changed to see whether answers turn; 0: none")
    made.add_argument("--seed", type=int, default=0, help="of folds, permutations and of what is drawn: 0 or more")
    made.add_argument("--to", required=True, metavar="FOLDER", help="where the report goes")
    return made


def work(arguments: argparse.Namespace) -> None:
    refuse_numbers(arguments.trials, arguments.seed)
    progress, source = terminal.bar(), terminal.pictures_named(arguments)
    refuse_taken(Path(arguments.to), MARK)  # before anything is fetched
    splits = source.splits()
    split = source.split or next(iter(splits), None)
    others = [source.open(name, progress) for name in splits if name != split]
    classifier = load_classifier(arguments.model, progress=progress) if arguments.model else None
    found = audit(
        source.open(split, progress), classifier, others=others, trials=arguments.trials, seed=arguments.seed,
        progress=progress,
    )  # fmt: skip
    folder = found.save(arguments.to)
    progress(1.0, "")
    if found.skipped:
        print(_unread(found))
    print(found.verdict)
    print(folder / "report.html")


def _unread(found: AuditReport) -> str:
    key, why = next(iter(found.skipped.items()))
    count = f"1 picture could not be read and was left out: {key}"
    if len(found.skipped) > 1:
        count = f"{len(found.skipped):,} pictures could not be read and were left out, the first is {key}"
    return f"{count} ({why})"


def main(argv: Sequence[str] | None = None) -> int:
    return terminal.run(parser(), work, argv)


if __name__ == "__main__":
    sys.exit(main())
