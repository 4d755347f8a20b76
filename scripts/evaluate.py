"""Measure how far a classifier's explanations can be relied on: methods x metrics x pictures, beside three maps that
know nothing of the network, each with its interval.

    python scripts/evaluate.py --model my-classifier --data pictures/ --limit 200 --to results/
    python scripts/evaluate.py --model OWNER/ONE OWNER/OTHER --data OWNER/PICTURES --to OWNER/RESULTS --cards
    python scripts/evaluate.py --model OWNER/ONE --data photos/ --boxes photos/boxes.csv --to results/

Any classifier that xaihub opens, on any pictures; no labels are needed, so `--data` may also be a folder of pictures
without class folders. `--to` is a folder or a dataset on the Hub. It gets report.html (a page that explains each of its
numbers, offline), scores.csv, scores.md and data/*.parquet with a row for each score, beside the rows of earlier runs.
A run that was stopped goes on where it was.
"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from xaihub import terminal
from xaihub.evaluating.plans import metrics_named
from xaihub.evaluating.runs import MARK, Order, describe_models, evaluate_models, prepare, write_results
from xaihub.evaluating.words import findings


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--model", required=True, nargs="+", help="classifiers' folders or Hub ids")
    terminal.add_pictures(made, "default: the only one, else test, else validation")
    made.add_argument("--methods", nargs="+", metavar="NAME", help="default: every map that costs a few passes")
    made.add_argument(
        "--metrics",
        nargs="+",
        metavar="NAME",
        help="default: the standard suite; deletion:steps=224 for other settings",
    )
    made.add_argument(
        "--boxes", type=Path, metavar="CSV",
        help="where things are: file, classes, x0, y0, x1, y1 in pixels; then also whether maps find them",
    )  # fmt: skip
    made.add_argument("--references", help="a folder or a Hub id: then twins and counterfactuals are measured, too")
    made.add_argument(
        "--seed", type=int, default=0, help="of the random maps and the intervals, 0 or more (default: 0)"
    )
    made.add_argument(
        "--no-pictures",
        action="store_true",
        help="show no pictures in the report; on the Hub it never shows those of a folder",
    )
    terminal.add_destination(made, "the report and the tables")
    made.add_argument("--cards", action="store_true", help="write a section into each model's own card, too")
    return made


def order_of(arguments: argparse.Namespace) -> Order:
    to_hub = isinstance(terminal.destination(arguments.to), str)
    # into a folder of one's own any picture may go, onto the Hub those alone that are public there
    show = False if arguments.no_pictures else None if to_hub else True
    return Order(
        arguments.model, terminal.pictures_named(arguments), arguments.methods, metrics_named(arguments.metrics),
        arguments.boxes, arguments.references, arguments.seed, show,
    )  # fmt: skip


def without_path(argument: str) -> str:
    """The argument; of a place on this machine the last name alone, for the page may be read by others."""
    return Path(argument).name if Path(argument).expanduser().is_absolute() else argument


def work(arguments: argparse.Namespace) -> None:
    order, to = order_of(arguments), terminal.destination(arguments.to)
    command = shlex.join(["python", "scripts/evaluate.py", *map(without_path, arguments.typed)])
    with terminal.delivering(
        arguments, kind="dataset", mark=MARK, message="Explanations evaluated with xaihub"
    ) as draft:
        prepare(draft, to)
        chapters = evaluate_models(order, progress=terminal.bar())
        write_results(draft, terminal.name_at(arguments.to), chapters, command=command)
        for chapter in chapters:
            print("\n".join([chapter.model, *(f"  {sentence}" for sentence in findings(chapter.scores))]))
        if arguments.cards:
            results = to if isinstance(to, str) else None
            print("\n".join(describe_models(order, chapters, results=results, dry_run=arguments.dry_run)))


def main(argv: Sequence[str] | None = None) -> int:
    made = parser()
    made.set_defaults(typed=list(sys.argv[1:] if argv is None else argv))
    return terminal.run(made, work, argv)


if __name__ == "__main__":
    sys.exit(main())
