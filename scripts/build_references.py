"""Build references: what a classifier makes of labelled pictures, to be searched for twins and counterfactuals.

The classifier is any that xaihub opens (an id on the Hub, a folder); the pictures are a dataset of the Hub, a folder
that scripts/build_dataset.py made, or a folder of class folders. Example:

    python scripts/build_references.py --model you/cats-resnet18 --data you/cats --to you/cats-references

Many pictures are embedded in shards, which a run that was stopped leaves for the next. Machines that share one
XAIHUB_CACHE can do them together: the same command everywhere, and besides

    --shard 1/8    on the first of eight, 2/8 on the second, ...; started by any scheduler
    --merge        on one of them, once all are done: puts the parts together and delivers them
    --ray 8        instead of both: eight workers of a Ray cluster, or of this machine
"""

import argparse
import re
import sys
from collections.abc import Sequence

from xaihub import terminal
from xaihub.building import Building, Order
from xaihub.embedders import DEFAULT
from xaihub.progress import Progress, part
from xaihub.references import ReferenceSet
from xaihub.shards import SHARD_ROWS


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--model", required=True, metavar="ID", help="the classifier: an id on the Hub, or a folder")
    made.add_argument("--revision", help="of the model: a branch, tag or commit")
    made.add_argument("--layer", help="the target layer's name; default: chosen and proved")
    made.add_argument("--data", required=True, metavar="ID", help="the pictures: a dataset of the Hub, or a folder")
    made.add_argument("--config", help="of the dataset")
    made.add_argument("--split", help="of the dataset (default: train)")
    terminal.add_reading(made)
    made.add_argument("--limit", type=int, help="at most so many pictures, evenly from the classes (default: all)")
    made.add_argument("--seed", type=int, default=0, help="of that draw (%(default)s)")
    made.add_argument(
        "--embedder", action="append", metavar="NAME",
        help=f"what makes two pictures alike: contribution, penultimate, target-layer, or a vision network's id on the"
        f" Hub; may be given several times, the first is what a search takes ({DEFAULT})",
    )  # fmt: skip
    made.add_argument("--batch", type=int, help="pictures at once (default: 8 on a processor, 32 elsewhere)")
    made.add_argument("--device", help="such as cuda (default: the processor)")
    made.add_argument("--no-fidelity", action="store_true", help="do not measure how far neighbours agree with it")
    made.add_argument(
        "--held-out", metavar="SPLIT",
        help="of the same data, whose pictures are asked about for that (default: each reference among the others)",
    )  # fmt: skip
    _add_parts(made)
    terminal.add_destination(made, "the references")
    return made


def _add_parts(made: argparse.ArgumentParser) -> None:
    group = made.add_argument_group("in parts")
    group.add_argument(
        "--shard-rows", type=int, default=SHARD_ROWS, metavar="N",
        help="pictures in a shard; fewer in all are embedded without any (%(default)s)",
    )  # fmt: skip
    one = group.add_mutually_exclusive_group()
    one.add_argument("--shard", type=_share, metavar="I/N", help="do the I-th of N parts, and deliver nothing")
    one.add_argument("--merge", action="store_true", help="embed nothing: put the parts together and deliver them")
    one.add_argument(
        "--ray", type=int, nargs="?", const=0, metavar="WORKERS",
        help="embed by Ray: on the cluster that RAY_ADDRESS names, else with so many workers here (default: 2)",
    )  # fmt: skip


def _share(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise argparse.ArgumentTypeError(f"{text!r} names no part. Write 1/8 for the first of eight.")
    return int(found[1]), int(found[2])


def order_of(arguments: argparse.Namespace) -> Order:
    return Order(
        arguments.model, arguments.data, arguments.revision, arguments.layer, arguments.device, arguments.config,
        arguments.split, arguments.limit, arguments.seed, tuple(arguments.embedder or (DEFAULT,)), arguments.batch,
        arguments.shard_rows, arguments.held_out, arguments.layout, arguments.label_column, arguments.image_column,
    )  # fmt: skip


def work(arguments: argparse.Namespace) -> None:
    progress, order = terminal.bar(), order_of(arguments)
    if arguments.shard:
        _do_part(order, arguments.shard, progress)
        return
    with terminal.delivering(
        arguments, kind="dataset", mark="references.json", owned=("embeddings-*.safetensors",),
        message="Publish references", progress=progress,
    ) as draft:  # fmt: skip
        building = order.open(part(progress, 0.0, 0.2))
        references = _built(building, order, arguments, part(progress, 0.2, 1.0))
        references.write(draft, named=terminal.name_at(arguments.to))
        progress(1.0, "")
        print(references)
    if not arguments.dry_run:
        building.forget()


def _do_part(order: Order, share: tuple[int, int], progress: Progress) -> None:
    number, of = share
    building = order.open(part(progress, 0.0, 0.2))
    mine = range(number - 1, len(building.work), of)
    done = building.embed(mine, progress=part(progress, 0.2, 1.0))
    progress(1.0, "")
    missing = len(building.work.missing())
    rest = f"{missing:,} are missing yet" if missing else "all are there: run the same command with --merge"
    print(f"{len(done):,} of {len(building.work):,} shards written to {building.work.folder}; {rest}.")


def _built(building: Building, order: Order, arguments: argparse.Namespace, progress: Progress) -> ReferenceSet:
    fidelity = not arguments.no_fidelity
    if arguments.ray is not None:
        from xaihub.ray_building import embed_with_ray

        embed_with_ray(order, building, arguments.ray or 2, progress=part(progress, 0.0, 0.8))
    sharded = arguments.ray is not None
    return building.finished(progress=progress, fidelity=fidelity, sharded=sharded, merge_only=arguments.merge)


def main(argv: Sequence[str] | None = None) -> int:
    return terminal.run(parser(), work, argv)


if __name__ == "__main__":
    sys.exit(main())
