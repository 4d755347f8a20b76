"""Explain a picture, examine a classifier, or publish what the scripts made, from a terminal."""

import argparse
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from xaihub import hub
from xaihub.errors import ReferencesError, UnsupportedModelError
from xaihub.progress import Progress
from xaihub.terminal import add_destination, bar, delivering, run

if TYPE_CHECKING:
    from xaihub.classifier import Classifier
    from xaihub.methods import Query
    from xaihub.records import Explanation
    from xaihub.references import ReferenceSet


_REPO = (
    "an id on the Hub, torchvision/NAME, kaggle/OWNER/MODEL/FRAMEWORK/VARIATION, xaihub/paper-pets, a folder, or"
    " my_model.py:load, a file of your own, which is run"
)
_ACTIVATIONS = ("softmax", "sigmoid", "none")
_ACTIVATION = "what makes probabilities of the network's numbers (none: they are some); default: measured, or stated"


def main(argv: Sequence[str] | None = None) -> int:
    """0, or 2 with the reason on the error stream; the last line printed is what was made."""
    return run(_parser(), lambda arguments: arguments.run(arguments), argv)


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
    explain.add_argument("--activation", choices=_ACTIVATIONS, help=_ACTIVATION)
    explain.add_argument("--revision", help="a branch, tag or commit of the model")
    explain.add_argument("--to", required=True, metavar="DIR", help="the folder to write")
    explain.add_argument(
        "--no-trust", action="store_true", help="do not check whether the maps can be relied on (63 passes each)"
    )
    explain.add_argument("--json", action="store_true", help="print explanation.json instead of lines, for programs")
    explain.set_defaults(run=_explain)

    doctor = commands.add_parser("doctor", help="can this classifier be explained, and at which layer?")
    doctor.add_argument("repo", help=_REPO)
    doctor.add_argument("--revision")
    doctor.add_argument("--layer", help="examine this layer instead of the chosen one")
    doctor.add_argument("--activation", choices=_ACTIVATIONS, help=_ACTIVATION)
    doctor.add_argument("--json", action="store_true", help="for programs")
    doctor.set_defaults(run=_doctor)

    publish = commands.add_parser("publish", help="a folder that a script made, as it is, to the Hub")
    publish.add_argument("folder", help="a dataset, a classifier or references")
    publish.add_argument("--model", metavar="ID", help="of references: what their classifier is called on the Hub")
    add_destination(publish, "the folder's content")
    publish.set_defaults(run=_publish)
    return parser


def _explain(arguments: argparse.Namespace) -> None:
    from xaihub import Query, explain_query, open_picture

    progress = bar()
    classifier, _ = _classifier(arguments, progress)
    references = _references(classifier, arguments, progress) if arguments.references else None
    progress(1.0, "")
    query = Query(classifier, open_picture(arguments.image), target=arguments.target, references=references)
    explanation = explain_query(query, arguments.method)
    if not arguments.no_trust:
        explanation = _checked(query, explanation, named=arguments.method, progress=progress)
    folder = explanation.save(arguments.to)
    print((folder / "explanation.json").read_text("utf-8") if arguments.json else "\n".join(_lines(explanation)))
    print(folder, file=sys.stderr if arguments.json else sys.stdout)


def _checked(
    query: "Query", explanation: "Explanation", *, named: Sequence[str] | None, progress: Progress
) -> "Explanation":
    """The explanation with the trust cards of the maps that were named; of the first map where none was."""
    from xaihub import METHODS, trust

    maps = [name for name, shown in explanation.evidence.items() if shown and not METHODS[name].shows_pictures]
    for name in maps if named else maps[:1]:
        card = trust(query, name, evidence=explanation[name][0], progress=progress)
        explanation = explanation.with_trust(card)
    return explanation


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
        lines += [f"{method}: {explanation.trust[method]['sentence']}"] if method in explanation.trust else []
    lines += [f"{method}: {line}" for method, sentences in explanation.notes.items() for line in sentences]
    return lines + [f"note: {notice}" for notice in explanation.provenance.get("notices", ())]


def _doctor(arguments: argparse.Namespace) -> None:
    from xaihub.doctor import examine, told

    report = examine(*_classifier(arguments, bar()))
    print(json.dumps(report, indent=1, ensure_ascii=False) if arguments.json else "\n".join(told(report)))


_KINDS: Mapping[str, tuple[hub.RepoType, tuple[str, ...]]] = {
    "dataset.json": ("dataset", ("data/*.parquet",)),
    "references.json": ("dataset", ("embeddings-*.safetensors",)),
    "config.json": ("model", ("*.safetensors",)),
}


def _publish(arguments: argparse.Namespace) -> None:
    folder = Path(arguments.folder).expanduser()
    mark = next((name for name in _KINDS if (folder / name).is_file()), None)
    if mark is None:
        raise FileNotFoundError(
            f"{arguments.folder!r} holds none of {', '.join(_KINDS)}: it is neither a dataset, nor references, nor a"
            " classifier. Name a folder that a script of scripts/ made."
        )
    kind, owned = _KINDS[mark]
    with delivering(arguments, kind=kind, mark=mark, owned=owned, message=f"Publish {folder.name}") as draft:
        if mark == "references.json":
            _references_into(draft, folder, arguments)
        else:
            shutil.copytree(folder, draft, dirs_exist_ok=True)
            _rename(draft, mark, arguments)


def _references_into(draft: Path, folder: Path, arguments: argparse.Namespace) -> None:
    """Written anew, without what may not be passed on; beside them whatever else the folder holds."""
    from xaihub import load_references

    written = ("references.json", "embeddings*.safetensors", "rows.parquet", "README.md")
    shutil.copytree(folder, draft, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*written))
    load_references(folder.resolve()).write(draft, named=arguments.to, classifier=arguments.model)


def _rename(draft: Path, mark: str, arguments: argparse.Namespace) -> None:
    """Writes the card anew under the name that strangers will load it by; a card of somebody's own stays."""
    from xaihub.cards.dataset import dataset_card
    from xaihub.cards.model import write_card

    if mark == "dataset.json":
        report = json.loads((draft / mark).read_text("utf-8"))
        (draft / "README.md").write_text(hub.card_text(*dataset_card(report, arguments.to, licence=None)), "utf-8")
    elif (draft / "training.json").is_file():
        write_card(draft, arguments.to)


def _classifier(arguments: argparse.Namespace, progress: Progress) -> "tuple[Classifier, int]":
    """The classifier that was named, and how many bytes had to be fetched for it; a file of one's own is run."""
    from xaihub import load_classifier, preflight
    from xaihub.own_module import is_own_module, load_own_module

    if not is_own_module(arguments.repo):
        plan = preflight(arguments.repo, revision=arguments.revision)
        return load_classifier(
            plan, target_layer=arguments.layer, activation=arguments.activation, progress=progress
        ), plan.download
    if arguments.revision:
        raise UnsupportedModelError(f"{arguments.repo} is a file of your own: leave --revision out.")
    return load_own_module(arguments.repo, target_layer=arguments.layer, activation=arguments.activation), 0


if __name__ == "__main__":
    sys.exit(main())
