"""Prints every benchmark: `python -m benchmarks [PART ...] [--rounds N] [--quick]`."""

import argparse
import warnings

from benchmarks.embedding import embedding_ratios
from benchmarks.first_page import first_page_ratio
from benchmarks.gradcam import peak_ratios, time_ratios
from benchmarks.load import load
from benchmarks.maps import all_maps
from benchmarks.metrics import all_metrics
from benchmarks.million import million
from benchmarks.neighbours import approximate, search_ratios
from benchmarks.timing import machine

PARTS = ("gradcam", "maps", "metrics", "memory", "search", "million", "embed", "page", "load")


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"any of {', '.join(PARTS)}; default: all")
    parser.add_argument("--rounds", type=int, default=21, help="how often each rival runs (21)")
    parser.add_argument("--quick", action="store_true", help="ResNet-18, single images, few rounds: does it run?")
    arguments = parser.parse_args()
    parts = arguments.parts or PARTS
    if unknown := set(parts) - set(PARTS):
        parser.error(f"there is no part {sorted(unknown)[0]!r}; there are {', '.join(PARTS)}")
    warnings.simplefilter("ignore")  # the peers warn of things that are not ours to change
    rounds = 5 if arguments.quick else arguments.rounds
    print(f"{machine()}; {rounds} interleaved rounds")
    if "gradcam" in parts:
        networks, batches = (("resnet18",), (1,)) if arguments.quick else (("resnet18", "resnet50"), (1, 16))
        time_ratios(networks, batches, rounds)
    if "maps" in parts:
        all_maps(rounds, arguments.quick)
    if "metrics" in parts:
        all_metrics(rounds, arguments.quick)
    if "memory" in parts:
        peak_ratios("resnet18" if arguments.quick else "resnet50", 1 if arguments.quick else 16)
    if "search" in parts:
        sizes = (10_000,) if arguments.quick else (10_000, 100_000, 1_000_000)
        search_ratios(sizes, rounds)
        approximate(sizes[-1], 1_000 if arguments.quick else 100_000)
    if "million" in parts:
        million(20_000 if arguments.quick else 10**6)
    if "embed" in parts:
        embedding_ratios(2 if arguments.quick else max(3, rounds // 4))
    if "page" in parts:
        first_page_ratio(3 if arguments.quick else 7)
    if "load" in parts:
        load(arguments.quick)


if __name__ == "__main__":
    main()
