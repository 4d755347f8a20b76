"""Make a classifier that answers by prototypes ("this looks like that") from any image classifier, and publish it.

    python scripts/train_protopnet.py --data pictures/ --backbone my-classifier --kind head --to my-prototypes
    python scripts/train_protopnet.py --data OWNER/DATASET --backbone OWNER/MODEL --kind protopnet --to OWNER/NAME

A head puts prototypes on the classifier as it is: real patches of the pictures, chosen and weighed within seconds so
that they say what the classifier says. A protopnet trains a copy of the network together with its prototypes. It starts
from the head; each epoch it is looked at whether prototypes collapse; in the end each is moved onto a real patch of its
own class, no two of a class from one picture, and they are weighed anew.

A run that was killed goes on from its last epoch when the same command is given again, and ends with the same bytes.
The result opens like any other classifier, with the pictures of its prototypes, metrics.json and a card beside it.

`--recipe published` trains as Chen et al. did in 2019: random prototypes, squared distances, the published rates.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from xaihub import terminal
from xaihub.errors import DatasetError
from xaihub.finetuning import forget, measured_in_words
from xaihub.prototype_training import MARK, PUBLISHED, PrototypeTraining, train_prototypes


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    usual = PrototypeTraining()
    terminal.add_pictures(made, "to learn from (default: train)")
    made.add_argument(
        "--backbone",
        default="microsoft/resnet-18",
        help="the classifier, a folder or a Hub id: transformers or timm (default: %(default)s)",
    )
    made.add_argument(
        "--kind", choices=("head", "protopnet"), default="protopnet",
        help="prototypes on the network as it is, or trained together with it (default: %(default)s)",
    )  # fmt: skip
    made.add_argument(
        "--fit", choices=("predictions", "labels"),
        help="to what the classifier predicts, or to the labels (default: a head to its predictions if its classes are"
        " the dataset's; everything else to the labels)",
    )  # fmt: skip
    made.add_argument(
        "--per-class", type=int, default=usual.per_class, help="prototypes of each class (default: %(default)s)"
    )
    made.add_argument("--seed", type=int, default=usual.seed, help="default: %(default)s")
    made.add_argument(
        "--memory",
        type=float,
        default=2.0,
        metavar="GB",
        help="for pixels; beyond, they are read again (default: %(default)s)",
    )
    _add_training(made, usual)
    terminal.add_destination(made, "the classifier")
    return made


def _add_training(parser: argparse.ArgumentParser, usual: PrototypeTraining) -> None:
    group = parser.add_argument_group("for a protopnet; what is not given is as in the recipe")
    group.add_argument("--recipe", choices=("usual", "published"), default="usual", help="default: %(default)s")
    group.add_argument("--similarity", choices=("cosine", "log-distance"), help=f"usual: {usual.similarity}")
    group.add_argument("--add-on", choices=("linear", "published"), help=f"usual: {usual.add_on}")
    group.add_argument("--start", choices=("head", "random"), help=f"at patches, or anywhere; usual: {usual.start}")
    group.add_argument("--warm-up", type=int, help=f"epochs of the prototypes alone; usual: {usual.warm_up}")
    group.add_argument("--epochs", type=int, help=f"of everything together; usual: {usual.epochs}")
    group.add_argument("--batch-size", type=int, help=f"usual: {usual.batch_size}")
    group.add_argument("--rate", type=float, help=f"of the prototypes and their add-on; usual: {usual.rate}")
    group.add_argument("--backbone-rate", type=float, help=f"of the network below; usual: {usual.backbone_rate}")
    group.add_argument("--cluster", type=float, help=f"cost of being far from one's own; usual: {usual.cluster}")
    group.add_argument("--separation", type=float, help=f"worth of being far from others; usual: {usual.separation}")
    group.add_argument(
        "--distilled", type=float,
        help=f"how much what the black box says counts beside the labels; usual: {usual.distilled}",
    )  # fmt: skip


_TRAINING = (
    "similarity", "add_on", "start", "warm_up", "epochs", "batch_size", "rate", "backbone_rate", "cluster",
    "separation", "distilled",
)  # fmt: skip


def settings_of(arguments: argparse.Namespace) -> PrototypeTraining:
    """The recipe, with what was asked for in its place."""
    given: dict[str, Any] = {name: getattr(arguments, name) for name in _TRAINING}
    asked = {name: value for name, value in given.items() if value is not None}
    if arguments.kind == "head" and (asked or arguments.recipe != "usual"):
        option = next(iter(asked), "recipe").replace("_", "-")
        raise DatasetError(f"--{option} is for --kind protopnet: a head is fitted, not trained. Leave it out.")
    if asked.get("add_on") == "published":  # patches of the unchanged network do not go through its layers
        asked.setdefault("start", "random")
    recipe = PUBLISHED if arguments.recipe == "published" else {}
    return PrototypeTraining(**{**recipe, **asked}, seed=arguments.seed, per_class=arguments.per_class)


def work(arguments: argparse.Namespace) -> None:
    settings = settings_of(arguments)
    source = terminal.pictures_named(arguments)
    name = terminal.name_at(arguments.to)
    with terminal.delivering(arguments, kind="model", mark=MARK, message="Trained with xaihub") as draft:
        checkpoints = train_prototypes(
            draft, source, arguments.backbone, arguments.kind, settings, name=name, fitted_to=arguments.fit,
            memory=int(arguments.memory * 2**30), public=arguments.public, progress=terminal.bar(),
        )  # fmt: skip
        print(measured_in_words(draft))
    if not arguments.dry_run:
        forget(checkpoints)


def main(argv: Sequence[str] | None = None) -> int:
    return terminal.run(parser(), work, argv)


if __name__ == "__main__":
    sys.exit(main())
