"""Build a dataset of real and generated pictures that differ in nothing else, as a folder or on the Hub.

Real pictures come from a folder or a dataset of the Hub, generated ones from a folder or from a diffusion pipeline that
makes them now. Both go through the same crop, antialiased resize and encoding, so that neither file format nor size
tells them apart; exact copies are dropped, near copies stay in one split, and the card says all of it.

    python scripts/build_dataset.py --to OWNER/cats                                  cats of the Hub, cats of a DDPM
    python scripts/build_dataset.py --real A --generated B --split train=1 --to D    your own two folders
    python scripts/build_dataset.py --real cats --generated dogs --names cat dog --to D

Making pictures on a processor takes hours (the first step says how many), on a GPU minutes. It may be stopped at any
time: the same command goes on from there.
"""

import argparse
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from xaihub import hub, terminal
from xaihub.cards.dataset import dataset_card
from xaihub.curation import Origin, Recipe, build_dataset, generated_source, real_source
from xaihub.datasets import MARK
from xaihub.errors import DatasetError
from xaihub.folders import folder_named
from xaihub.generation import SCHEDULERS, GenerationSettings
from xaihub.progress import Progress, part
from xaihub.splitting import parse_shares

REAL, LABEL, COLUMN = "timm/oxford-iiit-pet", "cat", "label_cat_dog"  # CC BY-SA 4.0
OWNED = ("data/*.parquet",)  # files of splits that there are no more


def main(argv: Sequence[str] | None = None) -> int:
    return terminal.run(parser(), lambda arguments: _build(arguments, sys.argv[1:] if argv is None else argv), argv)


def _build(arguments: argparse.Namespace, argv: Sequence[str]) -> None:
    shares = parse_shares(arguments.split)
    if len(set(arguments.names)) < 2:
        raise DatasetError(f"Both classes would be called {arguments.names[0]!r}. Give two names: --names cat dog.")
    recipe = Recipe(
        shares, not arguments.as_is, arguments.size, arguments.smallest, tuple(arguments.not_in), arguments.seed
    )
    bar = terminal.bar()
    with terminal.delivering(
        arguments, kind="dataset", mark=MARK, owned=OWNED, message="Dataset built with xaihub", progress=bar
    ) as draft:
        origins = [_real(arguments, part(bar, 0, 0.05)), _generated(arguments, part(bar, 0.05, 0.8))]
        report = build_dataset(origins, draft, recipe, command=_command(argv), progress=part(bar, 0.8, 1))
        card = hub.card_text(*dataset_card(report, terminal.name_at(arguments.to), licence=arguments.licence))
        (draft / "README.md").write_text(card, "utf-8")
        bar(1.0, "")
        print(_counts(report))


def _counts(report: Mapping[str, Any]) -> str:
    """How many pictures came into which split, and how many did not come in."""
    lines = [
        f"{split}: {', '.join(f'{count:,} {label}' for label, count in counts.items())}"
        for split, counts in report["splits"].items()
    ]
    dropped = len(report["dropped"])
    return "\n".join([*lines, f"left out: {dropped:,} (the card says which and why)"] if dropped else lines)


def _real(arguments: argparse.Namespace, progress: Progress) -> Origin:
    """The class that is named first; of the default dataset only its cats."""
    default = arguments.real == REAL and not arguments.labels
    return real_source(
        arguments.real,
        arguments.names[0],
        labels=[LABEL] if default else arguments.labels,
        label_column=COLUMN if default else arguments.label_column,
        image_column=arguments.image_column,
        layout=arguments.layout,
        config=arguments.real_config,
        split=arguments.real_split,
        revision=arguments.real_revision,
        count=arguments.count,
        seed=arguments.seed,
        licence=arguments.real_licence,
        progress=progress,
    )


def _generated(arguments: argparse.Namespace, progress: Progress) -> Origin:
    settings = GenerationSettings(
        revision=arguments.revision,
        first_seed=arguments.first_seed,
        scheduler=arguments.scheduler,
        steps=arguments.steps,
        batch=arguments.batch,
        dtype=arguments.dtype,
        device=arguments.device,
        prompt=arguments.prompt,
        size=arguments.pipeline_size,
        max_hours=arguments.max_hours,
    )
    return generated_source(
        arguments.generated,
        arguments.names[1],
        settings,
        count=arguments.count,
        seed=arguments.seed,
        generator=arguments.generator,
        licence=arguments.generated_licence,
        progress=progress,
    )


