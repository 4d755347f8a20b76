"""Fine-tune an image classifier on labelled pictures, measure it, and write it as a folder or publish it.

    python scripts/train_classifier.py --data pictures/ --to my-classifier
    python scripts/train_classifier.py --data OWNER/DATASET --backbone timm/resnet18.a1_in1k --folds 5 --to OWNER/NAME

First the new head alone, on the features of the unchanged network; then the upper layers too, at a low learning rate,
on mixtures of two pictures. The lower layers, three quarters of the arithmetic, stay as they are, so that what they
make of each picture and of a few varied copies is computed once; only where many pictures that were not seen are
answered wrongly all layers are tried, too, and the better is taken. Batch norm keeps its statistics. Training pictures
are mirrored, moved by whole pixels with a mirrored border, and lit a little differently. They are never blurred,
resampled, compressed or given noise: such changes erase or create the traces by which a generated picture is told from
a photograph.

How sure the answers are is set by one temperature, fitted to what networks say of pictures that they did not see (a few
folds, or the validation split); it is kept in the head's weights, so that plain transformers gives calibrated
probabilities.

With a validation split the epoch is chosen by it; without one all epochs run and the last ones' weights are averaged. A
run that was killed goes on from its last epoch when the same command is given again, and ends with the same bytes.
The result is what AutoModelForImageClassification.from_pretrained loads, with metrics.json, a confusion matrix, six
explained examples and a card beside it.
"""

import argparse
import sys
from collections.abc import Sequence

from xaihub import terminal
from xaihub.finetuning import MARK, FineTuning, forget, measured_in_words, train_classifier


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    usual = FineTuning()
    terminal.add_pictures(made, "to learn from (default: train)")
    made.add_argument(
        "--backbone",
        default="microsoft/resnet-18",
        help="a folder or a Hub id: transformers or timm (default: %(default)s)",
    )
    made.add_argument("--folds", type=int, default=usual.folds, help="cross-validate as well, in so many folds")
    made.add_argument(
        "--epochs", type=int, default=usual.epochs, help="after the head; 0 trains it alone (default: %(default)s)"
    )
    made.add_argument("--batch-size", type=int, default=usual.batch_size, help="default: %(default)s")
    made.add_argument(
        "--learning-rate", type=float, default=usual.learning_rate, help="the peak (default: %(default)s)"
    )
    made.add_argument(
        "--trained-share", type=float, default=usual.trained_share, metavar="SHARE",
        help="of the network's arithmetic, its upper layers', is trained; 1 trains all layers (default: a quarter, or "
        "all where predictions of unseen pictures are often wrong and all layers make them better)",
    )  # fmt: skip
    made.add_argument(
        "--batch-norm", choices=("frozen", "reestimated"), default=usual.batch_norm,
        help="keep its statistics, or take them anew over the training pictures, which trains all layers (default: "
        "%(default)s)",
    )  # fmt: skip
    made.add_argument("--seed", type=int, default=usual.seed, help="default: %(default)s")
    made.add_argument(
        "--memory",
        type=float,
        default=2.0,
        metavar="GB",
        help="for pixels; beyond, they are read again (default: %(default)s)",
    )
    terminal.add_destination(made, "the classifier")
    return made


def work(arguments: argparse.Namespace) -> None:
    settings = FineTuning(
        seed=arguments.seed, epochs=arguments.epochs, batch_size=arguments.batch_size, folds=arguments.folds,
        learning_rate=arguments.learning_rate, trained_share=arguments.trained_share,
        batch_norm=arguments.batch_norm,
    )  # fmt: skip
    source = terminal.pictures_named(arguments)
    name = terminal.name_at(arguments.to)
    with terminal.delivering(arguments, kind="model", mark=MARK, message="Trained with xaihub") as draft:
        bytes_ = int(arguments.memory * 2**30)
        checkpoints = train_classifier(
            draft, source, arguments.backbone, settings, name=name, memory=bytes_, public=arguments.public,
            progress=terminal.bar(),
        )  # fmt: skip
        print(measured_in_words(draft))
    if not arguments.dry_run:
        forget(checkpoints)


def main(argv: Sequence[str] | None = None) -> int:
    return terminal.run(parser(), work, argv)


if __name__ == "__main__":
    sys.exit(main())
