"""Writes docs/PROTOTYPES.md: `python -m benchmarks.prototypes [--shared FOLDER] [--only PART ...] [--to FILE]`.

What was measured is kept under the cache folder, so a run that was killed goes on where it was, and the document is
written of all that is there. Parts are the beginnings of names: "cats" is all of the cats, "cats head" one way.
"""

import argparse
import sys
import warnings
from pathlib import Path

from benchmarks.prototypes import firing, folds, pets
from benchmarks.prototypes.kept import Piece, read, take
from benchmarks.prototypes.page import page
from benchmarks.prototypes.tasks import Task, tasks


def main() -> None:
    arguments = _parser().parse_args()
    if not (arguments.shared / "models" / "cifar10_resnet20").is_dir():
        sys.exit(f"{arguments.shared} holds no models/cifar10_resnet20. Name the folder of data and models (--shared).")
    warnings.simplefilter("ignore")
    compared = tasks(arguments.shared)
    everything = _pieces(arguments.shared, compared)
    wanted = everything if arguments.only is None else [
        piece for part in arguments.only for piece in everything if f"{piece.name} ".startswith(f"{part} ")
    ]  # fmt: skip
    for piece in wanted:
        if arguments.anew or read(piece) is None:
            take(piece)
    text = page(compared, {piece.name: read(piece) for piece in everything})
    if arguments.to is None:
        print(text)
    else:
        arguments.to.write_text(text, "utf-8")


def _pieces(shared: Path, compared: tuple[Task, ...]) -> list[Piece]:
    """What is quick comes first."""
    return [*pets.pieces(), *firing.pieces(shared), *(piece for task in compared for piece in folds.pieces(task))]


def _parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="benchmarks.prototypes", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--shared", type=Path, default=Path("../shared"), help="holds data/ and models/ (%(default)s)")
    made.add_argument("--only", nargs="*", metavar="PART", help="measure these; without a name none, only write")
    made.add_argument("--anew", action="store_true", help="measure again what is kept: after a change of the code")
    made.add_argument("--to", type=Path, help="the file to write (default: print it)")
    return made


if __name__ == "__main__":
    main()
