"""Explain a picture, or examine a classifier, from a terminal."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from xaihub.errors import ReferencesError, UnsupportedModelError, XaihubError
from xaihub.progress import Progress

if TYPE_CHECKING:
    from xaihub.classifier import Classifier
    from xaihub.records import Explanation
    from xaihub.references import ReferenceSet


_REPO = (
    "an id on the Hub, torchvision/NAME, kaggle/OWNER/MODEL/FRAMEWORK/VARIATION, xaihub/paper-pets, a folder, or"
    " my_model.py:load, a file of your own, which is run"
)


def main(argv: Sequence[str] | None = None) -> int:
    """0, or 2 with the reason on the error stream; the last line printed is what was made."""
    arguments = _parser().parse_args(argv)
    try:
        arguments.run(arguments)
        sys.stdout.flush()
    except (XaihubError, FileExistsError) as error:
        print(f"xaihub: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # whoever read the output, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="xaihub", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    explain = commands.add_parser("explain", help="why a classifier answered as it did on a picture")
    explain.add_argument("repo", help=_REPO)
    explain.add_argument("image", help="the picture's file")
    explain.add_argument("--method", action="append", metavar="NAME", help="may be repeated; default: all cheap ones")
    explain.add_argument("--target", help="the class to explain, by label or index; default: the predicted one")
    explain.add_argument("--references", metavar="ID", help="saved references, or a dataset or folder to embed")
    explain.add_argument("--limit", type=int, default=200, help="how many pictures of a dataset to embed (200)")
    explain.add_argument("--layer", help="the target layer's name; default: chosen and proved")
    explain.add_argument("--revision", help="a branch, tag or commit of the model")
    explain.add_argument("--to", required=True, metavar="DIR", help="the folder to write")
    explain.set_defaults(run=_explain)

    doctor = commands.add_parser("doctor", help="can this classifier be explained, and at which layer?")
    doctor.add_argument("repo", help=_REPO)
    doctor.add_argument("--revision")
    doctor.add_argument("--layer", help="examine this layer instead of the chosen one")
    doctor.add_argument("--json", action="store_true", help="for programs")
    doctor.set_defaults(run=_doctor)
    return parser


def _explain(arguments: argparse.Namespace) -> None:
    from xaihub import explain

    progress = _bar()
    classifier, _ = _classifier(arguments, progress)
    references = _references(classifier, arguments, progress) if arguments.references else None
    progress(1.0, "")
    explanation = explain(classifier, arguments.image, arguments.method, target=arguments.target, references=references)
    folder = explanation.save(arguments.to)
    print("\n".join(_lines(explanation)))
    print(folder)


def _references(classifier: "Classifier", arguments: argparse.Namespace, progress: Progress) -> "ReferenceSet":
    """Saved references where that is what was named; else the named dataset, embedded now."""
    from xaihub import build_references, load_references
    from xaihub.curated import STARTER
    from xaihub.folders import folder_named

    name = arguments.references
    folder = folder_named(name)
    if name == STARTER or (folder and (folder / "references.json").is_file()):
        return load_references(name)
    if folder is None:
        try:
            return load_references(name)
        except ReferencesError as error:
            progress(0.0, str(error))
    return build_references(classifier, name, limit=arguments.limit, progress=progress)


def _lines(explanation: "Explanation") -> list[str]:
    lines = [f"{probability:7.1%}  {label}" for label, probability in explanation.prediction.top()]
    for method, shown in explanation.evidence.items():
        lines += [f"{method}: {evidence.caption}" for evidence in shown]
    return lines + [f"{method}: {line}" for method, sentences in explanation.notes.items() for line in sentences]


def _doctor(arguments: argparse.Namespace) -> None:
    from xaihub.doctor import examine, told

    report = examine(*_classifier(arguments, _bar()))
    print(json.dumps(report, indent=1, ensure_ascii=False) if arguments.json else "\n".join(told(report)))


def _classifier(arguments: argparse.Namespace, progress: Progress) -> "tuple[Classifier, int]":
    """The classifier that was named, and how many bytes had to be fetched for it; a file of one's own is run."""
    from xaihub import load_classifier, preflight
    from xaihub.own_module import is_own_module, load_own_module

    if not is_own_module(arguments.repo):
        plan = preflight(arguments.repo, revision=arguments.revision)
        return load_classifier(plan, target_layer=arguments.layer, progress=progress), plan.download
    if arguments.revision:
        raise UnsupportedModelError(f"{arguments.repo} is a file of your own: leave --revision out.")
    return load_own_module(arguments.repo, target_layer=arguments.layer), 0


def _bar() -> Progress:
    """One line on the error stream that overwrites itself; silent where nobody watches."""
    watched = sys.stderr.isatty()

    def progress(share: float, stage: str) -> None:
        if watched:
            print(f"\r\033[K{f'{share:4.0%}  {stage}' if stage else ''}", end="", file=sys.stderr, flush=True)

    return progress


if __name__ == "__main__":
    sys.exit(main())
