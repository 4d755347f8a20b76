"""Writes docs/COVERAGE.md and docs/coverage.csv: `python -m benchmarks.coverage [LIBRARY ...] [--only TEXT]`.

Of libraries that are named, or of networks that `--only` chooses, the rows are measured anew; others stay. What is
measured is written at once, and `--missing` goes on where a run was cut short.
"""

import argparse
import time
import warnings
from collections.abc import Iterator, Sequence
from itertools import chain

from benchmarks.coverage.measuring import Row, is_right, measure
from benchmarks.coverage.peer import torch_cam
from benchmarks.coverage.table import CSV, LIBRARIES, PAGE, merged, read, write
from benchmarks.coverage.zoo import Member, timm_members, torchvision_members, transformers_members

MEMBERS = {"transformers": transformers_members, "torchvision": torchvision_members, "timm": timm_members}


def main(argv: Sequence[str] | None = None) -> int:
    """Measures every network, one after the other, and says how each did."""
    parser = argparse.ArgumentParser(prog="benchmarks.coverage", description=__doc__)
    parser.add_argument("libraries", nargs="*", metavar="LIBRARY", help=f"any of {', '.join(LIBRARIES)}; default: all")
    parser.add_argument("--only", default="", help="families or models whose name holds this text")
    parser.add_argument("--missing", action="store_true", help="only networks that have no row yet")
    arguments = parser.parse_args(argv)
    if unknown := set(arguments.libraries) - set(LIBRARIES):
        parser.error(f"there is no library {sorted(unknown)[0]!r}; there are {', '.join(LIBRARIES)}")
    warnings.simplefilter("ignore")  # the libraries' own, of networks that are only measured here
    started = time.perf_counter()
    rows, measured = read(), []
    members = chain.from_iterable(MEMBERS[library]() for library in arguments.libraries or LIBRARIES)
    known = {(row.library, row.model) for row in rows if arguments.missing}
    chosen = (
        member
        for member in members
        if (arguments.only in member.family or arguments.only in member.model)
        and (member.library, member.model) not in known
    )
    for row in _measured(chosen):
        measured.append(row)
        rows = merged(rows, [row])
        write(rows)
    if not arguments.only and not arguments.missing:  # what its library no longer has goes
        rows = [row for row in rows if row in measured or row.library not in (arguments.libraries or LIBRARIES)]
        write(rows)
    seconds = time.perf_counter() - started
    print(f"{sum(map(is_right, measured))} of {len(measured)} right, {seconds:.0f} s; written to {PAGE} and {CSV}")
    return 0


def _measured(members: Iterator[Member]) -> Iterator[Row]:
    for count, member in enumerate(members, 1):
        started = time.perf_counter()
        row = measure(member, peer=torch_cam)
        seconds = time.perf_counter() - started
        said = (
            row.note or f"{row.layer} ({row.grid}), upright {row.upright}, wide {row.wide}; torch-cam {row.peer_right}"
        )
        print(f"{count:3} {row.library} {row.family} {row.model}: {row.verdict}, {said}, {seconds:.1f} s", flush=True)
        yield row


if __name__ == "__main__":
    raise SystemExit(main())