def _command(argv: Sequence[str]) -> str:
    """The command as somebody else would type it: without the ways to this machine's folders."""
    words = [Path(word).name if folder_named(word) or Path(word).is_absolute() else word for word in argv]
    return shlex.join(["python", "scripts/build_dataset.py", *words])


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="build_dataset.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--names", nargs=2, default=["real", "generated"], metavar=("REAL", "GENERATED"),
        help="what the two classes are called (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--count", type=_positive, help="pictures of each class (default: all of a folder, else 200)")
    parser.add_argument("--seed", type=int, default=0, help="of the draw and the splits (default: %(default)s)")
    parser.add_argument(
        "--licence", help="of the dataset as a whole, for its card (default: the sources', where both have the same)"
    )
    terminal.add_destination(parser, "the dataset")
    _add_real(parser)
    _add_generated(parser)
    _add_treatment(parser)
    return parser


def _add_real(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("real pictures")
    group.add_argument("--real", default=REAL, help="folder or dataset of the Hub (default: cats of %(default)s)")
    group.add_argument("--labels", nargs="+", metavar="LABEL", help="only pictures that the source labels so")
    terminal.add_reading(group)
    group.add_argument("--real-config", help="configuration of a Hub dataset (default: its first)")
    group.add_argument("--real-split", help="split of a Hub dataset (default: train, or its first)")
    group.add_argument("--real-revision", help="branch, tag or commit of a Hub dataset")
    group.add_argument("--real-licence", help="where no card says it")


def _add_generated(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("generated pictures")
    group.add_argument(
        "--generated", default=GenerationSettings.pipeline,
        help="a folder of pictures, or a diffusion pipeline by its id or folder (default: %(default)s)",
    )  # fmt: skip
    group.add_argument("--generator", default="", help="of a folder: the pipeline that made them, for the card")
    group.add_argument("--generated-licence", help="where no card says it")
    group.add_argument("--revision", help="branch, tag or commit of the pipeline")
    group.add_argument(
        "--scheduler", choices=sorted(SCHEDULERS), help="(default: the pipeline's own; ddim where that is ddpm)"
    )
    group.add_argument("--steps", type=_positive, default=50, help="of denoising (default: %(default)s)")
    group.add_argument("--batch", type=_positive, help="pictures made at once (default: 1 on a processor, 16 on a GPU)")
    group.add_argument("--dtype", choices=["float32", "bfloat16", "float16"], default="float32")
    group.add_argument("--device", help="cpu, cuda, ... (default: a GPU where there is one)")
    group.add_argument("--prompt", help="for pipelines that make pictures of a text")
    group.add_argument("--pipeline-size", type=_positive, help="pixels to ask of the pipeline (default: its own)")
    group.add_argument("--first-seed", type=int, default=0, help="of the pictures (default: %(default)s)")
    group.add_argument(
        "--max-hours", type=float, default=12.0, help="beyond this it stops at once (default: %(default)s)"
    )


def _add_treatment(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what is done to them")
    group.add_argument(
        "--split", nargs="+", default=["train=0.8", "validation=0.1", "test=0.1"], metavar="NAME=SHARE",
        help="splits and their shares, which add up to 1 (default: %(default)s)",
    )  # fmt: skip
    group.add_argument("--size", type=_positive, default=256, help="pixels, of each side (default: %(default)s)")
    group.add_argument(
        "--smallest", type=_positive, default=32, help="pixels; smaller pictures are left out (default: %(default)s)"
    )
    group.add_argument(
        "--not-in", action="append", default=[], metavar="DATASET",
        help="leave out (near) copies of this dataset's pictures: a folder or an id; may be given several times",
    )  # fmt: skip
    group.add_argument("--as-is", action="store_true", help="keep the original files, and say what they give away")


def _positive(text: str) -> int:
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
