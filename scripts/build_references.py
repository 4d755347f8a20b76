"""Build references: what a classifier makes of labelled pictures, to be searched for twins and counterfactuals.

The classifier is any that xaihub opens (an id on the Hub, a folder); the pictures are a dataset of the Hub, a folder
that scripts/build_dataset.py made, or a folder of class folders. Example:

    python scripts/build_references.py --model you/cats-resnet18 --data you/cats --to you/cats-references
"""

import argparse
import sys
from collections.abc import Sequence

from xaihub import build_references, load_classifier, open_dataset, terminal
from xaihub.errors import DatasetError
from xaihub.progress import part


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--model", required=True, metavar="ID", help="the classifier: an id on the Hub, or a folder")
    made.add_argument("--revision", help="of the model: a branch, tag or commit")
    made.add_argument("--layer", help="the target layer's name; default: chosen and proved")
    made.add_argument("--data", required=True, metavar="ID", help="the pictures: a dataset of the Hub, or a folder")
    made.add_argument("--config", help="of the dataset")
    made.add_argument("--split", help="of the dataset (default: train)")
    made.add_argument("--limit", type=int, help="at most so many pictures, evenly from the classes (default: all)")
    made.add_argument("--seed", type=int, default=0, help="of that draw (%(default)s)")
    made.add_argument("--embedder", default="target-layer", help="what makes two pictures alike (%(default)s)")
    made.add_argument("--batch", type=int, help="pictures at once (default: 8 on a processor, 32 elsewhere)")
    made.add_argument("--device", help="such as cuda (default: the processor)")
    terminal.add_destination(made, "the references")
    return made


def work(arguments: argparse.Namespace) -> None:
    progress = terminal.bar()
    with terminal.delivering(
        arguments, kind="dataset", mark="references.json", message="Publish references", progress=progress
    ) as draft:
        source = {"config": arguments.config, "split": arguments.split, "seed": arguments.seed}
        rows = open_dataset(arguments.data, limit=arguments.limit, progress=part(progress, 0.0, 0.1), **source)
        if arguments.public and not rows.public:
            raise DatasetError(
                f"{arguments.data} is private or gated, and references hold copies of its pictures. Leave --public out."
            )
        options = {"revision": arguments.revision, "device": arguments.device, "target_layer": arguments.layer}
        classifier = load_classifier(arguments.model, progress=part(progress, 0.1, 0.2), **options)
        references = build_references(
            classifier, rows, embedder=arguments.embedder, batch_size=arguments.batch, progress=part(progress, 0.2, 1.0)
        )
        progress(1.0, "")
        references.write(draft, named=arguments.to)
        print(references)


def main(argv: Sequence[str] | None = None) -> int:
    return terminal.run(parser(), work, argv)


if __name__ == "__main__":
    sys.exit(main())
